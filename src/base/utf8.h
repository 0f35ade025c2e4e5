// UTF-8 by the strict rules (no surrogates, no overlong forms, nothing above U+10FFFF), one character at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace qw::base {

constexpr std::uint32_t kInvalidCode = 0xFFFFFFFFu;

struct Utf8Char {
  std::uint32_t code;  // kInvalidCode if the bytes are no character
  std::uint32_t
      size;  // bytes taken; of an invalid sequence its "maximal subpart", which decoders replace by one U+FFFD
  bool cut;  // the text ends inside what could still become a character
};

namespace detail {

// The range the second byte must be in, and how many bytes follow the lead byte (Unicode standard, table 3-7).
struct Lead {
  std::uint8_t follow, low, high;
};

constexpr Lead lead_of(unsigned char byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {1, 0x80, 0xBF};
  if (byte == 0xE0) return {2, 0xA0, 0xBF};
  if (byte == 0xED) return {2, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {2, 0x80, 0xBF};
  if (byte == 0xF0) return {3, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {3, 0x80, 0xBF};
  if (byte == 0xF4) return {3, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace detail

// The character at text[at]; at < text.size().
inline Utf8Char utf8_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return {first, 1, false};
  const detail::Lead lead = detail::lead_of(first);
  if (lead.follow == 0) return {kInvalidCode, 1, false};
  std::uint32_t code = first & (0x3Fu >> lead.follow);
  for (std::uint32_t i = 1; i <= lead.follow; ++i) {
    if (at + i >= text.size()) return {kInvalidCode, i, true};
    const unsigned char next = byte(at + i);
    if (next < (i == 1 ? lead.low : 0x80) || next > (i == 1 ? lead.high : 0xBF)) return {kInvalidCode, i, false};
    code = (code << 6) | (next & 0x3Fu);
  }
  return {code, lead.follow + 1u, false};
}

bool is_valid_utf8(std::string_view text);

// `code` must be a Unicode scalar value.
void append_utf8(std::string& out, std::uint32_t code);

// Appends `bytes` to `out` with invalid sequences replaced by U+FFFD, as Python's errors="replace" does. Unless
// `final`, a cut character at the end is left alone. Returns the number of bytes taken.
std::size_t append_valid_utf8(std::string& out, std::string_view bytes, bool final);

}  // namespace qw::base
