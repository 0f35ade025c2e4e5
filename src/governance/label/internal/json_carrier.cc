#include <cstdint>

#include "governance/label/internal/carrier.h"

namespace qw::governance::internal {
namespace {

// Where a member of the outermost object stands; the text is known to be one, so that brackets and quotes pair.
struct Member {
  std::string name;
  std::size_t begin = 0, end = 0;  // of its value
};

std::size_t skip_blanks(std::string_view text, std::size_t at) {
  return std::min(text.find_first_not_of(" \t\r\n", at), text.size());
}

std::size_t behind_string(std::string_view text, std::size_t at) {  // text[at] is its quote
  for (++at; at < text.size() && text[at] != '"'; ++at)
    if (text[at] == '\\') ++at;
  return std::min(at + 1, text.size());
}

std::size_t behind_value(std::string_view text, std::size_t at) {
  if (text[at] == '"') return behind_string(text, at);
  std::int64_t depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      at = behind_string(text, at);
      continue;
    }
    if (depth == 0 && (c == ',' || c == '}')) return at;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    ++at;
    if (depth == 0 && (c == '}' || c == ']')) return at;
  }
  return at;
}

// What the house's reader takes for one member, where a name stands twice, must be told as two.
std::vector<Member> members(std::string_view text) {
  std::vector<Member> out;
  std::size_t at = skip_blanks(text, skip_blanks(text, 0) + 1);
  while (at < text.size() && text[at] == '"') {
    Member one;
    const std::size_t name_end = behind_string(text, at);
    if (const auto name = json::parse(text.substr(at, name_end - at)); name && name->is_string())
      one.name = name->as_string();
    one.begin = skip_blanks(text, skip_blanks(text, name_end) + 1);
    if (one.begin >= text.size()) break;
    one.end = behind_value(text, one.begin);
    at = skip_blanks(text, one.end);
    out.push_back(std::move(one));
    if (at < text.size() && text[at] == ',') at = skip_blanks(text, at + 1);
  }
  return out;
}

}  // namespace

Result<Carriers> read_json(std::string_view file) {
  const auto whole = json::parse(file);
  if (!whole) return fail(ErrorKind::kBadInput, "not JSON: " + whole.error().message);
  if (!whole->is_object()) return fail(ErrorKind::kBadInput, "this JSON is no object");
  Carriers out;
  for (const Member& one : members(file))
    if (one.name == "AIGC") out.push_back(carrier_of_text(file.substr(one.begin, one.end - one.begin)));
  return out;
}

Result<std::string> write_json(std::string_view file, const AigcLabel& label) {
  const auto all = members(file);
  for (const Member& one : all)
    if (one.name == "AIGC")
      return std::string(file.substr(0, one.begin)) + compact_json(label) + std::string(file.substr(one.end));
  const std::size_t open = skip_blanks(file, 0) + 1;
  return std::string(file.substr(0, open)) + "\"AIGC\":" + compact_json(label) + (all.empty() ? "" : ",") +
         std::string(file.substr(open));
}

}  // namespace qw::governance::internal
