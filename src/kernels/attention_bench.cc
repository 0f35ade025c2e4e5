// Attention over the paged cache and the recurrence of gated delta networks, one thread: single rows as bytes of keys and
// values per second and their share of the memory bandwidth, rows of a prompt and the recurrence as GFLOP/s.
//
//   build/release/kernels_bench --benchmark_filter='Decode|Prefill|DeltaRule'
#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

#include "kernels/internal/cache_element.h"
#include "kernels/internal/peak.h"
#include "kernels/internal/test_data.h"
#include "kernels/kernels.h"

namespace qw::kernels {
namespace {

// The attention of Qwen3-0.6B: layers enough that none is in a cache when it is met again.
constexpr std::int64_t kHeads = 16, kKvHeads = 8, kDim = 128, kBlock = 32;
constexpr std::int64_t kColdBytes = std::int64_t{256} << 20;

struct Pools {
  CacheType type;
  std::int64_t keys, layers;
  std::vector<std::int32_t> blocks;
  std::vector<std::uint8_t> k, v;
  std::int64_t layer_bytes;

  Pools(const Kernels& kernels, CacheType t, std::int64_t n) : type(t), keys(n) {
    const std::int64_t count = (n + kBlock - 1) / kBlock;
    layer_bytes = cache_bytes(t, count * kBlock * kKvHeads * kDim);
    layers = std::max<std::int64_t>(1, kColdBytes / (2 * layer_bytes));
    for (std::int64_t b = 0; b < count; ++b) blocks.push_back(static_cast<std::int32_t>(b));
    k.resize(static_cast<std::size_t>(layers * layer_bytes)), v.resize(k.size());
    const std::vector<float> x = noise(kKvHeads * kDim, 1);
    for (std::int64_t p = 0; p < n; ++p) {
      kernels.cache_write(t, CachePart::kKeys, x.data(), kKvHeads, kDim, kBlock, blocks[p / kBlock], p % kBlock, k.data());
      kernels.cache_write(t, CachePart::kValues, x.data(), kKvHeads, kDim, kBlock, blocks[p / kBlock], p % kBlock, v.data());
    }
    for (std::int64_t l = 1; l < layers; ++l) {
      std::copy_n(k.begin(), layer_bytes, k.begin() + l * layer_bytes);
      std::copy_n(v.begin(), layer_bytes, v.begin() + l * layer_bytes);
    }
  }
  AttentionDecodeArgs args(const float* q, float* o, std::int64_t layer) const {
    return {type, kHeads, kKvHeads, kDim, 0.088F, 0, q, o, keys, kBlock, blocks.data(), k.data() + layer * layer_bytes,
            v.data() + layer * layer_bytes, 0, kKvHeads};
  }
};

// Arguments: cache type, keys.
void Decode(benchmark::State& state, Isa isa) {
  if (isa > base::best_isa()) return state.SkipWithError("this CPU cannot run it");
  const Kernels& kernels = kernels_for(isa);
  const Pools pools(kernels, static_cast<CacheType>(state.range(0)), state.range(1));
  const std::vector<float> q = noise(kHeads * kDim, 2);
  std::vector<float> o(q.size());
  std::int64_t layer = 0;
  const double start = thread_seconds();
  for (auto _ : state) kernels.attention_decode(pools.args(q.data(), o.data(), layer++ % pools.layers));
  const double rate = 2.0 * static_cast<double>(pools.layer_bytes * state.iterations()) / (thread_seconds() - start);
  state.counters["GBps"] = rate / 1e9;
  state.counters["share"] = rate / measured_read_bandwidth(pools.k.data(), pools.k.size());
}

// Arguments: cache type, positions; 32 rows at the end of them, one kv head after the other.
void Prefill(benchmark::State& state, Isa isa) {
  if (isa > base::best_isa()) return state.SkipWithError("this CPU cannot run it");
  constexpr std::int64_t kRows = 32;
  const Kernels& kernels = kernels_for(isa);
  Pools pools(kernels, static_cast<CacheType>(state.range(0)), state.range(1));
  pools.keys -= kRows - 1;
  const std::vector<float> q = noise(kRows * kHeads * kDim, 2);
  std::vector<float> o(q.size());
  const double start = thread_seconds();
  for (auto _ : state) {
    AttentionPrefillArgs a{pools.args(q.data(), o.data(), 0), kRows, kHeads * kDim, kHeads * kDim};
    a.first.head_begin = state.iterations() % kKvHeads, a.first.head_end = a.first.head_begin + 1;
    kernels.attention_prefill(a);
  }
  const double flops = 4.0 * static_cast<double>(kRows * kHeads / kKvHeads * kDim * state.range(1) * state.iterations());
  state.counters["GFLOPs"] = flops / (thread_seconds() - start) / 1e9;
}

// The rule token by token, as training runs it, or in chunks. Arguments: sequences, tokens of each in a call; 16 value heads of
// 128 x 128. A lone token is each of its chunk in turn.
void DeltaRule(benchmark::State& state, Isa isa, bool chunks) {
  if (isa > base::best_isa()) return state.SkipWithError("this CPU cannot run it");
  const std::int64_t sequences = state.range(0), rows = state.range(1), d = 128, heads = 16, ld = 3 * heads * d;
  const std::int64_t size = chunks ? DeltaRuleState{d, d}.floats() : d * d;
  std::vector<float> x = noise(rows * ld, 3), y(static_cast<std::size_t>(rows * heads * d));
  for (float& v : x) v *= 0.1F;
  const std::vector<float> keys(x.begin(), x.begin() + 2 * rows * heads * d);  // as ops/delta_rule.cc orders them
  std::vector<float> states(static_cast<std::size_t>(sequences * heads * size));
  const std::vector<float> gates(static_cast<std::size_t>(rows * 2), 0.5F);
  const Kernels& kernels = kernels_for(isa);
  std::int64_t position = 0;
  const double start = thread_seconds();
  for (auto _ : state) {
    for (std::int64_t s = 0; s < sequences; ++s)
      for (std::int64_t h = 0; h < heads; ++h) {
        const float* q = keys.data() + h * rows * d;
        const DeltaRuleRows a{rows, d, d, q, q + heads * rows * d, d, x.data() + (2 * heads + h) * d, ld, gates.data(), gates.data() + 1, 2,
                              y.data() + h * d, heads * d, states.data() + (s * heads + h) * size};
        // Sequences are at different places of their chunks.
        if (chunks) kernels.delta_rule_chunks({a, rows == 1 ? kDeltaChunk + position + s : kDeltaChunk});
        else kernels.delta_rule(a);
      }
    ++position;
  }
  state.counters["us_per_token"] =
      (thread_seconds() - start) / static_cast<double>(state.iterations() * rows * sequences * heads) * 1e6;
}

void types(benchmark::internal::Benchmark* b) {
  for (const std::int64_t keys : {4096, 16384})
    for (const CacheType t : {CacheType::kF16, CacheType::kBF16, CacheType::kQ8, CacheType::kQ4}) b->Args({static_cast<int>(t), keys});
}
void texts(benchmark::internal::Benchmark* b) { b->Args({1, 512})->Args({1, 1})->Args({256, 1}); }

BENCHMARK_CAPTURE(Decode, amx, Isa::kAmx)->Apply(types);
BENCHMARK_CAPTURE(Decode, avx512, Isa::kAvx512)->Apply(types);
BENCHMARK_CAPTURE(Decode, avx2, Isa::kAvx2)->Apply(types);
BENCHMARK_CAPTURE(Prefill, amx, Isa::kAmx)->Apply(types);
BENCHMARK_CAPTURE(Prefill, avx512, Isa::kAvx512)->Apply(types);
BENCHMARK_CAPTURE(DeltaRule, avx512, Isa::kAvx512, false)->Apply(texts);
BENCHMARK_CAPTURE(DeltaRule, avx512_chunks, Isa::kAvx512, true)->Apply(texts);
BENCHMARK_CAPTURE(DeltaRule, avx2, Isa::kAvx2, false)->Apply(texts);
BENCHMARK_CAPTURE(DeltaRule, avx2_chunks, Isa::kAvx2, true)->Apply(texts);
BENCHMARK_CAPTURE(DeltaRule, portable, Isa::kPortable, false)->Apply(texts);
BENCHMARK_CAPTURE(DeltaRule, portable_chunks, Isa::kPortable, true)->Apply(texts);

}  // namespace
}  // namespace qw::kernels
