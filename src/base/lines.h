// Texts that are lists, a line each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "base/result.h"

namespace qw::base {

// Calls body(line, number) for each line, numbered from 1 and without its '\n' (which the last may lack), until one
// fails; gives that error.
template <class Body>
Status for_each_line(std::string_view text, Body&& body) {
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    QW_TRY(body(text.substr(at, end - at), ++number));
    at = end + 1;
  }
  return {};
}

}  // namespace qw::base
