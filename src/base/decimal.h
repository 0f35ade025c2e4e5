// Numbers as people wrote them.
#pragma once

#include <charconv>

namespace qw::base {

// The shortest decimal that reads back as this float, as a double: 1e-06f gives 1e-06, not 9.999999974752427e-07.
inline double shortest(float f) {
  char text[32];   // nine digits, sign, point and exponent need sixteen
  const auto end = std::to_chars(text, text + sizeof(text), f).ptr;
  double d = 0;
  std::from_chars(text, end, d);
  return d;
}

}  // namespace qw::base
