// A spelling of names and texts that come from files that is safe in an error message.
#pragma once

#include <string>
#include <string_view>

namespace qw::formats::internal {

// In quotes, cut at 80 bytes, with control and non-ASCII bytes as \xNN: an error stays one line whatever the file
// holds.
std::string quote(std::string_view text);

}  // namespace qw::formats::internal
