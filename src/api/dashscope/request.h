// DashScope's bodies, read and judged: text-generation and multimodal-generation, embeddings, rerank, tokenizer.
#pragma once

#include "api/error.h"
#include "api/generation/request.h"
#include "json/value.h"
#include "net/http.h"

namespace qw::api::dashscope {

struct DashscopeChat : ChatRequest {
  bool message_format = false;  // result_format: message, or else text
  bool incremental = false;     // frames hold what is new, or else all so far
  bool parts = false;           // of multimodal-generation: contents are lists of parts
};

// `stream`: the headers ask for one.
ApiResult<DashscopeChat> read_generation(const json::Value& body, bool stream, bool multimodal);
// Whether the headers ask for a stream.
bool wants_stream(const net::Headers& headers);

struct EmbeddingInput {
  std::string model, instruction;
  std::vector<std::string> texts;
  std::optional<std::int64_t> dimension;
  std::vector<std::string> ignored;
};
ApiResult<EmbeddingInput> read_embedding(const json::Value& body);

struct RerankInput {
  std::string model, query, instruction;
  std::vector<std::string> documents;
  std::optional<std::int64_t> top_n;
  bool return_documents = false;
  std::vector<std::string> ignored;
};
ApiResult<RerankInput> read_rerank(const json::Value& body);

}  // namespace qw::api::dashscope
