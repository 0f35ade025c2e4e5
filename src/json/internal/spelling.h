// How strings and numbers are spelt in JSON text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qw::json::internal {

// In quotes. Ill-formed bytes become U+FFFD as Python's errors="replace" does it.
void append_string(std::string& out, std::string_view text, bool ensure_ascii);
void append_integer(std::string& out, std::int64_t number);

}  // namespace qw::json::internal
