#include "api/openai/responses/request.h"

#include <limits>

#include "api/content_text.h"
#include "api/exchange.h"
#include "api/field_reader.h"
#include "api/openai/output_form.h"

namespace qw::api::openai {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
constexpr const char* kToolsShape =
    R"({"type": "array", "items": {"anyOf": [{"type": "object", "required": ["type", "name"], "properties": {
        "type": {"const": "function"}, "name": {"type": "string", "minLength": 1},
        "description": {"type": ["string", "null"]}, "parameters": {"type": ["object", "null"]},
        "strict": {"type": ["boolean", "null"]}}}, {"type": "object", "required": ["type", "server_label"], "properties": {
        "type": {"const": "mcp"}, "server_label": {"type": "string"}, "server_url": {"type": ["string", "null"]},
        "headers": {"type": ["object", "null"]}, "authorization": {"type": ["string", "null"]},
        "allowed_tools": {"type": ["array", "object", "null"]},
        "require_approval": {"type": ["string", "object", "null"]}}}]}})";
constexpr const char* kToolChoiceShape =
    R"({"anyOf": [{"enum": ["none", "auto", "required"]}, {"type": "object", "required": ["type", "name"],
        "properties": {"type": {"const": "function"}, "name": {"type": "string"}}}, {"type": "object",
        "required": ["type", "server_label"], "properties": {"type": {"const": "mcp"},
        "server_label": {"type": "string"}, "name": {"type": ["string", "null"]}}}, {"type": "object",
        "required": ["type", "mode", "tools"], "properties": {"type": {"const": "allowed_tools"},
        "mode": {"enum": ["auto", "required"]}, "tools": {"type": "array", "minItems": 1, "items": {"type": "object",
          "required": ["type", "name"], "properties": {"type": {"const": "function"}, "name": {"type": "string"}}}}}}]})";
constexpr const char* kTextShape =
    R"({"type": "object", "properties": {"format": {"type": ["object", "null"], "required": ["type"], "properties": {
        "type": {"enum": ["text", "json_object", "json_schema"]}, "schema": {"type": "object"}}}}})";

// A string, or parts of text.
bool plain_text(const json::Value* content, std::string& out) {
  return content_text(
      content,
      [](const json::Value& part, std::string& to) {
        const std::string type = text_member(part, "type");
        if (type != "input_text" && type != "output_text" && type != "text" && type != "refusal") return false;
        to = text_member(part, type == "refusal" ? "refusal" : "text");
        return true;
      },
      out);
}

// Items become messages; calls, and what the model thought, join the assistant's message they belong to.
class Items {
 public:
  Items(FieldReader& in, ResponseRequest& out) : in_(in), out_(out), messages_(out.messages) {}

  void add(const json::Value& item, std::size_t index) {
    const std::string place = "input[" + std::to_string(index) + "]";
    std::string type = text_member(item, "type");
    if (type.empty() && item.find("role") != nullptr) type = "message";
    if (type == "message") return message(item, place);
    if (type == "function_call") return call(text_member(item, "call_id"), text_member(item, "name"), item);
    if (type == "function_call_output") return output(item, place);
    if (type == "reasoning") {
      std::string text;
      if (const json::Value* content = item.find("content"); content != nullptr && content->is_array())
        for (const json::Value& part : content->as_array()) text += text_member(part, "text");
      if (!text.empty()) assistant().set("reasoning_content", text);
      return;
    }
    if (type == "mcp_list_tools") return;  // they are listed anew
    if (type == "mcp_approval_request" || type == "mcp_call") {
      const std::string id = text_member(item, "id");
      call(id, mcp_function_name(text_member(item, "server_label"), text_member(item, "name")), item);
      if (type == "mcp_call")
        messages_.push_back(
            json::Object{{"role", "tool"}, {"tool_call_id", id}, {"content", text_member(item, "output")}});
      return;
    }
    if (type == "mcp_approval_response") {
      const json::Value* approve = item.find("approve");
      if (approve == nullptr || !approve->is_bool())
        return in_.reject("input", place + ": 'approve' must be true or false.");
      out_.approvals.push_back(
          {text_member(item, "approval_request_id"), text_member(item, "reason"), approve->as_bool()});
      return;
    }
    in_.reject("input", place + ": items of type '" + type + "' are not supported.");
  }

