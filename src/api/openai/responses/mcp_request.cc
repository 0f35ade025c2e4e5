#include "api/openai/responses/mcp_request.h"

#include <algorithm>

namespace qw::api::openai {
namespace {

bool is_read_only(const mcp::Tool& tool) {
  const json::Value* hint = tool.annotations.find("readOnlyHint");
  return hint != nullptr && *hint == json::Value(true);
}

// [names], or {"tool_names": [...], "read_only": true}.
std::optional<McpToolFilter> read_filter(const json::Value& value) {
  McpToolFilter out;
  const json::Value* names = value.is_array() ? &value : value.find("tool_names");
  if (!value.is_array() && !value.is_object()) return std::nullopt;
  if (names != nullptr && !names->is_null()) {
    if (!names->is_array()) return std::nullopt;
    for (const json::Value& name : names->as_array()) {
      if (!name.is_string()) return std::nullopt;
      out.names.insert(name.as_string());
    }
  }
  const json::Value* read_only = value.find("read_only");
  out.read_only = read_only != nullptr && *read_only == json::Value(true);
  return out;
}

bool read_approval(const json::Value& value, McpServerRequest& out) {
  if (value.is_string()) {
    out.approve = value.as_string() != "never";
    return value.as_string() == "always" || value.as_string() == "never";
  }
  for (auto [key, to] : {std::pair("always", &out.always), std::pair("never", &out.never)}) {
    const json::Value* found = value.find(key);
    if (found == nullptr || found->is_null()) continue;
    auto filter = read_filter(*found);
    if (!filter) return false;
    *to = std::move(*filter);
  }
  return value.is_object();
}

// Names and values that may stand in a request; what belongs to the protocol itself may not be changed.
bool read_headers(const json::Value& value, net::Headers& out) {
  if (!value.is_object()) return false;
  for (const auto& [name, text] : value.as_object()) {
    std::string lower = name;
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    const bool token =
        !name.empty() && lower.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_") == std::string::npos;
    const bool own = lower == "host" || lower == "connection" || lower == "transfer-encoding" || lower == "upgrade" ||
                     lower == "accept" || lower == "te" || lower.starts_with("content-") || lower.starts_with("mcp-") ||
                     lower.starts_with("proxy-");
    const bool line = text.is_string() && std::all_of(text.as_string().begin(), text.as_string().end(),
                                                      [](char c) { return c < 0 || (c >= ' ' && c != 127); });
    if (!token || own || !line) return false;
    out.emplace_back(name, text.as_string());
  }
  return true;
}

}  // namespace

bool McpToolFilter::covers(const mcp::Tool& tool) const {
  return names.count(tool.name) > 0 || (read_only && is_read_only(tool));
}

bool McpServerRequest::wants_approval(const mcp::Tool& tool) const {
  if (always.covers(tool)) return true;
  return approve && !never.covers(tool);
}

std::optional<McpServerRequest> read_mcp_server(FieldReader& in, const json::Value& tool) {
  McpServerRequest out;
  out.label = text_member(tool, "server_label");
  out.url = text_member(tool, "server_url");
  out.description = text_member(tool, "server_description");
  const auto wrong = [&](const char* what) {
    in.reject("tools", std::string("An MCP tool's ") + what);
    return std::nullopt;
  };
  const auto given = [&](const char* key) {
    const json::Value* found = tool.find(key);
    return found == nullptr || found->is_null() ? nullptr : found;
  };
  if (out.label.empty()) return wrong("'server_label' is required.");
  for (const char* name : {"connector_id", "tunnel_id"})
    if (given(name) != nullptr) return wrong((std::string("'") + name + "' is not supported.").c_str());
  if (const json::Value* headers = given("headers"); headers != nullptr && !read_headers(*headers, out.headers))
    return wrong("'headers' must be names and values that may stand in a request.");
  if (const std::string token = text_member(tool, "authorization"); !token.empty()) {
    const json::Object one{{"Authorization", "Bearer " + token}};
    if (!read_headers(one, out.headers)) return wrong("'authorization' has bytes that may not stand in a header.");
  }
  if (const json::Value* allowed = given("allowed_tools")) {
    out.allowed = read_filter(*allowed);
    if (!out.allowed) return wrong("'allowed_tools' must be names, or an object with 'tool_names' or 'read_only'.");
  }
  if (const json::Value* approval = given("require_approval"); approval != nullptr && !read_approval(*approval, out))
    return wrong("'require_approval' must be always, never, or an object with 'always' and 'never'.");
  return out;
}

std::string mcp_function_name(const std::string& label, const std::string& tool) { return label + "__" + tool; }

json::Value shown_mcp_server(const json::Value& tool) {
  json::Object out = tool.as_object();
  out.erase("headers");
  out.erase("authorization");
  return out;
}

}  // namespace qw::api::openai
