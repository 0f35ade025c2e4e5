#include "api/anthropic/api.h"

#include <ctime>

#include "api/anthropic/request.h"
#include "api/anthropic/writer.h"
#include "api/auth.h"
#include "api/generation/launch.h"

namespace qw::api::anthropic {
namespace {

const char* type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

std::string rfc3339(std::int64_t unix_seconds) {
  const std::time_t time = unix_seconds;
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

void count_tokens(const ModelList& models, ChatRequest request, const std::shared_ptr<Exchange>& exchange) {
  const auto entry = allowed_model(*exchange, models, request.model);
  if (!entry) return exchange->send_error(entry.error());
  with_model(*entry, exchange, [exchange, request = std::move(request)](const ModelLease& model) {
    if (model->chat_template == nullptr)
      return exchange->send_error(bad_request("model", "The model `" + model->id + "` has no chat template."));
    const auto prompt = prompt_of(*model, request);
    if (!prompt) return exchange->send_error(prompt.error());
    name_ignored(*exchange, request.ignored);
    exchange->send_json(200, json::Object{{"input_tokens", static_cast<std::int64_t>(prompt->ids.size())}});
  });
}

json::Value model_entry(const ServedModel& model) {
  return json::Object{
      {"type", "model"}, {"id", model.id}, {"display_name", model.id}, {"created_at", rfc3339(model.created)}};
}

void list_models(const ModelList& models, Exchange& exchange) {
  json::Array data;
  for (const ModelEntry& model : models.all())
    if (may_use(exchange, *model)) data.push_back(model_entry(*model));
  const auto id = [](const json::Array& list, bool last) {
    return list.empty() ? json::Value() : *(last ? list.back() : list.front()).find("id");
  };
  const json::Value first = id(data, false), last = id(data, true);
  exchange.send_json(
      200, json::Object{{"data", std::move(data)}, {"has_more", false}, {"first_id", first}, {"last_id", last}});
}

// Whom the client says it asks for.
void stick(const json::Object& body, Exchange& exchange) {
  const json::Value* metadata = body.find("metadata");
  if (metadata != nullptr) exchange.stick_to(metadata->find("user_id"));
}

}  // namespace

json::Value error_body(const ApiError& error, const std::string& request_id) {
  return json::Object{{"type", "error"},
                      {"error", json::Object{{"type", type_of(error.status)}, {"message", error.message}}},
                      {"request_id", request_id}};
}

bool Api::speaks(const net::Request& request) {
  return request.path == "/v1/messages" || request.path.starts_with("/v1/messages/") ||
         (request.path.starts_with("/v1/models") && !net::find_header(request.headers, "anthropic-version").empty());
}

bool Api::handle(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  if (!speaks(http)) return false;
  if (http.path.starts_with("/v1/models")) {
    if (http.method != "GET" && http.method != "HEAD") return false;
    if (http.path == "/v1/models") {
      list_models(models_, *exchange);
      return true;
    }
    const std::string name = http.path.substr(11);
    const ModelEntry model = name.empty() ? nullptr : models_.find(name);
    if (model == nullptr || !may_use(*exchange, *model)) {
      exchange->send_error(model_not_found(name));
    } else {
      exchange->send_json(200, model_entry(*model));
    }
    return true;
  }
  const bool counting = http.path == "/v1/messages/count_tokens";
  if (!counting && http.path != "/v1/messages") return false;
  if (!only("POST", http, *exchange)) return true;
  const auto body = parse_body(http);
  if (!body) {
    exchange->send_error(body.error());
    return true;
  }
  stick(*body, *exchange);
  auto request = read_messages(*body, counting);
  if (!request) {
    exchange->send_error(request.error());
  } else if (counting) {
    count_tokens(models_, std::move(*request), exchange);
  } else {
    start_chat(models_, exchange, std::move(*request),
               [exchange](const LaunchedPrompts&) { return make_writer(exchange); });
  }
  return true;
}

}  // namespace qw::api::anthropic
