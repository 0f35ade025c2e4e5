// Which adapters there are, where each lives and how many requests use it. Not thread-safe: the engine's mutex guards
// it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace qw::engine {

class AdapterTable {
 public:
  struct Entry {
    std::int32_t slot = 0;   // of the executor
    std::int64_t users = 0;  // requests that wait or run
    std::int64_t bytes = 0;
    bool leaving = false;  // no new requests; gone with the last that uses it
  };
  struct Place {
    std::int32_t id, slot;
  };

  // A new id, which is never given again, and the lowest free slot.
  Place add(std::int64_t bytes) {
    std::int32_t slot = 0;
    while (taken_.contains(slot)) ++slot;
    taken_.insert(slot);
    entries_[next_] = {slot, 0, bytes, false};
    return {next_++, slot};
  }
  // The slot, and the request counts as a user until release(); nothing if new requests may not name it.
  std::optional<std::int32_t> claim(std::int32_t id) {
    const auto at = entries_.find(id);
    if (at == entries_.end() || at->second.leaving) return std::nullopt;
    ++at->second.users;
    return at->second.slot;
  }
  // The slot to empty if it was the last user of one that leaves.
  std::optional<std::int32_t> release(std::int32_t id) {
    Entry& entry = entries_.at(id);
    --entry.users;
    return gone(id);
  }
  // No new requests. False: there is none of that id. `slot`: to empty now, if nobody uses it.
  bool leave(std::int32_t id, std::optional<std::int32_t>& slot) {
    const auto at = entries_.find(id);
    if (at == entries_.end() || at->second.leaving) return false;
    at->second.leaving = true;
    slot = gone(id);
    return true;
  }
  // The slot was emptied and may be used again.
  void emptied(std::int32_t slot) { taken_.erase(slot); }

  const std::map<std::int32_t, Entry>& entries() const { return entries_; }

 private:
  std::optional<std::int32_t> gone(std::int32_t id) {
    const auto at = entries_.find(id);
    if (!at->second.leaving || at->second.users > 0) return std::nullopt;
    const std::int32_t slot = at->second.slot;
    entries_.erase(at);
    return slot;
  }
  std::map<std::int32_t, Entry> entries_;  // by id
  std::set<std::int32_t> taken_;           // slots
  std::int32_t next_ = 0;
};

}  // namespace qw::engine
