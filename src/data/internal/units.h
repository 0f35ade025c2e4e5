// A text as the units that near copies, overlaps and repetition are told by: words in small letters, and of scripts
// that part no words each character. Marks and blanks are none.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace qw::data {

// Hashes of the units, in order.
std::vector<std::uint64_t> units_of(std::string_view utf8);
// A hash of each run of n units (of all of them, if they are fewer): so many less n - 1.
std::vector<std::uint64_t> runs_of(const std::vector<std::uint64_t>& units, std::size_t n);

// What a text consists of, by characters but white space.
struct CharacterCounts {
  std::int64_t all = 0, letters = 0, han = 0, kana = 0, latin = 0;  // letters: of any script, the others among them
};
CharacterCounts count_characters(std::string_view utf8);

}  // namespace qw::data