 private:
  void message(const json::Value& item, const std::string& place) {
    const std::string role = text_member(item, "role");
    std::string text;
    if (!plain_text(item.find("content"), text))
      return in_.reject("input", place + ": contents must be text; these are models of text.");
    if (role == "assistant") {
      json::Object& open = assistant();
      open.set("content", text_member(messages_.back(), "content") + text);
    } else {
      messages_.push_back(json::Object{{"role", role}, {"content", text}});
    }
  }
  void call(const std::string& id, const std::string& name, const json::Value& item) {
    json::Object& open = assistant();
    json::Value* calls = open.find("tool_calls");
    if (calls == nullptr) calls = &open.set("tool_calls", json::Array{});
    calls->as_array().push_back(
        json::Object{{"id", id},
                     {"type", "function"},
                     {"function", json::Object{{"name", name}, {"arguments", text_member(item, "arguments")}}}});
  }
  void output(const json::Value& item, const std::string& place) {
    std::string text;
    if (!plain_text(item.find("output"), text)) return in_.reject("input", place + ": a call's output must be text.");
    messages_.push_back(
        json::Object{{"role", "tool"}, {"tool_call_id", text_member(item, "call_id")}, {"content", text}});
  }
  // The assistant's message that is being put together, a new one if another's is last.
  json::Object& assistant() {
    if (messages_.empty() || text_member(messages_.back(), "role") != "assistant")
      messages_.push_back(json::Object{{"role", "assistant"}, {"content", ""}});
    return messages_.back().as_object();
  }

  FieldReader& in_;
  ResponseRequest& out_;
  json::Array& messages_;
};

void read_input(FieldReader& in, ResponseRequest& out) {
  const json::Value* input = in.any("input", R"({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1}]})");
  if (input == nullptr) return in.reject("input", "'input' is required.");
  if (input->is_string()) {
    out.messages.push_back(json::Object{{"role", "user"}, {"content", *input}});
    out.input_items.push_back(
        json::Object{{"id", new_id("msg_")},
                     {"type", "message"},
                     {"role", "user"},
                     {"content", json::Array{json::Object{{"type", "input_text"}, {"text", *input}}}}});
    return;
  }
  if (!input->is_array() || input->as_array().empty()) return in.reject("input", "'input' must be a string or items.");
  Items items(in, out);
  for (std::size_t i = 0; i < input->as_array().size(); ++i) {
    const json::Value& item = input->as_array()[i];
    items.add(item, i);
    json::Object kept = item.is_object() ? item.as_object() : json::Object();
    if (kept.find("id") == nullptr) kept.set("id", new_id("item_"));
    if (kept.find("type") == nullptr) kept.set("type", "message");
    out.input_items.push_back(std::move(kept));
  }
}

void read_tools(FieldReader& in, ResponseRequest& out) {
  json::Array tools, shown;
  if (const json::Array* given = in.array("tools", kToolsShape)) {
    for (const json::Value& tool : *given) {
      const std::string type = text_member(tool, "type"), name = text_member(tool, "name");
      if (type == "mcp") {
        auto server = read_mcp_server(in, tool);
        if (!server) return;
        for (const McpServerRequest& other : out.mcp)
          if (other.label == server->label) return in.reject("tools", "Two MCP servers have the same 'server_label'.");
        out.mcp.push_back(std::move(*server));
        shown.push_back(shown_mcp_server(tool));
        continue;
      }
      shown.push_back(tool);
      if (type != "function") return in.reject("tools", "Tools of type '" + type + "' are not supported.");
      if (name.empty()) return in.reject("tools", "Each tool must have a name.");
      json::Object function{{"name", name}};
      for (const char* key : {"description", "parameters", "strict"})
        if (const json::Value* value = tool.find(key); value != nullptr && !value->is_null()) function.set(key, *value);
      tools.push_back(json::Object{{"type", "function"}, {"function", std::move(function)}});
    }
    out.echoed.set("tools", std::move(shown));
  }
  using Mode = ToolChoice::Mode;
  if (const json::Value* choice = in.any("tool_choice", kToolChoiceShape)) {
    out.echoed.set("tool_choice", *choice);
    const std::string word = choice->is_string() ? choice->as_string() : "";
    if (word == "none")
      out.tool_choice.mode = Mode::kNone;
    else if (word == "required")
      out.tool_choice.mode = Mode::kRequired;
    else if (word.empty() && text_member(*choice, "type") == "function")
      out.tool_choice = {Mode::kNamed, text_member(*choice, "name"), {}};
    else if (word.empty() && text_member(*choice, "type") == "mcp") {
      const std::string name = text_member(*choice, "name"), label = text_member(*choice, "server_label");
      out.mcp_choice = true;
      out.tool_choice = {name.empty() ? Mode::kRequired : Mode::kNamed, mcp_function_name(label, name), {}};
    } else if (word.empty() && text_member(*choice, "type") == "allowed_tools")
      read_allowed_tools(
          in, *choice,
          [](const json::Value& tool) {
            return text_member(tool, "type") == "function" ? text_member(tool, "name") : std::string();
          },
          out.tool_choice);
    else if (word != "auto")
      in.reject("tool_choice",
                "'tool_choice' must be none, auto, required, {\"type\": \"function\", \"name\": ...}, "
                "{\"type\": \"allowed_tools\", \"mode\": ..., \"tools\": [...]} or "
                "{\"type\": \"mcp\", \"server_label\": ..., \"name\": ...}.");
  }
  out.parallel_tool_calls = in.boolean("parallel_tool_calls").value_or(true);
  if (!tools.empty()) out.tools = json::Value(std::move(tools));
  // What MCP servers offer is known later.
  const bool later = !out.mcp.empty() && (out.mcp_choice || out.tool_choice.mode == Mode::kRequired);
  if (!later) check_tool_choice(in, out.tool_choice, out.tools ? &*out.tools : nullptr);
}

