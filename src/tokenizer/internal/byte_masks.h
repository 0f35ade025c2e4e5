// Which of 64 bytes are what, a bit a byte, the first byte lowest.
#pragma once

#include <cstdint>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace qw::tokenizer {

struct ByteMasks {
  static constexpr int kBytes = 64;

  std::uint64_t letters = 0;      // a-z, A-Z
  std::uint64_t digits = 0;       // 0-9
  std::uint64_t blanks = 0;       // ' '
  std::uint64_t spaces = 0;       // ' ', \t, \n, \v, \f, \r
  std::uint64_t newlines = 0;     // \n, \r
  std::uint64_t apostrophes = 0;  // '
  std::uint64_t wide = 0;         // 80-FF, which are no ASCII
  std::uint64_t follow = 0;       // 80-BF, which go on a character
  std::uint64_t han = 0;          // E5-E9, with which the characters U+5000 to U+9FFF begin

  // All 64 must be readable.
  static ByteMasks of(const char* bytes);
};

#ifdef __SSE2__
inline ByteMasks ByteMasks::of(const char* bytes) {
  // Whether a byte is one of `count` that begin at `first`: moved to the lowest of the signed bytes.
  const auto within = [](__m128i text, int first, int count) {
    const __m128i moved = _mm_add_epi8(text, _mm_set1_epi8(static_cast<char>(0x80 - first)));
    return _mm_cmplt_epi8(moved, _mm_set1_epi8(static_cast<char>(count - 128)));
  };
  const auto is = [](__m128i text, char c) { return _mm_cmpeq_epi8(text, _mm_set1_epi8(c)); };
  ByteMasks masks;
  for (int at = 0; at < kBytes; at += 16) {
    const __m128i text = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + at));
    const auto put = [at](std::uint64_t& mask, __m128i found) {
      mask |= std::uint64_t{static_cast<unsigned>(_mm_movemask_epi8(found))} << at;
    };
    put(masks.letters, within(_mm_or_si128(text, _mm_set1_epi8(0x20)), 'a', 26));
    put(masks.digits, within(text, '0', 10));
    const __m128i blank = is(text, ' ');
    put(masks.blanks, blank);
    put(masks.spaces, _mm_or_si128(blank, within(text, '\t', 5)));
    put(masks.newlines, _mm_or_si128(is(text, '\n'), is(text, '\r')));
    put(masks.apostrophes, is(text, '\''));
    put(masks.wide, text);
    put(masks.follow, _mm_cmplt_epi8(text, _mm_set1_epi8(static_cast<char>(0xC0))));
    put(masks.han, within(text, 0xE5, 5));
  }
  return masks;
}
#else
inline ByteMasks ByteMasks::of(const char* bytes) {
  ByteMasks masks;
  for (int at = 0; at < kBytes; ++at) {
    const auto c = static_cast<unsigned char>(bytes[at]);
    const auto put = [at](std::uint64_t& mask, bool found) { mask |= std::uint64_t{found} << at; };
    put(masks.letters, static_cast<unsigned char>((c | 0x20) - 'a') < 26);
    put(masks.digits, static_cast<unsigned char>(c - '0') < 10);
    put(masks.blanks, c == ' ');
    put(masks.spaces, c == ' ' || static_cast<unsigned char>(c - '\t') < 5);
    put(masks.newlines, c == '\n' || c == '\r');
    put(masks.apostrophes, c == '\'');
    put(masks.wide, c >= 0x80);
    put(masks.follow, c >= 0x80 && c < 0xC0);
    put(masks.han, c >= 0xE5 && c <= 0xE9);
  }
  return masks;
}
#endif

}  // namespace qw::tokenizer
