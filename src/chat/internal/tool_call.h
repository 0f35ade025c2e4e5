// Reads one tool call out of a model's text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "json/value.h"

namespace qw::chat::internal {

inline constexpr std::string_view kCallOpen = "<tool_call>", kCallClose = "</tool_call>";
inline constexpr std::string_view kFunctionOpen = "<function=", kFunctionClose = "</function>";

struct ToolCall {
  std::string name;
  std::string arguments;  // JSON text of an object
};

// {"name": ..., "arguments": {...}}; control characters inside strings, which models write raw, are accepted.
std::optional<ToolCall> read_json_call(std::string_view text);

// What stands before the arguments of {"name": ..., "arguments": {...}}, with its members in that order.
struct CallHead {
  enum class Outcome { kMore, kFound, kOther } outcome = Outcome::kOther;  // kMore: `text` ends within it
  std::string name;
  std::size_t length = 0;  // bytes up to the arguments' brace
};
CallHead read_call_head(std::string_view text);

struct XmlCall {
  ToolCall call;
  std::size_t length = 0;  // bytes used, up to and including </function> if it was there
};
// `text` starts with "<function=". Strict: every parameter and the function are closed. Otherwise missing closing tags
// are made up for: a parameter ends where the next begins, or the function, or the text.
std::optional<XmlCall> read_xml_call(std::string_view text, const json::Value& tools, bool strict);

// Calls whose text ends in the middle: the name, and the arguments as far as they came, which is a beginning of JSON or
// nothing. Nothing at all if the name is not there whole.
std::optional<ToolCall> read_cut_json_call(std::string_view text);
std::optional<ToolCall> read_cut_xml_call(std::string_view text, const json::Value& tools);

}  // namespace qw::chat::internal
