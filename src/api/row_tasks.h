// Embeddings and rankings, whichever protocol asked: texts become prompts, and those a RowJob.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/exchange.h"
#include "api/row_job.h"
#include "api/served_model.h"
#include "json/value.h"
#include "sampling/params.h"

namespace qw::api {

struct EmbeddingRequest {
  std::string model;
  std::vector<std::string> texts;                   // or
  std::vector<std::vector<sampling::TokenId>> ids;  // (exactly one of the two is filled); taken as they are
  std::optional<std::int64_t> width;                // numbers of each, from the first; not said: all
  std::string instruction;                          // put before the texts, as queries have it; "" for documents
  std::vector<std::string> ignored;
};

struct RankRequest {
  std::string model, instruction;
  std::vector<std::string> queries;    // one for every document, or one for each
  std::vector<std::string> documents;  // not empty
  std::optional<std::int64_t> top_n;
  bool return_documents = false;
  std::vector<std::string> ignored;
};

// The body of the answer, status 200. `model`: its id.
using RowsBody = std::function<json::Value(const std::string& model, const RowResults& results)>;

// What the protocol calls them, for errors.
struct RowFields {
  const char* texts;
  const char* width = "";
};
// Both answer whatever is wrong.
void start_embedding(const ModelList& models, const std::shared_ptr<Exchange>& exchange, EmbeddingRequest request,
                     RowFields fields, RowsBody body);
// A row is one number: the relevance of a document, 0 to 1.
void start_ranking(const ModelList& models, const std::shared_ptr<Exchange>& exchange, RankRequest request,
                   RowFields fields, RowsBody body);

// The same, also with models that only embed: the cosine of the two embeddings, -1 to 1.
void start_scoring(const ModelList& models, const std::shared_ptr<Exchange>& exchange, RankRequest request,
                   RowFields fields, RowsBody body);

// As they are written: the shortest decimals that read back as the same floats.
json::Array numbers(const std::vector<float>& values);

}  // namespace qw::api
