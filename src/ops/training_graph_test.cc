#include "ops/training_graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "base/rng.h"
#include "ops/internal/reference.h"
#include "ops/ngrams.h"
#include "tensor/blocks.h"

namespace qw::ops {
namespace {

using Forward = std::function<void(Executor&)>;

// A batch of three packed documents over a vocabulary of 11, some rows without label.
struct Fixture {
  std::vector<std::int32_t> tokens{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
  std::vector<std::int32_t> positions{0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4};
  std::vector<std::int32_t> cu{0, 5, 7, 12};
  std::vector<std::int32_t> labels{1, -1, 1, 5, -1, 2, 10, -1, 3, 5, 8, 0};
  TrainingBatch batch() const { return {tokens, positions, cu, labels}; }
};

constexpr std::int64_t kVocab = 11;

void fill_random(ParameterBuffer& p, std::uint64_t seed, double std) {
  for (std::size_t i = 0; i < p.size(); ++i) {
    base::Rng rng(seed, i);
    for (float& x : p.tensor(i)) x = static_cast<float>(rng.next_normal() * std + (p.shape(i).rank() == 1 ? 1.0 : 0.0));
  }
}

std::vector<std::vector<double>> as_double(const ParameterBuffer& p) {
  std::vector<std::vector<double>> out;
  for (std::size_t i = 0; i < p.size(); ++i) out.emplace_back(p.tensor(i).begin(), p.tensor(i).end());
  return out;
}

struct Case {
  std::vector<tensor::Shape> shapes;
  Forward forward;
  TrainingOptions options;
  std::vector<float> row_weights;
};

std::unique_ptr<TrainingGraph> make_graph(const Case& c, base::ThreadPool& pool, base::Isa isa = base::Isa::kPortable) {
  RecordingExecutor recorder(c.shapes);
  c.forward(recorder);
  TrainingOptions options = c.options;
  if (options.max_tokens == 0) options.max_tokens = 16;
  return std::make_unique<TrainingGraph>(recorder.finish(), c.shapes, options, kernels::kernels_for(isa), pool);
}

// Every gradient of every trained parameter against central differences of the reference in double.
//
// Tolerance: with h = 1e-4 the difference's own error is about h^2 |f'''| / 6 + 1e-16 |f| / h < 1e-8 (values of order
// one); the float path's is a few hundred roundings of 6e-8 on terms as large as the tensor's largest gradient, so
// 1e-4 of that largest entry (plus 1e-6 for tensors whose gradient vanishes) holds with room and still catches any
// wrong term.
void expect_gradients(const Case& c, const Fixture& f = {}) {
  base::ThreadPool pool(2);
  auto graph = make_graph(c, pool);
  ParameterBuffer weights(graph->parameter_shapes());
  fill_random(weights, 7, 0.4);
  ASSERT_TRUE(graph->forward(weights, f.batch()));
  const float scale = 0.25f;
  // What is told to be final does not change any more, and all of it is told, in the order that is foretold.
  std::vector<std::vector<float>> told(weights.size());
  std::vector<std::size_t> order;
  graph->on_final_gradient([&](std::size_t p) {
    order.push_back(p);
    told[p].assign(graph->gradients().tensor(p).begin(), graph->gradients().tensor(p).end());
  });
  const double loss = graph->backward(scale, c.row_weights);
  graph->on_final_gradient({});
  EXPECT_EQ(order, graph->final_gradient_order());
  std::sort(order.begin(), order.end());
  ASSERT_EQ(order.size(), weights.size());
  for (std::size_t p = 0; p < weights.size(); ++p) {
    EXPECT_EQ(order[p], p);
    EXPECT_TRUE(std::equal(told[p].begin(), told[p].end(), graph->gradients().tensor(p).begin())) << "parameter " << p;
  }

  auto parameters = as_double(weights);
  const auto held = parameters;
  auto reference_loss = [&] {
    ReferenceExecutor reference(parameters, graph->parameter_shapes(), f.batch(), c.options.adapters, &held);
    c.forward(reference);
    const auto kept = std::count_if(f.labels.begin(), f.labels.end(), [](int l) { return l >= 0; });
    return reference.loss(c.row_weights) + static_cast<double>(kept) * reference.balance_loss();
  };
  const auto labelled = std::count_if(f.labels.begin(), f.labels.end(), [](int l) { return l >= 0; });
  EXPECT_NEAR(loss + static_cast<double>(labelled) * graph->balance_loss(), reference_loss(), 1e-5 * std::abs(loss));
  const double h = 1e-4;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    std::vector<double> wanted(parameters[i].size(), 0.0);
    const bool frozen = i < c.options.frozen.size() && c.options.frozen[i];
    double largest = 0;
    for (std::size_t j = 0; j < wanted.size() && !frozen; ++j) {
      const double at = parameters[i][j];
      parameters[i][j] = at + h;
      const double up = reference_loss();
      parameters[i][j] = at - h;
      const double down = reference_loss();
      parameters[i][j] = at;
      wanted[j] = (up - down) / (2 * h) * static_cast<double>(scale);
      largest = std::max(largest, std::abs(wanted[j]));
    }
    if (!frozen) {
      EXPECT_GT(largest, 0) << "parameter " << i << " has no influence: the case tests nothing";
    }
    for (std::size_t j = 0; j < wanted.size(); ++j)
      ASSERT_NEAR(graph->gradients().tensor(i)[j], wanted[j], 1e-4 * largest + 1e-6)
          << "parameter " << i << " at " << j;
  }
}

const std::vector<tensor::Shape> kEmbedAndHead{{kVocab, 8}, {kVocab, 8}};

Case one_op(std::vector<tensor::Shape> more, std::function<Value(Executor&, Value)> body, std::int64_t head_width = 8) {
  Case c;
  c.shapes = {{kVocab, 8}, {kVocab, head_width}};
  c.shapes.insert(c.shapes.end(), more.begin(), more.end());
  c.forward = [body](Executor& ex) { ex.head(body(ex, ex.embed({0})), {1}); };
  return c;
}

TEST(Gradient, EmbedAndHead) {
  expect_gradients(one_op({}, [](Executor&, Value x) { return x; }));
}

TEST(Gradient, TiedEmbeddingSumsBothUses) {
  Case c;
  c.shapes = {{kVocab, 8}};
  c.forward = [](Executor& ex) { ex.head(ex.embed({0}), {0}); };
  expect_gradients(c);
}

TEST(Gradient, RmsNorm) {
  expect_gradients(one_op({{8}}, [](Executor& ex, Value x) { return ex.rms_norm(x, {2}, 1e-2f); }));
}

TEST(Gradient, HeadRmsNorm) {
  expect_gradients(one_op({{4}}, [](Executor& ex, Value x) { return ex.head_rms_norm(x, {2}, 4, 1e-2f); }));
}

TEST(Gradient, HeadRmsNormWithWeightsOfEachHead) {
  expect_gradients(one_op({{8}}, [](Executor& ex, Value x) { return ex.head_rms_norm(x, {2}, 4, 1e-2f); }));
}

TEST(Gradient, ScaleAndSilu) {
  expect_gradients(one_op({}, [](Executor& ex, Value x) { return ex.scale(ex.silu(ex.scale(x, 1.5f)), -0.7f); }));
}

// The gradients of a sum's sides may share memory, unless one side hands it on to a value that others read too, or turns it.
TEST(Gradient, SumsOfSumsAndOfTurnedValues) {
  expect_gradients(one_op({{8, 8}, {8, 8}}, [](Executor& ex, Value x) {
    const Value s = ex.linear(x, {2}), other = ex.scale(ex.silu(s), 0.5f), more = ex.silu(ex.linear(other, {3}));
    return ex.silu(ex.add(s, ex.add(other, more)));
  }));
  const RopeSpec spec{.head_dim = 4, .rotary = 4, .theta = 100};
  expect_gradients(one_op({{8, 8}}, [spec](Executor& ex, Value x) {
    const Value s = ex.linear(x, {2});
    return ex.silu(ex.add(s, ex.rope(ex.silu(s), spec)));
  }));
}

// Of rows that match well, for and against: where they hardly do the root is too steep for differences.
TEST(Gradient, MatchRows) {
  expect_gradients(one_op({{8, 8}}, [](Executor& ex, Value x) {
    const Value near = ex.add(x, ex.scale(ex.linear(x, {2}), 0.3f));
    return ex.gate_rows(ex.gate_rows(x, ex.match_rows(x, near, 0.5f)), ex.match_rows(near, x, -0.3f));
  }));
}

TEST(Gradient, ShortConvWithTapsApart) {
  expect_gradients(one_op({{8, 3}}, [](Executor& ex, Value x) { return ex.short_conv(x, {2}, {.state = 0, .dilation = 2}); }));
}

// Two tables of rows, whose heads 0 and 1 are of bigrams, 2 and 3 of trigrams; token 5 ends texts.
NgramSpec small_ngrams() {
  return {.size = 3, .heads_each = 2, .dim = 2, .end_of_text = 5, .factors = {7, 13, 29}, .sizes = {5, 7, 11, 13},
          .offsets = {0, 5, 12, 23}, .table = {2}, .tables = 2, .rows_each = 18};
}

TEST(Gradient, Ngrams) {
  expect_gradients(one_op({{18, 2}, {18, 2}}, [](Executor& ex, Value x) { return ex.add(x, ex.ngrams(small_ngrams())); }));
}

TEST(Ngrams, EndWhereTextsEnd) {
  const NgramSpec spec = small_ngrams();
  const auto rows = [&](std::vector<std::int32_t> before) {
    std::vector<std::int64_t> out(4);
    ngram_rows(spec, before, out);
    return out;
  };
  EXPECT_EQ(rows({3, 1, 4})[0], (3 * 7 ^ 1 * 13) % 5);
  EXPECT_EQ(rows({3, 1, 4})[3], (3 * 7 ^ 1 * 13 ^ 4 * 29) % 13 + 23);
  EXPECT_EQ(rows({3, 5, 4}), rows({3, 5, 5})) << "beyond the end of a text is another";
  EXPECT_EQ(rows({3, -1, -1}), rows({3, 5, 5})) << "before the beginning is nothing";
  EXPECT_NE(rows({5, 1, 4}), rows({5, 5, 5})) << "an end of text has a context itself";
}

TEST(Ngrams, HistoryGoesOn) {
  const NgramSpec spec = small_ngrams();
  float history[2];
  ngrams_advance(spec, std::vector<std::int32_t>{9}, true, history);
  EXPECT_THAT(history, ::testing::ElementsAre(-1, 9));
  ngrams_advance(spec, std::vector<std::int32_t>{4}, false, history);
  EXPECT_THAT(history, ::testing::ElementsAre(9, 4));
  ngrams_advance(spec, std::vector<std::int32_t>{1, 2, 3}, false, history);
  EXPECT_THAT(history, ::testing::ElementsAre(2, 3));
}

TEST(Gradient, LinearWithBias) {
  expect_gradients(one_op(
      {{6, 8}, {6}}, [](Executor& ex, Value x) { return ex.linear(x, {2}, {3}); }, 6));
}

TEST(Gradient, RopeInPlaceAndShared) {
  const RopeSpec spec{.head_dim = 4, .rotary = 4, .theta = 100};
  expect_gradients(one_op({}, [spec](Executor& ex, Value x) { return ex.rope(x, spec); }));
  expect_gradients(one_op({}, [spec](Executor& ex, Value x) { return ex.add(x, ex.rope(x, spec)); }));
  expect_gradients(one_op({}, [spec](Executor& ex, Value x) { return ex.add(ex.rope(x, spec), x); }));
}

TEST(Gradient, RopePartialAndYarn) {
  const RopeSpec spec{.head_dim = 8,
                      .rotary = 6,
                      .theta = 100,
                      .scaling = RopeScaling::kYarn,
                      .factor = 4,
                      .original_context = 16,
                      .attention_factor = 1.13f};
  expect_gradients(one_op({}, [spec](Executor& ex, Value x) { return ex.rope(x, spec); }));
}

TEST(Gradient, Swiglu) {
  expect_gradients(one_op(
      {{6, 8}, {6, 8}},
      [](Executor& ex, Value x) {
        const Value gate = ex.linear(x, {2}), up = ex.linear(x, {3});
        return ex.swiglu(gate, up);
      },
      6));
}

TEST(Gradient, SwigluOfOneValue) {
  expect_gradients(one_op({}, [](Executor& ex, Value x) { return ex.swiglu(x, x); }));
}

TEST(Gradient, AddOfSharedValues) {
  expect_gradients(one_op({{8, 8}}, [](Executor& ex, Value x) { return ex.add(x, ex.linear(x, {2})); }));
  expect_gradients(one_op({{8, 8}}, [](Executor& ex, Value x) { return ex.add(ex.linear(x, {2}), x); }));
  expect_gradients(one_op({}, [](Executor& ex, Value x) { return ex.add(x, x); }));
  // The summand is made before another reader of the residual: their gradients must not share memory.
  expect_gradients(one_op({{8, 8}, {8, 8}}, [](Executor& ex, Value x) {
    const Value early = ex.linear(x, {2}), late = ex.linear(x, {3});
    return ex.add(ex.add(x, early), late);
  }));
}

TEST(Gradient, Attention) {
  const AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 3, .scale = 0.6f};
  expect_gradients(one_op(
      {{12, 8}, {6, 8}, {6, 8}},
      [spec](Executor& ex, Value x) {
        const Value q = ex.linear(x, {2}), k = ex.linear(x, {3}), v = ex.linear(x, {4});
        return ex.attention(q, k, v, spec);
      },
      12));
}

TEST(Gradient, AttentionInAWindow) {
  for (const std::int64_t window : {2, 3, 50}) {
    const AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 3, .scale = 0.6f, .window = window};
    expect_gradients(one_op(
        {{12, 8}, {6, 8}, {6, 8}},
        [spec](Executor& ex, Value x) {
          const Value q = ex.linear(x, {2}), k = ex.linear(x, {3}), v = ex.linear(x, {4});
          return ex.attention(q, k, v, spec);
        },
        12));
  }
}

