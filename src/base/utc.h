// Moments as people and files write them: 2026-11-29T09:00:00Z.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qw::base {

std::string utc_text(std::int64_t unix_seconds);
// Of "2026-11-29T09:00:00Z", "2026-11-29T10:00:00+01:00", or "2026-11-29" (its beginning, UTC); seconds may have a
// fraction, which is dropped. Nothing for all else.
std::optional<std::int64_t> unix_of_utc(std::string_view text);

}  // namespace qw::base
