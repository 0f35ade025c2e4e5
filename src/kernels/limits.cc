#include "kernels/limits.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "base/cpu.h"
#include "kernels/internal/peak.h"

namespace qw::kernels {
namespace {

constexpr std::size_t kHugePage = 2u << 20;  // of memory in huge pages no time goes into translating addresses
constexpr std::size_t kLine = 64;
constexpr std::size_t kAhead = 1024;  // bytes
constexpr int kRuns = 8;              // each way

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};

// One word of a line brings the line; reading all of it through general registers would be the slower of the two (GCC
// 12 sends copies of whole lines through the stack: 6 beside 16 GB/s). With kAsk lines are asked for before they are
// read: Intel's processors read 17 GB/s so beside 16 with one thread, AMD's 22 beside 29.
template <bool kAsk>
void read_forward(const std::byte* data, std::size_t bytes) {
  constexpr std::size_t kLines = 4;  // in sums of their own
  std::uint64_t sums[kLines] = {};
  for (std::size_t i = 0; i + kLines * kLine <= bytes; i += kLines * kLine) {
    for (std::size_t j = 0; j < kLines; ++j) {
      const std::byte* const line = data + i + j * kLine;
      if constexpr (kAsk) __builtin_prefetch(line + kAhead);  // past the end it does nothing
      std::uint64_t word;
      std::memcpy(&word, line, sizeof word);
      sums[j] ^= word;
    }
  }
  for (const std::uint64_t sum : sums) asm volatile("" : : "r"(sum));
}

double read_bandwidth(base::ThreadPool& pool, std::size_t bytes) {
  const auto threads = static_cast<std::size_t>(pool.size());
  const std::size_t share = std::max<std::size_t>(bytes / threads / kHugePage, 1) * kHugePage, total = share * threads;
  const std::unique_ptr<std::byte, Free> memory(static_cast<std::byte*>(std::aligned_alloc(kHugePage, total)));
  if (memory == nullptr) return 0;
  madvise(memory.get(), total, MADV_HUGEPAGE);
  pool.run([&](int worker) { std::memset(memory.get() + static_cast<std::size_t>(worker) * share, 1, share); });
  double best = 0;
  for (int i = 0; i < 2 * kRuns; ++i) {
    const auto read = i % 2 == 0 ? read_forward<true> : read_forward<false>;
    const auto start = std::chrono::steady_clock::now();
    pool.run([&](int worker) { read(memory.get() + static_cast<std::size_t>(worker) * share, share); });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(total) / seconds.count());
  }
  return best;
}

double peak_ops(base::ThreadPool& pool, PeakKind kind) {
  std::vector<double> each(static_cast<std::size_t>(pool.size()));
  pool.run([&](int worker) { each[static_cast<std::size_t>(worker)] = measured_peak_ops(base::best_isa(), kind); });
  double sum = 0;
  for (const double ops : each) sum += ops;
  return sum;
}

}  // namespace

MachineLimits measured_limits(base::ThreadPool& pool, std::size_t bytes) {
  return {.read_bytes = read_bandwidth(pool, bytes),
          .float_ops = peak_ops(pool, PeakKind::kFloat),
          .bfloat_ops = peak_ops(pool, PeakKind::kBfloat),
          .byte_ops = peak_ops(pool, PeakKind::kByte),
          .bfloat_tile_ops = peak_ops(pool, PeakKind::kBfloatTile),
          .byte_tile_ops = peak_ops(pool, PeakKind::kByteTile)};
}

}  // namespace qw::kernels