// What chooses has no gradient, and its weights keep none; rows of 4 and 5 tokens see fewer.
Case indexed(std::int32_t ratio, std::int32_t blocks) {
  const AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 3, .scale = 0.6f};
  const IndexSpec index{.heads = 3, .dim = 6, .ratio = ratio, .blocks = blocks, .key_norm = {8}, .eps = 1e-3f,
                        .rope = {.head_dim = 6, .rotary = 4, .theta = 50}};
  Case c = one_op(
      {{12, 8}, {6, 8}, {6, 8}, {18, 8}, {6, 8}, {6}, {6}},
      [=](Executor& ex, Value x) {
        const Value q = ex.linear(x, {2}), k = ex.linear(x, {3}), v = ex.linear(x, {4});
        const Value index_q = ex.rope(ex.head_rms_norm(ex.linear(x, {5}), {7}, 6, 1e-3f), index.rope);
        return ex.indexed_attention(q, k, v, index_q, ex.linear(x, {6}), spec, index);
      },
      12);
  c.options.frozen = {false, false, false, false, false, true, true, true, true};
  return c;
}

TEST(Gradient, IndexedAttention) {
  expect_gradients(indexed(2, 1));
  expect_gradients(indexed(1, 2));
  expect_gradients(indexed(3, 1));
  expect_gradients(indexed(2, 50));
}

