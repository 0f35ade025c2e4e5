// Gradients of every op, and of whole decoders, against central differences of a reference in double.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/rng.h"
#include "ops/internal/reference.h"
#include "ops/internal/training_case.h"
#include "ops/ngrams.h"

namespace qw::ops {
namespace {

// Every gradient of every trained parameter against central differences of the reference in double.
//
// Tolerance: with h = 1e-4 the difference's own error is about h^2 |f'''| / 6 + 1e-16 |f| / h < 1e-8 (values of order
// one); the float path's is a few hundred roundings of 6e-8 on terms as large as the tensor's largest gradient, so
// 1e-4 of that largest entry (plus 1e-6 for tensors whose gradient vanishes) holds with room and still catches any
// wrong term.
void expect_gradients(const TrainingCase& c, const TinyBatch& f = {}) {
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

const std::vector<tensor::Shape> kEmbedAndHead{{kTestVocab, 8}, {kTestVocab, 8}};

TrainingCase one_op(std::vector<tensor::Shape> more, std::function<Value(Executor&, Value)> body,
                    std::int64_t head_width = 8) {
  TrainingCase c;
  c.shapes = {{kTestVocab, 8}, {kTestVocab, head_width}};
  c.shapes.insert(c.shapes.end(), more.begin(), more.end());
  c.forward = [body](Executor& ex) { ex.head(body(ex, ex.embed({0})), {1}); };
  return c;
}

TEST(Gradient, EmbedAndHead) {
  expect_gradients(one_op({}, [](Executor&, Value x) { return x; }));
}

TEST(Gradient, TiedEmbeddingSumsBothUses) {
  TrainingCase c;
  c.shapes = {{kTestVocab, 8}};
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

// The gradients of a sum's sides may share memory, unless one side hands it on to a value that others read too, or
// turns it.
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
  expect_gradients(
      one_op({{8, 3}}, [](Executor& ex, Value x) { return ex.short_conv(x, {2}, {.state = 0, .dilation = 2}); }));
}

// Two tables of rows, whose heads 0 and 1 are of bigrams, 2 and 3 of trigrams; token 5 ends texts.
NgramSpec small_ngrams() {
  return {.size = 3,
          .heads_each = 2,
          .dim = 2,
          .end_of_text = 5,
          .factors = {7, 13, 29},
          .sizes = {5, 7, 11, 13},
          .offsets = {0, 5, 12, 23},
          .table = {2},
          .tables = 2,
          .rows_each = 18};
}

TEST(Gradient, Ngrams) {
  expect_gradients(
      one_op({{18, 2}, {18, 2}}, [](Executor& ex, Value x) { return ex.add(x, ex.ngrams(small_ngrams())); }));
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

void expect_attention_gradients(std::int64_t window) {
  const AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 3, .scale = 0.6f, .window = window};
  expect_gradients(one_op(
      {{12, 8}, {6, 8}, {6, 8}},
      [spec](Executor& ex, Value x) {
        const Value q = ex.linear(x, {2}), k = ex.linear(x, {3}), v = ex.linear(x, {4});
        return ex.attention(q, k, v, spec);
      },
      12));
}

TEST(Gradient, Attention) { expect_attention_gradients(0); }

TEST(Gradient, AttentionInAWindow) {
  for (const std::int64_t window : {2, 3, 50}) expect_attention_gradients(window);
}

// What chooses has no gradient, and its weights keep none; rows of 4 and 5 tokens see fewer.
TrainingCase indexed(std::int32_t ratio, std::int32_t blocks) {
  const AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 3, .scale = 0.6f};
  const IndexSpec index{.heads = 3,
                        .dim = 6,
                        .ratio = ratio,
                        .blocks = blocks,
                        .key_norm = {8},
                        .eps = 1e-3f,
                        .rope = {.head_dim = 6, .rotary = 4, .theta = 50}};
  TrainingCase c = one_op(
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
  const TinyBatch f;
  std::vector<std::vector<float>> all[2];
  for (const bool frozen : {true, false}) {
    TrainingCase c = indexed(2, 1);
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
TrainingCase mixture(bool normalise, float balance) {
  TrainingCase c;
  constexpr int kExperts = 5, kWidth = 3;
  c.shapes = {{kTestVocab, 8}, {kTestVocab, 8}};
  for (int l = 0; l < 2; ++l) {
    c.shapes.push_back({kExperts, 8});
    for (int e = 0; e < 2 * kExperts; ++e) c.shapes.push_back({kWidth, 8});
    for (int e = 0; e < kExperts; ++e) c.shapes.push_back({8, kWidth});
  }
  c.forward = [=](Executor& ex) {
    Value x = ex.embed({0});
    for (int l = 0; l < 2; ++l) {
      const int b = 2 + l * (1 + 3 * kExperts);
      x = ex.add(x, ex.experts(x, ex.linear(x, {b}),
                               {.experts = kExperts,
                                .top_k = 2,
                                .width = kWidth,
                                .normalise = normalise,
                                .balance = balance,
                                .gate = {b + 1},
                                .up = {b + 1 + kExperts},
                                .down = {b + 1 + 2 * kExperts}}));
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
  TrainingCase c = mixture(true, 0.1f);
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
  expect_gradients(
      one_op({{8, 8}, {8, 8}}, [](Executor& ex, Value x) { return ex.linear(ex.relu(ex.linear(x, {2})), {3}); }));
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

TrainingCase delta(DeltaRuleSpec spec) {
  return one_op(
      {{spec.input_width(), 8}, {spec.value_heads, 8}, {spec.value_heads, 8}, {spec.value_heads}, {spec.value_heads}},
      [spec](Executor& ex, Value x) {
        return ex.delta_rule(ex.linear(x, {2}), ex.linear(x, {3}), ex.linear(x, {4}), {5}, {6}, spec);
      },
      spec.values_width());
}

TEST(Gradient, DeltaRule) {
  expect_gradients(delta({.key_heads = 2, .value_heads = 4, .key_dim = 3, .value_dim = 2}));
  expect_gradients(delta({.key_heads = 2, .value_heads = 4, .key_dim = 3, .value_dim = 2, .tiled = true}));
  expect_gradients(delta({.key_heads = 1, .value_heads = 1, .key_dim = 2, .value_dim = 40}));
}

// Documents which begin and end off the grid of kept states, and one that spans several.
TEST(Gradient, DeltaRuleOfLongDocuments) {
  TinyBatch f;
  for (std::vector<std::int32_t>* v : {&f.tokens, &f.positions, &f.labels}) v->clear();
  f.cu = {0, 40, 210, 224};
  base::Rng rng(5);
  for (std::size_t d = 0; d + 1 < f.cu.size(); ++d)
    for (std::int32_t p = 0; p < f.cu[d + 1] - f.cu[d]; ++p) {
      f.tokens.push_back(static_cast<std::int32_t>(rng.next_u32() % kTestVocab));
      f.labels.push_back(static_cast<std::int32_t>(rng.next_u32() % kTestVocab));
      f.positions.push_back(p);
    }
  TrainingCase c = delta({.key_heads = 1, .value_heads = 2, .key_dim = 3, .value_dim = 2});
  c.options.max_tokens = 224;
  expect_gradients(c, f);
}

TEST(Gradient, DeltaRuleOfFrozenGates) {
  TrainingCase c = delta({.key_heads = 2, .value_heads = 2, .key_dim = 3, .value_dim = 2});
  c.options.frozen.assign(c.shapes.size(), false);
  c.options.frozen[5] = c.options.frozen[6] = true;
  expect_gradients(c);
}

TEST(Gradient, GateRows) {
  expect_gradients(one_op({{8, 8}, {1, 8}},
                          [](Executor& ex, Value x) { return ex.gate_rows(ex.linear(x, {2}), ex.linear(x, {3})); }));
  expect_gradients(
      one_op({{1, 8}}, [](Executor& ex, Value x) { return ex.add(x, ex.gate_rows(x, ex.linear(x, {2}))); }));
}

TEST(Gradient, WholeDecoder) { expect_gradients(decoder()); }

TEST(Gradient, RowWeights) {
  TrainingCase c = decoder();
  c.row_weights = {0.5f, 9.0f, -2.0f, 1.0f, 3.0f, 0.0f, 1.0f, 1.0f, 0.25f, 1.5f, -1.0f, 2.0f};
  expect_gradients(c);
}

TEST(Gradient, AdaptersOnAFrozenModel) {
  TrainingCase c = decoder();
  c.options.frozen.assign(c.shapes.size(), true);
  c.options.adapters = {{{3}, 2, 0.5f}, {{7}, 3, 2.0f}, {{2 + 14 + 13}, 2, 1.5f}, {{13}, 1, 1.0f}};
  expect_gradients(c);
}

// With and without a bias, over rows that several documents share.
TEST(Gradient, AdaptersWithAMagnitude) {
  TrainingCase c = decoder();
  c.options.frozen.assign(c.shapes.size(), true);
  c.options.adapters = {
      {{3}, 2, 0.5f, true}, {{7}, 3, 2.0f, false}, {{2 + 14 + 13}, 2, 1.5f, true}, {{13}, 1, 1.0f, true}};
  expect_gradients(c);
}

TEST(Gradient, SomeParametersFrozen) {
  TrainingCase c = decoder();
  c.options.frozen.assign(c.shapes.size(), false);
  for (std::size_t i = 0; i < c.shapes.size(); i += 3) c.options.frozen[i] = true;  // the embedding among them
  expect_gradients(c);
}

}  // namespace
}  // namespace qw::ops
