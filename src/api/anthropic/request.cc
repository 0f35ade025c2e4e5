#include "api/anthropic/request.h"

#include <limits>

#include "api/content_text.h"
#include "api/field_reader.h"

namespace qw::api::anthropic {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kMostStops = 16;
constexpr const char* kMessagesShape =
    R"({"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role", "content"], "properties": {
        "role": {"type": "string", "enum": ["user", "assistant", "system"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object", "required": ["type"],
          "properties": {"type": {"enum": ["text", "tool_use", "tool_result", "thinking", "redacted_thinking"]}}}}]}}}})";
constexpr const char* kSystemShape =
    R"({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object", "required": ["type", "text"],
        "properties": {"type": {"const": "text"}, "text": {"type": "string"}}}}]})";
constexpr const char* kToolsShape =
    R"({"type": "array", "items": {"type": "object", "required": ["name", "input_schema"], "properties": {
        "name": {"type": "string", "minLength": 1}, "type": {"const": "custom"}, "description": {"type": "string"},
        "input_schema": {"type": "object"}}}})";
constexpr const char* kToolChoiceShape =
    R"({"type": "object", "required": ["type"], "properties": {"type": {"enum": ["auto", "any", "tool", "none"]},
        "name": {"type": "string"}, "disable_parallel_tool_use": {"type": "boolean"}}})";
constexpr const char* kThinkingShape =
    R"({"type": "object", "required": ["type"], "properties": {"type": {"enum": ["enabled", "adaptive", "disabled"]},
        "budget_tokens": {"type": "integer", "minimum": 0, "maximum": 2147483647}}})";
constexpr const char* kOutputShape =
    R"({"type": "object", "properties": {"effort": {"type": "string"}, "format": {"type": ["object", "null"],
        "required": ["type", "schema"], "properties": {"type": {"const": "json_schema"}, "schema": {"type": "object"}}}}})";
constexpr const char* kStopShape = R"({"type": "array", "maxItems": 16, "items": {"type": "string", "minLength": 1}})";

// A string, or blocks of text.
bool plain_text(const json::Value* content, std::string& out) {
  return content_text(
      content,
      [](const json::Value& block, std::string& to) {
        const json::Value* text = block.find("text");
        if (text_member(block, "type") != "text" || text == nullptr || !text->is_string()) return false;
        to = text->as_string();
        return true;
      },
      out);
}

// Turns the messages of one conversation into OpenAI's form.
class Conversation {
 public:
  Conversation(FieldReader& in, json::Array& out) : in_(in), out_(out) {}

  void add(const json::Value& message, std::size_t index) {
    place_ = "messages." + std::to_string(index);
    const std::string role = text_member(message, "role");
    const json::Value* content = message.find("content");
    if (role == "system") {  // some clients put it here
      std::string text;
      if (!plain_text(content, text)) return wrong(": a system message holds text");
      return put({{"role", "system"}, {"content", text}});
    }
    if (role != "user" && role != "assistant") return wrong(".role must be user or assistant");
    if (content != nullptr && content->is_string()) return put({{"role", role}, {"content", *content}});
    if (content == nullptr || !content->is_array()) return wrong(".content must be a string or an array of blocks");
    role == "user" ? user(content->as_array()) : assistant(content->as_array());
  }

 private:
  void wrong(const std::string& what) { in_.reject("messages", "'" + place_ + "'" + what + "."); }
  void put(json::Object message) { out_.emplace_back(std::move(message)); }

  // Results of tools are messages of their own; text between them too.
  void user(const json::Array& blocks) {
    std::string text;
    bool has_text = false;
    const auto flush = [&] {
      if (std::exchange(has_text, false)) put({{"role", "user"}, {"content", std::exchange(text, {})}});
    };
    for (const json::Value& block : blocks) {
      const std::string type = text_member(block, "type");
      if (type == "text") {
        if (std::exchange(has_text, true)) text += "\n";
        text += text_member(block, "text");
      } else if (type == "tool_result") {
        flush();
        std::string result;
        if (!plain_text(block.find("content"), result)) return wrong(": the result of a tool holds text only");
        put({{"role", "tool"}, {"tool_call_id", text_member(block, "tool_use_id")}, {"content", result}});
      } else {
        return wrong(": blocks of type `" + type + "` are not supported; these are models of text");
      }
    }
    flush();
  }