TEST(Gradient, WhatChoosesHasNone) {
  base::ThreadPool pool(2);
  const Fixture f;
  std::vector<std::vector<float>> all[2];
  for (const bool frozen : {true, false}) {
    Case c = indexed(2, 1);
    if (!frozen) c.options.frozen.clear();
    auto graph = make_graph(c, pool);
    ParameterBuffer weights(graph->parameter_shapes());
    fill_random(weights, 7, 0.4);
    ASSERT_TRUE(graph->forward(weights, f.batch()));
    graph->backward(0.25f, {});
    for (std::size_t i = 0; i < graph->gradients().size(); ++i)
      all[frozen].emplace_back(graph->gradients().tensor(i).begin(), graph->gradients().tensor(i).end());
  }
  EXPECT_EQ(all[0], all[1]);
  for (std::size_t i = 5; i < 9; ++i) EXPECT_EQ(all[0][i], std::vector<float>(all[0][i].size(), 0.0f));
  // More than what a row sees at most changes what it sees.
  base::ThreadPool one(1);
  ParameterBuffer weights(indexed(2, 1).shapes);
  fill_random(weights, 7, 0.4);
  double losses[2];
  for (const int blocks : {1, 50}) {
    auto graph = make_graph(indexed(2, blocks), one);
    ASSERT_TRUE(graph->forward(weights, f.batch()));
    losses[blocks == 1] = graph->backward(1.0f, {});
  }
  EXPECT_GT(std::abs(losses[0] - losses[1]), 1e-4);
}

