// One training step (forward and backward, no optimiser) of a decoder with an 8 K vocabulary, width 384, 8 layers.
#include <benchmark/benchmark.h>

#include "base/rng.h"
#include "ops/training_graph.h"

namespace qw::ops {
namespace {

constexpr std::int64_t kVocab = 8192, kWidth = 384, kHeads = 6, kKvHeads = 2, kHeadDim = 64, kFfn = 1024, kLayers = 8;

std::vector<tensor::Shape> shapes() {
  std::vector<tensor::Shape> s{{kVocab, kWidth}, {kWidth}};
  for (int l = 0; l < kLayers; ++l)
    for (const tensor::Shape& t : std::vector<tensor::Shape>{{kWidth},
                                                             {kHeads * kHeadDim, kWidth},
                                                             {kKvHeads * kHeadDim, kWidth},
                                                             {kKvHeads * kHeadDim, kWidth},
                                                             {kHeadDim},
                                                             {kHeadDim},
                                                             {kWidth, kHeads * kHeadDim},
                                                             {kWidth},
                                                             {kFfn, kWidth},
                                                             {kFfn, kWidth},
                                                             {kWidth, kFfn}})
      s.push_back(t);
  return s;
}

void forward(Executor& ex) {
  const RopeSpec rope{.head_dim = kHeadDim, .rotary = kHeadDim};
  Value x = ex.embed({0});
  for (int l = 0; l < kLayers; ++l) {
    const int b = 2 + 11 * l;
    const Value h = ex.rms_norm(x, {b}, 1e-6f);
    const Value q = ex.rope(ex.head_rms_norm(ex.linear(h, {b + 1}), {b + 4}, kHeadDim, 1e-6f), rope);
    const Value k = ex.rope(ex.head_rms_norm(ex.linear(h, {b + 2}), {b + 5}, kHeadDim, 1e-6f), rope);
    const Value v = ex.linear(h, {b + 3});
    x = ex.add(
        x, ex.linear(
               ex.attention(q, k, v,
                            {.layer = l, .heads = kHeads, .kv_heads = kKvHeads, .head_dim = kHeadDim, .scale = 0.125f}),
               {b + 6}));
    const Value f = ex.rms_norm(x, {b + 7}, 1e-6f);
    const Value gate = ex.linear(f, {b + 8}), up = ex.linear(f, {b + 9});
    x = ex.add(x, ex.linear(ex.swiglu(gate, up), {b + 10}));
  }
  ex.head(ex.rms_norm(x, {1}, 1e-6f), {0});
}

// Arguments: tokens in the batch (documents of 512), 0 = float32 or 1 = bfloat16 products.
void training_step(benchmark::State& state) {
  const std::int64_t n = state.range(0), document = 512;
  base::ThreadPool pool(0);
  RecordingExecutor recorder(shapes());
  forward(recorder);
  TrainingOptions options;
  options.max_tokens = n;
  options.precision = state.range(1) == 0 ? kernels::GemmPrecision::kF32 : kernels::GemmPrecision::kBF16;
  TrainingGraph graph(recorder.finish(), shapes(), options, kernels::kernels_for(base::best_isa()), pool);
  ParameterBuffer weights(graph.parameter_shapes());
  base::Rng rng(1);
  for (std::size_t i = 0; i < weights.size(); ++i)
    for (float& x : weights.tensor(i)) x = weights.shape(i).rank() == 1 ? 1.0f : 0.04f * (rng.next_float() - 0.5f);
  std::vector<std::int32_t> tokens, positions, labels, cu{0};
  for (std::int64_t i = 0; i < n; ++i) {
    tokens.push_back(static_cast<std::int32_t>(rng.below(kVocab)));
    positions.push_back(static_cast<std::int32_t>(i % document));
    labels.push_back(static_cast<std::int32_t>(rng.below(kVocab)));
    if ((i + 1) % document == 0 || i + 1 == n) cu.push_back(static_cast<std::int32_t>(i + 1));
  }
  for (auto _ : state) {
    if (!graph.forward(weights, {tokens, positions, cu, labels})) return state.SkipWithError("forward failed");
    benchmark::DoNotOptimize(graph.backward(1.0f / static_cast<float>(n)));
  }
  std::int64_t matrices = 0;
  for (const tensor::Shape& s : shapes()) matrices += s.rank() == 2 ? s.elements() : 0;
  // Six operations a weight and token, and twelve per layer for scores and mixtures, half of them masked away.
  const double flops = 6.0 * static_cast<double>(matrices) + 6.0 * kLayers * kHeads * kHeadDim * document;
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(n), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s"] =
      benchmark::Counter(flops * static_cast<double>(n) * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["arena_MiB"] = static_cast<double>(graph.arena_bytes()) / (1 << 20);
}

BENCHMARK(training_step)->Args({4096, 0})->Args({4096, 1})->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(2);

}  // namespace
}  // namespace qw::ops
