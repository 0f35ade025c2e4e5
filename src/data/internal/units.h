// A text as the units that near copies, overlaps and repetition are told by: words in small letters, and of scripts
// that part no words each character. Marks and blanks are none.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/build.h"

namespace qw::data {

// What a text consists of, by characters but white space.
struct CharacterCounts {
  std::int64_t all = 0, letters = 0, han = 0, kana = 0, latin = 0;  // letters: of any script, the others among them
};

// One pass over a text: the hashes of its units, in order, are appended, and its characters are counted.
void read_units(std::string_view utf8, std::vector<std::uint64_t>& units, CharacterCounts& counts);
std::vector<std::uint64_t> units_of(std::string_view utf8);
CharacterCounts count_characters(std::string_view utf8);

// The end of MurmurHash3: every bit of the result depends on all of them.
inline std::uint64_t mixed(std::uint64_t h) {
  h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdu;
  h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
  return h ^ (h >> 33);
}

// A hash of each run of n units (of all of them, if they are fewer), in order: so many less n - 1. A polynomial in the
// units, of which the first leaves as the next comes in; its base less one is twice an odd number, so that hardly a bit
// is lost where two units change places.
template <typename Visit>
void each_run(const std::vector<std::uint64_t>& units, std::size_t n, const Visit& visit) {
  constexpr std::uint64_t kBase = 0x9E3779B97F4A7C17u;
  static_assert(kBase % 4 == 3);
  if (units.empty()) return;
  const std::size_t length = std::min(n, units.size());
  std::uint64_t hash = 0, highest = 1;  // of the first unit's: kBase^(length - 1)
  for (std::size_t i = 0; i < length; ++i) hash = hash * kBase + units[i];
  for (std::size_t i = 1; i < length; ++i) highest *= kBase;
  visit(mixed(hash));
  for (std::size_t i = length; i < units.size(); ++i) {
    hash = (hash - units[i - length] * highest) * kBase + units[i];
    visit(mixed(hash));
  }
}
std::vector<std::uint64_t> runs_of(const std::vector<std::uint64_t>& units, std::size_t n);

// Brings valid UTF-8 into a normal form, without control characters (but line feed and tab) and unseen ones.
void normalise(std::string& text, Normalisation form);

}  // namespace qw::data
