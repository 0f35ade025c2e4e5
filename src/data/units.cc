#include "data/internal/units.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "base/utf8.h"

namespace qw::data {
namespace {

constexpr std::uint64_t kFnvStart = 0xcbf29ce484222325u, kFnvPrime = 0x100000001b3u;

std::uint64_t with_bits(std::uint64_t hash, std::uint64_t bits) { return (hash ^ bits) * kFnvPrime; }

bool is_kana(std::uint32_t code) { return code >= 0x3041 && code <= 0x30FF; }
bool is_han_code(std::uint32_t code) {
  return (code >= 0x3400 && code <= 0x9FFF) || (code >= 0xF900 && code <= 0xFAFF) ||
         (code >= 0x20000 && code <= 0x323AF) || code == 0x3005 || code == 0x3007;
}
bool is_blank(std::uint32_t code) {
  return code == ' ' || (code >= '\t' && code <= '\r') || code == 0x3000 || code == 0xA0;
}

// But line feed and tab.
bool is_control(std::uint32_t code) {
  return (code < 0x20 && code != '\n' && code != '\t') || (code >= 0x7F && code < 0xA0);
}
bool is_unseen(std::uint32_t code) { return code == 0x200B || code == 0xFEFF || code == 0x2060; }

// What a character is. kNfc, kNfkc: it is of that form by itself, and nothing that follows or stands before makes it
// another (it has no decomposition, no combining class, and is no second half of a composition: those are marks and the
// vowels and finals of Hangul and of Kirat Rai); what is removed is not.
enum Kind : std::uint8_t {
  kWord = 1,
  kLetter = 2,
  kHan = 4,
  kKana = 8,
  kLatin = 16,
  kBlank = 32,
  kNfc = 64,
  kNfkc = 128
};

std::uint8_t kind_by_properties(std::uint32_t code) {
  const utf8proc_property_t& is = *utf8proc_get_property(static_cast<utf8proc_int32_t>(code));
  const int category = is.category;
  const bool letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
  const bool mark = category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
  const bool word =
      category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO;  // letters, their marks, numbers
  const bool decomposes = is.decomp_seqindex != UINT16_MAX, canonically = decomposes && is.decomp_type == 0;
  const bool half = (code >= 0x1100 && code <= 0x11FF) || (code >= 0x16D63 && code <= 0x16D6A);
  const bool stays = !mark && !half && !is_control(code) && !is_unseen(code);
  int kind = (word ? kWord : 0) | (letter ? kLetter : 0) | (is_blank(code) ? kBlank : 0);
  if (letter && is_han_code(code)) kind |= kHan;
  if (letter && is_kana(code)) kind |= kKana;
  if (letter && code < 0x250) kind |= kLatin;
  if (stays && (code < 0x300 || !canonically)) kind |= kNfc;  // those below compose again
  if (stays && (code < 0x300 ? !decomposes || canonically : !decomposes)) kind |= kNfkc;
  return static_cast<std::uint8_t>(kind);
}
std::uint32_t small_by_properties(std::uint32_t code) {
  return static_cast<std::uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
}

// Of the basic plane looked up, as asking for properties takes longer than all else.
constexpr std::uint32_t kBasicPlane = 0x10000;
struct Plane {
  std::vector<std::uint8_t> kind;
  std::vector<std::uint16_t> small;
};
const Plane& plane() {
  static const Plane basic = [] {
    Plane made{std::vector<std::uint8_t>(kBasicPlane), std::vector<std::uint16_t>(kBasicPlane)};
    for (std::uint32_t c = 0; c < kBasicPlane; ++c) {
      made.kind[c] = kind_by_properties(c);
      made.small[c] = static_cast<std::uint16_t>(small_by_properties(c));
    }
    return made;
  }();
  return basic;
}

// The texts here are valid UTF-8 but for lists that are kept out; three bytes make most of what is not ASCII.
[[gnu::always_inline]] inline base::Utf8Char character_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(at) < 0x80) return {byte(at), 1, false};
  if (byte(at) - 0xE3u <= 6 && at + 2 < text.size() && (byte(at + 1) & 0xC0) == 0x80 && (byte(at + 2) & 0xC0) == 0x80)
    return {(byte(at) & 0xFu) << 12 | (byte(at + 1) & 0x3Fu) << 6 | (byte(at + 2) & 0x3Fu), 3, false};
  return base::utf8_at(text, at);
}

