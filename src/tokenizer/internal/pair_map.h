// A hash map from pairs of token ids to small values: open addressing, linear probing, no erasure.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

constexpr std::uint64_t pair_key(TokenId left, TokenId right) {
  return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) | static_cast<std::uint32_t>(right);
}

template <class T>
class PairMap {
 public:
  explicit PairMap(std::size_t expected = 0) { resize(std::bit_ceil(expected * 2 + 16)); }

  const T* find(std::uint64_t key) const {
    for (std::size_t at = slot_of(key);; at = (at + 1) & mask_) {
      if (slots_[at].key == key) return &slots_[at].value;
      if (slots_[at].key == kEmpty) return nullptr;
    }
  }
  T* find(std::uint64_t key) { return const_cast<T*>(std::as_const(*this).find(key)); }

  // The value of `key`, made from T{} if it was absent. The pointer holds until the next call.
  T& operator[](std::uint64_t key) {
    if (T* found = find(key)) return *found;
    if ((size_ + 1) * 2 > slots_.size()) grow();
    ++size_;
    return insert(key);
  }

  std::size_t size() const { return size_; }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};  // the pair (-1, -1), which no ids make
  struct Slot {
    std::uint64_t key = kEmpty;
    T value{};
  };

  // Multiplication by 2^64 / golden ratio spreads the low bits over the high ones (Knuth, TAOCP 3, 6.4).
  std::size_t slot_of(std::uint64_t key) const {
    return static_cast<std::size_t>(((key ^ (key >> 29)) * 0x9E3779B97F4A7C15u) >> shift_);
  }
  void resize(std::size_t slots) {
    slots_.assign(slots, Slot{});
    mask_ = slots - 1;
    shift_ = 64 - std::countr_zero(slots);
  }
  T& insert(std::uint64_t key) {
    std::size_t at = slot_of(key);
    while (slots_[at].key != kEmpty) at = (at + 1) & mask_;
    slots_[at].key = key;
    return slots_[at].value;
  }
  void grow() {
    std::vector<Slot> old = std::move(slots_);
    resize(old.size() * 2);
    for (Slot& slot : old) {
      if (slot.key != kEmpty) insert(slot.key) = std::move(slot.value);
    }
  }

  std::vector<Slot> slots_;
  std::size_t mask_ = 0, size_ = 0;
  int shift_ = 0;
};

}  // namespace qw::tokenizer
