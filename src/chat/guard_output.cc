#include "chat/guard_output.h"

#include <algorithm>

#include "base/trim.h"

namespace qw::chat {
namespace {

constexpr std::string_view kNames[] = {"Safe", "Controversial", "Unsafe"};

// What follows `name` at the beginning of the line; nothing if the line begins otherwise.
std::optional<std::string_view> field(std::string_view line, std::string_view name) {
  if (!line.starts_with(name)) return std::nullopt;
  return base::trimmed(line.substr(name.size()));
}

// The text up to `separator`, which is taken off the front of `rest` with it.
std::string_view cut(std::string_view& rest, char separator) {
  const std::size_t end = std::min(rest.find(separator), rest.size());
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return base::trimmed(part);
}

tl::unexpected<Error> bad(const std::string& what) { return fail(ErrorKind::kBadInput, "the guard's answer " + what); }

Result<Safety> safety_of(std::string_view word) {
  for (std::size_t i = 0; i < std::size(kNames); ++i)
    if (word == kNames[i]) return static_cast<Safety>(i);
  return bad("names an unknown safety: \"" + std::string(word.substr(0, 64)) + "\"");
}

}  // namespace

std::string_view safety_name(Safety safety) { return kNames[static_cast<std::size_t>(safety)]; }

Result<GuardVerdict> parse_guard_output(std::string_view text) {
  GuardVerdict verdict;
  std::optional<Safety> safety;
  while (!text.empty()) {
    const std::string_view line = cut(text, '\n');
    if (const auto word = field(line, "Safety:")) {
      QW_ASSIGN(const Safety stated, safety_of(*word));
      if (safety && *safety != stated) return bad("states two different safeties");
      safety = stated;
    } else if (auto names = field(line, "Categories:")) {
      for (std::string_view rest = *names; !rest.empty();) {
        const std::string_view name = cut(rest, ',');
        if (!name.empty() && name != "None") verdict.categories.emplace_back(name);
      }
    } else if (const auto refusal = field(line, "Refusal:")) {
      if (*refusal == "Yes" || *refusal == "No") verdict.refusal = *refusal == "Yes";
    }
  }
  if (!safety) return bad("states no safety");
  verdict.safety = *safety;
  return verdict;
}

}  // namespace qw::chat
