// JSON-RPC 2.0 as MCP uses it: what is asked, and what comes back from a server that may send anything.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::mcp {

struct RpcError {
  std::int64_t code = 0;
  std::string message;
};
struct Reply {
  std::optional<RpcError> error;
  json::Object result;  // if there is no error
};

// id 0: a notification, which is not answered.
std::string request_text(std::int64_t id, const std::string& method, json::Object params);

// The answer to request `id` in a message, or a batch of them; nothing if it is something else that a server may say at
// any time (a notification, a request of its own). kBadInput: no JSON-RPC, or the answer to what was not asked.
Result<std::optional<Reply>> read_reply(std::string_view text, std::int64_t id);

// What the results mean
// -------------------------------------------------------------------------------------------------

struct Tool {
  std::string name, description;
  json::Value input_schema, annotations;  // an object; null or an object
};
struct ToolPage {
  std::vector<Tool> tools;
  std::string next;  // cursor of the next page; "": it was the last
};
Result<ToolPage> read_tools(const json::Object& result);

struct CallResult {
  std::string text;  // for a model to read: parts that are no text are named, not shown
  bool failed = false;
};
Result<CallResult> read_call_result(const json::Object& result);

// A value in a header of the modern era: as it is, or in base64 with a mark around it.
std::string header_value(std::string_view text);

}  // namespace qw::mcp
