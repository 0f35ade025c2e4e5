#include "chat/internal/tool_call.h"

#include <algorithm>

#include "chat/internal/text.h"

namespace qw::chat::internal {

namespace {

constexpr std::string_view kParameterOpen = "<parameter=", kParameterClose = "</parameter>";

std::size_t skip_space(std::string_view text, std::size_t at) {
  while (at < text.size() && std::string_view(" \t\r\n").find(text[at]) != std::string_view::npos) ++at;
  return at;
}

std::string escape_controls(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  bool in_string = false, escaped = false;
  for (const char c : text) {
    if (in_string && static_cast<unsigned char>(c) < 0x20) {
      out += {'\\', 'u', '0', '0', kHex[c >> 4 & 15], kHex[c & 15]};
      escaped = false;
      continue;
    }
    out += c;
    if (escaped) {
      escaped = false;
    } else if (c == '\\') {
      escaped = in_string;
    } else if (c == '"') {
      in_string = !in_string;
    }
  }
  return out;
}

// Bytes of the JSON value at the start of well-formed `text`.
std::size_t value_length(std::string_view text) {
  int nesting = 0;
  bool in_string = false, escaped = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (escaped) {
        escaped = false;
      } else if (c == '\\') {
        escaped = true;
      } else if (c == '"') {
        in_string = false;
        if (nesting == 0) return i + 1;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++nesting;
    } else if (c == '}' || c == ']') {
      if (nesting == 0) return i;
      if (--nesting == 0) return i + 1;
    } else if (nesting == 0 && (c == ',' || std::string_view(" \t\r\n").find(c) != std::string_view::npos)) {
      return i;
    }
  }
  return text.size();
}

// The text of a member's value in a well-formed object, as the model wrote it: numbers keep all their digits.
std::string_view member_text(std::string_view object, std::string_view name) {
  std::string_view found;
  std::size_t at = skip_space(object, 1);
  while (at < object.size() && object[at] == '"') {
    const std::size_t key_length = value_length(object.substr(at));
    const auto key = json::parse(object.substr(at, key_length));
    at = skip_space(object, at + key_length);
    at = skip_space(object, at + 1);  // ":"
    const std::size_t length = value_length(object.substr(at));
    if (key && key->is_string() && key->as_string() == name) found = object.substr(at, length);
    at = skip_space(object, at + length);
    if (at < object.size() && object[at] == ',') at = skip_space(object, at + 1);
  }
  return found;
}

}  // namespace

std::optional<ToolCall> read_json_call(std::string_view raw) {
  const std::string text = escape_controls(raw);
  const auto value = json::parse(text);
  if (!value || !value->is_object()) return std::nullopt;
  const json::Value* name = value->find("name");
  if (!name || !name->is_string() || name->as_string().empty()) return std::nullopt;
  const char* key = value->find("arguments") ? "arguments" : "parameters";
  const json::Value* arguments = value->find(key);
  if (!arguments) return ToolCall{name->as_string(), "{}"};
  if (arguments->is_object()) return ToolCall{name->as_string(), std::string(member_text(text, key))};
  if (!arguments->is_string()) return std::nullopt;
  // Some models write the arguments as the API carries them: JSON inside a string.
  const auto inner = json::parse(arguments->as_string());
  if (!inner || !inner->is_object()) return std::nullopt;
  return ToolCall{name->as_string(), arguments->as_string()};
}

