// OpenAI's request bodies, read and judged: POST /v1/chat/completions, /v1/completions and /v1/embeddings; and that of
// POST /v1/rerank, which others made common.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/error.h"
#include "api/openai/constraint.h"
#include "json/value.h"
#include "sampling/params.h"

namespace qw::api::openai {

// Fields a client left out stay empty, so that the model's own defaults can fill them.
struct SamplingFields {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<std::int64_t> top_k, seed, min_tokens;
  std::vector<std::pair<sampling::TokenId, float>> logit_bias;
  std::vector<std::string> stop;
  std::vector<sampling::TokenId> stop_token_ids;
  bool ignore_eos = false;
};

struct CommonRequest {
  std::string model;                          // "" = the server's only or first model
  SamplingFields sampling;
  std::optional<std::int64_t> max_tokens;
  std::int64_t n = 1;
  std::string cache_salt;                     // cached prefixes are found only by requests of the same salt
  bool stream = false, include_usage = false;
  bool logprobs = false;
  std::int32_t top_logprobs = 0;
  OutputForm output;                          // what the output must look like
  std::vector<std::string> ignored;           // unknown fields, for the X-Ignored-Params header
};

struct ChatRequest : CommonRequest {
  json::Array messages;                       // as sent; chat/messages checks and converts them
  std::optional<json::Value> tools;
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;
  bool tools_allowed() const { return tools.has_value() && tool_choice.mode != ToolChoice::Mode::kNone; }
  json::Object template_variables;            // enable_thinking and chat_template_kwargs
};

struct CompletionRequest : CommonRequest {
  std::vector<std::string> prompts;           // text prompts, or
  std::vector<std::vector<sampling::TokenId>> prompt_ids;  // token prompts (exactly one of the two is filled)
  bool echo = false;
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
ApiResult<ChatRequest> read_chat_request(const json::Value& body);
ApiResult<CompletionRequest> read_completion_request(const json::Value& body);

// Fills what the client left out from `defaults` (temperature 1 and so on if the model states none).
sampling::SamplingParams sampling_params(const CommonRequest& request, const sampling::SamplingParams& defaults);

}  // namespace qw::api::openai
