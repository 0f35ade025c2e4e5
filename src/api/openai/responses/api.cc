#include "api/openai/responses/api.h"

#include <algorithm>
#include <charconv>
#include <random>

#include "api/accounts.h"
#include "api/auth.h"
#include "api/field_reader.h"
#include "api/generation/launch.h"
#include "api/openai/responses/kept.h"
#include "api/openai/responses/request.h"
#include "api/openai/responses/tool_rounds.h"
#include "api/openai/responses/writer.h"
#include "base/clock.h"

namespace qw::api::openai {
namespace {

constexpr std::string_view kRoot = "/v1/responses";

std::int64_t random_seed() {
  std::random_device device;
  return static_cast<std::int64_t>((static_cast<std::uint64_t>(device()) << 31) ^ device());
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

// Answers from the job of a response that is not kept.
void answer_unmade(const Result<store::Job>& job, const std::string& id, Exchange& exchange) {
  if (!job && job.error().kind == ErrorKind::kBadInput) return exchange.send_error(no_response(id));
  if (!job) return exchange.send_error(store_error(job.error()));
  const auto object = unmade_response(*job);
  if (!object) return exchange.send_error(object.error());
  exchange.send_json(200, *object);
}

void cancel_response(store::Store& store, const std::string& id, DeferredRunner* runner, Exchange& exchange) {
  // The job before the response: whose job is done is kept, if it was not deleted.
  const auto job = store.jobs().cancel(project_of(exchange), kBackgroundResponse, id);
  if (const auto value = kept_response(store, project_of(exchange), id)) {
    const json::Value& response = *value->find("response");
    if (*response.find("background") == json::Value(true)) return exchange.send_json(200, response);  // it is done
    return exchange.send_error(bad_request("id", "Only a response in the background can be cancelled."));
  }
  if (runner != nullptr) runner->wake();
  answer_unmade(job, id, exchange);
}

void one_response(store::Store& store, const std::string& id, const std::string& action, const net::Request& http,
                  Exchange& exchange) {
  const std::string& project = project_of(exchange);
  const auto job = store.jobs().find(project, kBackgroundResponse, id);  // before the response, as above
  const auto value = kept_response(store, project, id);
  if (!value) {
    if (value.error().status != 404 || !action.empty()) return exchange.send_error(value.error());
    const bool open = job && (job->status == "queued" || job->status == "running");
    if (open && http.method == "DELETE")
      return exchange.send_error(bad_request("id", "The response is still being made; it can be cancelled."));
    if (http.method == "DELETE") return exchange.send_error(value.error());
    return answer_unmade(job, id, exchange);
  }
  if (!action.empty()) return input_items(*value, http, exchange);
  if (http.method != "DELETE") return exchange.send_json(200, *value->find("response"));
  if (const auto forgotten = job ? store.jobs().forget(project, kBackgroundResponse, id) : Status{}; !forgotten)
    return exchange.send_error(store_error(forgotten.error()));
  if (const auto removed = store.documents().remove(project, id); !removed)
    return exchange.send_error(store_error(removed.error()));
  exchange.send_json(200, json::Object{{"id", id}, {"object", "response"}, {"deleted", true}});
}

ApiError no_previous(const std::string& id) {  // as OpenAI's service says it
  return {400, "invalid_request_error", "There is no previous response " + id + ".", "previous_response_id",
          "previous_response_not_found"};
}

// The kept response that another goes on from.
ApiResult<json::Value> previous_response(store::Store& store, const Exchange& exchange, const std::string& id) {
  auto value = kept_response(store, project_of(exchange), id);
  if (!value && value.error().status == 404) return tl::unexpected(no_previous(id));
  return value;
}

// Whether it will be there when a response in the background has its turn: it is kept, or in the background too and
// before it.
ApiResult<void> check_previous(store::Store& store, const Exchange& exchange, const std::string& id) {
  const auto job =
      store.jobs().find(project_of(exchange), kBackgroundResponse, id);  // before the response: it may end just now
  if (!job && job.error().kind != ErrorKind::kBadInput) return tl::unexpected(store_error(job.error()));
  if (job && (job->status == "queued" || job->status == "running")) return {};
  const auto value = previous_response(store, exchange, id);
  if (!value) return tl::unexpected(value.error());
  return {};
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
  const std::string id = rest.substr(0, slash), action = slash == std::string::npos ? "" : rest.substr(slash + 1);
  if (!action.empty() && action != "input_items" && action != "cancel") return false;
  if (!only(action.empty() ? "GET, DELETE" : action == "cancel" ? "POST" : "GET", *request, *exchange)) return true;
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return true;
  const bool stream =
      action.empty() && request->method == "GET" && net::query_value(request->query, "stream").value_or("") == "true";
  in_background(background_, exchange, [store, id, action, request, exchange, runner = runner_, stream, this] {
    if (stream) return follow(*store, id, *request, exchange);
    if (action == "cancel") return cancel_response(*store, id, runner, *exchange);
    one_response(*store, id, action, *request, *exchange);
  });
  return true;
}

// The events of a response in the background, from one on.
void ResponsesApi::follow(store::Store& store, const std::string& id, const net::Request& http,
                          const std::shared_ptr<Exchange>& exchange) const {
  std::int64_t after = -1;
  if (const auto text = net::query_value(http.query, "starting_after")) {
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), after);
    if (error != std::errc() || end != text->data() + text->size() || after < 0)
      return exchange->send_error(bad_request("starting_after", "'starting_after' must be the number of an event."));
  }
  const auto job = store.jobs().find(project_of(*exchange), kBackgroundResponse, id);
  const auto value = kept_response(store, project_of(*exchange), id);
  if (!job && job.error().kind != ErrorKind::kBadInput) return exchange->send_error(store_error(job.error()));
  if (!value && value.error().status != 404) return exchange->send_error(value.error());
  const bool there = value || (job && unmade_response(*job));
  if (!there) return exchange->send_error(no_response(id));
  if (!job || !DeferredRequest::parse(job->spec).events || events_ == nullptr)
    return exchange->send_error(
        bad_request("stream", "Only a response that was begun with 'background' and 'stream' is read as a stream."));
  events_->follow(exchange, project_of(*exchange), id, after + 1);
}

// Kept as a job and answered at once; it goes through create() like every other when its turn comes.
void ResponsesApi::defer(json::Object body, ResponseRequest request, const std::shared_ptr<Exchange>& exchange) const {
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return;
  const auto model = allowed_model(*exchange, models_, request.model);
  if (!model) return exchange->send_error(model.error());
  body.set("background", false);
  body.set("model", (*model)->id);
  // Made anew after its service died, it is the same answer.
  if (!request.sampling.seed) body.set("seed", random_seed());
  const DeferredRequest deferred{std::string(kRoot), json::dump(json::Value(std::move(body))), exchange->who()->key.id,
                                 request.stream};
  in_background(background_, exchange,
                [store, exchange, spec = deferred.text(), ignored = request.ignored, runner = runner_,
                 events = request.stream ? events_ : nullptr, previous = request.previous] {
                  if (!previous.empty())
                    if (const auto there = check_previous(*store, *exchange, previous); !there)
                      return exchange->send_error(there.error());
                  const auto job = store->jobs().add("resp_", project_of(*exchange), kBackgroundResponse, spec);
                  if (!job) return exchange->send_error(store_error(job.error()));
                  if (runner != nullptr) runner->wake();
                  name_ignored(*exchange, ignored);
                  if (events != nullptr) return events->follow(exchange, project_of(*exchange), job->id, 0);
                  answer_unmade(job, job->id, *exchange);
                });
}

void ResponsesApi::create(const net::Request& http, const std::shared_ptr<Exchange>& exchange, bool counting) const {
  auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto read = read_response_request(*body);
  if (!read) return exchange->send_error(read.error());
  if (exchange->listener() == nullptr)
    for (const char* member : {"user", "safety_identifier"}) exchange->stick_to(body->find(member));
  if (!read->mcp.empty() && (mcp_ == nullptr || !mcp_->offers() || counting))
    return exchange->send_error(bad_request(
        "tools", counting ? "Tokens of tools of MCP servers are not counted." : "This service calls no MCP servers."));
  if (read->background && !counting) return defer(std::move(*body), std::move(*read), exchange);
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
    if (!options.request.mcp.empty()) return ToolRounds::start(models_, *mcp_, exchange, std::move(options));
    start_chat(models_, exchange, std::move(chat), [exchange, options = std::move(options)](const LaunchedPrompts&) {
      return make_response_writer(exchange, options);
    });
  };
  if (read->previous.empty()) return start(std::move(*read), {});
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return;
  in_background(background_, exchange, [store, exchange, start, request = std::move(*read)]() mutable {
    const auto value = previous_response(*store, *exchange, request.previous);
    if (!value) return exchange->send_error(value.error());
    json::Array history = array_of(*value, "messages");
    start(std::move(request), std::move(history));
  });
}

}  // namespace qw::api::openai
