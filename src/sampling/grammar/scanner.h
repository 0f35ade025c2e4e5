// What the readers of grammars' texts share: a place in a text, and moving on from it.
#pragma once

#include <cstddef>
#include <string_view>

namespace qw::sampling::grammar {

class Scanner {
 protected:
  explicit Scanner(std::string_view text) : text_(text) {}
  bool more() const { return at_ < text_.size(); }
  char peek() const { return text_[at_]; }  // only if more()
  bool take(char c) {
    if (!more() || peek() != c) return false;
    ++at_;
    return true;
  }
  // Of the hexadecimal digit that stands here, or -1.
  int hex_digit() const {
    const char c = more() ? peek() : '\0';
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace qw::sampling::grammar
