// A hash index from byte strings to small numbers. The strings themselves belong to the caller, who tells by number.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "base/huge_vector.h"

namespace qw::tokenizer {

class StringIndex {
 public:
  explicit StringIndex(std::size_t expected = 0) : slots_(std::bit_ceil(expected * 2 + 16)) {}

  // `string_of(number)` gives the string of a number that was inserted.
  template <class F>
  std::optional<std::uint32_t> find(std::string_view text, const F& string_of) const {
    const std::uint32_t hash = hash_of(text);
    for (std::size_t at = hash & (slots_.size() - 1); slots_[at].used; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].hash == hash && string_of(slots_[at].number) == text) return slots_[at].number;
    }
    return std::nullopt;
  }

  // `text` must not be there yet.
  void insert(std::string_view text, std::uint32_t number) {
    if ((size_ + 1) * 2 > slots_.size()) grow();
    place({hash_of(text), number, true});
    ++size_;
  }

 private:
  struct Slot {
    std::uint32_t hash = 0, number = 0;
    bool used = false;
  };
  static std::uint32_t hash_of(std::string_view text) {
    const std::uint64_t h = std::hash<std::string_view>{}(text);
    return static_cast<std::uint32_t>(h ^ (h >> 32));
  }
  void place(Slot slot) {
    std::size_t at = slot.hash & (slots_.size() - 1);
    while (slots_[at].used) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = slot;
  }
  void grow() {
    base::HugeVector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.used) place(slot);
    }
  }

  base::HugeVector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace qw::tokenizer
