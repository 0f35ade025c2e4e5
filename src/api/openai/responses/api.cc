#include "api/openai/responses/api.h"

#include <algorithm>

#include "api/accounts.h"
#include "api/auth.h"
#include "api/generation/launch.h"
#include "api/openai/responses/request.h"
#include "api/openai/responses/writer.h"

namespace qw::api::openai {
namespace {

constexpr std::string_view kRoot = "/v1/responses";

ApiError no_response(const std::string& id) {
  return {404, "invalid_request_error", "There is no response " + id + ".", "id", "not_found"};
}

// What was kept of a response.
ApiResult<json::Value> kept(store::Store& store, const std::string& project, const std::string& id) {
  const auto document = store.documents().find(project, kResponseKind, id);
  if (!document && document.error().kind == ErrorKind::kBadInput) return tl::unexpected(no_response(id));
  if (!document) return tl::unexpected(store_error(document.error()));
  auto value = json::parse(document->body);
  if (!value) return tl::unexpected(ApiError{500, "server_error", "The response " + id + " cannot be read.", "", ""});
  return std::move(*value);
}

const json::Array& array_of(const json::Value& value, const char* key) {
  static const json::Array kNone;
  const json::Value* found = value.find(key);
  return found != nullptr && found->is_array() ? found->as_array() : kNone;
}

void input_items(const json::Value& value, const net::Request& http, Exchange& exchange) {
  const auto query = read_list_query(http, 20, 100);
  if (!query) return exchange.send_error(query.error());
  json::Array items = array_of(value, "input");
  if (!query->oldest_first) std::reverse(items.begin(), items.end());
  json::Array page;
  bool begun = query->after.empty(), more = false;
  for (const json::Value& item : items) {
    const json::Value* id = item.find("id");
    if (begun && static_cast<std::int64_t>(page.size()) == query->limit) {
      more = true;
      break;
    }
    if (begun) page.push_back(item);
    begun = begun || (id != nullptr && *id == json::Value(query->after));
  }
  exchange.send_json(200, list_object(std::move(page), more));
}

void one_response(store::Store& store, const std::string& rest, const net::Request& http, Exchange& exchange) {
  constexpr std::string_view kItems = "/input_items";
  const bool items = rest.ends_with(kItems);
  const std::string id = items ? rest.substr(0, rest.size() - kItems.size()) : rest;
  const auto value = kept(store, project_of(exchange), id);
  if (!value) return exchange.send_error(value.error());
  if (items) return input_items(*value, http, exchange);
  if (http.method != "DELETE") return exchange.send_json(200, *value->find("response"));
  if (const auto removed = store.documents().remove(project_of(exchange), id); !removed)
    return exchange.send_error(store_error(removed.error()));
  exchange.send_json(200, json::Object{{"id", id}, {"object", "response"}, {"deleted", true}});
}

}  // namespace

bool ResponsesApi::handle(const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  const std::string& path = request->path;
  if (path == kRoot || path == "/v1/responses/input_tokens") {
    if (only("POST", *request, *exchange)) create(*request, exchange, path != kRoot);
    return true;
  }
  if (!path.starts_with(kRoot) || path.size() <= kRoot.size() + 1 || path[kRoot.size()] != '/') return false;
  const std::string rest = path.substr(kRoot.size() + 1);
  const auto slash = rest.find('/');
  if (slash != std::string::npos && rest.substr(slash) != "/input_items") return false;
  if (!only(slash == std::string::npos ? "GET, DELETE" : "GET", *request, *exchange)) return true;
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return true;
  in_background(background_, exchange,
                [store, rest, request, exchange] { one_response(*store, rest, *request, *exchange); });
  return true;
}

void ResponsesApi::create(const net::Request& http, const std::shared_ptr<Exchange>& exchange, bool counting) const {
  auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto read = read_response_request(*body);
  if (!read) return exchange->send_error(read.error());
  // With the conversation that it goes on from.
  auto start = [this, exchange, counting](ResponseRequest request, json::Array history) {
    ChatRequest chat = request;
    chat.messages = with_history(request, history);
    if (counting) {
      const auto entry = allowed_model(*exchange, models_, chat.model);
      if (!entry) return exchange->send_error(entry.error());
      return with_model(*entry, exchange, [exchange, chat](const ModelLease& model) {
        if (model->chat_template == nullptr)
          return exchange->send_error(bad_request("model", "The model `" + model->id + "` has no chat template."));
        const auto prompt = prompt_of(*model, chat);
        if (!prompt) return exchange->send_error(prompt.error());
        exchange->send_json(200, json::Object{{"object", "response.input_tokens"},
                                              {"input_tokens", static_cast<std::int64_t>(prompt->ids.size())}});
      });
    }
    ResponseWriterOptions options{&background_, std::move(request), std::move(history)};
    start_chat(models_, exchange, std::move(chat), [exchange, options = std::move(options)](const LaunchedPrompts&) {
      return make_response_writer(exchange, options);
    });
  };
  if (read->previous.empty()) return start(std::move(*read), {});
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return;
  in_background(background_, exchange, [store, exchange, start, request = std::move(*read)]() mutable {
    const auto value = kept(*store, project_of(*exchange), request.previous);
    if (!value) return exchange->send_error(value.error());
    json::Array history = array_of(*value, "messages");
    start(std::move(request), std::move(history));
  });
}

}  // namespace qw::api::openai
