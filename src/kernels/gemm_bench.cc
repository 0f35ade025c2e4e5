// Training product: share of the peak of the core, measured beside it. The peak is a loop that never leaves registers.
//
//   build/release/kernels_bench --benchmark_filter=Gemm
//
// `share` is GFLOP/s over the peak GFLOP/s of the same precision, packing of A and of B included, one thread.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "kernels/internal/peak.h"
#include "kernels/kernels.h"

namespace qw::kernels {
namespace {

struct Aligned {
  explicit Aligned(std::size_t bytes) : data(std::aligned_alloc(64, (bytes + 127) / 64 * 64)) {
    std::fill_n(static_cast<char*>(data), bytes, 0);
  }
  ~Aligned() { std::free(data); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  void* data;
};

// Arguments: precision (0 f32, 1 bf16), m, n, k, and which operands are transposed (1 = A, 2 = B).
void Gemm(benchmark::State& state, Isa isa) {
  if (isa > base::best_isa()) return state.SkipWithError("this CPU cannot run it");
  const Kernels& k = kernels_for(isa);
  const auto precision = state.range(0) == 1 ? GemmPrecision::kBF16 : GemmPrecision::kF32;
  const std::int64_t m = state.range(1), n = state.range(2), depth = state.range(3);
  const bool trans_a = (state.range(4) & 1) != 0, trans_b = (state.range(4) & 2) != 0;
  std::vector<float> a(static_cast<std::size_t>(m * depth), 0.5f), b(static_cast<std::size_t>(n * depth), 0.25f);
  std::vector<float> c(static_cast<std::size_t>(m * n));
  const GemmArgs g{precision, trans_a, trans_b, m, n, depth, a.data(), trans_a ? m : depth,
                   b.data(),  trans_b ? depth : n, c.data(), n, trans_a};
  Aligned packed(k.gemm_packed_b_bytes(precision, n, depth)), scratch(k.gemm_scratch_bytes(precision, m, depth));
  double best = 1e30;  // other programs share the machine: the best pass is the one they disturbed least
  for (auto _ : state) {
    const double start = thread_seconds();
    k.gemm_pack_b(g, packed.data, 0, n);
    k.gemm(g, packed.data, scratch.data, 0, m, 0, n);
    benchmark::DoNotOptimize(c.data());
    best = std::min(best, thread_seconds() - start);
  }
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(depth) / best;
  state.counters["GFLOPs"] = flops / 1e9;
  const PeakKind kind = precision != GemmPrecision::kBF16 || isa < Isa::kAvx512 ? PeakKind::kFloat
                        : isa == Isa::kAmx                                          ? PeakKind::kBfloatTile
                                                                                    : PeakKind::kBfloat;
  const double peak = measured_peak_ops(isa, kind);
  if (peak > 0) state.counters["share"] = flops / peak;
}

void shapes(benchmark::internal::Benchmark* b) {
  for (int precision : {1, 0}) {
    b->Args({precision, 4096, 1024, 384, 2})->Args({precision, 4096, 384, 1024, 2});   // forward
    b->Args({precision, 4096, 384, 1024, 0});                                          // gradient of x
    b->Args({precision, 384, 1024, 4096, 1})->Args({precision, 1024, 384, 4096, 1});   // gradient of W
    b->Args({precision, 1024, 8192, 384, 2});                                          // vocabulary head
  }
  b->MinTime(0.2)->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(Gemm, amx, Isa::kAmx)->Apply(shapes);
BENCHMARK_CAPTURE(Gemm, avx512, Isa::kAvx512)->Apply(shapes);
BENCHMARK_CAPTURE(Gemm, avx2, Isa::kAvx2)->Apply(shapes);

}  // namespace
}  // namespace qw::kernels
