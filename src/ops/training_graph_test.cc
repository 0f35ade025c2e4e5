#include "ops/training_graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/rng.h"
#include "ops/internal/reference.h"
#include "ops/internal/training_case.h"
#include "tensor/blocks.h"

namespace qw::ops {
namespace {

// Weights as files have them are the same to a graph as the float32 numbers they stand for: not a byte of loss, scores
// or gradients differs, and the weights themselves are held nowhere.
TEST(TrainingGraph, StoredWeightsGiveTheBytesOfOpenedOnes) {
  TinyBatch f;
  base::ThreadPool pool(3);
  TrainingCase c;  // widths that every block format fits
  const std::int64_t d = 256;
  c.shapes = {{kTestVocab, d}, {d}, {d, d}, {d}, {d, d}, {2, d}, {d, d}, {d, d}, {d, d}, {d, d}, {d, d}, {d, d}};
  c.forward = [](Executor& ex) {
    const Value x = ex.rms_norm(ex.embed({0}), {1}, 1e-3f), y = ex.linear(x, {2}, {3});
    const ExpertsSpec experts{.experts = 2, .top_k = 1, .width = 256, .gate = {6}, .up = {8}, .down = {10}};
    ex.head(ex.add(ex.linear(y, {4}), ex.experts(y, ex.linear(y, {5}), experts)), {0});
  };
  c.options.frozen.assign(c.shapes.size(), true);
  c.options.adapters = {{{2}, 2, 0.5f}, {{4}, 3, 2.0f, true}};
  using tensor::DType;
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16, DType::kQ8_0, DType::kQ4_K}) {
    ParameterBuffer whole(make_graph(c, pool)->parameter_shapes());
    fill_random(whole, 11, 0.2);
    std::vector<std::vector<std::byte>> files;
    TrainingCase stored = c;
    for (std::size_t i = 0; i < c.shapes.size(); ++i) {
      const auto rows = c.shapes[i].rows(), bytes = tensor::row_bytes(type, d);
      auto& file = files.emplace_back(static_cast<std::size_t>(rows * bytes));
      for (std::int64_t r = 0; r < rows; ++r) {
        tensor::encode_row(type, whole.data(i) + r * d, d, file.data() + r * bytes);
        tensor::decode_row(type, file.data() + r * bytes, d, whole.data(i) + r * d);
      }
      stored.options.stored.push_back({type, c.shapes[i], file.data()});
    }
    auto a = make_graph(c, pool), b = make_graph(stored, pool);
    ParameterBuffer own(b->parameter_shapes());
    for (std::size_t i = 0; i < own.size(); ++i) {
      EXPECT_EQ(own.elements(i), i < c.shapes.size() ? 0 : whole.elements(i));
      std::copy_n(whole.data(i), own.elements(i), own.data(i));
    }
    for (int step = 0; step < 2; ++step) {  // what is packed once holds for the second step
      std::vector<float> scores(f.tokens.size()), again(f.tokens.size());
      ASSERT_TRUE(a->forward(whole, f.batch()));
      ASSERT_TRUE(b->forward(own, f.batch()));
      a->token_logprobs(scores);
      b->token_logprobs(again);
      EXPECT_EQ(scores, again) << tensor::name(type);
      EXPECT_EQ(a->backward(1.0f), b->backward(1.0f)) << tensor::name(type);
      for (std::size_t i = c.shapes.size(); i < own.size(); ++i) {
        const auto x = a->gradients().tensor(i), y = b->gradients().tensor(i);
        EXPECT_TRUE(std::equal(x.begin(), x.end(), y.begin(), y.end())) << tensor::name(type) << " " << i;
        EXPECT_TRUE(std::any_of(x.begin(), x.end(), [](float g) { return g != 0; })) << i;
      }
    }
  }
}

TEST(TrainingGraph, GradientsAccumulate) {
  TinyBatch f;
  TrainingCase c = decoder();
  base::ThreadPool pool(1);
  auto graph = make_graph(c, pool);
  ParameterBuffer weights(graph->parameter_shapes());
  fill_random(weights, 3, 0.3);
  ASSERT_TRUE(graph->forward(weights, f.batch()));
  graph->backward(1.0f);
  const std::vector<float> once(graph->gradients().all().begin(), graph->gradients().all().end());
  ASSERT_TRUE(graph->forward(weights, f.batch()));
  graph->backward(1.0f);
  for (std::size_t i = 0; i < once.size(); ++i)
    ASSERT_NEAR(graph->gradients().all()[i], 2 * once[i], 1e-5f * std::abs(once[i]) + 1e-6f);
}

