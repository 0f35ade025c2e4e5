// POST /v1/tokenize and /v1/detokenize, as vLLM has them: bodies read and judged.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/openai/request.h"

namespace qw::api::openai {

struct TokenizeRequest {
  std::string model;
  std::string prompt;               // a text, or
  std::optional<ChatRequest> chat;  // a conversation, through the model's template
  bool special = true;              // of a text: with what the model's prompts begin with
  bool strings = false;             // the tokens' texts, too
  std::vector<std::string> ignored;
};
ApiResult<TokenizeRequest> read_tokenize_request(const json::Object& body);

struct DetokenizeRequest {
  std::string model;
  std::vector<sampling::TokenId> tokens;
  std::vector<std::string> ignored;
};
ApiResult<DetokenizeRequest> read_detokenize_request(const json::Object& body);

}  // namespace qw::api::openai
