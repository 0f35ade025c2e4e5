// Ollama's bodies, read and judged: POST /api/chat and /api/generate.
#pragma once

#include <optional>

#include "api/error.h"
#include "api/generation/request.h"
#include "api/row_tasks.h"
#include "json/value.h"

namespace qw::api::ollama {

ApiResult<ChatRequest> read_chat(const json::Object& body);

// A prompt goes through the chat template unless it is raw, or something is to be filled in before a suffix.
struct GenerateRequest {
  std::optional<ChatRequest> chat;
  std::optional<TextRequest> text;  // exactly one of the two, or neither: the model is only to be loaded
  std::string model;
};
ApiResult<GenerateRequest> read_generate(const json::Object& body);

// The model of /api/show, also as "name".
ApiResult<std::string> read_show(const json::Object& body);
// /api/embed, and /api/embeddings with its one prompt.
ApiResult<EmbeddingRequest> read_embed(const json::Object& body, bool one);

// "qwen3:latest" is "qwen3".
std::string model_name(std::string name);

}  // namespace qw::api::ollama