TEST(TrainingGraph, PackedDocumentsDoNotSeeEachOther) {
  TinyBatch f;
  TrainingCase c = decoder();
  base::ThreadPool pool(1);
  auto graph = make_graph(c, pool);
  ParameterBuffer weights(graph->parameter_shapes());
  fill_random(weights, 3, 0.3);
  std::vector<float> together(f.tokens.size());
  ASSERT_TRUE(graph->forward(weights, f.batch()));
  graph->token_logprobs(together);
  for (std::size_t d = 0; d + 1 < f.cu.size(); ++d) {
    const auto first = static_cast<std::size_t>(f.cu[d]), n = static_cast<std::size_t>(f.cu[d + 1]) - first;
    const std::vector<std::int32_t> cu{0, static_cast<std::int32_t>(n)};
    std::vector<float> alone(n);
    ASSERT_TRUE(
        graph->forward(weights, {std::span(f.tokens).subspan(first, n), std::span(f.positions).subspan(first, n), cu,
                                 std::span(f.labels).subspan(first, n)}));
    graph->token_logprobs(alone);
    EXPECT_EQ(0, std::memcmp(alone.data(), together.data() + first, n * sizeof(float)));
  }
}

TEST(TrainingGraph, LogprobsLogitsAndLossAgree) {
  TinyBatch f;
  TrainingCase c = decoder();
  base::ThreadPool pool(2);
  auto graph = make_graph(c, pool);
  ParameterBuffer weights(graph->parameter_shapes());
  fill_random(weights, 5, 0.3);
  ASSERT_TRUE(graph->forward(weights, f.batch()));
  std::vector<float> logprobs(12), logits(12 * kTestVocab);
  graph->token_logprobs(logprobs);
  std::vector<std::int32_t> rows(12);
  std::iota(rows.begin(), rows.end(), 0);
  graph->logits(rows, logits.data());
  auto parameters = as_double(weights);
  ReferenceExecutor reference(parameters, graph->parameter_shapes(), f.batch());
  c.forward(reference);
  for (std::size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], reference.logits()[i], 2e-5);
  graph->backward(1.0f);
  for (std::size_t r = 0; r < 12; ++r) {
    EXPECT_NEAR(logprobs[r], f.labels[r] < 0 ? 0.0 : -reference.nll(r), 2e-5);
    EXPECT_NEAR(graph->row_nll()[r], -logprobs[r], 2e-6);
  }
}

TEST(TrainingGraph, ForwardOnlyGivesTheSameLogits) {
  TinyBatch f;
  TrainingCase c = decoder(), scoring = decoder();
  scoring.options.forward_only = true;
  base::ThreadPool pool(1);
  auto graph = make_graph(c, pool), scorer = make_graph(scoring, pool);
  EXPECT_LT(scorer->arena_bytes(), graph->arena_bytes());
  ParameterBuffer weights(graph->parameter_shapes());
  fill_random(weights, 5, 0.3);
  std::vector<float> a(12), b(12);
  ASSERT_TRUE(graph->forward(weights, f.batch()));
  ASSERT_TRUE(scorer->forward(weights, f.batch()));
  graph->token_logprobs(a);
  scorer->token_logprobs(b);
  EXPECT_EQ(a, b);
}

TEST(TrainingGraph, RefusesBadBatches) {
  TinyBatch f;
  TrainingCase c = decoder();
  base::ThreadPool pool(1);
  auto graph = make_graph(c, pool);
  ParameterBuffer weights(graph->parameter_shapes());
  auto error = [&](const TinyBatch& g) { return graph->forward(weights, g.batch()).error().message; };
  TinyBatch bad = f;
  bad.tokens[3] = 11;
  EXPECT_THAT(error(bad), testing::HasSubstr("token id 11 in row 3"));
  bad = f;
  bad.labels[2] = -2;
  EXPECT_THAT(error(bad), testing::HasSubstr("label -2"));
  bad = f;
  bad.cu = {0, 7, 5, 12};
  EXPECT_THAT(error(bad), testing::HasSubstr("document borders"));
  bad = f;
  bad.labels.pop_back();
  EXPECT_THAT(error(bad), testing::HasSubstr("differ in length"));
  bad = f;
  bad.tokens.resize(17);
  EXPECT_THAT(error(bad), testing::HasSubstr("17 tokens"));
}