  void assistant(const json::Array& blocks) {
    std::string text, reasoning;
    json::Array calls;
    for (const json::Value& block : blocks) {
      const std::string type = text_member(block, "type");
      if (type == "text") {
        text += text_member(block, "text");
      } else if (type == "thinking") {
        reasoning += text_member(block, "thinking");
      } else if (type == "tool_use") {
        const json::Value* input = block.find("input");
        calls.push_back(json::Object{{"id", text_member(block, "id")},
                                     {"type", "function"},
                                     {"function", json::Object{{"name", text_member(block, "name")},
                                                               {"arguments", input != nullptr && input->is_object()
                                                                                 ? *input
                                                                                 : json::Value(json::Object{})}}}});
      } else if (type != "redacted_thinking") {
        return wrong(": blocks of type `" + type + "` are not supported");
      }
    }
    json::Object message{{"role", "assistant"}, {"content", text}};
    if (!reasoning.empty()) message.set("reasoning_content", reasoning);
    if (!calls.empty()) message.set("tool_calls", std::move(calls));
    put(std::move(message));
  }

  FieldReader& in_;
  json::Array& out_;
  std::string place_;
};

void read_conversation(FieldReader& in, ChatRequest& out) {
  std::string system;
  if (!plain_text(in.any("system", kSystemShape), system))
    in.reject("system", "'system' must be a string or blocks of text.");
  if (!system.empty()) out.messages.push_back(json::Object{{"role", "system"}, {"content", system}});
  const json::Array* messages = in.array("messages", kMessagesShape);
  if (messages == nullptr || messages->empty()) return in.reject("messages", "'messages' is required.");
  Conversation conversation(in, out.messages);
  for (std::size_t i = 0; i < messages->size(); ++i) conversation.add((*messages)[i], i);
  // What stands last and is the assistant's is how the answer begins.
  const json::Value* role = out.messages.empty() ? nullptr : out.messages.back().find("role");
  if (role == nullptr || !(*role == json::Value("assistant"))) return;
  if (out.messages.back().find("tool_calls") != nullptr)
    return in.reject("messages", "The last message calls a tool; its result must follow.");
  out.prefix = text_member(out.messages.back(), "content");
  out.messages.pop_back();
}

void read_tools(FieldReader& in, ChatRequest& out) {
  json::Array tools;
  if (const json::Array* given = in.array("tools", kToolsShape)) {
    for (const json::Value& tool : *given) {
      const std::string name = text_member(tool, "name"), type = text_member(tool, "type");
      if (!type.empty() && type != "custom")
        return in.reject("tools", "Tools of type `" + type + "` are not supported: there is nobody here to run them.");
      if (name.empty()) return in.reject("tools", "Each tool must have a name.");
      json::Object function{{"name", name}};
      if (const json::Value* text = tool.find("description")) function.set("description", *text);
      const json::Value* schema = tool.find("input_schema");
      if (schema == nullptr || !schema->is_object())
        return in.reject("tools", "The tool " + name + " has no 'input_schema'.");
      function.set("parameters", *schema);
      if (const json::Value* strict = tool.find("strict")) function.set("strict", *strict);
      tools.push_back(json::Object{{"type", "function"}, {"function", std::move(function)}});
    }
  }
  const json::Object* choice = in.object("tool_choice", kToolChoiceShape);
  const json::Value wanted = choice != nullptr ? json::Value(*choice) : json::Value(json::Object{});
  const std::string type = text_member(wanted, "type");
  using Mode = ToolChoice::Mode;
  if (choice != nullptr) {
    if (type == "none")
      out.tool_choice.mode = Mode::kNone;
    else if (type == "any")
      out.tool_choice.mode = Mode::kRequired;
    else if (type == "tool")
      out.tool_choice = {Mode::kNamed, text_member(wanted, "name"), {}};
    else if (type != "auto")
      in.reject("tool_choice", "'tool_choice.type' must be auto, any, tool or none.");
    const json::Value* alone = wanted.find("disable_parallel_tool_use");
    out.parallel_tool_calls = alone == nullptr || !(*alone == json::Value(true));
  }
  if (!tools.empty()) out.tools = json::Value(std::move(tools));
  check_tool_choice(in, out.tool_choice, out.tools ? &*out.tools : nullptr);
}

