// Text within HTML.
#pragma once

#include <string>
#include <string_view>

namespace qw::base {

// What stands for the text between tags and within attributes, whichever quotes these have: & < > " ' are written as
// references.
std::string html_escaped(std::string_view text);

}  // namespace qw::base
