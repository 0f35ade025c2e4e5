// Touches a pool's memory before it is needed. A large buffer is given by the system page by page as it is first
// written to: zeroed then and, under a hypervisor, got from the host then, at a fraction of a gigabyte a second. That
// would be waited for by whoever is answered (figures: docs/lessons/speed.md). A thread of its own stays some blocks
// ahead of the highest that was ever taken; nothing is touched that would not be used if the requests went on coming.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include "kvcache/block_pool.h"

namespace qw::kvcache {

class PageAhead {
 public:
  // The pool must outlive this, and stay where it is. `bytes`: how far ahead, in all layers together; positive. Where
  // the system cannot be asked for pages (Linux before 5.14), the thread ends and pages come when they are used.
  PageAhead(BlockPool& pool, std::int64_t bytes);
  ~PageAhead();
  PageAhead(const PageAhead&) = delete;
  PageAhead& operator=(const PageAhead&) = delete;

  // Blocks [0, this) were touched.
  std::int32_t touched() const { return touched_.load(std::memory_order_acquire); }

 private:
  friend class BlockPool;
  // On the thread that takes blocks: never waits, and calls the system only when there is something to do.
  void took(std::int32_t block) {
    if (block < highest_.load(std::memory_order_relaxed)) return;
    highest_.store(block + 1, std::memory_order_relaxed);
    if (std::int64_t{block} + ahead_ / 2 < touched_.load(std::memory_order_relaxed)) return;
    calls_.fetch_add(1, std::memory_order_release);
    calls_.notify_one();
  }
  void run();

  BlockPool& pool_;
  const std::int64_t ahead_;              // blocks
  std::atomic<std::int32_t> highest_{0};  // blocks [0, this) were taken at some time, or lie below one that was
  std::atomic<std::int32_t> touched_{0};
  std::atomic<std::uint32_t> calls_{0};
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

}  // namespace qw::kvcache
