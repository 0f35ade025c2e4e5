// Ranks of merges by pair, eight bytes a slot: the table of a vocabulary of 150 000 merges is 2 MiB.
#pragma once

#include <bit>
#include <cstdint>

#include "base/huge_vector.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

class MergeTable {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  // Ids and ranks that fit: a slot is the pair's 2 * 20 bits above the 24 of the rank.
  static constexpr int kIdBits = 20, kRankBits = 24;
  static constexpr std::size_t kMaxIds = std::size_t{1} << kIdBits, kMaxRanks = (std::size_t{1} << kRankBits) - 1;

  void reserve(std::size_t merges) {
    // Between 1/3 and 2/3 full.
    slots_.assign(std::bit_ceil(merges + merges / 2 + 16), kFree);
    shift_ = 64 - std::countr_zero(slots_.size());
  }
  // A pair that is there gets the new rank.
  void set(TokenId left, TokenId right, std::uint32_t rank) {
    const std::uint64_t key = key_of(left, right);
    std::size_t at = slot_of(key);
    while (slots_[at] != kFree && slots_[at] >> kRankBits != key) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = (key << kRankBits) | rank;
  }
  std::uint32_t find(TokenId left, TokenId right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t at = slot_of(key);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at] >> kRankBits == key && slots_[at] != kFree) return slots_[at] & kMaxRanks;
      if (slots_[at] == kFree) return kNone;
    }
  }

 private:
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};  // kMaxRanks is no rank
  static std::uint64_t key_of(TokenId left, TokenId right) {
    return (std::uint64_t{static_cast<std::uint32_t>(left)} << kIdBits) | static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t key) const {
    return static_cast<std::size_t>(((key ^ (key >> 23)) * 0x9E3779B97F4A7C15u) >> shift_);
  }

  base::HugeVector<std::uint64_t> slots_ = base::HugeVector<std::uint64_t>(16, kFree);
  int shift_ = 60;
};

}  // namespace qw::tokenizer
