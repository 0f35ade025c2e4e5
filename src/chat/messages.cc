#include "chat/messages.h"

#include <array>
#include <string>

namespace qw::chat {

namespace {

tl::unexpected<Error> wrong(const std::string& where, const std::string& what) {
  return fail(ErrorKind::kBadInput, where + ": " + what);
}

// Foreign names are quoted in errors, but not at any length.
std::string shown(std::string_view text) {
  constexpr std::size_t kMost = 64;
  return json::dump(json::Value(text.substr(0, text.size() > kMost ? kMost : text.size())), {-1, true, ", ", ": "});
}

// The role that templates know it by, which the message then has.
Result<std::string> convert_role(json::Object* message, const std::string& where) {
  const json::Value* role = message->find("role");
  if (!role || !role->is_string()) return wrong(where + ".role", "a string is required");
  const std::string name = role->as_string();
  if (name == "system" || name == "user" || name == "assistant" || name == "tool") return name;
  const char* known = name == "developer" ? "system" : name == "function" ? "tool" : nullptr;
  if (known == nullptr) return wrong(where + ".role", "unknown role " + shown(name));
  message->set("role", known);
  return std::string(known);
}

Result<std::string> part_text(const json::Value& part, const std::string& where) {
  if (part.is_string()) return part.as_string();
  if (!part.is_object()) return wrong(where, "a text part is required");
  const json::Value* type = part.find("type");
  if (type && !type->is_string()) return wrong(where + ".type", "a string is required");
  const std::string kind = type ? type->as_string() : "text";
  const bool text_kind = kind == "text" || kind == "input_text" || kind == "output_text";
  if (!text_kind && kind != "refusal")
    return wrong(where, "part type " + shown(kind) + " is not supported by a text model");
  const char* key = text_kind ? "text" : "refusal";
  const json::Value* text = part.find(key);
  if (!text || !text->is_string()) return wrong(where + "." + key, "a string is required");
  return text->as_string();
}

Status convert_content(json::Object* message, std::string_view role, const std::string& where) {
  const json::Value* content = message->find("content");
  if (content && content->is_string()) return {};
  if (!content || content->is_null()) {
    if (role != "assistant") return wrong(where + ".content", "text is required");
    message->set("content", "");
    return {};
  }
  if (!content->is_array()) return wrong(where + ".content", "a string or a list of parts is required");
  std::string text;
  for (std::size_t i = 0; i < content->as_array().size(); ++i) {
    QW_ASSIGN(const std::string part, part_text(content->as_array()[i], where + ".content[" + std::to_string(i) + "]"));
    if (i > 0) text += '\n';
    text += part;
  }
  message->set("content", std::move(text));
  return {};
}

Result<json::Value> arguments_of(const json::Value* given, const std::string& where) {
  if (!given || given->is_null()) return json::Value(json::Object());
  if (given->is_object()) return *given;
  if (!given->is_string()) return wrong(where, "a string of JSON or an object is required");
  if (given->as_string().find_first_not_of(" \t\r\n") == std::string::npos) return json::Value(json::Object());
  auto value = json::parse(given->as_string());
  if (!value) return wrong(where, "not JSON: " + value.error().message);
  if (!value->is_object()) return wrong(where, std::string("a JSON object is required, not ") + value->type_name());
  return std::move(*value);
}

Result<json::Value> tool_call_of(const json::Value& given, const std::string& where) {
  if (!given.is_object()) return wrong(where, "an object is required");
  if (const json::Value* type = given.find("type"); type && !(type->is_string() && type->as_string() == "function"))
    return wrong(where + ".type", "only \"function\" is supported");
  const json::Value* function = given.find("function");
  if (!function || !function->is_object()) return wrong(where + ".function", "an object is required");
  const json::Value* name = function->find("name");
  if (!name || !name->is_string() || name->as_string().empty())
    return wrong(where + ".function.name", "a string is required");
  QW_ASSIGN(json::Value arguments, arguments_of(function->find("arguments"), where + ".function.arguments"));
  json::Object called = function->as_object();
  called.set("arguments", std::move(arguments));
  json::Object call = given.as_object();
  call.set("function", std::move(called));
  return json::Value(std::move(call));
}

Status convert_tool_calls(json::Object* message, std::string_view role, const std::string& where) {
  const json::Value* calls = message->find("tool_calls");
  if (!calls) return {};
  if (calls->is_null()) {
    message->erase("tool_calls");
    return {};
  }
  if (role != "assistant") return wrong(where + ".tool_calls", "only an assistant calls tools");
  if (!calls->is_array()) return wrong(where + ".tool_calls", "a list is required");
  json::Array converted;
  for (std::size_t i = 0; i < calls->as_array().size(); ++i) {
    QW_ASSIGN(json::Value call, tool_call_of(calls->as_array()[i], where + ".tool_calls[" + std::to_string(i) + "]"));
    converted.push_back(std::move(call));
  }
  message->set("tool_calls", std::move(converted));
  return {};
}

Status convert_reasoning(json::Object* message, const std::string& where) {
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    const json::Value* given = message->find(name);
    if (!given || given->is_null()) continue;
    if (!given->is_string()) return wrong(where + "." + name, "a string is required");
    const std::string text = given->as_string();
    message->set("reasoning_content", text);
    return {};
  }
  return {};
}

}  // namespace

