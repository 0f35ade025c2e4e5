// DashScope's bodies, read and judged: text-generation and multimodal-generation, embeddings, rerank, tokenizer.
#pragma once

#include "api/error.h"
#include "api/generation/request.h"
#include "api/row_tasks.h"
#include "json/value.h"
#include "net/http.h"

namespace qw::api::dashscope {

struct DashscopeChat : ChatRequest {
  bool message_format = false;  // result_format: message, or else text
  bool incremental = false;     // frames hold what is new, or else all so far
  bool parts = false;           // of multimodal-generation: contents are lists of parts
};

// `stream`: the headers ask for one.
ApiResult<DashscopeChat> read_generation(const json::Object& body, bool stream, bool multimodal);
// Whether the headers ask for a stream.
bool wants_stream(const net::Headers& headers);

ApiResult<EmbeddingRequest> read_embedding(const json::Object& body);
ApiResult<RankRequest> read_rerank(const json::Object& body);

}  // namespace qw::api::dashscope
