#include "api/row_tasks.h"

#include <cmath>
#include <numeric>

#include "api/auth.h"
#include "api/tasks.h"
#include "base/decimal.h"
#include "engine/scores.h"

namespace qw::api {
namespace {

// With the model that was asked for, loaded.
void embed_with(const ModelLease& model, const EmbeddingRequest& request, RowFields fields, const RowsBody& body,
                const std::shared_ptr<Exchange>& exchange) {
  if (!model->embedding)
    return exchange->send_error(
        bad_request("model", "The model `" + model->id + "` makes no embeddings: it has no embedding head."));
  const EmbeddingTask task = *model->embedding;
  const std::int64_t width = request.width.value_or(task.width);
  if (width > task.width)
    return exchange->send_error(bad_request(
        fields.width, "'" + std::string(fields.width) + "' must be 1 to " + std::to_string(task.width) + "."));
  std::vector<std::vector<engine::TokenId>> prompts = request.ids;
  for (const std::string& text : request.texts)
    prompts.push_back(embedding_prompt(*model->tokenizer, text, request.instruction));
  for (const auto& ids : prompts)
    if (auto fine = check_text(*model, ids, fields.texts); !fine) return exchange->send_error(fine.error());
  name_ignored(*exchange, request.ignored);
  RowJob::start(
      exchange, model, std::move(prompts),
      [=](std::span<const float> row) { return *engine::embedding_of(row, width, task.normalise); },
      [name = model->id, body](const RowResults& results) { return body(name, results); });
}

void rank_with(const ModelLease& model, const RankRequest& request, RowFields fields, const RowsBody& body,
               const std::shared_ptr<Exchange>& exchange) {
  if (!model->ranking)
    return exchange->send_error(
        bad_request("model", "The model `" + model->id + "` ranks no documents: it has no yes and no to compare."));
  std::vector<std::vector<engine::TokenId>> prompts;
  for (std::size_t i = 0; i < request.documents.size(); ++i) {
    const std::string& query = request.queries[request.queries.size() == 1 ? 0 : i];
    prompts.push_back(ranking_prompt(*model->tokenizer, request.instruction, query, request.documents[i]));
    if (auto fine = check_text(*model, prompts.back(), fields.texts); !fine) return exchange->send_error(fine.error());
  }
  name_ignored(*exchange, request.ignored);
  RowJob::start(
      exchange, model, std::move(prompts),
      [task = *model->ranking](std::span<const float> row) { return std::vector<float>{relevance(task, row)}; },
      [name = model->id, body](const RowResults& results) { return body(name, results); });
}

// Queries and documents are embedded in one job, in that order; then compared.
void compare_with(const ModelLease& model, const RankRequest& request, RowFields fields, const RowsBody& body,
                  const std::shared_ptr<Exchange>& exchange) {
  EmbeddingRequest texts;
  texts.texts = request.queries;
  texts.texts.insert(texts.texts.end(), request.documents.begin(), request.documents.end());
  texts.ignored = request.ignored;
  const auto cosines = [queries = request.queries.size(), body](const std::string& name, const RowResults& rows) {
    RowResults out;
    out.prompt_tokens = rows.prompt_tokens;
    for (std::size_t i = 0; i + queries < rows.values.size(); ++i) {
      const auto &a = rows.values[queries == 1 ? 0 : i], &b = rows.values[queries + i];
      const double ab = std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
      const double aa = std::inner_product(a.begin(), a.end(), a.begin(), 0.0);
      const double bb = std::inner_product(b.begin(), b.end(), b.begin(), 0.0);
      out.values.push_back({aa > 0 && bb > 0 ? static_cast<float>(ab / std::sqrt(aa * bb)) : 0.0f});
    }
    return body(name, out);
  };
  embed_with(model, texts, fields, cosines, exchange);
}

}  // namespace

void start_scoring(const ModelList& models, const std::shared_ptr<Exchange>& exchange, RankRequest request,
                   RowFields fields, RowsBody body) {
  const auto entry = allowed_model(*exchange, models, request.model);
  if (!entry) return exchange->send_error(entry.error());
  with_model(*entry, exchange,
             [exchange, request = std::move(request), fields, body = std::move(body)](const ModelLease& model) {
               if (model->ranking || !model->embedding) return rank_with(model, request, fields, body, exchange);
               compare_with(model, request, fields, body, exchange);
             });
}

void start_embedding(const ModelList& models, const std::shared_ptr<Exchange>& exchange, EmbeddingRequest request,
                     RowFields fields, RowsBody body) {
  const auto entry = allowed_model(*exchange, models, request.model);
  if (!entry) return exchange->send_error(entry.error());
  with_model(*entry, exchange,
             [exchange, request = std::move(request), fields, body = std::move(body)](const ModelLease& model) {
               embed_with(model, request, fields, body, exchange);
             });
}

void start_ranking(const ModelList& models, const std::shared_ptr<Exchange>& exchange, RankRequest request,
                   RowFields fields, RowsBody body) {
  const auto entry = allowed_model(*exchange, models, request.model);
  if (!entry) return exchange->send_error(entry.error());
  with_model(*entry, exchange,
             [exchange, request = std::move(request), fields, body = std::move(body)](const ModelLease& model) {
               rank_with(model, request, fields, body, exchange);
             });
}

json::Array numbers(const std::vector<float>& values) {
  json::Array out;
  for (const float x : values) out.emplace_back(base::shortest(x));
  return out;
}

}  // namespace qw::api
