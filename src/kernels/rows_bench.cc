// Row and attention kernels on one thread, per instruction set.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

#include "kernels/kernels.h"

namespace qw::kernels {
namespace {

std::vector<float> values(std::int64_t n, std::uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = normal(rng);
  return x;
}

// The table asked for by the first argument, or nullptr (and a skip) where the CPU lacks it.
const Kernels* table(benchmark::State& state) {
  const auto isa = static_cast<Isa>(state.range(0));
  if (isa > base::best_isa()) {
    state.SkipWithError("this CPU cannot run it");
    return nullptr;
  }
  state.SetLabel(kernels_for(isa).name);
  return &kernels_for(isa);
}

void rate(benchmark::State& state, const char* name, double per_iteration) {
  state.counters[name] = benchmark::Counter(per_iteration, benchmark::Counter::kIsIterationInvariantRate);
}

// Arguments: isa, tokens, head_dim, group, precision (0 f32, 1 bf16). Operations: two products forward, five backward, of the causal half.
void attention_train(benchmark::State& state, bool backward) {
  const Kernels* k = table(state);
  if (k == nullptr) return;
  const std::int64_t t = state.range(1), d = state.range(2), g = state.range(3);
  const auto precision = state.range(4) == 1 ? GemmPrecision::kBF16 : GemmPrecision::kF32;
  const auto q = values(t * g * d, 1), key = values(t * d, 2), v = values(t * d, 3), d_o = values(t * g * d, 4);
  std::vector<float> o(q.size()), lse(static_cast<std::size_t>(t * g)), dq(q.size()), dk(key.size()), dv(key.size());
  std::vector<std::byte> scratch(k->attention_scratch_bytes(precision, t, d) + 64);
  void* aligned = scratch.data() + (64 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 64);
  const AttentionTrainArgs a = {t, g, d, 1 / std::sqrt(static_cast<float>(d)), 0, q.data(), g * d, key.data(), d, v.data(), d,
                                o.data(), g * d, lse.data(), d_o.data(), dq.data(), dk.data(), dv.data(), aligned, precision};
  k->attention_train_forward(a);
  for (auto _ : state) {
    (backward ? k->attention_train_backward : k->attention_train_forward)(a);
    benchmark::ClobberMemory();
  }
  const double half = static_cast<double>(t) * static_cast<double>(t + 1) / 2;
  rate(state, "FLOP/s", (backward ? 5 : 2) * 2 * half * static_cast<double>(d * g));
}
void attention_forward(benchmark::State& state) { attention_train(state, false); }
void attention_backward(benchmark::State& state) { attention_train(state, true); }
void train_shapes(benchmark::internal::Benchmark* b) {
  for (int isa : {2, 1}) {
    for (int bf16 : {0, 1})
      b->Args({isa, 512, 64, 2, bf16})->Args({isa, 256, 64, 1, bf16})->Args({isa, 1024, 64, 4, bf16})->Args({isa, 512, 128, 2, bf16});
  }
  b->Args({0, 128, 64, 2, 0});
}
BENCHMARK(attention_forward)->Apply(train_shapes);
BENCHMARK(attention_backward)->Apply(train_shapes);

void adamw(benchmark::State& state) {
  const Kernels* k = table(state);
  if (k == nullptr) return;
  const std::int64_t n = state.range(1);
  auto w = values(n, 7), g = values(n, 8), m = values(n, 9), v = std::vector<float>(w.size(), 0.5F);
  for (auto _ : state) {
    k->adamw(w.data(), g.data(), m.data(), v.data(), n, 1e-4F, 0.9F, 0.95F, 1e-8F, 1e-5F, 0.5F, 0.3F, 1.0F);
    benchmark::ClobberMemory();
  }
  rate(state, "B/s", 28.0 * static_cast<double>(n));  // four reads and three writes
}
BENCHMARK(adamw)->ArgsProduct({{2, 1, 0}, {1 << 14, 1 << 24}});

void cross_entropy(benchmark::State& state) {
  const Kernels* k = table(state);
  if (k == nullptr) return;
  const std::int64_t n = state.range(1);
  const auto x = values(n, 10);
  std::vector<float> y = x;
  for (auto _ : state) {
    benchmark::DoNotOptimize(k->cross_entropy(y.data(), n, n / 2, 1.0F));
  }
  rate(state, "element/s", static_cast<double>(n));
}
BENCHMARK(cross_entropy)->ArgsProduct({{2, 1, 0}, {8192, 151936}});

void rms_norm(benchmark::State& state) {
  const Kernels* k = table(state);
  if (k == nullptr) return;
  const std::int64_t n = state.range(1), rows = (1 << 16) / n;
  const auto x = values(rows * n, 11), w = values(n, 12);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    k->rms_norm(x.data(), w.data(), 1e-6F, rows, n, y.data(), nullptr);
    benchmark::ClobberMemory();
  }
  rate(state, "element/s", static_cast<double>(rows * n));
}
BENCHMARK(rms_norm)->ArgsProduct({{2, 1, 0}, {64, 1024}});

void swiglu(benchmark::State& state) {
  const Kernels* k = table(state);
  if (k == nullptr) return;
  const std::int64_t n = 1 << 14;
  const auto gate = values(n, 13), up = values(n, 14);
  std::vector<float> out(gate.size());
  for (auto _ : state) {
    k->swiglu(gate.data(), up.data(), n, out.data());
    benchmark::ClobberMemory();
  }
  rate(state, "element/s", static_cast<double>(n));
}
BENCHMARK(swiglu)->ArgsProduct({{2, 1, 0}});

}  // namespace
}  // namespace qw::kernels
