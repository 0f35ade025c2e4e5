#include "api/openai/output_form.h"

#include <charconv>
#include <limits>

namespace qw::api::openai {
namespace {

using Form = sampling::ConstraintSpec::Form;

constexpr const char* kFormatShape =
    R"({"type": "object", "required": ["type"], "properties": {
        "type": {"enum": ["text", "json_object", "json_schema"]},
        "json_schema": {"type": "object", "required": ["schema"], "properties": {"schema": {"type": "object"}}}}})";
constexpr const char* kChoiceShape = R"({"type": "array", "minItems": 1, "items": {"type": "string"}})";
constexpr const char* kStructuredShape =
    R"({"type": "object", "properties": {"json": {"type": ["object", "boolean", "string"]},
        "regex": {"type": "string"}, "grammar": {"type": "string"}, "json_object": {"type": "boolean"},
        "choice": {"type": "array", "minItems": 1, "items": {"type": "string"}}}, "additionalProperties": false})";
constexpr const char* kToolChoiceShape =
    R"({"anyOf": [{"enum": ["none", "auto", "required"]}, {"type": "object", "required": ["type", "function"],
        "properties": {"type": {"const": "function"}, "function": {"type": "object", "required": ["name"],
          "properties": {"name": {"type": "string"}}}}}, {"type": "object", "required": ["type", "allowed_tools"],
        "properties": {"type": {"const": "allowed_tools"}, "allowed_tools": {"type": "object",
          "required": ["mode", "tools"], "properties": {"mode": {"enum": ["auto", "required"]},
          "tools": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["type", "function"],
            "properties": {"type": {"const": "function"}, "function": {"type": "object", "required": ["name"],
              "properties": {"name": {"type": "string"}}}}}}}}}}]})";

constexpr const char* kBiasShape =
    R"({"type": "object", "propertyNames": {"pattern": "^[0-9]{1,9}$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}})";

// Sets the form once; a second one is an error.
class FormReader {
 public:
  FormReader(FieldReader& in, OutputForm& out) : in_(in), out_(out.form), place_(out.place) {}

  void response_format() {
    const json::Object* format = in_.object("response_format", kFormatShape);
    if (format == nullptr) return;
    const json::Value* type = format->find("type");
    const std::string name = type != nullptr && type->is_string() ? type->as_string() : "";
    if (name == "text") return;
    if (name == "json_object") return set("response_format", Form::kJsonObject);
    if (name != "json_schema")
      return in_.reject("response_format", "'response_format.type' must be text, json_object or json_schema.");
    const json::Value* wrapped = format->find_set("json_schema");
    const json::Value* schema = wrapped != nullptr ? wrapped->find("schema") : nullptr;
    if (schema == nullptr || !schema->is_object())
      return in_.reject("response_format", "'response_format.json_schema.schema' must be a JSON Schema.");
    out_.schema = *schema;
    set("response_format", Form::kJsonSchema);
  }

  void structured_outputs() {
    const json::Object* o = in_.object("structured_outputs", kStructuredShape);
    if (o == nullptr) return;
    for (const auto& [key, value] : *o) {
      if (value.is_null()) continue;
      const std::string param = "structured_outputs." + key;
      if (key == "json")
        schema(param, value);
      else if (key == "regex")
        text(param, value, Form::kRegex);
      else if (key == "grammar")
        text(param, value, Form::kEbnf);
      else if (key == "choice")
        choice(param, value);
      else if (key == "json_object" && value == json::Value(true))
        set(param, Form::kJsonObject);
      else if (key != "json_object")
        in_.reject("structured_outputs", "'" + param + "' is not supported.");
    }
  }

  void guided() {
    if (const json::Value* v = in_.any("guided_json", R"({"type": ["object", "boolean", "string"]})"))
      schema("guided_json", *v);
    if (const json::Value* v = in_.any("guided_regex", R"({"type": "string"})")) text("guided_regex", *v, Form::kRegex);
    if (const json::Value* v = in_.any("guided_grammar", R"({"type": "string"})"))
      text("guided_grammar", *v, Form::kEbnf);
    if (const json::Value* v = in_.any("guided_choice", kChoiceShape)) choice("guided_choice", *v);
  }

