#include "kvcache/state_pool.h"

#include <cstring>
#include <new>
#include <string>
#include <utility>

namespace qw::kvcache {

StateSlot::StateSlot(StateSlot&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), index_(std::exchange(other.index_, -1)) {}

StateSlot& StateSlot::operator=(StateSlot&& other) noexcept {
  StateSlot taken(std::move(other));
  std::swap(pool_, taken.pool_);
  std::swap(index_, taken.index_);
  return *this;
}

void StateSlot::release() {
  if (pool_ == nullptr) return;
  pool_->free_.push_back(index_);
  pool_ = nullptr;
  index_ = -1;
}

Result<StatePool> StatePool::create(std::int64_t slot_floats, std::int32_t slots) {
  if (slot_floats <= 0 || slots <= 0) return fail(ErrorKind::kUsage, "states: their size and number must be positive");
  const std::int64_t dims[] = {slot_floats, slots, static_cast<std::int64_t>(sizeof(float))};
  QW_ASSIGN(const std::int64_t bytes, tensor::checked_elements(dims));
  StatePool pool;
  pool.slot_floats_ = slot_floats;
  pool.total_ = slots;
  try {
    pool.memory_ = tensor::Buffer(static_cast<std::size_t>(bytes));
    pool.free_.reserve(static_cast<std::size_t>(slots));
    pool.tokens_.assign(static_cast<std::size_t>(slots), 0);
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kResource, "no memory for " + std::to_string(slots) + " states of " +
                                          std::to_string(slot_floats * static_cast<std::int64_t>(sizeof(float))) + " bytes");
  }
  for (std::int32_t s = slots - 1; s >= 0; --s) pool.free_.push_back(s);  // slot 0 goes out first
  return pool;
}

StatePool::StatePool(StatePool&& other) noexcept
    : slot_floats_(other.slot_floats_),
      total_(std::exchange(other.total_, 0)),
      free_(std::move(other.free_)),
      tokens_(std::move(other.tokens_)),
      memory_(std::move(other.memory_)) {
  QW_CHECK(free_slots() == total_);  // slots point at their pool
  other.free_.clear();
}

StatePool::~StatePool() { QW_CHECK(free_slots() == total_); }

Result<StateSlot> StatePool::acquire() {
  if (free_.empty()) return fail(ErrorKind::kResource, "all " + std::to_string(total_) + " states are in use");
  StateSlot slot;
  slot.pool_ = this;
  slot.index_ = free_.back();
  free_.pop_back();
  tokens_[static_cast<std::size_t>(slot.index_)] = 0;
  return slot;
}

void StatePool::copy(const StateSlot& from, const StateSlot& to) {
  QW_CHECK(from.pool_ == this && to.pool_ == this && from.index_ != to.index_);
  std::memcpy(data() + to.index_ * slot_floats_, data() + from.index_ * slot_floats_,
              static_cast<std::size_t>(slot_floats_) * sizeof(float));
  tokens_[static_cast<std::size_t>(to.index_)] = tokens(from);
}

std::int64_t StatePool::tokens(const StateSlot& slot) const {
  QW_CHECK(slot.pool_ == this);
  return tokens_[static_cast<std::size_t>(slot.index_)];
}

}  // namespace qw::kvcache
