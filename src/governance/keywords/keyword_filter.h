// Where in a text a keyword may begin, told from its first symbols, without the index: one look at a table of bits that
// stays in a near cache, instead of a walk through nodes that do not. It never leaves out a place; of others it lets
// few through.
//
// What is looked up: where a word begins, the word alone, the word and the sign behind it, and with the next word
// besides; elsewhere one, two and three symbols. Bits: a blocked Bloom filter, three in one word of 64 (Putze, Sanders
// and Singler, 2007).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "governance/keywords/folding.h"

namespace qw::governance {

struct KeywordCandidate {
  std::uint32_t place = 0;  // in the text
  bool is_long = false;     // what begins there has three symbols or more, and no letter first
};

class KeywordFilter {
 public:
  // `symbols` of all keywords one after the other, keyword i up to `ends[i]`; none is empty.
  KeywordFilter(std::span<const Symbol> symbols, std::span<const std::uint32_t> ends);

  // Writes, ascending, the places of `text` at which a keyword may begin, and those at which it cannot be said because
  // the text ends too early; returns how many. `out`: room for one more than the text has symbols. `before`: the symbol
  // in front of it. A letter or digit that stands alone near another one may always begin a keyword of which each
  // letter stands alone.
  std::size_t candidates(std::span<const Symbol> text, Symbol before, KeywordCandidate* out) const;

 private:
  // What a hash is made of; each is looked for only if there are keywords of it.
  enum Form : std::uint8_t { kWord, kWordSign, kTwoWords, kOne, kTwo, kThree, kForms };

  struct WordRun {
    std::uint64_t hash;
    std::size_t end;
  };
  static WordRun word_at(std::span<const Symbol> text, std::size_t at);
  static std::uint64_t hash_of(Form form, std::uint64_t a, std::uint32_t b = 0, std::uint64_t c = 0) {
    const std::uint64_t x = (a + form) * 0x9E3779B97F4A7C15 + b * 0xC2B2AE3D27D4EB4F + c * 0x165667B19E3779F9;
    return (x ^ x >> 32) * 0xD6E8FEB86659FD93;
  }
  static std::uint64_t bits_of(std::uint64_t hash) {
    return std::uint64_t{1} << (hash & 63) | std::uint64_t{1} << (hash >> 6 & 63) |
           std::uint64_t{1} << (hash >> 12 & 63);
  }
  void add(Form form, std::uint64_t hash);
  bool has(Form form, std::uint64_t a, std::uint32_t b = 0, std::uint64_t c = 0) const {
    if (!forms_[form]) return false;
    const std::uint64_t hash = hash_of(form, a, b, c), bits = bits_of(hash);
    return (words_[hash >> shift_] & bits) == bits;
  }
  bool word_may_begin(std::span<const Symbol> text, const WordRun& word, const WordRun& next) const;
  std::size_t signs(std::span<const Symbol> text, std::size_t at, KeywordCandidate*& out) const;
  void add_keyword(std::span<const Symbol> keyword);

  std::vector<std::uint64_t> words_;
  std::uint32_t shift_ = 63;
  bool forms_[kForms] = {};
};

}  // namespace qw::governance
