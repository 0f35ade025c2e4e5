// The least valuable of a set of small numbers: an indexed binary heap. All memory is taken when it is made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/result.h"

namespace qw::kvcache::internal {

class ValueHeap {
 public:
  explicit ValueHeap(std::int32_t keys) : at_(static_cast<std::size_t>(keys), -1) { heap_.reserve(at_.size()); }

  bool empty() const { return heap_.empty(); }
  bool contains(std::int32_t key) const { return at_[static_cast<std::size_t>(key)] >= 0; }
  std::int32_t least() const { return heap_.front().key; }
  double least_value() const { return heap_.front().value; }

  // `order` decides among equal values: the smaller goes first.
  void push(std::int32_t key, double value, std::uint64_t order) {
    QW_CHECK(!contains(key));
    heap_.push_back({value, order, key});
    up(heap_.size() - 1);
  }
  void remove(std::int32_t key) {
    const auto i = static_cast<std::size_t>(at_[static_cast<std::size_t>(key)]);
    at_[static_cast<std::size_t>(key)] = -1;
    const Entry last = heap_.back();
    heap_.pop_back();
    if (i == heap_.size()) return;
    heap_[i] = last;
    at_[static_cast<std::size_t>(last.key)] = static_cast<std::int32_t>(i);
    down(i);
    up(static_cast<std::size_t>(at_[static_cast<std::size_t>(last.key)]));
  }

 private:
  struct Entry {
    double value;
    std::uint64_t order;
    std::int32_t key;
    bool before(const Entry& o) const { return value != o.value ? value < o.value : order < o.order; }
  };
  void up(std::size_t i) {
    const Entry moving = heap_[i];
    for (; i > 0 && moving.before(heap_[(i - 1) / 2]); i = (i - 1) / 2) put(i, heap_[(i - 1) / 2]);
    put(i, moving);
  }
  void down(std::size_t i) {
    const Entry moving = heap_[i];
    for (;;) {
      std::size_t child = 2 * i + 1;
      if (child >= heap_.size()) break;
      if (child + 1 < heap_.size() && heap_[child + 1].before(heap_[child])) ++child;
      if (!heap_[child].before(moving)) break;
      put(i, heap_[child]);
      i = child;
    }
    put(i, moving);
  }
  void put(std::size_t i, const Entry& entry) {
    heap_[i] = entry;
    at_[static_cast<std::size_t>(entry.key)] = static_cast<std::int32_t>(i);
  }

  std::vector<Entry> heap_;
  std::vector<std::int32_t> at_;  // by key: its place in the heap, -1: none
};

}  // namespace qw::kvcache::internal