namespace {

const json::Value* find_path(const json::Value& value, std::initializer_list<std::string_view> path) {
  const json::Value* at = &value;
  for (std::string_view key : path) {
    at = at->find(key);
    if (!at) return nullptr;
  }
  return at;
}

// The declared schema of a parameter, or nullptr.
const json::Value* parameter_schema(const json::Value& tools, std::string_view function, std::string_view parameter) {
  if (!tools.is_array()) return nullptr;
  for (const json::Value& tool : tools.as_array()) {
    const json::Value* f = tool.find("function") ? tool.find("function") : &tool;
    const json::Value* name = f->find("name");
    if (!name || !name->is_string() || name->as_string() != function) continue;
    return find_path(*f, {"parameters", "properties", parameter});
  }
  return nullptr;
}

bool allows(const json::Value& schema, std::string_view type) {
  const json::Value* declared = schema.find("type");
  if (!declared) return false;
  if (declared->is_string()) return declared->as_string() == type;
  if (!declared->is_array()) return false;
  return std::any_of(declared->as_array().begin(), declared->as_array().end(),
                     [&](const json::Value& t) { return t.is_string() && t.as_string() == type; });
}

// Text is taken as it stands: it says so, or says nothing.
bool is_text(const json::Value* schema) {
  return !schema || !schema->is_object() || allows(*schema, "string") ||
         !(schema->find("type") || schema->find("anyOf") || schema->find("oneOf"));
}

// A parameter's text as JSON. Text stays text unless the schema asks for something else and the text is that.
std::string parameter_json(std::string_view text, const json::Value* schema) {
  std::string as_string = json::dump(json::Value(text));
  if (!schema || !schema->is_object()) return as_string;
  const std::string_view core = strip(text, Side::kBoth);
  if (allows(*schema, "null") && (core == "null" || core == "None")) return "null";
  if (is_text(schema)) return as_string;
  if (allows(*schema, "boolean") && (core == "True" || core == "False")) return core == "True" ? "true" : "false";
  const auto value = json::parse(core);
  if (!value || value->is_string()) return as_string;
  const bool unions = schema->find("type") == nullptr;  // anyOf, oneOf: whatever it reads as
  const bool fits = unions || (value->is_bool() && allows(*schema, "boolean")) ||
                    (value->is_number() && (allows(*schema, "number") || allows(*schema, "integer"))) ||
                    (value->is_array() && allows(*schema, "array")) ||
                    (value->is_object() && allows(*schema, "object"));
  return fits ? std::string(core) : as_string;
}

std::string_view without_frame(std::string_view text) {
  if (text.starts_with("\n")) text.remove_prefix(1);
  if (text.ends_with("\n")) text.remove_suffix(1);
  return text;
}

struct Parameter {
  std::string_view name, text;
  std::size_t end = 0;  // where the next thing begins
};

// Reads the parameter at `at` ("<parameter=" stands there).
std::optional<Parameter> read_parameter(std::string_view text, std::size_t at, bool strict) {
  const std::size_t name_at = at + kParameterOpen.size();
  const std::size_t name_end = text.find('>', name_at);
  if (name_end == std::string_view::npos) return std::nullopt;
  Parameter p;
  p.name = strip(text.substr(name_at, name_end - name_at), Side::kBoth);
  if (p.name.empty()) return std::nullopt;
  const std::size_t begin = name_end + 1;
  // A closing tag counts if the call goes on, or ends, right after it; otherwise it is part of the text.
  for (std::size_t close = text.find(kParameterClose, begin); close != std::string_view::npos;
       close = text.find(kParameterClose, close + 1)) {
    const std::size_t next = skip_space(text, close + kParameterClose.size());
    const std::string_view rest = text.substr(next);
    const bool ends = rest.starts_with(kParameterOpen) || rest.starts_with(kFunctionClose) ||
                      (!strict && (rest.empty() || rest.starts_with(kCallClose)));
    if (!ends) continue;
    p.text = without_frame(text.substr(begin, close - begin));
    p.end = next;
    return p;
  }
  if (strict) return std::nullopt;
  const std::size_t end = std::min({text.find("\n<parameter=", begin), text.find("\n</function>", begin),
                                    text.find("\n</tool_call>", begin), text.size()});
  p.text = without_frame(text.substr(begin, end - begin));
  p.end = skip_space(text, end);
  return p;
}

}  // namespace

std::optional<XmlCall> read_xml_call(std::string_view text, const json::Value& tools, bool strict) {
  const std::size_t name_end = text.find('>');
  if (name_end == std::string_view::npos) return std::nullopt;
  XmlCall out;
  out.call.name = strip(text.substr(kFunctionOpen.size(), name_end - kFunctionOpen.size()), Side::kBoth);
  if (out.call.name.empty() || out.call.name.find('<') != std::string::npos) return std::nullopt;
  std::size_t at = skip_space(text, name_end + 1);
  json::Object seen;
  std::string arguments = "{";
  while (text.substr(at).starts_with(kParameterOpen)) {
    const auto p = read_parameter(text, at, strict);
    if (!p) return std::nullopt;
    at = p->end;
    if (seen.find(p->name)) return std::nullopt;  // which of the two is meant cannot be told
    seen.set(std::string(p->name), true);
    if (arguments.size() > 1) arguments += ", ";
    arguments += json::dump(json::Value(p->name)) + ": " +
                 parameter_json(p->text, parameter_schema(tools, out.call.name, p->name));
  }
  out.call.arguments = arguments + "}";
  if (text.substr(at).starts_with(kFunctionClose)) {
    out.length = at + kFunctionClose.size();
    return out;
  }
  const bool ends = at == text.size() || text.substr(at).starts_with(kCallClose);
  if (strict || !ends) return std::nullopt;
  out.length = at;
  return out;
}

