// Base64 (RFC 4648): bytes as text. Both readers take the one way of writing that the writers have, and no other: a text
// stands for one sequence of bytes, and bytes for one text.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::base {

std::string to_base64(std::string_view bytes);     // section 4: with + and /, padded
std::string to_base64url(std::string_view bytes);  // section 5: with - and _, not padded
Result<std::string> from_base64(std::string_view text);     // kBadInput if it is not that
Result<std::string> from_base64url(std::string_view text);  // kBadInput if it is not that

}  // namespace qw::base
