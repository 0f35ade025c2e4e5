#include "mcp/message.h"

#include <algorithm>

#include "base/base64.h"

namespace qw::mcp {
namespace {

constexpr std::size_t kMostErrorText = 500, kMostName = 128;

tl::unexpected<Error> malformed(const std::string& what) { return fail(ErrorKind::kBadInput, what); }

std::string text_of(const json::Value& value, std::string_view key) {
  const json::Value* found = value.find(key);
  return found != nullptr && found->is_string() ? found->as_string() : "";
}

Result<std::optional<Reply>> one_reply(const json::Value& message, std::int64_t id) {
  if (!message.is_object() || text_of(message, "jsonrpc") != "2.0") return malformed("no JSON-RPC message");
  const json::Value *result = message.find("result"), *error = message.find("error");
  if (message.find("method") != nullptr && result == nullptr && error == nullptr) return std::optional<Reply>();
  const json::Value* given = message.find("id");
  // An error may come without an id where the request could not be read.
  const bool nameless = error != nullptr && (given == nullptr || given->is_null());
  if (!nameless && (given == nullptr || !(*given == json::Value(id))))
    return malformed("an answer to what was not asked");
  if ((result == nullptr) == (error == nullptr)) return malformed("an answer without result or error");
  Reply reply;
  if (error != nullptr) {
    const json::Value* code = error->is_object() ? error->find("code") : nullptr;
    if (code == nullptr || !code->is_int()) return malformed("an error without a code");
    reply.error = {code->as_int(), text_of(*error, "message").substr(0, kMostErrorText)};
  } else if (result->is_object()) {
    reply.result = result->as_object();
  } else {
    return malformed("a result that is no object");
  }
  return std::optional(std::move(reply));
}

void add_part(const json::Value& part, std::string& out) {
  if (!out.empty()) out += '\n';
  const std::string type = text_of(part, "type");
  if (type == "text") {
    out += text_of(part, "text");
  } else if (type == "resource_link") {
    out += "[" + text_of(part, "name") + ": " + text_of(part, "uri") + "]";
  } else if (const json::Value* resource = type == "resource" ? part.find("resource") : nullptr;
             resource != nullptr && resource->is_object() && resource->find("text") != nullptr) {
    out += text_of(*resource, "text");
  } else {
    out += "[" + (type.empty() ? std::string("unknown") : type) + " " + text_of(part, "mimeType") + " is not shown]";
  }
}

}  // namespace

std::string request_text(std::int64_t id, const std::string& method, json::Object params) {
  json::Object out{{"jsonrpc", "2.0"}};
  if (id != 0) out.set("id", id);
  out.set("method", method);
  if (!params.empty()) out.set("params", std::move(params));
  return json::dump(out, json::WriteStyle::compact());
}

Result<std::optional<Reply>> read_reply(std::string_view text, std::int64_t id) {
  const auto value = json::parse(text);
  if (!value) return malformed("no JSON: " + value.error().message);
  if (!value->is_array()) return one_reply(*value, id);
  for (const json::Value& message : value->as_array()) {
    QW_ASSIGN(auto reply, one_reply(message, id));
    if (reply) return reply;
  }
  return std::optional<Reply>();
}

Result<ToolPage> read_tools(const json::Object& result) {
  const json::Value* tools = result.find("tools");
  if (tools == nullptr || !tools->is_array()) return malformed("a list of tools without tools");
  ToolPage out;
  for (const json::Value& one : tools->as_array()) {
    Tool tool;
    if (one.is_object()) {
      tool.name = text_of(one, "name");
      tool.description = text_of(one, "description");
      if (const json::Value* schema = one.find("inputSchema")) tool.input_schema = *schema;
      if (const json::Value* notes = one.find("annotations")) tool.annotations = *notes;
    }
    const bool named =
        !tool.name.empty() && tool.name.size() <= kMostName &&
        std::all_of(tool.name.begin(), tool.name.end(), [](unsigned char c) { return c > ' ' && c < 127; });
    if (!named || !tool.input_schema.is_object()) return malformed("a tool without a name or a schema");
    if (!tool.annotations.is_object()) tool.annotations = nullptr;
    out.tools.push_back(std::move(tool));
  }
  if (const json::Value* next = result.find("nextCursor"); next != nullptr && next->is_string())
    out.next = next->as_string();
  return out;
}

Result<CallResult> read_call_result(const json::Object& result) {
  if (const json::Value* type = result.find("resultType"); type != nullptr && *type == json::Value("input_required"))
    return fail(ErrorKind::kRefused, "the tool asks for more input, which cannot be given here");
  const json::Value *content = result.find("content"), *structured = result.find("structuredContent");
  if (content != nullptr && !content->is_array()) return malformed("a result whose content is no list");
  if (content == nullptr && structured == nullptr) return malformed("a result without content");
  CallResult out;
  if (content != nullptr)
    for (const json::Value& part : content->as_array()) {
      if (!part.is_object()) return malformed("a result whose content has no parts");
      add_part(part, out.text);
    }
  if (out.text.empty() && structured != nullptr) out.text = json::dump(*structured, json::WriteStyle::compact());
  const json::Value* failed = result.find("isError");
  out.failed = failed != nullptr && *failed == json::Value(true);
  return out;
}

std::string header_value(std::string_view text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
  const bool trimmed = text.empty() || (text.front() != ' ' && text.back() != ' ');
  if (plain && trimmed && !text.starts_with("=?base64?")) return std::string(text);
  return "=?base64?" + base::to_base64(text) + "?=";
}

}  // namespace qw::mcp