Result<json::Array> template_messages(json::Array messages) {
  if (messages.empty()) return wrong("messages", "at least one message is required");
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string where = "messages[" + std::to_string(i) + "]";
    if (!messages[i].is_object()) return wrong(where, "an object is required");
    json::Object* const message = &messages[i].as_object();
    QW_ASSIGN(const std::string role, convert_role(message, where));
    QW_TRY(convert_content(message, role, where));
    QW_TRY(convert_tool_calls(message, role, where));
    QW_TRY(convert_reasoning(message, where));
  }
  return messages;
}

Result<json::Array> template_tools(json::Value tools) {
  if (tools.is_null()) return json::Array();
  if (!tools.is_array()) return wrong("tools", "a list is required");
  for (std::size_t i = 0; i < tools.as_array().size(); ++i) {
    const std::string where = "tools[" + std::to_string(i) + "]";
    const json::Value& tool = tools.as_array()[i];
    if (!tool.is_object()) return wrong(where, "an object is required");
    const json::Value* type = tool.find("type");
    if (!type || !type->is_string() || type->as_string() != "function")
      return wrong(where + ".type", "only \"function\" is supported");
    const json::Value* function = tool.find("function");
    if (!function || !function->is_object()) return wrong(where + ".function", "an object is required");
    const json::Value* name = function->find("name");
    if (!name || !name->is_string() || name->as_string().empty())
      return wrong(where + ".function.name", "a string is required");
    const json::Value* parameters = function->find("parameters");
    if (parameters && !parameters->is_null() && !parameters->is_object())
      return wrong(where + ".function.parameters", "a JSON schema object is required");
  }
  return std::move(tools.as_array());
}

Result<json::Object> template_variables(Conversation conversation) {
  json::Object out;
  QW_ASSIGN(json::Array messages, template_messages(std::move(conversation.messages)));
  out.set("messages", std::move(messages));
  QW_ASSIGN(json::Array tools, template_tools(std::move(conversation.tools).value_or(json::Value())));
  // Templates ask `if tools` or `tools is defined`; transformers passes None when there are none.
  out.set("tools", tools.empty() ? json::Value() : json::Value(std::move(tools)));
  out.set("documents", nullptr);
  out.set("add_generation_prompt", conversation.add_generation_prompt);
  for (auto& [name, value] : conversation.variables) {
    if (name == "messages" || name == "tools" || name == "add_generation_prompt")
      return wrong("template variable " + shown(name), "is set by the conversation itself");
    out.set(name, std::move(value));
  }
  return out;
}

}  // namespace qw::chat
