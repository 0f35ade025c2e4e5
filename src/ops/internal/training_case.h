// What tests of training graphs have in common: a small batch, programs with their weights, a whole decoder.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/rng.h"
#include "ops/training_graph.h"

namespace qw::ops {

// A batch of three packed documents over a vocabulary of 11, some rows without label.
struct TinyBatch {
  std::vector<std::int32_t> tokens{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
  std::vector<std::int32_t> positions{0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4};
  std::vector<std::int32_t> cu{0, 5, 7, 12};
  std::vector<std::int32_t> labels{1, -1, 1, 5, -1, 2, 10, -1, 3, 5, 8, 0};
  TrainingBatch batch() const { return {tokens, positions, cu, labels}; }
};

inline constexpr std::int64_t kTestVocab = 11;

inline void fill_random(ParameterBuffer& p, std::uint64_t seed, double std) {
  for (std::size_t i = 0; i < p.size(); ++i) {
    base::Rng rng(seed, i);
    for (float& x : p.tensor(i)) x = static_cast<float>(rng.next_normal() * std + (p.shape(i).rank() == 1 ? 1.0 : 0.0));
  }
}

inline std::vector<std::vector<double>> as_double(const ParameterBuffer& p) {
  std::vector<std::vector<double>> out;
  for (std::size_t i = 0; i < p.size(); ++i) out.emplace_back(p.tensor(i).begin(), p.tensor(i).end());
  return out;
}

struct TrainingCase {
  std::vector<tensor::Shape> shapes;
  std::function<void(Executor&)> forward;
  TrainingOptions options;
  std::vector<float> row_weights;
};

inline std::unique_ptr<TrainingGraph> make_graph(const TrainingCase& c, base::ThreadPool& pool,
                                                 base::Isa isa = base::Isa::kPortable) {
  RecordingExecutor recorder(c.shapes);
  c.forward(recorder);
  TrainingOptions options = c.options;
  if (options.max_tokens == 0) options.max_tokens = 16;
  return std::make_unique<TrainingGraph>(recorder.finish(), c.shapes, options, kernels::kernels_for(isa), pool);
}

// A whole decoder: norms, biases, grouped queries, residuals.
inline TrainingCase decoder(int layers = 2) {
  TrainingCase c;
  const std::int64_t d = 8, hd = 12, kd = 6, f = 10;
  c.shapes = {{kTestVocab, d}, {d}};
  for (int l = 0; l < layers; ++l)
    for (const tensor::Shape& s : std::vector<tensor::Shape>{
             {d}, {hd, d}, {hd}, {kd, d}, {kd}, {kd, d}, {kd}, {3}, {3}, {d, hd}, {d}, {f, d}, {f, d}, {d, f}})
      c.shapes.push_back(s);
  c.forward = [layers](Executor& ex) {
    Value x = ex.embed({0});
    for (int l = 0; l < layers; ++l) {
      const int b = 2 + 14 * l;
      const RopeSpec rope{.head_dim = 3, .rotary = 2, .theta = 50};
      const Value h = ex.rms_norm(x, {b}, 1e-3f);
      const Value q = ex.rope(ex.head_rms_norm(ex.linear(h, {b + 1}, {b + 2}), {b + 7}, 3, 1e-3f), rope);
      const Value k = ex.rope(ex.head_rms_norm(ex.linear(h, {b + 3}, {b + 4}), {b + 8}, 3, 1e-3f), rope);
      const Value v = ex.linear(h, {b + 5}, {b + 6});
      x = ex.add(
          x, ex.linear(ex.attention(q, k, v, {.layer = l, .heads = 4, .kv_heads = 2, .head_dim = 3, .scale = 0.57f}),
                       {b + 9}));
      const Value g = ex.rms_norm(x, {b + 10}, 1e-3f);
      const Value gate = ex.linear(g, {b + 11}), up = ex.linear(g, {b + 12});
      x = ex.add(x, ex.linear(ex.swiglu(gate, up), {b + 13}));
    }
    ex.head(ex.rms_norm(x, {1}, 1e-3f), {0});
  };
  return c;
}

}  // namespace qw::ops
