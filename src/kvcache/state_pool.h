// The memory of states that layers carry from token to token (recurrent layers): a fixed number of equal slots of floats,
// one for each running sequence.
//
// A state cannot be cut back to fewer tokens. Whoever may want to return to one (a cached prefix, a draft that may be
// refused) copies it to a slot of its own first, and back later: `copy` is snapshot and restore.
//
// All memory is taken when the pool is made. One thread drives a pool. A pool must outlive its slots.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"

namespace qw::kvcache {

// One sequence's state. Gives its place back when destroyed. Move-only.
class StatePool;
class StateSlot {
 public:
  StateSlot() = default;
  StateSlot(StateSlot&& other) noexcept;
  StateSlot& operator=(StateSlot&& other) noexcept;
  ~StateSlot() { release(); }
  bool held() const { return pool_ != nullptr; }
  std::int32_t index() const { return index_; }  // -1: none
  void release();

 private:
  friend class StatePool;
  StatePool* pool_ = nullptr;
  std::int32_t index_ = -1;
};

class StatePool {
 public:
  // kResource if the memory cannot be had, kUsage if a number makes no sense.
  static Result<StatePool> create(std::int64_t slot_floats, std::int32_t slots);
  StatePool(StatePool&&) noexcept;  // only while no slot is out
  StatePool& operator=(StatePool&&) = delete;
  ~StatePool();  // a bug if a slot is still out

  std::int64_t slot_floats() const { return slot_floats_; }
  std::int32_t total_slots() const { return total_; }
  std::int32_t free_slots() const { return static_cast<std::int32_t>(free_.size()); }
  std::int64_t bytes() const { return static_cast<std::int64_t>(memory_.size()); }

  // A slot that has seen no token. kResource if none is free.
  Result<StateSlot> acquire();
  // Makes `to` what `from` is: the state and how many tokens it has seen.
  void copy(const StateSlot& from, const StateSlot& to);
  std::int64_t tokens(const StateSlot& slot) const;

  float* data() const { return reinterpret_cast<float*>(memory_.data()); }  // [total_slots, slot_floats]
  std::span<std::int64_t> tokens() { return tokens_; }                      // [total_slots]; steps keep it

 private:
  friend class StateSlot;
  StatePool() = default;
  std::int64_t slot_floats_ = 0;
  std::int32_t total_ = 0;
  std::vector<std::int32_t> free_;    // a stack, capacity total_
  std::vector<std::int64_t> tokens_;  // by slot
  tensor::Buffer memory_;
};

}  // namespace qw::kvcache