// Thinking is off unless it is asked for.
void read_thinking(FieldReader& in, ChatRequest& out) {
  bool on = false;
  if (const json::Object* thinking = in.object("thinking", kThinkingShape)) {
    const std::string type = text_member(json::Value(*thinking), "type");
    if (type != "enabled" && type != "disabled" && type != "adaptive")
      in.reject("thinking", "'thinking.type' must be enabled, adaptive or disabled.");
    on = type != "disabled";
    FieldReader sub(*thinking);
    if (type == "enabled") out.output.thinking_budget = sub.integer("budget_tokens", 0, kMost);
    if (sub.error()) in.reject("thinking.budget_tokens", sub.error()->message);
  }
  out.template_variables.set("enable_thinking", on);
  out.output.breaks_loops = in.boolean("loop_breaker");
}

void read_output(FieldReader& in, ChatRequest& out) {
  const json::Object* config = in.object("output_config", kOutputShape);
  if (config == nullptr) return;
  const json::Value value(*config);
  if (const std::string effort = text_member(value, "effort"); !effort.empty())
    out.template_variables.set("reasoning_effort", effort);
  const json::Value* format = value.find("format");
  if (format == nullptr || format->is_null()) return;
  const json::Value* schema = format->find("schema");
  if (text_member(*format, "type") != "json_schema" || schema == nullptr || !schema->is_object())
    return in.reject("output_config.format",
                     "'output_config.format' must be {\"type\": \"json_schema\", \"schema\": {...}}.");
  out.output.form.form = sampling::ConstraintSpec::Form::kJsonSchema;
  out.output.form.schema = *schema;
  out.output.place = "output_config.format";
}

}  // namespace

ApiResult<ChatRequest> read_messages(const json::Object& body, bool counting) {
  FieldReader in(body);
  ChatRequest out;
  out.model = in.text("model").value_or("");
  out.max_tokens = in.integer("max_tokens", 1, kMost);
  if (!out.max_tokens && !counting) in.reject("max_tokens", "'max_tokens' is required.");
  out.stream = in.boolean("stream").value_or(false);
  out.sampling.temperature = in.number("temperature", 0, 2);
  out.sampling.top_p = in.number("top_p", 0, 1);
  out.sampling.top_k = in.integer("top_k", 0, kMost);
  if (const json::Array* stops = in.array("stop_sequences", kStopShape)) {
    if (stops->size() > kMostStops) in.reject("stop_sequences", "'stop_sequences' may hold at most 16 strings.");
    for (const json::Value& stop : *stops) {
      if (!stop.is_string() || stop.as_string().empty()) {
        in.reject("stop_sequences", "'stop_sequences' must hold strings.");
      } else {
        out.sampling.stop.push_back(stop.as_string());
      }
    }
  }
  read_conversation(in, out);
  read_tools(in, out);
  read_thinking(in, out);
  read_output(in, out);
  in.refuse({"mcp_servers", "container"});
  in.known({"metadata", "service_tier", "cache_control", "anthropic_version", "anthropic_beta"});
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

}  // namespace qw::api::anthropic
