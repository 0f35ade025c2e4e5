// What a 64-bit ARM processor may have beside NEON changes how bytes are multiplied, and no bit of a quantised product;
// the other tests of this room run what this one has.
#if defined(__aarch64__)
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/internal/fill.h"
#include "kernels/internal/test_data.h"
#include "kernels/kernels.h"

namespace qw::kernels {
namespace {

using base::ArmFeatures;

std::string named(ArmFeatures f) {
  return std::string(f.dot_products ? "dotprod " : "") + (f.byte_matrices ? "i8mm " : "") + (f.bfloat ? "bf16 " : "");
}

// Every way of running that this processor has.
std::vector<ArmFeatures> ways() {
  const ArmFeatures has = base::arm_features();
  std::vector<ArmFeatures> all = {{}};
  if (has.dot_products) all.push_back({.dot_products = true});
  if (has.byte_matrices) all.push_back({.dot_products = true, .byte_matrices = true});
  for (std::size_t i = 0, n = all.size(); has.bfloat && i < n; ++i) {
    all.push_back(all[i]);
    all.back().bfloat = true;
  }
  return all;
}

// The stage of ./dev test says which processor it emulates, so that no path is left out unnoticed.
TEST(Neon, TheProcessorHasWhatIsExpectedOfIt) {
  EXPECT_EQ(base::best_isa(), Isa::kNeon);
  EXPECT_EQ(*base::chosen_isa(), Isa::kNeon) << "these tests are to run NEON";
  const char* expected = std::getenv("QW_TEST_ARM_FEATURES");
  if (expected == nullptr)
    GTEST_SKIP() << "QW_TEST_ARM_FEATURES is not set; this processor has: " << named(base::arm_features());
  EXPECT_EQ(named(base::arm_features()), expected);
}

// One product of `rows` rows with the kernels of `has`.
std::vector<float> product(ArmFeatures has, WeightType type, std::int64_t rows, std::int64_t out, std::int64_t in) {
  Kernels k{};
  neon::fill_matmul(k, has);
  const std::vector<std::uint8_t> raw = random_weights(type, out, in, 31);
  const std::vector<float> x = noise(rows * in, 32), bias = noise(out, 33);
  std::vector<char> packed(k.packed_bytes(type, out, in)), prepared(k.prepared_bytes(type, rows, in));
  k.pack(type, raw.data(), out, in, packed.data());
  k.prepare(type, x.data(), in, rows, in, prepared.data(), 0, rows);
  std::vector<float> y(static_cast<std::size_t>(rows * out));
  k.matmul({type, packed.data(), prepared.data(), bias.data(), y.data(), out, rows, out, in, 0, out});
  return y;
}

TEST(Neon, EveryWayOfMultiplyingBytesGivesTheSameFloats) {
  for (const WeightType type : kAllWeightTypes) {
    if (type == WeightType::kBF16) continue;  // BFMMLA rounds differently; see matmul_test.cc for its bound
    for (const std::int64_t rows : {1, 2, 3, 4, 7, 18}) {
      const std::vector<float> want = product({}, type, rows, 29, 1280);
      for (const ArmFeatures has : ways()) {
        const std::vector<float> got = product(has, type, rows, 29, 1280);
        ASSERT_EQ(std::memcmp(got.data(), want.data(), want.size() * 4), 0)
            << weight_name(type) << " with " << rows << " rows and " << named(has);
      }
    }
  }
}

// Pairs of bfloat16 and rounded floats multiply the same numbers: the sums differ by their roundings only.
TEST(Neon, BfloatMatricesAgreeWithRoundedFloats) {
  if (!base::arm_features().bfloat) GTEST_SKIP() << "this processor has no BFMMLA";
  const std::int64_t in = 1000;
  for (const std::int64_t rows : {1, 5, 8, 9}) {
    const std::vector<float> want = product({}, WeightType::kBF16, rows, 29, in);
    const std::vector<float> got = product({.bfloat = true}, WeightType::kBF16, rows, 29, in);
    EXPECT_NE(std::memcmp(got.data(), want.data(), want.size() * 4), 0) << "the same code ran twice";
    for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-4) << rows << " rows, at " << i;
  }
}

}  // namespace
}  // namespace qw::kernels
#endif  // __aarch64__
