#include "ops/program.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ops/internal/forward_plan.h"
#include "ops/rope.h"

namespace qw::ops {
namespace {

TEST(Recording, NumbersValuesAndUses) {
  RecordingExecutor r({{11, 8}, {8}, {6, 8}, {8, 6}});
  const Value x = r.embed({0});
  const Value h = r.rms_norm(x, {1}, 1e-6f);
  const Value y = r.linear(h, {2});
  const Value z = r.add(x, r.linear(y, {3}));
  r.head(z, {0});
  const Program p = r.finish();
  ASSERT_EQ(p.ops.size(), 6u);
  EXPECT_EQ(p.widths, (std::vector<std::int32_t>{8, 8, 6, 8, 8}));
  EXPECT_EQ(p.maker, (std::vector<std::int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(p.last_use, (std::vector<std::int32_t>{4, 2, 3, 4, 5}));
  EXPECT_STREQ(op_name(p.ops[4].kind), "add");
  // The sum is written over the projection, which nobody else reads; the residual keeps its own memory.
  EXPECT_EQ(forward_roots(p, true), (std::vector<std::int32_t>{0, 1, 2, 3, 3}));
}

TEST(RecordingDeath, ShapesThatDoNotFitAreBugs) {
  RecordingExecutor r({{11, 8}, {6, 7}});
  const Value x = r.embed({0});
  EXPECT_DEATH(r.linear(x, {1}), "x.width");
  EXPECT_DEATH(r.rms_norm(x, {1}, 1e-6f), "check failed");
  EXPECT_DEATH(r.linear(x, {2}), "parameters_.size");
  EXPECT_DEATH(r.finish(), "kHead");
}

TEST(Rope, FrequenciesFallGeometrically) {
  const auto f = rope_frequencies({.head_dim = 8, .rotary = 8, .theta = 10000});
  ASSERT_EQ(f.size(), 4u);
  EXPECT_FLOAT_EQ(f[0], 1.0f);
  EXPECT_FLOAT_EQ(f[1], 0.1f);
  EXPECT_FLOAT_EQ(f[3], 0.001f);
}

TEST(Rope, LinearScalingDividesPositions) {
  const auto f =
      rope_frequencies({.head_dim = 4, .rotary = 4, .theta = 100, .scaling = RopeScaling::kLinear, .factor = 4});
  EXPECT_FLOAT_EQ(f[0], 0.25f);
  EXPECT_FLOAT_EQ(f[1], 0.025f);
}

// Worked by hand for the published setting: width 128, theta 1e6, factor 4 over 32768 positions. Boundaries
// 128 ln(32768 / (32 * 2 pi)) / (2 ln 1e6) = 23.6 and 128 ln(32768 / (2 pi)) / (2 ln 1e6) = 39.6, so pairs up to 23
// stay, pairs from 40 on are slowed four times, and pair 30 is blended 7/17 of the way.
TEST(Rope, YarnBlendsBetweenItsBoundaries) {
  const auto f = rope_frequencies({.head_dim = 128,
                                   .rotary = 128,
                                   .theta = 1e6f,
                                   .scaling = RopeScaling::kYarn,
                                   .factor = 4,
                                   .original_context = 32768});
  auto plain = [](int i) { return std::pow(1e6, -i / 64.0); };
  EXPECT_NEAR(f[0], 1.0, 1e-7);
  EXPECT_NEAR(f[23] / plain(23), 1.0, 1e-6);
  EXPECT_NEAR(f[30] / plain(30), 0.25 * 7 / 17 + 10.0 / 17, 1e-6);
  EXPECT_NEAR(f[40] / plain(40), 0.25, 1e-6);
  EXPECT_NEAR(f[63] / plain(63), 0.25, 1e-6);
}

}  // namespace
}  // namespace qw::ops
