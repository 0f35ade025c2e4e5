#include "api/openai/api.h"

#include "api/auth.h"
#include "api/generation/launch.h"
#include "api/openai/writer.h"
#include "json/value.h"

namespace qw::api::openai {

ApiResult<json::Value> parse_body(const net::Request& request) {
  auto value = json::parse(request.body);
  if (!value) return tl::unexpected(bad_request("", "The request body is not valid JSON: " + value.error().message));
  return std::move(*value);
}

void name_ignored(Exchange& exchange, const std::vector<std::string>& names) { name_list(exchange, "X-Ignored-Params", names); }

namespace {

json::Value model_entry(const ModelEntry& model) {
  json::Object out{{"id", model->id}, {"object", "model"}, {"created", model->created}, {"owned_by", "qianwen"}};
  if (!model->base.empty()) out.set("parent", model->base);
  out.set("loaded", loaded_now(model) != nullptr);
  return out;
}

}  // namespace

bool Api::handle(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const {
  const auto only = [&](const char* method) {
    if (request.method == method || (request.method == "HEAD" && std::string_view(method) == "GET")) return true;
    exchange->add_header("Allow", method);
    exchange->send_error({405, "invalid_request_error", request.path + " takes " + method + " only.", "", "method_not_allowed"});
    return false;
  };
  if (request.path == "/v1/chat/completions") {
    if (only("POST")) chat(request, exchange);
    return true;
  }
  if (request.path == "/v1/completions") {
    if (only("POST")) complete(request, exchange);
    return true;
  }
  if (request.path == "/v1/embeddings") {
    if (only("POST")) embed(request, exchange);
    return true;
  }
  if (request.path == "/v1/rerank" || request.path == "/v2/rerank" || request.path == "/rerank") {
    if (only("POST")) rerank(request, exchange);
    return true;
  }
  if (request.path == "/v1/models") {
    if (only("GET")) list_models(exchange);
    return true;
  }
  if (request.path.rfind("/v1/models/", 0) == 0) {
    if (!only("GET")) return true;
    const std::string name = request.path.substr(11);
    const ModelEntry model = name.empty() ? nullptr : models_.find(name);
    if (model == nullptr || !may_use(*exchange, *model)) {
      exchange->send_error(model_not_found(name));
    } else {
      exchange->send_json(200, model_entry(model));
    }
    return true;
  }
  return false;
}

void Api::list_models(const std::shared_ptr<Exchange>& exchange) const {
  json::Array data;
  for (const ModelEntry& model : models_.all())
    if (may_use(*exchange, *model)) data.push_back(model_entry(model));
  exchange->send_json(200, json::Object{{"object", "list"}, {"data", std::move(data)}});
}

void Api::chat(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto request = read_chat_request(*body);
  if (!request) return exchange->send_error(request.error());
  WriterOptions options;
  options.include_usage = request->include_usage;
  options.logprobs = request->logprobs;
  start_chat(models_, exchange, std::move(*request),
             [exchange, options](const LaunchedPrompts&) { return make_writer(exchange, options); });
}

void Api::complete(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto request = read_completion_request(*body);
  if (!request) return exchange->send_error(request.error());
  WriterOptions options;
  options.chat = false;
  options.include_usage = request->include_usage;
  options.logprobs = request->logprobs;
  start_text(models_, exchange, *request, [exchange, options, echo = request->echo, n = request->n](const LaunchedPrompts& prompts) mutable {
    for (const auto& ids : prompts.ids)
      options.echoes.insert(options.echoes.end(), static_cast<std::size_t>(n), echo ? prompts.model.tokenizer->decode(ids) : "");
    return make_writer(exchange, options);
  });
}

}  // namespace qw::api::openai