TEST(Gradient, AttentionOfOneValue) {
  const AttentionSpec spec{.heads = 2, .kv_heads = 2, .head_dim = 4, .scale = 0.5f};
  expect_gradients(one_op({}, [spec](Executor& ex, Value x) { return ex.attention(x, x, x, spec); }));
}

// Two layers of experts behind one another, so that load balancing couples them; every expert is chosen by some row.
Case mixture(bool normalise, float balance) {
  Case c;
  constexpr int kExperts = 5, kWidth = 3;
  c.shapes = {{kVocab, 8}, {kVocab, 8}};
  for (int l = 0; l < 2; ++l) {
    c.shapes.push_back({kExperts, 8});
    for (int e = 0; e < 2 * kExperts; ++e) c.shapes.push_back({kWidth, 8});
    for (int e = 0; e < kExperts; ++e) c.shapes.push_back({8, kWidth});
  }
  c.forward = [=](Executor& ex) {
    Value x = ex.embed({0});
    for (int l = 0; l < 2; ++l) {
      const int b = 2 + l * (1 + 3 * kExperts);
      x = ex.add(x, ex.experts(x, ex.linear(x, {b}), {.experts = kExperts, .top_k = 2, .width = kWidth,
                                                      .normalise = normalise, .balance = balance, .gate = {b + 1},
                                                      .up = {b + 1 + kExperts}, .down = {b + 1 + 2 * kExperts}}));
    }
    ex.head(x, {1});
  };
  return c;
}

