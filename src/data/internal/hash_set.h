// Sets and maps of 64-bit hashes by open addressing: a look costs one line of memory, and a set that is emptied keeps
// its room.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace qw::data {

class HashSet {
 public:
  // Empties it and makes room for so many.
  void reset(std::size_t most) {
    const std::size_t slots = std::bit_ceil(2 * std::max<std::size_t>(most, 8));
    if (slots_.size() < slots) slots_.resize(slots);
    std::fill_n(slots_.begin(), slots, std::uint64_t{0});
    mask_ = slots - 1;
    size_ = 0;
  }
  // False if it is there already.
  bool insert(std::uint64_t hash) {
    if (2 * (size_ + 1) > mask_) grow();
    std::uint64_t& slot = slots_[place(named(hash))];
    if (slot != 0) return false;
    slot = named(hash);
    ++size_;
    return true;
  }
  bool has(std::uint64_t hash) const { return size_ > 0 && slots_[place(named(hash))] != 0; }
  // Fetches the memory that a look at it will need.
  void expect(std::uint64_t hash) const {
    if (size_ > 0) __builtin_prefetch(&slots_[named(hash) & mask_]);
  }
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }

 private:
  static std::uint64_t named(std::uint64_t hash) { return hash == 0 ? 1 : hash; }  // 0 is a free slot
  std::size_t place(std::uint64_t name) const {
    std::size_t at = name & mask_;
    while (slots_[at] != 0 && slots_[at] != name) at = (at + 1) & mask_;
    return at;
  }
  void grow() {
    std::vector<std::uint64_t> old(slots_.begin(),
                                   slots_.begin() + static_cast<std::ptrdiff_t>(mask_ == 0 ? 0 : mask_ + 1));
    reset(std::max<std::size_t>(2 * size_, 8));
    for (const std::uint64_t name : old)
      if (name != 0) {
        slots_[place(name)] = name;
        ++size_;
      }
  }
  std::vector<std::uint64_t> slots_;
  std::size_t mask_ = 0, size_ = 0;
};

template <typename Value>
class HashMap {
 public:
  // Of the hash, made with the value given if it is not there.
  Value& at(std::uint64_t hash, Value otherwise) {
    if (2 * (size_ + 1) > slots_.size()) grow();
    Slot& slot = slots_[place(named(hash))];
    if (slot.name == 0) {
      slot = {named(hash), otherwise};
      ++size_;
    }
    return slot.value;
  }
  const Value* find(std::uint64_t hash) const {
    if (size_ == 0) return nullptr;
    const Slot& slot = slots_[place(named(hash))];
    return slot.name == 0 ? nullptr : &slot.value;
  }
  void expect(std::uint64_t hash) const {
    if (size_ > 0) __builtin_prefetch(&slots_[named(hash) & (slots_.size() - 1)]);
  }
  std::size_t size() const { return size_; }
  // Changes all values; those that `change` returns false for go.
  template <typename Change>
  void each(const Change& change) {
    std::vector<Slot> old(slots_.size());
    old.swap(slots_);
    size_ = 0;
    for (Slot& slot : old)
      if (slot.name != 0 && change(slot.value)) {
        slots_[place(slot.name)] = slot;
        ++size_;
      }
  }

 private:
  struct Slot {
    std::uint64_t name = 0;
    Value value{};
  };
  static std::uint64_t named(std::uint64_t hash) { return hash == 0 ? 1 : hash; }
  std::size_t place(std::uint64_t name) const {
    std::size_t at = name & (slots_.size() - 1);
    while (slots_[at].name != 0 && slots_[at].name != name) at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  void grow() {
    std::vector<Slot> old(std::max<std::size_t>(2 * slots_.size(), 16));
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.name != 0) slots_[place(slot.name)] = slot;
  }
  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace qw::data
