// An optimizer's update of as many numbers as lie far outside the caches, per kind and threads.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "train/optimizer.h"

namespace qw::train {
namespace {

// Arguments: optimizer kind, threads.
void update(benchmark::State& state) {
  OptimizerConfig config;
  config.kind = static_cast<OptimizerKind>(state.range(0));
  base::ThreadPool pool(static_cast<int>(state.range(1)));
  const std::vector<tensor::Shape> shapes(4, tensor::Shape{4096, 2048});
  Optimizer optimizer(shapes, std::vector<UpdateRule>(shapes.size(), plain_rule(config.kind, true)), config,
                      kernels::GemmPrecision::kF32, kernels::kernels_for(base::best_isa()), pool);
  ops::ParameterBuffer weights(shapes), gradients(shapes);
  std::uint32_t drawn = 1;
  for (float& g : gradients.all()) {
    drawn = drawn * 1664525 + 1013904223;
    g = static_cast<float>(drawn >> 8) * 0x1p-24f - 0.5f;
  }
  std::int64_t step = 0;
  for (auto _ : state) optimizer.step(weights, gradients, ++step, 1, 1);
  using benchmark::Counter;
  state.counters["numbers/s"] = Counter(static_cast<double>(weights.all().size()), Counter::kIsIterationInvariantRate);
}
BENCHMARK(update)
    ->ArgsProduct({{static_cast<int>(OptimizerKind::kAdamw), static_cast<int>(OptimizerKind::kAdamw8bit),
                    static_cast<int>(OptimizerKind::kSgd), static_cast<int>(OptimizerKind::kAdafactor)},
                   {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace qw::train