TEST(Gradient, Experts) {
  for (const bool normalise : {false, true})
    for (const float balance : {0.0f, 0.5f}) expect_gradients(mixture(normalise, balance));
}

TEST(Gradient, FrozenExperts) {
  Case c = mixture(true, 0.1f);
  c.options.frozen.assign(c.shapes.size(), false);
  for (std::size_t i = 1; i < c.shapes.size(); i += 2) c.options.frozen[i] = true;
  expect_gradients(c);
}

TEST(Gradient, Columns) {
  expect_gradients(one_op({{10, 8}, {10}}, [](Executor& ex, Value x) {
    const Value y = ex.linear(x, {2}, {3});
    return ex.add(ex.columns(y, 0, 8), ex.columns(y, 2, 8));
  }));
}

TEST(Gradient, Relu) {
  expect_gradients(one_op({{8, 8}, {8, 8}}, [](Executor& ex, Value x) {
    return ex.linear(ex.relu(ex.linear(x, {2})), {3});
  }));
  expect_gradients(one_op({{8, 8}}, [](Executor& ex, Value x) { return ex.add(x, ex.relu(ex.linear(x, {2}))); }));
}

TEST(Gradient, Concat) {
  expect_gradients(one_op({{3, 8}, {5, 8}}, [](Executor& ex, Value x) {
    return ex.add(x, ex.concat(ex.linear(x, {2}), ex.linear(x, {3})));
  }));
  expect_gradients(one_op({{4, 8}, {8, 8}}, [](Executor& ex, Value x) {  // one value on both sides
    const Value y = ex.linear(x, {2});
    return ex.linear(ex.concat(y, y), {3});
  }));
}

TEST(Gradient, HeadColumns) {
  expect_gradients(one_op({{12, 8}}, [](Executor& ex, Value x) {
    const Value y = ex.linear(x, {2});  // two heads of six columns
    return ex.add(ex.head_columns(y, 0, 4, 6), ex.head_columns(y, 2, 4, 6));
  }));
}

TEST(Gradient, GateOfEveryColumn) {
  expect_gradients(one_op({{8, 8}, {8, 8}, {4, 8}}, [](Executor& ex, Value x) {
    const Value y = ex.gate_rows(ex.linear(x, {2}), ex.linear(x, {3}));
    return ex.gate_rows(y, ex.linear(x, {4}));
  }));
}

TEST(Gradient, ShortConv) {
  expect_gradients(one_op({{8, 4}}, [](Executor& ex, Value x) { return ex.short_conv(x, {2}, {}); }));
  expect_gradients(one_op({{8, 3}}, [](Executor& ex, Value x) { return ex.add(x, ex.short_conv(x, {2}, {})); }));
}

Case delta(DeltaRuleSpec spec) {
  return one_op({{spec.input_width(), 8}, {spec.value_heads, 8}, {spec.value_heads, 8}, {spec.value_heads},
                 {spec.value_heads}},
                [spec](Executor& ex, Value x) {
                  return ex.delta_rule(ex.linear(x, {2}), ex.linear(x, {3}), ex.linear(x, {4}), {5}, {6}, spec);
                }, spec.values_width());
}

