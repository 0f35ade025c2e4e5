// What a thread found out while encoding with one vocabulary: tokens of short pieces, and which tokens may be
// neighbours. Of fixed size; what falls on the place of something older replaces it. It changes how long encoding
// takes, never what comes out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/huge_vector.h"
#include "tokenizer/internal/word_table.h"

namespace qw::tokenizer {

class EncodeCache {
 public:
  static constexpr std::size_t kMaxIds = 3;
  struct alignas(32) Word {
    std::uint64_t low, high;
    TokenId ids[kMaxIds];
    std::uint16_t size, count;  // size 0: nothing here
  };

  const Word* find(const WordTable::Key& key) const {
    const Word& word = words_[place(key)];
    const bool same = ((word.low ^ key.low) | (word.high ^ key.high) | (word.size ^ key.size)) == 0;
    return same ? &word : nullptr;
  }
  // Forgotten if there are more ids than a word has room for.
  void keep(const WordTable::Key& key, std::span<const TokenId> ids) {
    if (ids.size() > kMaxIds) return;
    Word& word = words_[place(key)];
    word = {key.low, key.high, {}, static_cast<std::uint16_t>(key.size), static_cast<std::uint16_t>(ids.size())};
    std::copy(ids.begin(), ids.end(), word.ids);
  }
  // The place for what is known of a pair; the caller tells whether it is of this pair. All bits are set at first.
  std::uint64_t& pair(std::uint64_t key) { return pairs_[(key * 0x9E3779B97F4A7C15u) >> (64 - kPairBits)]; }

  // Empties the cache if it was last used by another vocabulary.
  void begin(std::uint64_t vocabulary) {
    if (vocabulary == vocabulary_) return;
    vocabulary_ = vocabulary;
    words_.assign(std::size_t{1} << kWordBits, Word{});
    pairs_.assign(std::size_t{1} << kPairBits, ~std::uint64_t{0});
  }

 private:
  // 1 MiB: a book has some 20 000 words. The frequent ones stay in the processor's caches, and a rare one is found
  // sooner here than anew.
  static constexpr int kWordBits = 15;
  static constexpr int kPairBits = 16;  // 512 KiB, and so in a huge page

  static std::size_t place(const WordTable::Key& key) { return key.hash() >> (64 - kWordBits); }

  std::uint64_t vocabulary_ = 0;
  base::HugeVector<Word> words_;
  base::HugeVector<std::uint64_t> pairs_;
};

}  // namespace qw::tokenizer
