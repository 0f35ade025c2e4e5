// Anthropic's bodies, read and judged: POST /v1/messages and /v1/messages/count_tokens.
#pragma once

#include "api/error.h"
#include "api/generation/request.h"
#include "json/value.h"

namespace qw::api::anthropic {

// `counting`: of count_tokens, which needs no max_tokens.
ApiResult<ChatRequest> read_messages(const json::Object& body, bool counting);

}  // namespace qw::api::anthropic