TEST(Gradient, DeltaRule) {
  expect_gradients(delta({.key_heads = 2, .value_heads = 4, .key_dim = 3, .value_dim = 2}));
  expect_gradients(delta({.key_heads = 2, .value_heads = 4, .key_dim = 3, .value_dim = 2, .tiled = true}));
  expect_gradients(delta({.key_heads = 1, .value_heads = 1, .key_dim = 2, .value_dim = 40}));
}

// Documents which begin and end off the grid of kept states, and one that spans several.
TEST(Gradient, DeltaRuleOfLongDocuments) {
  Fixture f;
  for (std::vector<std::int32_t>* v : {&f.tokens, &f.positions, &f.labels}) v->clear();
  f.cu = {0, 40, 210, 224};
  base::Rng rng(5);
  for (std::size_t d = 0; d + 1 < f.cu.size(); ++d)
    for (std::int32_t p = 0; p < f.cu[d + 1] - f.cu[d]; ++p) {
      f.tokens.push_back(static_cast<std::int32_t>(rng.next_u32() % kVocab));
      f.labels.push_back(static_cast<std::int32_t>(rng.next_u32() % kVocab));
      f.positions.push_back(p);
    }
  Case c = delta({.key_heads = 1, .value_heads = 2, .key_dim = 3, .value_dim = 2});
  c.options.max_tokens = 224;
  expect_gradients(c, f);
}

TEST(Gradient, DeltaRuleOfFrozenGates) {
  Case c = delta({.key_heads = 2, .value_heads = 2, .key_dim = 3, .value_dim = 2});
  c.options.frozen.assign(c.shapes.size(), false);
  c.options.frozen[5] = c.options.frozen[6] = true;
  expect_gradients(c);
}

TEST(Gradient, GateRows) {
  expect_gradients(one_op({{8, 8}, {1, 8}}, [](Executor& ex, Value x) {
    return ex.gate_rows(ex.linear(x, {2}), ex.linear(x, {3}));
  }));
  expect_gradients(one_op({{1, 8}}, [](Executor& ex, Value x) { return ex.add(x, ex.gate_rows(x, ex.linear(x, {2}))); }));
}

