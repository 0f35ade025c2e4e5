// Whole words that are one token: a hash table of strings of up to 16 bytes, compared as two integers.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/huge_vector.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

class WordTable {
 public:
  static constexpr std::size_t kMaxBytes = 16;

  // Of each size, the bits that are its bytes.
  static constexpr std::array<std::array<std::uint64_t, 2>, kMaxBytes + 1> kMasks = [] {
    std::array<std::array<std::uint64_t, 2>, kMaxBytes + 1> masks{};
    for (std::size_t size = 1; size <= kMaxBytes; ++size) {
      masks[size][0] = size >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * size)) - 1;
      masks[size][1] = size <= 8 ? 0 : size == 16 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * (size - 8))) - 1;
    }
    return masks;
  }();

  // A word as two integers: its bytes, then zeros. `readable` is where reading must stop, at or after its end.
  struct Key {
    std::uint64_t low, high;
    std::uint32_t size;

    Key(std::string_view word, const char* readable) : size(static_cast<std::uint32_t>(word.size())) {
      if (static_cast<std::size_t>(readable - word.data()) >= kMaxBytes) {
        load_ahead(word.data());
        return;
      }
      char bytes[kMaxBytes] = {};
      std::memcpy(bytes, word.data(), word.size());
      std::memcpy(&low, bytes, 8);
      std::memcpy(&high, bytes + 8, 8);
    }
    // Of `count` bytes, 1 to kMaxBytes, where kMaxBytes may be read.
    Key(const char* bytes, std::uint32_t count) : size(count) { load_ahead(bytes); }

    // The upper bits are the better ones.
    std::uint64_t hash() const {
      return (low ^ (std::rotl(high, 23) * 0xC2B2AE3D27D4EB4Fu) ^ size) * 0x9E3779B97F4A7C15u;
    }

   private:
    void load_ahead(const char* bytes) {
      if constexpr (std::endian::native == std::endian::little) {
        std::memcpy(&low, bytes, 8);
        std::memcpy(&high, bytes + 8, 8);
        low &= kMasks[size][0];
        high &= kMasks[size][1];
      } else {
        char copy[kMaxBytes] = {};
        std::memcpy(copy, bytes, size);
        std::memcpy(&low, copy, 8);
        std::memcpy(&high, copy + 8, 8);
      }
    }
  };

  void reserve(std::size_t words) {
    slots_.assign(std::bit_ceil(words * 2 + 16), Slot{});
    shift_ = 64 - std::countr_zero(slots_.size());
  }
  // No more words than reserved, each once, of 1 to kMaxBytes bytes.
  void insert(std::string_view word, TokenId id) {
    const Key key(word, word.data() + word.size());
    std::size_t at = key.hash() >> shift_;
    while (slots_[at].size != 0) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {key.low, key.high, id, key.size};
  }
  // -1 if it is not there.
  TokenId find(const Key& key) const {
    for (std::size_t at = key.hash() >> shift_;; at = (at + 1) & (slots_.size() - 1)) {
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
  base::HugeVector<Slot> slots_ = base::HugeVector<Slot>(16);
  int shift_ = 60;
};

}  // namespace qw::tokenizer
