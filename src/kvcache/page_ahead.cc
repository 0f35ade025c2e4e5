#include "kvcache/page_ahead.h"

#include <algorithm>

namespace qw::kvcache {
namespace {

constexpr std::int64_t kPiece = 8;  // blocks touched between two looks at whether to end

}  // namespace

PageAhead::PageAhead(BlockPool& pool, std::int64_t bytes)
    : pool_(pool), ahead_(std::clamp<std::int64_t>(bytes / block_bytes(pool.shape()), 1, pool.total_blocks())) {
  pool_.ahead_ = this;
  thread_ = std::thread([this] { run(); });
}

PageAhead::~PageAhead() {
  pool_.ahead_ = nullptr;
  ends_.store(true, std::memory_order_relaxed);
  calls_.fetch_add(1, std::memory_order_release);
  calls_.notify_one();
  thread_.join();
}

void PageAhead::run() {
  while (true) {
    const std::uint32_t seen = calls_.load(std::memory_order_acquire);
    const auto end = std::min<std::int64_t>(highest_.load(std::memory_order_relaxed) + ahead_, pool_.total_blocks());
    for (std::int64_t at = touched_.load(std::memory_order_relaxed); at < end;) {
      if (ends_.load(std::memory_order_relaxed)) return;
      const std::int64_t next = std::min(at + kPiece, end);
      if (!pool_.touch(static_cast<std::int32_t>(at), static_cast<std::int32_t>(next))) return;
      touched_.store(static_cast<std::int32_t>(at = next), std::memory_order_release);
    }
    if (ends_.load(std::memory_order_relaxed)) return;
    calls_.wait(seen, std::memory_order_acquire);
  }
}

}  // namespace qw::kvcache
