// Random text for the room's tests: mostly characters at which tokenizers go wrong, some from all of Unicode.
#pragma once

#include <string>

#include "base/rng.h"
#include "base/utf8.h"

namespace qw::tokenizer {

inline std::string random_text(base::Rng& rng, std::size_t max_chars) {
  static constexpr std::string_view kTricky[] = {" ",        " ",       "  ",         "\t",         "\n",
                                                 "\r",       "\r\n",    "\v",         "\f",         "\xC2\x85",
                                                 "\xC2\xA0", "\u3000",  "\u2028",     "'",          "'s",
                                                 "'S",       "'\u017F", "'re",        "'lL",        "'v",
                                                 "'d",       "s",       "t",          "L",          "the",
                                                 "1",        "23",      "\u0663",     "\u2167",     "\u00B2",
                                                 "\uFF12",   ".",       ",",          "!",          "--",
                                                 "=",        "\uFF0C",  "\u3002",     "\u6625",     "\u7720\u4E0D",
                                                 "\u00E9",   "e\u0301", "\u0301",     "\u0316",     "\u0345",
                                                 "\u0338",   "\u0915",  "\u093C",     "\u1100",     "\u1161",
                                                 "\u11A8",   "\uAC00",  "\uAC01",     "\u0B47",     "\u0B3E",
                                                 "\u200D",   "\uFEFF",  "\U0001F600", "\U0001F1E8", "\u2126",
                                                 "\u212B",   "\u0344",  "\uFA10",     "\U0001D15E", "<|im_start|>",
                                                 "<|im_",    "|>"};
  const std::size_t n = 1 + rng.below(max_chars);
  std::string text;
  for (std::size_t i = 0; i < n; ++i) {
    if (rng.below(8) != 0) {
      text += kTricky[rng.below(std::size(kTricky))];
      continue;
    }
    constexpr std::uint64_t kUpTo[] = {0x80, 0x800, 0x3000, 0xD800, 0x30000, 0x110000};
    const auto code = static_cast<std::uint32_t>(rng.below(kUpTo[rng.below(std::size(kUpTo))]));
    base::append_utf8(text, code >= 0xD800 && code < 0xE000 ? 0x4E00 : code);
  }
  return text;
}

// Any bytes, with stretches of text among them.
inline std::string random_bytes(base::Rng& rng, std::size_t max_parts) {
  std::string bytes;
  for (std::size_t i = 1 + rng.below(max_parts); i > 0; --i) {
    if (rng.below(2) != 0) {
      bytes += random_text(rng, 3);
    } else {
      bytes.push_back(static_cast<char>(rng.below(256)));
    }
  }
  return bytes;
}

}  // namespace qw::tokenizer