bool maps(const std::string& from, Normalisation form, std::string& to) {
  utf8proc_uint8_t* made = nullptr;
  const int options = UTF8PROC_STABLE | UTF8PROC_COMPOSE | (form == Normalisation::kNfkc ? UTF8PROC_COMPAT : 0);
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(from.data()), static_cast<utf8proc_ssize_t>(from.size()),
                   &made, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
  if (length >= 0) to.append(reinterpret_cast<const char*>(made), static_cast<std::size_t>(length));
  return length >= 0;
}

}  // namespace

void read_units(std::string_view text, std::vector<std::uint64_t>& units, CharacterCounts& counts) {
  const Plane& basic = plane();
  CharacterCounts c = counts;
  std::uint64_t word = kFnvStart;
  const auto close = [&] {
    if (word != kFnvStart) units.push_back(mixed(word));
    word = kFnvStart;
  };
  for (std::size_t at = 0; at < text.size();) {
    const auto [code, size, cut] = character_at(text, at);
    at += size;
    const unsigned kind = code < kBasicPlane           ? basic.kind[code]
                          : code == base::kInvalidCode ? 0u
                                                       : kind_by_properties(code);
    c.all += (kind & kBlank) == 0 ? 1 : 0;
    c.letters += (kind & kLetter) != 0 ? 1 : 0;
    c.han += (kind & kHan) != 0 ? 1 : 0;
    c.kana += (kind & kKana) != 0 ? 1 : 0;
    c.latin += (kind & kLatin) != 0 ? 1 : 0;
    if ((kind & kWord) == 0) {
      close();
    } else if (is_han_code(code) || is_kana(code)) {
      close();
      units.push_back(mixed(with_bits(kFnvStart, code)));
    } else {
      word = with_bits(word, code < kBasicPlane ? basic.small[code] : small_by_properties(code));
    }
  }
  close();
  counts = c;
}

std::vector<std::uint64_t> units_of(std::string_view text) {
  std::vector<std::uint64_t> units;
  CharacterCounts counts;
  read_units(text, units, counts);
  return units;
}
CharacterCounts count_characters(std::string_view text) {
  std::vector<std::uint64_t> units;
  CharacterCounts counts;
  read_units(text, units, counts);
  return counts;
}

std::vector<std::uint64_t> runs_of(const std::vector<std::uint64_t>& units, std::size_t n) {
  std::vector<std::uint64_t> out;
  each_run(units, n, [&](std::uint64_t hash) { out.push_back(hash); });
  return out;
}

// Only stretches of what could change are mapped, each from the last character before it on, with which it may compose.
void normalise(std::string& text, Normalisation form) {
  if (form == Normalisation::kNone) return;
  const Plane& basic = plane();
  const unsigned wanted = form == Normalisation::kNfc ? kNfc : kNfkc;
  std::string out, part;
  std::size_t copied = 0, before = 0;  // up to here; where the last character that stays begins
  for (std::size_t at = 0; at < text.size();) {
    const auto stays = [&](std::uint32_t code) {
      return ((code < kBasicPlane ? basic.kind[code] : kind_by_properties(code)) & wanted) != 0;
    };
    base::Utf8Char c = character_at(text, at);
    if (stays(c.code)) {
      before = at;
      at += c.size;
      continue;
    }
    out.append(text, copied, before - copied);
    part.clear();
    if (before < at) part.append(text, before, at - before);
    for (; at < text.size(); at += c.size) {
      c = character_at(text, at);
      if (stays(c.code)) break;
      if (!is_control(c.code) && !is_unseen(c.code)) part.append(text, at, c.size);
    }
    if (!maps(part, form, out)) out += part;
    copied = before = at;
  }
  if (copied == 0 && out.empty()) return;
  out.append(text, copied);
  text = std::move(out);
}

}  // namespace qw::data
