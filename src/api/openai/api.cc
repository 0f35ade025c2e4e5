#include "api/openai/api.h"

#include "api/auth.h"
#include "api/feedback/kept_answers.h"
#include "api/generation/launch.h"
#include "api/openai/writer.h"
#include "json/value.h"

namespace qw::api::openai {

namespace {

json::Value model_entry(const ModelEntry& model) {
  json::Object out{{"id", model->id}, {"object", "model"}, {"created", model->created}, {"owned_by", "qianwen"}};
  if (!model->base.empty()) out.set("parent", model->base);
  const ModelLease loaded = loaded_now(model);
  if (loaded != nullptr) out.set("max_model_len", loaded->engine->max_sequence_tokens());
  out.set("loaded", loaded != nullptr);
  return out;
}

// Whom a rollout's version is chosen for.
void stick(const json::Object& body, Exchange& exchange) {
  for (const char* member : {"user", "safety_identifier"}) exchange.stick_to(body.find(member));
}

}  // namespace

bool Api::handle(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const {
  using Handler = void (Api::*)(const json::Object&, const std::shared_ptr<Exchange>&) const;
  static constexpr std::pair<std::string_view, Handler> kRoutes[] = {
      {"/v1/chat/completions", &Api::chat}, {"/v1/completions", &Api::complete},
      {"/v1/embeddings", &Api::embed},      {"/v1/rerank", &Api::rerank},
      {"/v2/rerank", &Api::rerank},         {"/rerank", &Api::rerank},
      {"/v1/score", &Api::score},           {"/score", &Api::score},
      {"/v1/tokenize", &Api::tokenize},     {"/tokenize", &Api::tokenize},
      {"/v1/detokenize", &Api::detokenize}, {"/detokenize", &Api::detokenize},
  };
  for (const auto& [path, handler] : kRoutes) {
    if (request.path != path) continue;
    if (!only("POST", request, *exchange)) return true;
    const auto body = parse_body(request);
    if (!body) {
      exchange->send_error(body.error());
    } else {
      (this->*handler)(*body, exchange);
    }
    return true;
  }
  if (request.path == "/v1/models") {
    if (only("GET", request, *exchange)) list_models(exchange);
    return true;
  }
  if (!request.path.starts_with("/v1/models/")) return false;
  if (!only("GET", request, *exchange)) return true;
  const std::string name = request.path.substr(11);
  const ModelEntry model = name.empty() ? nullptr : models_.find(name);
  if (model == nullptr || !may_use(*exchange, *model)) {
    exchange->send_error(model_not_found(name));
  } else {
    exchange->send_json(200, model_entry(model));
  }
  return true;
}

void Api::list_models(const std::shared_ptr<Exchange>& exchange) const {
  json::Array data;
  for (const ModelEntry& model : models_.all())
    if (may_use(*exchange, *model)) data.push_back(model_entry(model));
  exchange->send_json(200, json::Object{{"object", "list"}, {"data", std::move(data)}});
}

void Api::chat(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const {
  auto request = read_chat_request(body);
  if (!request) return exchange->send_error(request.error());
  WriterOptions options;
  options.include_usage = request->include_usage;
  options.timings = request->timings;
  options.tells_tier = body.find_set("service_tier") != nullptr;
  options.logprobs = request->logprobs;
  stick(body, *exchange);
  const bool keeps = days_kept_ > 0 && exchange->who() != nullptr;
  if (request->store.value_or(false) && !keeps) request->ignored.emplace_back("store");
  if (keeps && request->store.value_or(true))
    options.keep = [this, exchange, messages = request->messages](const std::string& id, const AnswerRecord& record,
                                                                  std::function<void()> then) {
      keep_answer(*background_, exchange, id, messages, record, days_kept_, std::move(then));
    };
  start_chat(models_, exchange, std::move(*request),
             [exchange, options](const LaunchedPrompts&) { return make_writer(exchange, options); });
}

void Api::complete(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const {
  auto request = read_completion_request(body);
  if (!request) return exchange->send_error(request.error());
  stick(body, *exchange);
  WriterOptions options;
  options.chat = false;
  options.include_usage = request->include_usage;
  options.timings = request->timings;
  options.tells_tier = body.find_set("service_tier") != nullptr;
  options.logprobs = request->logprobs;
  start_text(models_, exchange, *request,
             [exchange, options, echo = request->echo, n = request->n](const LaunchedPrompts& prompts) mutable {
               options.choices_per_prompt = static_cast<std::size_t>(n);
               if (echo && options.logprobs) options.echoed_ids = prompts.ids;
               for (const auto& ids : prompts.ids)
                 options.echoes.insert(options.echoes.end(), static_cast<std::size_t>(n),
                                       echo ? prompts.model.tokenizer->decode(ids) : "");
               return make_writer(exchange, options);
             });
}

}  // namespace qw::api::openai
