#include "api/dashscope/api.h"

#include "api/auth.h"
#include "api/dashscope/request.h"
#include "api/dashscope/writer.h"
#include "api/generation/launch.h"
#include "api/row_tasks.h"
#include "base/decimal.h"

namespace qw::api::dashscope {
namespace {

constexpr std::string_view kRoot = "/api/v1/";
constexpr std::string_view kText = "services/aigc/text-generation/generation";
constexpr std::string_view kMultimodal = "services/aigc/multimodal-generation/generation";
constexpr std::string_view kEmbedding = "services/embeddings/text-embedding/text-embedding";
constexpr std::string_view kRerank = "services/rerank/text-rerank/text-rerank";

const char* code_of(const ApiError& error) {
  if (error.code == kContentFilter) return "DataInspectionFailed";
  switch (error.status) {
    case 401:
      return "InvalidApiKey";
    case 403:
      return error.code == "model_not_allowed" ? "Model.AccessDenied" : "AccessDenied";
    case 404:
      return error.code == "model_not_found" ? "ModelNotFound" : "NotFound";
    case 429:
      return error.code == "insufficient_quota" ? "Throttling.AllocationQuota" : "Throttling.RateQuota";
    case 503:
      return "ServiceUnavailable";
    default:
      return error.status < 500 ? "InvalidParameter" : "InternalError";
  }
}

// What is wrong with a request for a stream is an event of one, as the service that this follows has it; who may not
// ask, or not now, is told by the status all the same.
void tell_errors_in_events(const std::shared_ptr<Exchange>& exchange) {
  exchange->take_errors([weak = std::weak_ptr(exchange)](const ApiError& error) {
    const auto told = weak.lock();
    if (told == nullptr) return;
    if (error.status != 400) return told->send_error(error);
    told->begin_events(":\n\n");
    told->reply().write(frame_text(1, "error", error.status, error_body(error, told->request_id())));
    told->end_events();
  });
}

json::Value answer(json::Object output, json::Object usage, const std::string& request_id) {
  return json::Object{{"output", std::move(output)}, {"usage", std::move(usage)}, {"request_id", request_id}};
}

}  // namespace

json::Value error_body(const ApiError& error, const std::string& request_id) {
  return json::Object{{"code", code_of(error)}, {"message", error.message}, {"request_id", request_id}};
}

bool Api::answers(std::string_view path) {
  if (!path.starts_with(kRoot)) return false;
  const std::string_view route = path.substr(kRoot.size());
  return route == kText || route == kMultimodal || route == kEmbedding || route == kRerank;
}

bool Api::handle(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  if (!speaks(http)) return false;
  const std::string_view route = std::string_view(http.path).substr(kRoot.size());
  const bool lists = route == "models";
  if (!lists && route != kText && route != kMultimodal && route != kEmbedding && route != kRerank &&
      route != "tokenizer")
    return false;
  if (!only(lists ? "GET" : "POST", http, *exchange)) return true;
  if (lists) {
    list_models(*exchange);
    return true;
  }
  if ((route == kText || route == kMultimodal) && wants_stream(http.headers)) tell_errors_in_events(exchange);
  const auto body = parse_body(http);
  if (!body) {
    exchange->send_error(body.error());
  } else if (route == kEmbedding) {
    embed(*body, exchange);
  } else if (route == kRerank) {
    rerank(*body, exchange);
  } else if (route == "tokenizer") {
    tokenize(*body, exchange);
  } else {
    generate(http, *body, exchange, route == kMultimodal);
  }
  return true;
}

void Api::generate(const net::Request& http, const json::Object& body, const std::shared_ptr<Exchange>& exchange,
                   bool multimodal) const {
  auto request = read_generation(body, wants_stream(http.headers), multimodal);
  if (!request) return exchange->send_error(request.error());
  const WriterOptions options{request->message_format, request->incremental, request->parts, request->logprobs};
  start_chat(models_, exchange, std::move(*request),
             [exchange, options](const LaunchedPrompts&) { return make_writer(exchange, options); });
}

void Api::embed(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const {
  auto request = read_embedding(body);
  if (!request) return exchange->send_error(request.error());
  start_embedding(models_, exchange, std::move(*request), {"input.texts", "dimension"},
                  [id = exchange->request_id()](const std::string&, const RowResults& results) {
                    json::Array list;
                    for (std::size_t i = 0; i < results.values.size(); ++i)
                      list.emplace_back(json::Object{{"text_index", static_cast<std::int64_t>(i)},
                                                     {"embedding", numbers(results.values[i])}});
                    return answer({{"embeddings", std::move(list)}}, {{"total_tokens", results.prompt_tokens}}, id);
                  });
}

void Api::rerank(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const {
  auto request = read_rerank(body);
  if (!request) return exchange->send_error(request.error());
  start_ranking(models_, exchange, *request, {"input.documents"},
                [id = exchange->request_id(), asked = *request](const std::string&, const RowResults& results) {
                  json::Array list;
                  for (const std::size_t i : best_first(results, asked.top_n)) {
                    json::Object one{{"index", static_cast<std::int64_t>(i)},
                                     {"relevance_score", base::shortest(results.values[i][0])}};
                    if (asked.return_documents) one.set("document", json::Object{{"text", asked.documents[i]}});
                    list.emplace_back(std::move(one));
                  }
                  return answer({{"results", std::move(list)}}, {{"total_tokens", results.prompt_tokens}}, id);
                });
}

// The ids of what a generation with this input would begin with.
void Api::tokenize(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const {
  auto request = read_generation(body, false, false);
  if (!request) return exchange->send_error(request.error());
  const auto entry = allowed_model(*exchange, models_, request->model);
  if (!entry) return exchange->send_error(entry.error());
  with_model(*entry, exchange, [exchange, asked = std::move(*request)](const ModelLease& model) {
    if (model->chat_template == nullptr)
      return exchange->send_error(bad_request("model", "The model `" + model->id + "` has no chat template."));
    const auto prompt = prompt_of(*model, asked);
    if (!prompt) return exchange->send_error(prompt.error());
    json::Array ids, tokens;
    for (const auto id : prompt->ids) {
      ids.emplace_back(std::int64_t{id});
      tokens.emplace_back(model->tokenizer->decode(std::span(&id, 1), false));
    }
    const auto count = static_cast<std::int64_t>(ids.size());
    exchange->send_json(200, answer({{"token_ids", std::move(ids)}, {"tokens", std::move(tokens)}},
                                    {{"input_tokens", count}}, exchange->request_id()));
  });
}

void Api::list_models(Exchange& exchange) const {
  json::Array list;
  for (const ModelEntry& model : models_.all())
    if (may_use(exchange, *model))
      list.push_back(json::Object{{"model_id", model->id}, {"name", model->id}, {"gmt_create", model->created}});
  const auto count = static_cast<std::int64_t>(list.size());
  exchange.send_json(
      200,
      json::Object{
          {"output", json::Object{{"models", std::move(list)}, {"total", count}, {"page_no", 1}, {"page_size", count}}},
          {"request_id", exchange.request_id()}});
}

}  // namespace qw::api::dashscope