// A long batch: more rows than one chunk of the head, some without label.
struct LongBatch {
  std::vector<std::int32_t> tokens, positions, labels, cu{0};
  LongBatch(std::int64_t n, std::int64_t document, std::uint64_t seed) {
    base::Rng rng(seed);
    for (std::int64_t i = 0; i < n; ++i) {
      tokens.push_back(static_cast<std::int32_t>(rng.below(kTestVocab)));
      labels.push_back(static_cast<std::int32_t>(rng.below(kTestVocab + 1)) - 1);
      positions.push_back(static_cast<std::int32_t>(i % document));
      if ((i + 1) % document == 0 || i + 1 == n) cu.push_back(static_cast<std::int32_t>(i + 1));
    }
  }
  TrainingBatch batch() const { return {tokens, positions, cu, labels}; }
  TrainingBatch part(std::size_t first, std::size_t n, const std::vector<std::int32_t>& borders) const {
    return {std::span(tokens).subspan(first, n), std::span(positions).subspan(first, n), borders,
            std::span(labels).subspan(first, n)};
  }
};

// bfloat16 weights that are packed once, for both directions: the bytes of the float32 numbers they stand for, also of
// more rows than are multiplied at a time.
TEST(TrainingGraph, WeightsPackedOnceChangeNoByte) {
  const std::int64_t n = 530, d = 512, wide = 544;
  const LongBatch b(n, 100, 6);
  base::ThreadPool pool(3);
  TrainingCase c;
  c.shapes = {{kTestVocab, d}, {wide, d}, {d, wide}, {600, d}};
  c.forward = [](Executor& ex) {
    const Value x = ex.embed({0});
    ex.head(ex.linear(ex.silu(ex.linear(x, {1})), {2}), {3});
  };
  c.options.max_tokens = n;
  c.options.precision = kernels::GemmPrecision::kBF16;
  c.options.frozen.assign(c.shapes.size(), true);
  c.options.adapters = {{{1}, 3, 0.5f}, {{2}, 2, 2.0f}};
  TrainingCase stored = c;
  ParameterBuffer whole(make_graph(c, pool)->parameter_shapes());
  fill_random(whole, 11, 0.05);
  std::vector<std::vector<std::byte>> files;
  for (std::size_t i = 0; i < c.shapes.size(); ++i) {
    const std::int64_t columns = c.shapes[i].back(), bytes = tensor::row_bytes(tensor::DType::kBF16, columns);
    auto& file = files.emplace_back(static_cast<std::size_t>(c.shapes[i].rows() * bytes));
    for (std::int64_t r = 0; r < c.shapes[i].rows(); ++r) {
      tensor::encode_row(tensor::DType::kBF16, whole.data(i) + r * columns, columns, file.data() + r * bytes);
      tensor::decode_row(tensor::DType::kBF16, file.data() + r * bytes, columns, whole.data(i) + r * columns);
    }
    stored.options.stored.push_back({tensor::DType::kBF16, c.shapes[i], file.data()});
  }
  auto first = make_graph(c, pool, base::best_isa()), second = make_graph(stored, pool, base::best_isa());
  ParameterBuffer own(second->parameter_shapes());
  for (std::size_t i = 0; i < own.size(); ++i) std::copy_n(whole.data(i), own.elements(i), own.data(i));
  for (const std::size_t rows : {std::size_t{37}, static_cast<std::size_t>(n)}) {
    const std::vector<std::int32_t> cu{0, static_cast<std::int32_t>(rows)};
    ASSERT_TRUE(first->forward(whole, b.part(0, rows, cu)));
    ASSERT_TRUE(second->forward(own, b.part(0, rows, cu)));
    EXPECT_EQ(first->backward(0.01f), second->backward(0.01f));
    for (std::size_t i = c.shapes.size(); i < own.size(); ++i) {
      const auto x = first->gradients().tensor(i), y = second->gradients().tensor(i);
      EXPECT_TRUE(std::equal(x.begin(), x.end(), y.begin(), y.end())) << rows << " rows, parameter " << i;
      EXPECT_TRUE(std::any_of(x.begin(), x.end(), [](float g) { return g != 0; })) << i;
    }
  }
}

