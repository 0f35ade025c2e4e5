// Rows that end early, in a program where much of what the last op that looks from row to row was given is read behind it
// once more (models/last_rows_test.cc has those of models).
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "base/rng.h"
#include "ops/program.h"
#include "ops/running_executor.h"

namespace qw::ops {
namespace {

constexpr std::int32_t kVocab = 11, kD = 64, kHeadDim = 32, kBlock = 16;
constexpr std::int32_t kRows = 24;
constexpr AttentionSpec kLook{.layer = 0, .heads = 2, .kv_heads = 2, .head_dim = kHeadDim, .scale = 0.2f};
const std::vector<tensor::Shape> kShapes{{kVocab, kD}, {kD}, {kD, kD}, {kD, kD}, {kD, kD}, {kD, kD}};

// `h` is prepared for products before attention and wanted prepared the same way behind it; it is kept, and read last
// before attention, as is what `x` was made of.
void forward(Executor& ex) {
  const Value x = ex.embed({0}), h = ex.rms_norm(x, {1}, 1e-6f);
  ex.keep(h);
  const Value q = ex.linear(h, {2}), k = ex.linear(h, {3}), v = ex.linear(h, {4});
  const Value o = ex.attention(q, k, v, kLook);
  ex.head(ex.add(ex.add(x, ex.linear(o, {5})), ex.linear(h, {2})), {0});
}
// What is kept lies before attention and is not read behind it.
void forward_kept(Executor& ex) {
  const Value x = ex.embed({0}), h = ex.rms_norm(x, {1}, 1e-6f);
  ex.keep(h);
  const Value o = ex.attention(ex.linear(h, {2}), ex.linear(h, {3}), ex.linear(h, {4}), kLook);
  ex.head(ex.add(x, ex.linear(o, {5})), {0});
}

struct Pass {
  std::vector<float> logits, kept;
};

class LastRows : public ::testing::TestWithParam<void (*)(Executor&)> {
 protected:
  std::vector<std::vector<float>> numbers_;
  std::vector<tensor::ConstView> views_;
  std::vector<float> keys_ = std::vector<float>(4 * kBlock * kD), values_ = keys_;
  base::ThreadPool threads_{2};

  void SetUp() override {
    for (std::size_t i = 0; i < kShapes.size(); ++i) {
      base::Rng rng(3, i);
      numbers_.emplace_back(static_cast<std::size_t>(kShapes[i].elements()));
      for (float& v : numbers_.back()) v = static_cast<float>(rng.next_normal() * 0.3);
    }
    for (std::size_t i = 0; i < kShapes.size(); ++i)
      views_.push_back({tensor::DType::kF32, kShapes[i], reinterpret_cast<const std::byte*>(numbers_[i].data())});
  }

  // Logits of `asked`, and what is kept of them.
  Pass run(std::span<const std::int32_t> asked, bool only) {
    RecordingExecutor recorder(kShapes);
    GetParam()(recorder);
    auto executor = RunningExecutor::create(recorder.finish(), views_, {.max_rows = kRows, .max_logit_rows = kRows},
                                            kernels::kernels_for(base::best_isa()), threads_);
    std::vector<std::int32_t> tokens(kRows), positions(kRows), sequences(kRows, 0), table{0, 1, 2, 3};
    std::iota(positions.begin(), positions.end(), 0);
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * 7 % kVocab);
    const std::span<const std::int32_t> tables[]{table};
    const CacheView cache{.type = kernels::CacheType::kF32, .block_tokens = kBlock,
                          .keys = {reinterpret_cast<std::byte*>(keys_.data())},
                          .values = {reinterpret_cast<std::byte*>(values_.data())}};
    EXPECT_TRUE((*executor)->begin({.tokens = tokens, .positions = positions, .sequences = sequences, .tables = tables,
                                    .logit_rows = asked, .cache = &cache, .only_logit_rows = only}));
    GetParam()(**executor);
    Pass pass;
    for (std::size_t i = 0; i < asked.size(); ++i) {
      const auto logits = (*executor)->logits(static_cast<std::int64_t>(i));
      pass.logits.insert(pass.logits.end(), logits.begin(), logits.end());
      const auto kept = (*executor)->kept(asked[i]);
      pass.kept.insert(pass.kept.end(), kept.begin(), kept.end());
    }
    const std::int32_t other = 1;
    EXPECT_EQ((*executor)->compute_logits({&other, 1}).has_value(), !only);
    return pass;
  }
};

TEST_P(LastRows, WhatIsReadBehindAttentionGoesOnWithThem) {
  const std::vector<std::int32_t> asked{23, 5, 17, 5};
  const Pass all = run(asked, false), some = run(asked, true);
  EXPECT_EQ(std::memcmp(all.logits.data(), some.logits.data(), all.logits.size() * sizeof(float)), 0);
  EXPECT_EQ(std::memcmp(all.kept.data(), some.kept.data(), all.kept.size() * sizeof(float)), 0);
  EXPECT_TRUE(run({}, true).logits.empty());
}

INSTANTIATE_TEST_SUITE_P(Programs, LastRows, ::testing::Values(&forward, &forward_kept));

}  // namespace
}  // namespace qw::ops
