// A model in slices, each in a thread of its own, beside the whole one.
#include "ops/slicing.h"

#include <gtest/gtest.h>

#include <barrier>
#include <cmath>
#include <cstring>
#include <mutex>
#include <numeric>
#include <thread>

#include "base/cpu.h"
#include "base/rng.h"
#include "ops/training_graph.h"

namespace qw::ops {
namespace {

constexpr std::int64_t kWords = 13, kModelWidth = 8;
constexpr int kBlockWeights = 13;

// Grouped queries with biases, norms of heads and a gate of every head's output; SwiGLU; tied ends.
struct SmallDecoder {
  std::int32_t heads = 8, kv_heads = 4, head = 4, hidden = 16, layers = 3;
  bool gated = true;

  std::vector<tensor::Shape> shapes() const {
    const std::int64_t d = kModelWidth, hd = heads * head, kd = kv_heads * head, f = hidden;
    std::vector<tensor::Shape> out{{kWords, d}, {d}};
    for (int l = 0; l < layers; ++l)
      for (const tensor::Shape& s : std::vector<tensor::Shape>{{d},
                                                               {gated ? 2 * hd : hd, d},
                                                               {gated ? 2 * hd : hd},
                                                               {kd, d},
                                                               {kd},
                                                               {kd, d},
                                                               {head},
                                                               {head},
                                                               {d, hd},
                                                               {d},
                                                               {f, d},
                                                               {f, d},
                                                               {d, f}})
        out.push_back(s);
    return out;
  }
  Program program() const {
    RecordingExecutor ex(shapes());
    Value x = ex.embed({0});
    for (int l = 0; l < layers; ++l) {
      const int b = 2 + kBlockWeights * l;
      const RopeSpec rope{.head_dim = head, .rotary = head, .theta = 50};
      const auto [both, keys, v] =
          ex.products(ex.rms_norm(x, {b}, 1e-3f), {{{b + 1}, {b + 2}}, {{b + 3}, {b + 4}}, {{b + 5}}});
      const Value queries = gated ? ex.head_columns(both, 0, head, 2 * head) : both;
      const Value q = ex.rope(ex.head_rms_norm(queries, {b + 6}, head, 1e-3f), rope);
      const Value k = ex.rope(ex.head_rms_norm(keys, {b + 7}, head, 1e-3f), rope);
      Value o =
          ex.attention(q, k, v, {.layer = l, .heads = heads, .kv_heads = kv_heads, .head_dim = head, .scale = 0.5f});
      if (gated) o = ex.gate_rows(o, ex.head_columns(both, head, head, 2 * head));
      x = ex.add(x, ex.linear(o, {b + 8}));
      const auto [gate, up] = ex.products(ex.rms_norm(x, {b + 9}, 1e-3f), {{{b + 10}}, {{b + 11}}});
      x = ex.add(x, ex.linear(ex.swiglu(gate, up), {b + 12}));
    }
    ex.head(ex.rms_norm(x, {1}, 1e-3f), {0});
    return ex.finish();
  }
  ParameterBuffer weights() const {
    ParameterBuffer out(shapes());
    for (std::size_t p = 0; p < out.size(); ++p) {
      base::Rng rng(5, p);
      for (float& w : out.tensor(p))
        w = static_cast<float>(rng.next_normal() * 0.4 + (out.shape(p).rank() == 1 ? 1.0 : 0.0));
    }
    return out;
  }
};

// Sums over threads, in their order.
class ThreadSums {
 public:
  explicit ThreadSums(int n) : numbers_(static_cast<std::size_t>(n)), here_(n) {}
  void sum(int thread, std::span<float> x) {
    numbers_[static_cast<std::size_t>(thread)].assign(x.begin(), x.end());
    here_.arrive_and_wait();
    std::fill(x.begin(), x.end(), 0.0f);
    for (const auto& of : numbers_)
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += of.at(i);
    here_.arrive_and_wait();
  }

