// What a generative guard model answers, read:
//
//   Safety: Unsafe
//   Categories: Violent, Jailbreak
//   Refusal: No
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::chat {

enum class Safety : std::uint8_t { kSafe, kControversial, kUnsafe };
std::string_view safety_name(Safety safety);  // "Safe", ...

struct GuardVerdict {
  Safety safety = Safety::kSafe;
  std::vector<std::string> categories;  // as the model spells them; empty for None
  std::optional<bool> refusal;          // only verdicts on answers say whether they refuse
};

// Lines in any order, other lines are passed over (a model may think first). kBadInput if the safety is missing, stated
// twice differently, or no known word: then nothing is known, and a caller must not take it for safe.
Result<GuardVerdict> parse_guard_output(std::string_view text);

}  // namespace qw::chat
