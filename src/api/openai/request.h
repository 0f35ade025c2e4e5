// OpenAI's request bodies, read and judged: POST /v1/chat/completions, /v1/completions and /v1/embeddings; and that of
// POST /v1/rerank, which others made common.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/error.h"
#include "api/generation/request.h"
#include "api/row_tasks.h"
#include "json/value.h"

namespace qw::api::openai {

struct OpenAiChat : ChatRequest {
  bool include_usage = false;  // a stream ends with the counts
  std::optional<bool> store;   // the answer is to be kept
};

struct CompletionRequest : TextRequest {
  bool include_usage = false;
};

struct OpenAiEmbedding : EmbeddingRequest {
  bool base64 = false;
};

ApiResult<OpenAiEmbedding> read_embedding_request(const json::Object& body);
// The shape of Jina, Cohere and vLLM.
ApiResult<RankRequest> read_rerank_request(const json::Object& body);
// vLLM's text_1 and text_2, also as queries and documents.
ApiResult<RankRequest> read_score_request(const json::Object& body);
ApiResult<OpenAiChat> read_chat_request(const json::Object& body);
ApiResult<CompletionRequest> read_completion_request(const json::Object& body);

}  // namespace qw::api::openai
