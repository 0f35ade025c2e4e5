// POST /v1/embeddings and POST /v1/rerank.
#include <bit>
#include <cstring>

#include "api/auth.h"
#include "api/openai/api.h"
#include "api/row_job.h"
#include "api/tasks.h"
#include "base/decimal.h"
#include "engine/scores.h"

namespace qw::api::openai {
namespace {

static_assert(std::endian::native == std::endian::little);  // the format of base64 embeddings

std::string base64(std::span<const float> values) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes(values.size_bytes(), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t word = 0;
    for (std::size_t j = 0; j < 3; ++j) word = word << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (std::size_t j = 0; j < 4; ++j) out += i + j > bytes.size() ? '=' : kDigits[word >> (18 - 6 * j) & 63];
  }
  return out;
}

json::Value numbers(const std::vector<float>& values) {
  json::Array out;
  for (const float x : values) out.emplace_back(base::shortest(x));
  return out;
}

json::Value usage(std::int64_t tokens) { return json::Object{{"prompt_tokens", tokens}, {"total_tokens", tokens}}; }

json::Value embeddings_body(const std::string& model, bool as_base64, const RowResults& results) {
  json::Array data;
  for (std::size_t i = 0; i < results.values.size(); ++i)
    data.emplace_back(json::Object{{"object", "embedding"},
                                   {"index", static_cast<std::int64_t>(i)},
                                   {"embedding", as_base64 ? json::Value(base64(results.values[i])) : numbers(results.values[i])}});
  return json::Object{{"object", "list"}, {"data", std::move(data)}, {"model", model}, {"usage", usage(results.prompt_tokens)}};
}

json::Value rerank_body(const std::string& model, const RerankRequest& request, const RowResults& results) {
  json::Array out;
  for (const std::size_t i : best_first(results, request.top_n)) {
    json::Object one{{"index", static_cast<std::int64_t>(i)}, {"relevance_score", base::shortest(results.values[i][0])}};
    if (request.return_documents) one.set("document", json::Object{{"text", request.documents[i]}});
    out.emplace_back(std::move(one));
  }
  return json::Object{{"id", new_id("rerank-")}, {"model", model}, {"results", std::move(out)}, {"usage", usage(results.prompt_tokens)}};
}

// With the model that embed asked for, loaded.
void embed_with(const ModelLease& model, const EmbeddingRequest& request, const std::shared_ptr<Exchange>& exchange) {
  if (!model->embedding)
    return exchange->send_error(bad_request("model", "The model `" + model->id + "` makes no embeddings: it has no embedding head."));
  const EmbeddingTask task = *model->embedding;
  const std::int64_t dimensions = request.dimensions.value_or(task.width);
  if (dimensions > task.width)
    return exchange->send_error(bad_request("dimensions", "'dimensions' must be 1 to " + std::to_string(task.width) + "."));
  std::vector<std::vector<engine::TokenId>> prompts = request.ids;
  for (const std::string& text : request.texts)
    prompts.push_back(embedding_prompt(*model->tokenizer, text, request.instruction));
  for (const auto& ids : prompts)
    if (auto fine = check_text(*model, ids, "input"); !fine) return exchange->send_error(fine.error());
  name_ignored(*exchange, request.ignored);
  RowJob::start(
      exchange, model, std::move(prompts),
      [=](std::span<const float> row) { return *engine::embedding_of(row, dimensions, task.normalise); },
      [name = model->id, as_base64 = request.base64](const RowResults& results) { return embeddings_body(name, as_base64, results); });
}

}  // namespace

void Api::embed(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto request = read_embedding_request(*body);
  if (!request) return exchange->send_error(request.error());
  const auto entry = allowed_model(*exchange, models_, request->model);
  if (!entry) return exchange->send_error(entry.error());
  with_model(*entry, exchange, [exchange, request = std::move(*request)](const ModelLease& model) {
    embed_with(model, request, exchange);
  });
}

namespace {

// With the model that rerank asked for, loaded.
void rerank_with(const ModelLease& model, const RerankRequest& request, const std::shared_ptr<Exchange>& exchange) {
  if (!model->ranking)
    return exchange->send_error(bad_request("model", "The model `" + model->id + "` ranks no documents: it has no yes and no to compare."));
  std::vector<std::vector<engine::TokenId>> prompts;
  for (const std::string& document : request.documents) {
    prompts.push_back(ranking_prompt(*model->tokenizer, request.instruction, request.query, document));
    if (auto fine = check_text(*model, prompts.back(), "documents"); !fine) return exchange->send_error(fine.error());
  }
  name_ignored(*exchange, request.ignored);
  RowJob::start(
      exchange, model, std::move(prompts),
      [task = *model->ranking](std::span<const float> row) { return std::vector<float>{relevance(task, row)}; },
      [name = model->id, asked = request](const RowResults& results) { return rerank_body(name, asked, results); });
}

}  // namespace

void Api::rerank(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto request = read_rerank_request(*body);
  if (!request) return exchange->send_error(request.error());
  const auto entry = allowed_model(*exchange, models_, request->model);
  if (!entry) return exchange->send_error(entry.error());
  with_model(*entry, exchange, [exchange, request = std::move(*request)](const ModelLease& model) {
    rerank_with(model, request, exchange);
  });
}

}  // namespace qw::api::openai
