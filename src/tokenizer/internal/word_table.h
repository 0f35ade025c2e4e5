// Whole words that are one token: a hash table of strings of up to 16 bytes, compared as two integers.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

class WordTable {
 public:
  static constexpr std::size_t kMaxBytes = 16;

  // A word as two integers: its bytes, then zeros. `readable` is where reading must stop, at or after its end.
  struct Key {
    std::uint64_t low, high;
    std::uint32_t size;

    Key(std::string_view word, const char* readable) : size(static_cast<std::uint32_t>(word.size())) {
      if (static_cast<std::size_t>(readable - word.data()) >= kMaxBytes) {
        std::memcpy(&low, word.data(), 8);
        std::memcpy(&high, word.data() + 8, 8);
        if constexpr (std::endian::native == std::endian::little) {
          // Shifts by 64 are not defined, hence twice; the word is not empty.
          if (size <= 8) {
            low &= ~std::uint64_t{0} >> (64 - 8 * size);
            high = 0;
          } else {
            high &= ~std::uint64_t{0} >> (128 - 8 * size);
          }
          return;
        }
      }
      char bytes[kMaxBytes] = {};
      std::memcpy(bytes, word.data(), word.size());
      std::memcpy(&low, bytes, 8);
      std::memcpy(&high, bytes + 8, 8);
    }
    std::uint64_t hash() const {
      const std::uint64_t h = (low ^ (high * 0xC2B2AE3D27D4EB4Fu) ^ size) * 0x9E3779B97F4A7C15u;
      return h ^ (h >> 32);
    }
  };

  void reserve(std::size_t words) { slots_.assign(std::bit_ceil(words * 2 + 16), Slot{}); }
  // No more words than reserved, each once, of 1 to kMaxBytes bytes.
  void insert(std::string_view word, TokenId id) {
    const Key key(word, word.data() + word.size());
    std::size_t at = key.hash() & (slots_.size() - 1);
    while (slots_[at].size != 0) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {key.low, key.high, id, key.size};
  }
  // -1 if it is not there.
  TokenId find(const Key& key) const {
    for (std::size_t at = key.hash() & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[at];
      if (slot.low == key.low && slot.high == key.high && slot.size == key.size) return slot.id;
      if (slot.size == 0) return -1;
    }
  }

 private:
  struct Slot {
    std::uint64_t low = 0, high = 0;
    TokenId id = 0;
    std::uint32_t size = 0;  // 0: free
  };
  std::vector<Slot> slots_ = std::vector<Slot>(16);
};

}  // namespace qw::tokenizer