CallHead read_call_head(std::string_view text) {
  using Outcome = CallHead::Outcome;
  CallHead out;
  for (const std::string_view part : {"{", "\"name\"", ":", "name", ",", "\"arguments\"", ":", "{"}) {
    std::size_t& at = out.length;
    at = skip_space(text, at);
    const std::string_view rest = text.substr(at);
    if (part != "name") {
      if (!rest.starts_with(part)) return {part.starts_with(rest) ? Outcome::kMore : Outcome::kOther, {}, 0};
      at += part.size();
      continue;
    }
    if (rest.empty()) return {Outcome::kMore, {}, 0};
    const std::size_t length = value_length(rest);
    const auto name = json::parse(rest.substr(0, length));
    // A text that has not ended is no JSON; anything else that is none, or no text, is no name.
    if (rest[0] != '"' || (length < rest.size() && !name)) return {};
    if (!name) return {Outcome::kMore, {}, 0};
    if (!name->is_string() || name->as_string().empty()) return {};
    out.name = name->as_string();
    at += length;
  }
  --out.length;
  out.outcome = Outcome::kFound;
  return out;
}

std::optional<ToolCall> read_cut_json_call(std::string_view raw) {
  const std::string text = escape_controls(raw);
  const std::string_view object = text;
  ToolCall out;
  std::size_t at = skip_space(object, 1);
  while (at < object.size() && object[at] == '"') {
    const std::size_t key_length = value_length(object.substr(at));
    const auto key = json::parse(object.substr(at, key_length));
    if (!key || !key->is_string()) break;  // it ends within a key
    at = skip_space(object, at + key_length);
    if (at >= object.size() || object[at] != ':') break;
    at = skip_space(object, at + 1);
    const std::string_view value = object.substr(at, value_length(object.substr(at)));
    if (key->as_string() == "name") {
      const auto name = json::parse(value);
      if (!name || !name->is_string()) break;
      out.name = name->as_string();
    } else if ((key->as_string() == "arguments" || key->as_string() == "parameters") && value.starts_with("{")) {
      out.arguments = value;
    }
    at = skip_space(object, at + value.size());
    if (at < object.size() && object[at] == ',') at = skip_space(object, at + 1);
  }
  if (out.name.empty()) return std::nullopt;
  return out;
}

std::optional<ToolCall> read_cut_xml_call(std::string_view text, const json::Value& tools) {
  // A tag that has not ended says nothing yet.
  const std::size_t tag = text.rfind('<');
  if (tag != std::string_view::npos && tag > 0 && text.find('>', tag) == std::string_view::npos)
    for (const std::string_view marker : {kParameterOpen, kParameterClose, kFunctionClose, kCallClose})
      if (text.substr(tag).starts_with(marker) || marker.starts_with(text.substr(tag))) {
        text = text.substr(0, tag);
        break;
      }
  const std::size_t name_end = text.find('>');
  if (name_end == std::string_view::npos) return std::nullopt;
  ToolCall out;
  out.name = strip(text.substr(kFunctionOpen.size(), name_end - kFunctionOpen.size()), Side::kBoth);
  if (out.name.empty() || out.name.find('<') != std::string::npos) return std::nullopt;
  out.arguments = "{";
  const bool closed = strip(text, Side::kRight).ends_with(kParameterClose);
  std::size_t at = skip_space(text, name_end + 1);
  while (text.substr(at).starts_with(kParameterOpen)) {
    const auto p = read_parameter(text, at, false);
    if (!p) break;
    at = p->end;
    const bool goes_on = at == text.size() && !closed;
    if (goes_on && p->text.empty()) break;
    const json::Value* schema = parameter_schema(tools, out.name, p->name);
    if (out.arguments.size() > 1) out.arguments += ", ";
    out.arguments += json::dump(json::Value(p->name)) + ": ";
    if (!goes_on) {
      out.arguments += parameter_json(p->text, schema);
    } else if (is_text(schema)) {
      out.arguments += json::dump(json::Value(p->text));
      out.arguments.pop_back();  // "
    } else {
      out.arguments += p->text;
    }
  }
  return out;
}

}  // namespace qw::chat::internal