// A whole decoder: norms, biases, grouped queries, residuals.
Case decoder(int layers = 2) {
  Case c;
  const std::int64_t d = 8, hd = 12, kd = 6, f = 10;
  c.shapes = {{kVocab, d}, {d}};
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

TEST(Gradient, WholeDecoder) { expect_gradients(decoder()); }

TEST(Gradient, RowWeights) {
  Case c = decoder();
  c.row_weights = {0.5f, 9.0f, -2.0f, 1.0f, 3.0f, 0.0f, 1.0f, 1.0f, 0.25f, 1.5f, -1.0f, 2.0f};
  expect_gradients(c);
}

TEST(Gradient, AdaptersOnAFrozenModel) {
  Case c = decoder();
  c.options.frozen.assign(c.shapes.size(), true);
  c.options.adapters = {{{3}, 2, 0.5f}, {{7}, 3, 2.0f}, {{2 + 14 + 13}, 2, 1.5f}, {{13}, 1, 1.0f}};
  expect_gradients(c);
}

// With and without a bias, over rows that several documents share.
TEST(Gradient, AdaptersWithAMagnitude) {
  Case c = decoder();
  c.options.frozen.assign(c.shapes.size(), true);
  c.options.adapters = {{{3}, 2, 0.5f, true}, {{7}, 3, 2.0f, false}, {{2 + 14 + 13}, 2, 1.5f, true}, {{13}, 1, 1.0f, true}};
  expect_gradients(c);
}

// Weights as files have them are the same to a graph as the float32 numbers they stand for: not a byte of loss, scores or
// gradients differs, and the weights themselves are held nowhere.
TEST(TrainingGraph, StoredWeightsGiveTheBytesOfOpenedOnes) {
  Fixture f;
  base::ThreadPool pool(3);
  Case c;  // widths that every block format fits
  const std::int64_t d = 256;
  c.shapes = {{kVocab, d}, {d}, {d, d}, {d}, {d, d}, {2, d}, {d, d}, {d, d}, {d, d}, {d, d}, {d, d}, {d, d}};
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
    Case stored = c;
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

TEST(Gradient, SomeParametersFrozen) {
  Case c = decoder();
  c.options.frozen.assign(c.shapes.size(), false);
  for (std::size_t i = 0; i < c.shapes.size(); i += 3) c.options.frozen[i] = true;  // the embedding among them
  expect_gradients(c);
}

TEST(TrainingGraph, GradientsAccumulate) {
  Fixture f;
  Case c = decoder();
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
  Fixture f;
  Case c = decoder();
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
  Fixture f;
  Case c = decoder();
  base::ThreadPool pool(2);
  auto graph = make_graph(c, pool);
  ParameterBuffer weights(graph->parameter_shapes());
  fill_random(weights, 5, 0.3);
  ASSERT_TRUE(graph->forward(weights, f.batch()));
  std::vector<float> logprobs(12), logits(12 * kVocab);
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
  Fixture f;
  Case c = decoder(), scoring = decoder();
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
  Fixture f;
  Case c = decoder();
  base::ThreadPool pool(1);
  auto graph = make_graph(c, pool);
  ParameterBuffer weights(graph->parameter_shapes());
  auto error = [&](const Fixture& g) { return graph->forward(weights, g.batch()).error().message; };
  Fixture bad = f;
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
      tokens.push_back(static_cast<std::int32_t>(rng.below(kVocab)));
      labels.push_back(static_cast<std::int32_t>(rng.below(kVocab + 1)) - 1);
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

TEST(TrainingGraph, ChunksOfTheHeadAddUp) {
  const std::int64_t n = 2500, document = 50;
  const LongBatch b(n, document, 21);
  Case c = decoder();
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
Case wide_heads() {
  Case c;
  c.shapes = {{kVocab, 8}, {128, 8}, {64, 8}, {64, 8}, {8, 128}};
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
  for (Case c : {decoder(), wide_heads()}) {
    for (int isa = 0; isa <= static_cast<int>(base::best_isa()); ++isa) {
      c.options.max_tokens = 300;
      Case rounded = c;
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
    tokens[r] = static_cast<std::int32_t>(rng.below(kVocab));
    labels[r] = static_cast<std::int32_t>(rng.below(kVocab + 1)) - 1;
    positions[r] = static_cast<std::int32_t>(i - cu[static_cast<std::size_t>(d)]);
  }
  for (int isa = 0; isa <= static_cast<int>(base::best_isa()); ++isa) {
    for (const auto precision : {kernels::GemmPrecision::kF32, kernels::GemmPrecision::kBF16}) {
      std::vector<float> first;
      double first_loss = 0;
      for (const int threads : {1, 2, 3, 5}) {
        Case c = decoder();
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
Case hybrid(int layers) {
  constexpr int kExperts = 4, kWidth = 6, kLayer = 10 + 3 * kExperts;
  const DeltaRuleSpec delta{.key_heads = 2, .value_heads = 4, .key_dim = 3, .value_dim = 2};
  const std::int64_t d = 8, heads = delta.value_heads, in = delta.input_width(), out = delta.values_width();
  Case c;
  c.shapes = {{kVocab, d}};
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
      x = ex.add(x, ex.experts(g, ex.linear(g, {b + 9}), {.experts = kExperts, .top_k = 2, .width = kWidth, .balance = 0.1f,
                                                         .gate = {b + 10}, .up = {b + 10 + kExperts},
                                                         .down = {b + 10 + 2 * kExperts}}));
    }
    ex.head(x, {0});
  };
  return c;
}

// One of a frozen decoder in some of its layers.
Case decoder_with_adapters(int layers) {
  Case c = decoder(layers);
  c.options.frozen.assign(c.shapes.size(), true);
  c.options.adapters = {{{3}, 2, 0.5f, true}, {{2 + 14 + 13}, 2, 1.5f}, {{2 + 28 + 9}, 1, 1.0f, true}};
  return c;
}

// What is not kept is made again, to the same bytes, and memory is saved.
TEST(TrainingGraph, RecomputationChangesNoByte) {
  const std::int64_t n = 640;
  const LongBatch b(n, 70, 9);
  base::ThreadPool pool(2);
  for (Case c : {decoder(5), decoder_with_adapters(5), hybrid(5)})
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
  for (Case c : {decoder(5), decoder_with_adapters(5), hybrid(5)})
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
