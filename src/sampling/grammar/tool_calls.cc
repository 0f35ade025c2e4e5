#include "sampling/grammar/tool_calls.h"

#include <algorithm>
#include <string_view>

#include "sampling/grammar/json_schema.h"

namespace qw::sampling::grammar {
namespace {

constexpr std::string_view kClose = "</tool_call>";
// Calls of an answer that must be calls: small models go on with them for as long as they may.
constexpr std::int32_t kMostForced = 16;

class Writer {
 public:
  Writer(const ConstraintSpec& spec, Source& source) : spec_(spec), s_(source) {}

  // What stands behind <tool_call>, and the calls that follow.
  Result<Node> behind_open() {
    std::vector<Node> choices;
    for (const ToolShape& tool : spec_.tools) {
      auto node = spec_.dialect == ToolDialect::kHermes ? hermes(tool) : xml(tool);
      if (!node) return in_context("tool '" + tool.name + "'", std::move(node).error());
      choices.push_back(*node);
    }
    if (choices.empty()) return fail(ErrorKind::kBadInput, "a tool call is wanted, and there is no tool");
    const Node call = s_.rule(s_.add_rule("call", s_.sequence({s_.choice(std::move(choices)), s_.bytes(kClose)})));
    if (!spec_.parallel_calls) return call;
    const std::int32_t more = spec_.tool_use == ConstraintSpec::ToolUse::kRequired ? kMostForced - 1 : kNoLimit;
    return s_.sequence({call, s_.repeat(s_.sequence({s_.bytes("\n"), s_.bytes(kCallOpen), call}), 0, more)});
  }

 private:
  Node line() { return s_.bytes("\n"); }
  Node space() { return s_.optional(s_.bytes(" ")); }

  Result<Node> hermes(const ToolShape& tool) {
    Rule arguments = -1;
    if (tool.parameters.is_null()) {
      arguments = add_json_object(s_, JsonLayout::kOneLine);
    } else {
      QW_ASSIGN(arguments, add_json_schema(tool.parameters, s_, JsonLayout::kOneLine));
    }
    return s_.sequence({line(), s_.bytes("{\"name\":"), space(), s_.bytes(json::dump(json::Value(tool.name))),
                        s_.bytes(","), space(), s_.bytes("\"arguments\":"), space(), s_.rule(arguments), s_.bytes("}"),
                        line()});
  }

  // Texts stand as they are, everything else as JSON.
  Result<Node> parameter(const json::Value& root, const std::string& name, const json::Value& schema) {
    const std::string_view end = "\n</parameter>\n";
    Node value = -1;
    const json::Value* type = schema.find("type");
    const bool text = type != nullptr && *type == json::Value("string");
    if (text && schema.find("enum") != nullptr && schema.find("enum")->is_array()) {
      std::vector<Node> choices;
      for (const json::Value& v : schema.find("enum")->as_array())
        if (v.is_string()) choices.push_back(s_.bytes(v.as_string() + std::string(end)));
      if (choices.empty()) return fail(ErrorKind::kBadInput, "parameter '" + name + "' allows no text");
      value = s_.choice(std::move(choices));
    } else if (text) {
      for (const char* word : {"pattern", "minLength", "maxLength"})
        if (schema.as_object().find_set(word) != nullptr)
          return fail(ErrorKind::kBadInput, "parameter '" + name + "': '" + word +
                                                "' is not supported in calls that this model writes as XML");
      value = s_.until(end);
    } else {
      auto rule = add_json_schema_part(root, schema, "#/properties/" + name, s_);
      if (!rule) return tl::unexpected(std::move(rule).error());
      value = s_.sequence({s_.rule(*rule), s_.bytes(end)});
    }
    return s_.sequence({s_.bytes("<parameter=" + name + ">\n"), value});
  }

  Result<Node> xml(const ToolShape& tool) {
    std::vector<Node> parts{s_.bytes("\n<function=" + tool.name + ">\n")};
    const json::Value* properties = tool.parameters.find("properties");
    const json::Value* required = tool.parameters.find("required");
    if (properties != nullptr && properties->is_object()) {
      for (const auto& [name, schema] : properties->as_object()) {
        QW_ASSIGN(const Node one, parameter(tool.parameters, name, schema));
        const bool needed = required != nullptr && required->is_array() &&
                            std::find(required->as_array().begin(), required->as_array().end(), json::Value(name)) !=
                                required->as_array().end();
        parts.push_back(needed ? one : s_.optional(one));
      }
    }
    parts.push_back(s_.bytes("</function>\n"));
    return s_.sequence(std::move(parts));
  }

  const ConstraintSpec& spec_;
  Source& s_;
};

}  // namespace

Result<Node> tool_calls(const ConstraintSpec& spec, Source& source) {
  QW_ASSIGN(const Node calls, Writer(spec, source).behind_open());
  return source.sequence({source.bytes(kCallOpen), calls});
}

Result<Node> text_with_tool_calls(const ConstraintSpec& spec, Source& source) {
  QW_ASSIGN(const Node calls, Writer(spec, source).behind_open());
  return source.choice({source.without(kCallOpen), source.sequence({source.until(kCallOpen), calls})});
}

}  // namespace qw::sampling::grammar
