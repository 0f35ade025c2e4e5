#include "data/internal/units.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/utf8.h"

namespace qw::data {
namespace {

constexpr std::uint64_t kFnvStart = 0xcbf29ce484222325u, kFnvPrime = 0x100000001b3u;

std::uint64_t with_bits(std::uint64_t hash, std::uint64_t bits) { return (hash ^ bits) * kFnvPrime; }
// FNV's low bits mix poorly; this is the end of MurmurHash3.
std::uint64_t mixed(std::uint64_t h) {
  h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdu;
  h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
  return h ^ (h >> 33);
}

// What each character of the basic plane is: looked up, as asking for categories takes longer than all else.
enum Kind : std::uint8_t { kWord = 1, kLetter = 2 };
std::uint8_t kind_by_category(std::uint32_t code) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
  const bool letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
  const bool word = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO;  // letters, their marks, numbers
  return static_cast<std::uint8_t>((word ? kWord : 0) | (letter ? kLetter : 0));
}
constexpr std::uint32_t kBasicPlane = 0x10000;
std::uint8_t kind_of(std::uint32_t code) {
  static const std::vector<std::uint8_t> kinds = [] {
    std::vector<std::uint8_t> all(kBasicPlane);
    for (std::uint32_t c = 0; c < kBasicPlane; ++c) all[c] = kind_by_category(c);
    return all;
  }();
  return code < kBasicPlane ? kinds[code] : kind_by_category(code);
}
bool is_word(std::uint32_t code) { return (kind_of(code) & kWord) != 0; }
bool is_letter(std::uint32_t code) { return (kind_of(code) & kLetter) != 0; }
bool is_kana(std::uint32_t code) { return code >= 0x3041 && code <= 0x30FF; }
bool is_han_code(std::uint32_t code) {
  return (code >= 0x3400 && code <= 0x9FFF) || (code >= 0xF900 && code <= 0xFAFF) ||
         (code >= 0x20000 && code <= 0x323AF) || code == 0x3005 || code == 0x3007;
}

}  // namespace

std::vector<std::uint64_t> units_of(std::string_view text) {
  std::vector<std::uint64_t> out;
  std::uint64_t word = kFnvStart;
  const auto close = [&] {
    if (word != kFnvStart) out.push_back(mixed(word));
    word = kFnvStart;
  };
  for (std::size_t at = 0; at < text.size();) {
    const base::Utf8Char c = base::utf8_at(text, at);
    at += c.size;
    if (c.code == base::kInvalidCode || !is_word(c.code)) {
      close();
      continue;
    }
    if (is_han_code(c.code) || is_kana(c.code)) {
      close();
      out.push_back(mixed(with_bits(kFnvStart, c.code)));
      continue;
    }
    const std::uint32_t small =
        c.code < 0x80 ? (c.code >= 'A' && c.code <= 'Z' ? c.code + 32 : c.code)
                      : static_cast<std::uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code)));
    word = with_bits(word, small);
  }
  close();
  return out;
}

std::vector<std::uint64_t> runs_of(const std::vector<std::uint64_t>& units, std::size_t n) {
  std::vector<std::uint64_t> out;
  if (units.empty()) return out;
  const std::size_t length = std::min(n, units.size());
  out.reserve(units.size() - length + 1);
  for (std::size_t begin = 0; begin + length <= units.size(); ++begin) {
    std::uint64_t hash = kFnvStart;
    for (std::size_t i = 0; i < length; ++i) hash = with_bits(hash, units[begin + i]);
    out.push_back(mixed(hash));
  }
  return out;
}

CharacterCounts count_characters(std::string_view text) {
  CharacterCounts c;
  for (std::size_t at = 0; at < text.size();) {
    const base::Utf8Char next = base::utf8_at(text, at);
    at += next.size;
    const std::uint32_t code = next.code;
    if (code == ' ' || (code >= '\t' && code <= '\r') || code == 0x3000 || code == 0xA0) continue;
    ++c.all;
    if (code == base::kInvalidCode || !is_letter(code)) continue;
    ++c.letters;
    if (is_han_code(code))
      ++c.han;
    else if (is_kana(code))
      ++c.kana;
    else if (code < 0x250)
      ++c.latin;
  }
  return c;
}

}  // namespace qw::data
