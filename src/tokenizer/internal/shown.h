// Foreign text as an error message may quote it: in quotes, valid UTF-8, on one line, not long.
#pragma once

#include <string>
#include <string_view>

namespace qw::tokenizer {

std::string shown(std::string_view text);
// Names a token by its letters.
std::string shown_token(std::string_view bytes);

}  // namespace qw::tokenizer