TEST(TrainingGraph, ChunksOfTheHeadAddUp) {
  const std::int64_t n = 2500, document = 50;
  const LongBatch b(n, document, 21);
  TrainingCase c = decoder();
  c.options.max_tokens = n;
  base::ThreadPool pool(2);
  auto whole = make_graph(c, pool), parts = make_graph(c, pool);
  ParameterBuffer weights(whole->parameter_shapes());
  fill_random(weights, 3, 0.3);
  ASSERT_TRUE(whole->forward(weights, b.batch()));
  const double loss = whole->backward(1.0f / n);
  double sum = 0;
  for (std::int64_t first = 0; first < n; first += document) {
    const std::vector<std::int32_t> cu{0, static_cast<std::int32_t>(document)};
    ASSERT_TRUE(parts->forward(weights, b.part(static_cast<std::size_t>(first), document, cu)));
    sum += parts->backward(1.0f / n);
  }
  EXPECT_NEAR(loss, sum, 1e-9 * sum);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    float largest = 0;
    for (const float x : whole->gradients().tensor(i)) largest = std::max(largest, std::abs(x));
    for (std::size_t j = 0; j < whole->gradients().tensor(i).size(); ++j)
      ASSERT_NEAR(whole->gradients().tensor(i)[j], parts->gradients().tensor(i)[j], 1e-4f * largest) << i;
  }
}

// Attention with heads of a width that is multiplied in pairs of bfloat16 (kernels/cpu/avx512/pair_training.inc).
TrainingCase wide_heads() {
  TrainingCase c;
  c.shapes = {{kTestVocab, 8}, {128, 8}, {64, 8}, {64, 8}, {8, 128}};
  c.forward = [](Executor& ex) {
    const AttentionSpec spec{.layer = 0, .heads = 4, .kv_heads = 2, .head_dim = 32, .scale = 0.18f};
    const Value x = ex.embed({0});
    const Value y = ex.attention(ex.linear(x, {1}), ex.linear(x, {2}), ex.linear(x, {3}), spec);
    ex.head(ex.add(x, ex.linear(y, {4})), {0});
  };
  return c;
}

// Products with bfloat16 operands: each operand is off by at most 2^-9 relative, a gradient passes about ten products,
// and errors add as a random walk: 2^-9 * sqrt(2 * 10) = 0.9 % of the gradient's length; four times that is allowed.
TEST(TrainingGraph, BfloatGradientsPointTheSameWay) {
  const LongBatch b(300, 75, 4);
  base::ThreadPool pool(1), more(3);
  for (TrainingCase c : {decoder(), wide_heads()}) {
    for (int isa = 0; isa <= static_cast<int>(base::best_isa()); ++isa) {
      c.options.max_tokens = 300;
      TrainingCase rounded = c;
      rounded.options.precision = kernels::GemmPrecision::kBF16;
      auto exact = make_graph(c, pool, static_cast<base::Isa>(isa)),
           coarse = make_graph(rounded, pool, static_cast<base::Isa>(isa)),
           shared = make_graph(rounded, more, static_cast<base::Isa>(isa));
      ParameterBuffer weights(exact->parameter_shapes());
      fill_random(weights, 3, 0.3);
      ASSERT_TRUE(exact->forward(weights, b.batch()));
      ASSERT_TRUE(coarse->forward(weights, b.batch()));
      ASSERT_TRUE(shared->forward(weights, b.batch()));
      const double loss = exact->backward(1.0f / 300), coarse_loss = coarse->backward(1.0f / 300);
      EXPECT_EQ(shared->backward(1.0f / 300), coarse_loss);
      EXPECT_TRUE(std::equal(coarse->gradients().all().begin(), coarse->gradients().all().end(),
                             shared->gradients().all().begin()));
      EXPECT_NE(loss, coarse_loss);
      EXPECT_NEAR(loss, coarse_loss, 0.01 * loss);
      double error = 0, length = 0;
      for (std::size_t i = 0; i < exact->gradients().all().size(); ++i) {
        const double e = exact->gradients().all()[i];
        error += std::pow(e - coarse->gradients().all()[i], 2);
        length += e * e;
      }
      EXPECT_LT(std::sqrt(error / length), 0.035);
      EXPECT_GT(std::sqrt(error / length), 1e-4);
    }
  }
}