 private:
  std::vector<std::vector<float>> numbers_;
  std::barrier<> here_;
};

struct Passed {
  double loss = 0;
  std::vector<float> logprobs;
  ParameterBuffer gradients;  // of the whole model
  std::int64_t arena = 0;
};

struct Packed {
  std::vector<std::int32_t> tokens{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8}, positions{0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4},
      cu{0, 5, 7, 12}, labels{1, -1, 1, 5, -1, 2, 10, -1, 3, 5, 8, 0};
  TrainingBatch batch() const { return {tokens, positions, cu, labels}; }
};

Passed pass(TrainingGraph& graph, const ParameterBuffer& weights) {
  const Packed packed;
  Passed out;
  EXPECT_TRUE(graph.forward(weights, packed.batch()));
  out.logprobs.resize(packed.tokens.size());
  graph.token_logprobs(out.logprobs);
  out.loss = graph.backward(0.25f);
  out.arena = graph.arena_bytes();
  return out;
}

Passed pass_whole(const SmallDecoder& model, TrainingOptions options) {
  base::ThreadPool pool(1);
  options.max_tokens = 16;
  TrainingGraph graph(model.program(), model.shapes(), options, kernels::kernels_for(base::best_isa()), pool);
  Passed out = pass(graph, model.weights());
  out.gradients = std::move(graph.gradients());
  return out;
}

// What all slices must have the same is compared byte by byte.
Passed pass_sliced(const SmallDecoder& model, int slices, const TrainingOptions& given) {
  const auto shapes = model.shapes();
  const auto slicing = slicing_of(model.program(), shapes.size(), slices);
  EXPECT_TRUE(slicing) << slicing.error().message;
  const ParameterBuffer whole = model.weights();
  ThreadSums sums(slices);
  std::vector<Passed> of(static_cast<std::size_t>(slices));
  Passed joined;
  joined.gradients = ParameterBuffer(shapes);
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (int s = 0; s < slices; ++s)
    threads.emplace_back([&, s] {
      base::ThreadPool pool(1);
      std::vector<tensor::Shape> own;
      for (std::size_t p = 0; p < shapes.size(); ++p) own.push_back(slice_shape(shapes[p], slicing->cut(p), slices));
      TrainingOptions options = given;
      options.max_tokens = 16;
      options.sum_group = [&sums, s](std::span<float> x) { sums.sum(s, x); };
      TrainingGraph graph(sliced(model.program(), *slicing), own, options, kernels::kernels_for(base::best_isa()),
                          pool);
      ParameterBuffer weights(own);
      for (std::size_t p = 0; p < shapes.size(); ++p)
        take_slice(whole.data(p), shapes[p], slicing->cut(p), slices, s, weights.data(p));
      Passed& mine = of[static_cast<std::size_t>(s)];
      mine = pass(graph, weights);
      for (std::size_t p = 0; p < shapes.size(); ++p)
        if (slicing->partial[p]) sums.sum(s, graph.gradients().tensor(p));
      const std::lock_guard lock(mutex);
      for (std::size_t p = 0; p < shapes.size(); ++p)
        put_slice(graph.gradients().data(p), shapes[p], slicing->cut(p), slices, s, joined.gradients.data(p));
      mine.gradients = std::move(graph.gradients());
    });
  for (auto& t : threads) t.join();
  for (const Passed& p : of) {
    EXPECT_EQ(p.loss, of[0].loss);
    EXPECT_EQ(p.logprobs, of[0].logprobs);
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      if (slicing->cut(i) != Cut::kWhole) continue;
      EXPECT_EQ(0, std::memcmp(p.gradients.data(i), of[0].gradients.data(i), p.gradients.tensor(i).size_bytes())) << i;
    }
  }
  joined.loss = of[0].loss;
  joined.logprobs = of[0].logprobs;
  joined.arena = of[0].arena;
  return joined;
}

// Sums over heads and over hidden columns are made in another order: some roundings of 6e-8 of the largest terms.
TEST(Slicing, GivesLossAndGradientsOfTheWhole) {
  for (const bool gated : {false, true})
    for (const int slices : {2, 4}) {
      const SmallDecoder model{.gated = gated};
      const Passed whole = pass_whole(model, {}), cut = pass_sliced(model, slices, {});
      EXPECT_NEAR(cut.loss, whole.loss, 2e-6 * std::abs(whole.loss));
      for (std::size_t r = 0; r < whole.logprobs.size(); ++r) EXPECT_NEAR(cut.logprobs[r], whole.logprobs[r], 1e-5);
      for (std::size_t p = 0; p < whole.gradients.size(); ++p) {
        float largest = 0;
        for (const float g : whole.gradients.tensor(p)) largest = std::max(largest, std::abs(g));
        EXPECT_GT(largest, 0) << p;
        for (std::size_t i = 0; i < whole.gradients.tensor(p).size(); ++i)
          ASSERT_NEAR(cut.gradients.tensor(p)[i], whole.gradients.tensor(p)[i], 2e-5f * largest) << p << " at " << i;
      }
      EXPECT_LT(cut.arena, whole.arena);
    }
}

TEST(Slicing, RecomputationChangesNoByte) {
  const SmallDecoder model;
  const Passed kept = pass_sliced(model, 2, {});
  for (const Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
    const Passed again = pass_sliced(model, 2, {.recompute = recompute});
    EXPECT_EQ(again.loss, kept.loss);
    EXPECT_EQ(
        0, std::memcmp(again.gradients.all().data(), kept.gradients.all().data(), kept.gradients.all().size_bytes()));
    EXPECT_LT(again.arena, kept.arena);
  }
}

TEST(Slicing, CutsWhatIsInsideAttentionAndFeedForward) {
  const SmallDecoder model{.layers = 1};
  const auto slicing = slicing_of(model.program(), model.shapes().size(), 2);
  ASSERT_TRUE(slicing);
  using enum Cut;
  const std::vector<Cut> wanted{kWhole, kWhole, kWhole,   kRows,  kRows, kRows, kRows,   kRows,
                                kWhole, kWhole, kColumns, kWhole, kRows, kRows, kColumns};
  EXPECT_EQ(slicing->cuts, wanted);
  for (std::size_t p = 0; p < wanted.size(); ++p) EXPECT_EQ(slicing->partial[p], p == 8 || p == 9) << p;
  int entered = 0, summed = 0;
  for (const Op& op : sliced(model.program(), *slicing).ops) {
    entered += op.kind == OpKind::kEnterGroup ? 1 : 0;
    summed += op.kind == OpKind::kSumGroup ? 1 : 0;
  }
  EXPECT_EQ(entered, 2);
  EXPECT_EQ(summed, 2);
  EXPECT_EQ(sliced(model.program(), {}).ops.size(), model.program().ops.size());
}

TEST(Slicing, JoinsWhatItCuts) {
  for (const tensor::Shape& shape : {tensor::Shape{6, 9}, tensor::Shape{6}, tensor::Shape{3, 12}})
    for (const Cut cut : {Cut::kWhole, Cut::kRows, Cut::kColumns}) {
      if (cut == Cut::kColumns && shape.rank() == 1) continue;
      const auto n = static_cast<std::size_t>(shape.elements());
      std::vector<float> whole(n), joined(n, -1);
      std::iota(whole.begin(), whole.end(), 0.0f);
      double sum = 0;
      for (int s = 0; s < 3; ++s) {
        std::vector<float> own(static_cast<std::size_t>(slice_shape(shape, cut, 3).elements()));
        take_slice(whole.data(), shape, cut, 3, s, own.data());
        sum += std::accumulate(own.begin(), own.end(), 0.0);
        put_slice(own.data(), shape, cut, 3, s, joined.data());
      }
      EXPECT_EQ(joined, whole);
      EXPECT_EQ(sum, std::accumulate(whole.begin(), whole.end(), 0.0) * (cut == Cut::kWhole ? 3 : 1));
    }
}

TEST(Slicing, RefusesWhatItCannotCut) {
  const auto why = [](const SmallDecoder& model, int slices) {
    const auto slicing = slicing_of(model.program(), model.shapes().size(), slices);
    EXPECT_FALSE(slicing);
    return slicing ? std::string() : slicing.error().message;
  };
  EXPECT_EQ(why({}, 3), "3 does not divide the 8 query heads");
  EXPECT_EQ(why({}, 8), "8 does not divide the 4 key and value heads");
  EXPECT_EQ(why({.hidden = 10}, 4), "4 does not divide the 10 hidden columns of a feed-forward layer");
  // A norm over the whole of what is cut, and a sum of what is cut with what is not.
  for (const bool normalised : {true, false}) {
    const std::vector<tensor::Shape> shapes{{kWords, 8}, {8, 8}, {8, 8}, {8}, {8, 8}};
    RecordingExecutor ex(shapes);
    const Value x = ex.embed({0}), y = ex.swiglu(ex.linear(x, {1}), ex.linear(x, {2}));
    ex.head(ex.linear(normalised ? ex.rms_norm(y, {3}, 1e-3f) : ex.add(y, x), {4}), {0});
    const auto slicing = slicing_of(ex.finish(), shapes.size(), 2);
    ASSERT_FALSE(slicing);
    EXPECT_EQ(slicing.error().message,
              std::string("a layer with \"") + (normalised ? "rms_norm" : "add") + "\" cannot be cut");
  }
}

}  // namespace
}  // namespace qw::ops
