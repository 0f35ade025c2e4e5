#include "api/admin/arguments.h"

#include <charconv>

namespace qw::api::admin {

using json::Value;

std::string needed(FieldReader& in, const char* name) {
  auto text = in.text(name);
  if (!text || text->empty()) in.reject(name, std::string("'") + name + "' is missing.");
  return text.value_or("");
}

std::optional<std::vector<std::string>> words(FieldReader& in, const char* name) {
  const json::Array* list = in.array(name, R"({"type": "array", "items": {"type": "string"}})");
  if (list == nullptr) return std::nullopt;
  std::vector<std::string> out;
  for (const Value& word : *list) {
    if (!word.is_string()) {
      in.reject(name, std::string("'") + name + "' must be a list of texts.");
      return std::nullopt;
    }
    out.push_back(word.as_string());
  }
  return out;
}

std::optional<std::int64_t> count(FieldReader& in, const char* name, std::int64_t low, std::int64_t high) {
  const Value* value = in.any(name);
  if (value == nullptr || !value->is_string()) return in.integer(name, low, high);  // which notes its bounds
  const std::string& text = value->as_string();
  std::int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size() || out < low || out > high)
    in.reject(name, std::string("'") + name + "' must be a whole number of " + std::to_string(low) + " or more.");
  return out;
}

std::string amount(FieldReader& in, const char* name, bool is_needed) {
  const Value* value = in.any(name, R"({"type": ["string", "number"]})");
  if (value == nullptr && is_needed) in.reject(name, std::string("'") + name + "' is missing.");
  if (value == nullptr) return "";
  if (value->is_string()) return value->as_string();
  if (value->is_number()) return json::dump(*value);
  in.reject(name, std::string("'") + name + "' must be an amount.");
  return "";
}
Status fine(const FieldReader& in) {
  if (in.takes_notes()) return fail(ErrorKind::kUsage, "described, not done");
  std::string wrong;
  if (in.error()) {
    wrong = in.error()->message;
    if (wrong.ends_with('.')) wrong.pop_back();  // a command's message has none
  } else if (const auto unknown = in.unknown(); !unknown.empty()) {
    wrong = "'" + unknown.front() + "' is not known here";
  }
  return wrong.empty() ? Status() : fail(ErrorKind::kBadInput, wrong);
}

}  // namespace qw::api::admin