void read_text(FieldReader& in, ResponseRequest& out) {
  const json::Object* text = in.object("text", kTextShape);
  if (text == nullptr) return;
  out.echoed.set("text", *text);
  out.output.place = "text.format";
  for (const auto& [name, value] : *text)
    if (name != "format" && !value.is_null()) out.ignored.push_back("text." + name);
  const json::Value* format = text->find_set("format");
  if (format == nullptr) return;
  using Form = sampling::ConstraintSpec::Form;
  const std::string type = text_member(*format, "type");
  const json::Value* schema = format->find("schema");
  if (type == "json_object") {
    out.output.form.form = Form::kJsonObject;
  } else if (type == "json_schema" && schema != nullptr && schema->is_object()) {
    out.output.form.form = Form::kJsonSchema;
    out.output.form.schema = *schema;
  } else if (type != "text") {
    in.reject("text.format", "'text.format' must be text, json_object, or json_schema with a schema.");
  }
}

void read_reasoning(FieldReader& in, ResponseRequest& out) {
  const json::Object* reasoning =
      in.object("reasoning", R"({"type": "object", "properties": {"effort": {"type": ["string", "null"]}}})");
  if (reasoning == nullptr) return;
  out.echoed.set("reasoning", *reasoning);
  FieldReader sub(*reasoning);
  if (const auto effort = sub.choice("effort", kEfforts)) set_effort(*effort, out);
  if (sub.error()) in.reject("reasoning.effort", sub.error()->message);
}

}  // namespace

ApiResult<ResponseRequest> read_response_request(const json::Object& body) {
  FieldReader in(body);
  ResponseRequest out;
  out.model = in.text("model").value_or("");
  out.instructions = in.text("instructions").value_or("");
  out.previous = in.text("previous_response_id").value_or("");
  out.store = in.boolean("store").value_or(true);
  out.stream = in.boolean("stream").value_or(false);
  out.max_tokens = in.integer("max_output_tokens", 1, kMost);
  out.sampling.temperature = in.number("temperature", 0, 2);
  out.sampling.top_p = in.number("top_p", 0, 1);
  out.sampling.seed =
      in.integer("seed", std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max());
  if (const auto on = in.boolean("enable_thinking")) out.template_variables.set("enable_thinking", *on);
  out.output.thinking_budget = in.integer("thinking_budget", 0, kMost);
  out.output.breaks_loops = in.boolean("loop_breaker");
  out.top_logprobs = static_cast<std::int32_t>(in.integer("top_logprobs", 0, 20).value_or(0));
  out.logprobs = out.top_logprobs > 0;
  if (const json::Array* include = in.array("include", R"({"type": "array", "items": {"type": "string"}})"))
    for (const json::Value& one : *include)
      out.logprobs = out.logprobs || one == json::Value("message.output_text.logprobs");
  read_input(in, out);
  read_tools(in, out);
  read_text(in, out);
  read_reasoning(in, out);
  if (const json::Object* metadata = in.object("metadata", R"({"type": "object"})"))
    out.echoed.set("metadata", *metadata);
  const std::string truncation = in.choice("truncation", {"auto", "disabled"}).value_or("disabled");
  out.leaves_out_oldest = truncation == "auto";
  out.echoed.set("truncation", truncation);
  out.max_tool_calls = in.integer("max_tool_calls", 1, kMost);
  if (out.max_tool_calls) out.echoed.set("max_tool_calls", *out.max_tool_calls);
  if (!out.approvals.empty() && out.mcp.empty())
    in.reject("input", "An 'mcp_approval_response' needs the MCP server among the 'tools'.");
  out.background = in.boolean("background").value_or(false);
  if (out.background && !out.store) in.reject("store", "A response in the background must be kept.");
  in.refuse({"conversation", "prompt", "context_management", "moderation"});
  in.known(
      {"user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "stream_options"});
  if (in.error()) return tl::unexpected(*in.error());
  for (std::string& name : in.unknown()) out.ignored.push_back(std::move(name));
  return out;
}

json::Array with_history(const ResponseRequest& request, const json::Array& history) {
  json::Array out;
  if (!request.instructions.empty()) out.push_back(json::Object{{"role", "system"}, {"content", request.instructions}});
  out.insert(out.end(), history.begin(), history.end());
  out.insert(out.end(), request.messages.begin(), request.messages.end());
  return out;
}

}  // namespace qw::api::openai
