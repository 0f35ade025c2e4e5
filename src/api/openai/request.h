// OpenAI's request bodies, read and judged: POST /v1/chat/completions, /v1/completions and /v1/embeddings; and that of
// POST /v1/rerank, which others made common.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/error.h"
#include "api/generation/request.h"
#include "json/value.h"

namespace qw::api::openai {

struct OpenAiChat : ChatRequest {
  bool include_usage = false;                 // a stream ends with the counts
};

struct CompletionRequest : TextRequest {
  bool include_usage = false;
  bool echo = false;                          // the prompt stands before each answer
};

struct EmbeddingRequest {
  std::string model;
  std::vector<std::string> texts;                    // or
  std::vector<std::vector<sampling::TokenId>> ids;   // (exactly one of the two is filled); taken as they are
  std::optional<std::int64_t> dimensions;
  std::string instruction;                           // put before the texts, as queries have it; "" for documents
  bool base64 = false;
  std::vector<std::string> ignored;
};

struct RerankRequest {                               // the shape of Jina, Cohere and vLLM
  std::string model, query, instruction;
  std::vector<std::string> documents;
  std::optional<std::int64_t> top_n;
  bool return_documents = false;
  std::vector<std::string> ignored;
};

ApiResult<EmbeddingRequest> read_embedding_request(const json::Value& body);
ApiResult<RerankRequest> read_rerank_request(const json::Value& body);
ApiResult<OpenAiChat> read_chat_request(const json::Value& body);
ApiResult<CompletionRequest> read_completion_request(const json::Value& body);

}  // namespace qw::api::openai
