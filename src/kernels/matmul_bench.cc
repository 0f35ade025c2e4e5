// Inference product: GFLOP/s and their share of the peak for many rows, bytes of weights (as a file has them) per second
// and their share of the memory bandwidth for few rows. One thread; both yardsticks are measured beside it. `packed` is
// how much larger the packed weights are than the file's.
//
//   build/release/kernels_bench --benchmark_filter=Matmul
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "kernels/internal/peak.h"
#include "kernels/internal/test_data.h"
#include "kernels/kernels.h"

namespace qw::kernels {
namespace {

// Bytes of weights to walk through before any is read again, so that they come from memory and not from a 32 MB cache.
constexpr std::size_t kColdBytes = 256u << 20;

constexpr std::size_t huge(std::size_t bytes) { return (bytes + (2u << 20) - 1) >> 21 << 21; }
// In large pages, as the program keeps its weights.
char* large_memory(std::size_t bytes) {
  auto* memory = static_cast<char*>(std::aligned_alloc(2u << 20, bytes));
#if defined(__linux__)
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

// What the inner loop of each type can do at most. Types computed in float on this set are held to the float peak.
PeakKind peak_kind(Isa isa, WeightType type) {
  if (isa == Isa::kAmx && is_quantised(type)) return PeakKind::kByteTile;
  if (isa == Isa::kAmx && type == WeightType::kBF16) return PeakKind::kBfloatTile;
  if (isa < Isa::kAvx512) return PeakKind::kFloat;
  if (is_quantised(type)) return PeakKind::kByte;
  return type == WeightType::kBF16 && base::bfloat_dots_pay() ? PeakKind::kBfloat : PeakKind::kFloat;
}

// Arguments: weight type, rows, out, in. Preparing the rows is part of the time.
void Matmul(benchmark::State& state, Isa isa) {
  if (isa > base::best_isa()) return state.SkipWithError("this CPU cannot run it");
  const Kernels& k = kernels_for(isa);
  const auto type = static_cast<WeightType>(state.range(0));
  const std::int64_t rows = state.range(1), out = state.range(2), in = state.range(3);
  const std::size_t bytes = (k.packed_bytes(type, out, in) + 63) / 64 * 64;
  const std::size_t copies = kColdBytes / bytes + 1;
  const std::size_t storage = huge(copies * bytes);
  char* const packed = large_memory(storage);
  std::vector<char> prepared(k.prepared_bytes(type, rows, in) + 64);
  const auto aligned = [](char* p) { return p + (64 - reinterpret_cast<std::uintptr_t>(p) % 64) % 64; };
  const std::vector<std::uint8_t> raw = random_weights(type, out, in, 1);
  k.pack(type, raw.data(), out, in, packed);
  for (std::size_t i = 1; i < copies; ++i) std::copy_n(packed, bytes, packed + i * bytes);
  const std::vector<float> x = noise(rows * in, 2);
  std::vector<float> y(static_cast<std::size_t>(rows * out));
  std::size_t next = 0;
  double best = 1e30, total = 0;
  for (auto _ : state) {
    const double start = thread_seconds();
    k.prepare(type, x.data(), in, rows, in, aligned(prepared.data()), 0, rows);
    k.matmul({type, packed + next % copies * bytes, aligned(prepared.data()), nullptr, y.data(), out, rows, out, in, 0,
              out});
    benchmark::DoNotOptimize(y.data());
    const double seconds = thread_seconds() - start;
    best = std::min(best, seconds);
    total += seconds;
    ++next;
  }
  if (next == 0) return std::free(packed);
  // Memory is shared with other programs: the mean for the bandwidth of few rows, the best pass for arithmetic.
  const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(out) * static_cast<double>(in) / best;
  state.counters["GFLOPs"] = flops / 1e9;
  const double peak = measured_peak_ops(isa, peak_kind(isa, type));
  if (peak > 0) state.counters["of_peak"] = flops / peak;
  const double file = static_cast<double>(raw.size()), rate = file * static_cast<double>(next) / total;
  state.counters["GBs"] = rate / 1e9;
  state.counters["of_memory"] = rate / measured_read_bandwidth(packed, storage);
  state.counters["packed"] = static_cast<double>(bytes) / file;
  std::free(packed);
}

void shapes(benchmark::internal::Benchmark* b) {
  for (WeightType type : kAllWeightTypes) {
    for (int rows : {1, 4, 8, 12, 16, 64, 512}) b->Args({static_cast<int>(type), rows, 3072, 1024});
  }
  b->MinTime(0.1)->Unit(benchmark::kMicrosecond);
}

BENCHMARK_CAPTURE(Matmul, amx, Isa::kAmx)->Apply(shapes);
BENCHMARK_CAPTURE(Matmul, avx512, Isa::kAvx512)->Apply(shapes);
BENCHMARK_CAPTURE(Matmul, avx2, Isa::kAvx2)->Apply(shapes);

}  // namespace
}  // namespace qw::kernels
