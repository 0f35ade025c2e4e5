// What a request for a response says of MCP servers, and of calls that were to be approved.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/field_reader.h"
#include "json/value.h"
#include "mcp/client.h"
#include "net/http.h"

namespace qw::api::openai {

// Tools by their names, or those that only read.
struct McpToolFilter {
  std::set<std::string> names;
  bool read_only = false;
  bool covers(const mcp::Tool& tool) const;
};

struct McpServerRequest {
  std::string label, url, description;
  net::Headers headers;
  std::optional<McpToolFilter> allowed;  // absent: all
  bool approve = true;                   // calls wait for the client's approval, but for those of
  McpToolFilter always, never;           // these two, in this order
  bool offers(const mcp::Tool& tool) const { return !allowed || allowed->covers(tool); }
  bool wants_approval(const mcp::Tool& tool) const;
};

struct McpApproval {
  std::string request, reason;  // id of the mcp_approval_request
  bool approved = false;
};

// The name under which a model knows a server's tool.
std::string mcp_function_name(const std::string& label, const std::string& tool);
// An element of 'tools' of type "mcp"; what is wrong is recorded in `in`.
std::optional<McpServerRequest> read_mcp_server(FieldReader& in, const json::Value& tool);
// The element without what is secret.
json::Value shown_mcp_server(const json::Value& tool);

}  // namespace qw::api::openai