// Larger than one piece of any op, so that threads really share the work.
TEST(TrainingGraph, SameBytesForEveryThreadCount) {
  const std::int64_t n = 700;
  std::vector<std::int32_t> tokens(n), positions(n), labels(n), cu{0, 300, 310, 700};
  base::Rng rng(11);
  for (std::int64_t i = 0, d = 0; i < n; ++i) {
    if (i == cu[static_cast<std::size_t>(d) + 1]) ++d;
    const auto r = static_cast<std::size_t>(i);
    tokens[r] = static_cast<std::int32_t>(rng.below(kTestVocab));
    labels[r] = static_cast<std::int32_t>(rng.below(kTestVocab + 1)) - 1;
    positions[r] = static_cast<std::int32_t>(i - cu[static_cast<std::size_t>(d)]);
  }
  for (int isa = 0; isa <= static_cast<int>(base::best_isa()); ++isa) {
    for (const auto precision : {kernels::GemmPrecision::kF32, kernels::GemmPrecision::kBF16}) {
      std::vector<float> first;
      double first_loss = 0;
      for (const int threads : {1, 2, 3, 5}) {
        TrainingCase c = decoder();
        c.options.max_tokens = n;
        c.options.precision = precision;
        base::ThreadPool pool(threads);
        auto graph = make_graph(c, pool, static_cast<base::Isa>(isa));
        ParameterBuffer weights(graph->parameter_shapes());
        fill_random(weights, 3, 0.3);
        ASSERT_TRUE(graph->forward(weights, {tokens, positions, cu, labels}));
        const double loss = graph->backward(1.0f / n);
        const std::vector<float> gradients(graph->gradients().all().begin(), graph->gradients().all().end());
        if (threads == 1) {
          first = gradients;
          first_loss = loss;
        }
        EXPECT_EQ(loss, first_loss);
        EXPECT_EQ(0, std::memcmp(gradients.data(), first.data(), first.size() * sizeof(float)))
            << "isa " << isa << ", threads " << threads;
      }
    }
  }
}

// Attention and delta rules by turns, each with experts behind it.
TrainingCase hybrid(int layers) {
  constexpr int kExperts = 4, kWidth = 6, kLayer = 10 + 3 * kExperts;
  const DeltaRuleSpec delta{.key_heads = 2, .value_heads = 4, .key_dim = 3, .value_dim = 2};
  const std::int64_t d = 8, heads = delta.value_heads, in = delta.input_width(), out = delta.values_width();
  TrainingCase c;
  c.shapes = {{kTestVocab, d}};
  for (int l = 0; l < layers; ++l) {
    const std::vector<tensor::Shape> attention{{12, d}, {6, d}, {6, d}, {d, 12}, {3}, {3}, {1}},
        rule{{in, d}, {in, 4}, {heads, d}, {heads, d}, {heads}, {heads}, {d, out}};
    c.shapes.push_back({d});
    for (const tensor::Shape& s : l % 2 == 0 ? attention : rule) c.shapes.push_back(s);
    c.shapes.push_back({d});
    c.shapes.push_back({kExperts, d});
    for (int e = 0; e < 3 * kExperts; ++e)
      c.shapes.push_back(e < 2 * kExperts ? tensor::Shape{kWidth, d} : tensor::Shape{d, kWidth});
  }
  c.forward = [=](Executor& ex) {
    Value x = ex.embed({0});
    for (int l = 0; l < layers; ++l) {
      const int b = 1 + kLayer * l;
      const Value h = ex.rms_norm(x, {b}, 1e-3f);
      if (l % 2 == 0) {
        const RopeSpec rope{.head_dim = 3, .rotary = 2, .theta = 50};
        const Value q = ex.rope(ex.head_rms_norm(ex.linear(h, {b + 1}), {b + 5}, 3, 1e-3f), rope);
        const Value k = ex.rope(ex.head_rms_norm(ex.linear(h, {b + 2}), {b + 6}, 3, 1e-3f), rope);
        const AttentionSpec spec{.layer = l, .heads = 4, .kv_heads = 2, .head_dim = 3, .scale = 0.57f};
        x = ex.add(x, ex.linear(ex.attention(q, k, ex.linear(h, {b + 3}), spec), {b + 4}));
      } else {
        const Value mixed = ex.silu(ex.short_conv(ex.linear(h, {b + 1}), {b + 2}, {}));
        const Value y = ex.delta_rule(mixed, ex.linear(h, {b + 3}), ex.linear(h, {b + 4}), {b + 5}, {b + 6}, delta);
        x = ex.add(x, ex.linear(y, {b + 7}));
      }
      const Value g = ex.rms_norm(x, {b + 8}, 1e-3f);
      x = ex.add(x, ex.experts(g, ex.linear(g, {b + 9}),
                               {.experts = kExperts,
                                .top_k = 2,
                                .width = kWidth,
                                .balance = 0.1f,
                                .gate = {b + 10},
                                .up = {b + 10 + kExperts},
                                .down = {b + 10 + 2 * kExperts}}));
    }
    ex.head(x, {0});
  };
  return c;
}

