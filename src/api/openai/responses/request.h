// Bodies of POST /v1/responses, read and judged.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/error.h"
#include "api/generation/request.h"
#include "api/openai/responses/mcp_request.h"
#include "json/value.h"

namespace qw::api::openai {

struct ResponseRequest : ChatRequest {
  std::string instructions;           // stand before everything, and are not carried on to the next response
  std::string previous;               // id of the response that this one goes on from; ""
  json::Array input_items;            // what was asked, as items
  bool background = false;            // answered later: it must be kept
  bool store = true;                  // kept, to be read and gone on from
  json::Object echoed;                // settings that the response repeats
  std::vector<McpServerRequest> mcp;  // whose tools are offered
  std::vector<McpApproval> approvals;
  std::optional<std::int64_t> max_tool_calls;  // of MCP servers
  bool mcp_choice = false;                     // tool_choice names an MCP server's tool
};

// `messages` are those of the input alone; with_history puts together what the model is given.
ApiResult<ResponseRequest> read_response_request(const json::Object& body);

// Instructions, then the conversation so far, then the input.
json::Array with_history(const ResponseRequest& request, const json::Array& history);

}  // namespace qw::api::openai