 private:
  void set(const std::string& param, Form form) {
    if (out_.form != Form::kFree)
      in_.reject(param, "Only one of the fields that say the form of the output may be given.");
    out_.form = form;
    place_ = param;
  }
  void schema(const std::string& param, const json::Value& value) {
    if (value.is_string()) {  // some clients send it as a text
      auto parsed = json::parse(value.as_string());
      if (!parsed) return in_.reject(param, "'" + param + "' is not JSON: " + parsed.error().message);
      out_.schema = std::move(*parsed);
    } else {
      out_.schema = value;
    }
    set(param, Form::kJsonSchema);
  }
  void text(const std::string& param, const json::Value& value, Form form) {
    if (!value.is_string()) return in_.reject(param, "'" + param + "' must be a string.");
    out_.text = value.as_string();
    set(param, form);
  }
  void choice(const std::string& param, const json::Value& value) {
    const bool fine = value.is_array() && !value.as_array().empty();
    if (fine)
      for (const json::Value& item : value.as_array()) {
        if (!item.is_string()) return in_.reject(param, "'" + param + "' must be a list of strings.");
        out_.choices.push_back(item.as_string());
      }
    if (!fine) return in_.reject(param, "'" + param + "' must be a list of strings.");
    set(param, Form::kChoice);
  }

  FieldReader& in_;
  sampling::ConstraintSpec& out_;
  std::string& place_;
};

}  // namespace

void read_logit_bias(FieldReader& in, SamplingFields& out) {
  const json::Object* bias = in.object("logit_bias", kBiasShape);
  if (bias == nullptr) return;
  for (const auto& [key, value] : *bias) {
    std::int32_t id = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || id < 0) {
      return in.reject("logit_bias", "'logit_bias' keys must be token ids, not '" + key + "'.");
    }
    if (!value.is_number() || !(value.as_double() >= -100 && value.as_double() <= 100)) {
      return in.reject("logit_bias", "'logit_bias' values must be numbers between -100 and 100.");
    }
    out.logit_bias.emplace_back(id, static_cast<float>(value.as_double()));
  }
}

void set_effort(const std::string& effort, ChatRequest& out) {
  if (effort == "none")
    out.template_variables.set("enable_thinking", false);
  else
    out.template_variables.set("reasoning_effort", effort);
}

OutputForm read_output_form(FieldReader& in) {
  OutputForm out;
  FormReader reader(in, out);
  reader.response_format();
  reader.structured_outputs();
  reader.guided();
  out.thinking_budget = in.integer("thinking_budget", 0, std::numeric_limits<std::int32_t>::max());
  out.breaks_loops = in.boolean("loop_breaker");
  return out;
}

void read_allowed_tools(FieldReader& in, const json::Value& allowed, std::string (*name_of)(const json::Value& tool),
                        ToolChoice& out) {
  const std::string mode = text_member(allowed, "mode");
  const json::Value* tools = allowed.find("tools");
  const bool listed = tools != nullptr && tools->is_array() && !tools->as_array().empty();
  if ((mode != "auto" && mode != "required") || !listed)
    return in.reject("tool_choice", "Allowed tools must have a 'mode', auto or required, and 'tools'.");
  out.mode = mode == "required" ? ToolChoice::Mode::kRequired : ToolChoice::Mode::kAuto;
  for (const json::Value& tool : tools->as_array()) {
    std::string name = name_of(tool);
    if (name.empty()) return in.reject("tool_choice", "Each allowed tool must be a function with its name.");
    out.among.push_back(std::move(name));
  }
}

ToolChoice read_tool_choice(FieldReader& in, const json::Value* tools) {
  ToolChoice out;
  const json::Value* choice = in.any("tool_choice", kToolChoiceShape);
  if (choice == nullptr) return out;
  const std::string word = choice->is_string() ? choice->as_string() : "";
  if (word == "auto") return out;
  if (word == "none") {
    out.mode = ToolChoice::Mode::kNone;
    return out;
  }
  if (word == "required") {
    out.mode = ToolChoice::Mode::kRequired;
    check_tool_choice(in, out, tools);
    return out;
  }
  const json::Value* type = choice->find("type");
  if (type != nullptr && *type == json::Value("allowed_tools")) {
    const json::Value* allowed = choice->find("allowed_tools");
    read_allowed_tools(
        in, allowed != nullptr ? *allowed : json::Value(),
        [](const json::Value& tool) {
          const json::Value* function = tool.find("function");
          return function != nullptr ? text_member(*function, "name") : std::string();
        },
        out);
    check_tool_choice(in, out, tools);
    return out;
  }
  const json::Value* function = choice->find("function");
  const json::Value* name = function != nullptr ? function->find("name") : nullptr;
  if (type == nullptr || !(*type == json::Value("function")) || name == nullptr || !name->is_string()) {
    in.reject("tool_choice",
              "'tool_choice' must be none, auto, required, {\"type\": \"function\", \"function\": {\"name\": ...}} or "
              "{\"type\": \"allowed_tools\", \"allowed_tools\": {\"mode\": ..., \"tools\": [...]}}.");
    return out;
  }
  out.mode = ToolChoice::Mode::kNamed;
  out.name = name->as_string();
  check_tool_choice(in, out, tools);
  return out;
}

}  // namespace qw::api::openai
