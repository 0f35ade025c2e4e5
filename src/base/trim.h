// A text without what is blank at its ends.
#pragma once

#include <string_view>

namespace qw::base {

// `blanks`: the bytes that count as blank. The result points into `text`.
constexpr std::string_view trimmed(std::string_view text, std::string_view blanks = " \t\r\n") {
  const auto begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) + 1 - begin);
}

}  // namespace qw::base
