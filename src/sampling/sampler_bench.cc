// Cost of choosing one token from a row as wide as a published vocabulary.
#include <benchmark/benchmark.h>

#include "base/rng.h"
#include "sampling/sampler.h"

namespace qw::sampling {
namespace {

constexpr std::size_t kVocab = 151936;  // rows of the published embedding tables

void run(benchmark::State& state, const SamplingParams& params) {
  std::vector<float> logits(kVocab), row(kVocab);
  base::Rng rng(1);
  for (float& l : logits) l = static_cast<float>(rng.next_normal() * 3);
  SamplerScratch scratch;
  const Sampler sampler(params, {});
  for (auto _ : state) {
    std::copy(logits.begin(), logits.end(), row.begin());  // about 20 us of each figure
    benchmark::DoNotOptimize(sampler.sample(row, scratch));
  }
}

SamplingParams params(float temperature, int top_k, float top_p, int top_logprobs = 0) {
  SamplingParams p;
  p.temperature = temperature;
  p.top_k = top_k;
  p.top_p = top_p;
  p.logprobs = top_logprobs > 0;
  p.top_logprobs = top_logprobs;
  return p;
}

BENCHMARK_CAPTURE(run, greedy, params(0, 0, 1));
BENCHMARK_CAPTURE(run, top_k_20_top_p, params(0.7f, 20, 0.8f));
BENCHMARK_CAPTURE(run, top_p_only, params(0.7f, 0, 0.8f));
BENCHMARK_CAPTURE(run, temperature_only, params(1, 0, 1));
BENCHMARK_CAPTURE(run, greedy_with_5_logprobs, params(0, 0, 1, 5));

}  // namespace
}  // namespace qw::sampling