// One of a frozen decoder in some of its layers.
TrainingCase decoder_with_adapters(int layers) {
  TrainingCase c = decoder(layers);
  c.options.frozen.assign(c.shapes.size(), true);
  c.options.adapters = {{{3}, 2, 0.5f, true}, {{2 + 14 + 13}, 2, 1.5f}, {{2 + 28 + 9}, 1, 1.0f, true}};
  return c;
}

// What is not kept is made again, to the same bytes, and memory is saved.
TEST(TrainingGraph, RecomputationChangesNoByte) {
  const std::int64_t n = 640;
  const LongBatch b(n, 70, 9);
  base::ThreadPool pool(2);
  for (TrainingCase c : {decoder(5), decoder_with_adapters(5), hybrid(5)})
    for (const auto precision : {kernels::GemmPrecision::kF32, kernels::GemmPrecision::kBF16}) {
      c.options.max_tokens = n;
      c.options.precision = precision;
      std::vector<float> first, logprobs(static_cast<std::size_t>(n));
      double loss = 0;
      std::int64_t bytes = 0;
      for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
        c.options.recompute = recompute;
        auto graph = make_graph(c, pool, base::best_isa());
        ParameterBuffer weights(graph->parameter_shapes());
        fill_random(weights, 3, 0.3);
        for (int pass = 0; pass < 2; ++pass) {  // the second finds what the first left behind
          ASSERT_TRUE(graph->forward(weights, b.batch()));
          graph->token_logprobs(logprobs);
          graph->gradients().zero();
          const double now = graph->backward(1.0f / n);
          const auto all = graph->gradients().all();
          if (first.empty()) {
            first.assign(all.begin(), all.end());
            loss = now;
          }
          EXPECT_EQ(now, loss);
          EXPECT_EQ(0, std::memcmp(all.data(), first.data(), all.size_bytes())) << static_cast<int>(recompute);
        }
        if (bytes > 0) {
          EXPECT_LT(graph->arena_bytes(), bytes * 9 / 10) << static_cast<int>(recompute);
        }
        bytes = graph->arena_bytes();
      }
    }
}

TEST(Halves, TakeLessMemoryAndChangeNoLossAndHardlyAGradient) {
  const std::int32_t n = 70;
  const LongBatch b(n, 70, 9);
  base::ThreadPool pool(2);
  for (TrainingCase c : {decoder(5), decoder_with_adapters(5), hybrid(5)})
    for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
      c.options.max_tokens = n;
      c.options.recompute = recompute;
      std::vector<float> exact;
      double loss = 0;
      std::int64_t bytes = 0;
      for (const bool half : {false, true}) {
        c.options.half_kept = half;
        auto graph = make_graph(c, pool, base::best_isa());
        ParameterBuffer weights(graph->parameter_shapes());
        fill_random(weights, 3, 0.3);
        for (int pass = 0; pass < 2; ++pass) {
          ASSERT_TRUE(graph->forward(weights, b.batch()));
          graph->gradients().zero();
          const double now = graph->backward(1.0f / n);
          const auto all = graph->gradients().all();
          if (!half) {
            exact.assign(all.begin(), all.end());
            loss = now;
            continue;
          }
          EXPECT_EQ(now, loss);
          double off = 0, length = 0;
          for (std::size_t i = 0; i < all.size(); ++i) {
            off += std::pow(static_cast<double>(all[i]) - static_cast<double>(exact[i]), 2);
            length += std::pow(static_cast<double>(exact[i]), 2);
          }
          EXPECT_GT(off, 0);
          EXPECT_LT(std::sqrt(off / length), 0.01) << static_cast<int>(recompute);
        }
        if (half && recompute != Recompute::kFull) {
          EXPECT_LT(graph->arena_bytes(), bytes);
        }
        bytes = graph->arena_bytes();
      }
    }
}

}  // namespace
}  // namespace qw::ops
