// POST /v1/embeddings, /v1/rerank and /v1/score.
#include <bit>

#include "api/openai/api.h"
#include "api/row_tasks.h"
#include "base/base64.h"
#include "base/clock.h"
#include "base/decimal.h"

namespace qw::api::openai {
namespace {

static_assert(std::endian::native == std::endian::little);  // the format of base64 embeddings

std::string base64(std::span<const float> values) {
  return base::to_base64({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
}

json::Value usage(std::int64_t tokens) { return json::Object{{"prompt_tokens", tokens}, {"total_tokens", tokens}}; }

json::Value embeddings_body(const std::string& model, bool as_base64, const RowResults& results) {
  json::Array data;
  for (std::size_t i = 0; i < results.values.size(); ++i)
    data.emplace_back(
        json::Object{{"object", "embedding"},
                     {"index", static_cast<std::int64_t>(i)},
                     {"embedding", as_base64 ? json::Value(base64(results.values[i])) : numbers(results.values[i])}});
  return json::Object{
      {"object", "list"}, {"data", std::move(data)}, {"model", model}, {"usage", usage(results.prompt_tokens)}};
}

json::Value rerank_body(const std::string& model, const RankRequest& request, const RowResults& results) {
  json::Array out;
  for (const std::size_t i : best_first(results, request.top_n)) {
    json::Object one{{"index", static_cast<std::int64_t>(i)},
                     {"relevance_score", base::shortest(results.values[i][0])}};
    if (request.return_documents) one.set("document", json::Object{{"text", request.documents[i]}});
    out.emplace_back(std::move(one));
  }
  return json::Object{{"id", new_id("rerank-")},
                      {"model", model},
                      {"results", std::move(out)},
                      {"usage", usage(results.prompt_tokens)}};
}

}  // namespace

void Api::embed(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const {
  auto request = read_embedding_request(body);
  if (!request) return exchange->send_error(request.error());
  start_embedding(models_, exchange, *request, {"input", "dimensions"},
                  [as_base64 = request->base64](const std::string& model, const RowResults& results) {
                    return embeddings_body(model, as_base64, results);
                  });
}

void Api::rerank(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const {
  auto request = read_rerank_request(body);
  if (!request) return exchange->send_error(request.error());
  start_ranking(models_, exchange, *request, {"documents"},
                [asked = *request](const std::string& model, const RowResults& results) {
                  return rerank_body(model, asked, results);
                });
}

void Api::score(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const {
  auto request = read_score_request(body);
  if (!request) return exchange->send_error(request.error());
  start_scoring(models_, exchange, std::move(*request), {"text_2"},
                [](const std::string& model, const RowResults& results) -> json::Value {
                  json::Array data;
                  for (std::size_t i = 0; i < results.values.size(); ++i)
                    data.emplace_back(json::Object{{"index", static_cast<std::int64_t>(i)},
                                                   {"object", "score"},
                                                   {"score", base::shortest(results.values[i][0])}});
                  return json::Object{{"id", new_id("score-")},          {"object", "list"},
                                      {"created", base::unix_seconds()}, {"model", model},
                                      {"data", std::move(data)},         {"usage", usage(results.prompt_tokens)}};
                });
}

}  // namespace qw::api::openai
