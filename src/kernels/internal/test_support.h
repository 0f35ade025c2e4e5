// What the tests of this room share beside test_data.h: random values, closeness with a bound.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/internal/test_data.h"
#include "kernels/kernels.h"

namespace qw::kernels::test {

// Rounding error of one float operation, relative.
inline constexpr double kUnit = 0x1p-24;

inline std::string isa_param_name(const testing::TestParamInfo<Isa>& info) {
  return std::string(base::isa_name(info.param));
}

inline std::vector<float> random_values(std::int64_t n, std::uint32_t seed, float spread = 1.0F) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = normal(rng);
  return x;
}

// Lengths around every vector width, unrolling and chunk in use.
inline const std::vector<std::int64_t> kLengths = {1, 7, 8, 15, 16, 17, 61, 64, 127, 128, 1000, 1031, 8193};

// Roundings a term of a sum of n passes through: 32 or more partial sums, then a tree, then a few operations.
inline double sum_depth(std::int64_t n) { return static_cast<double>(n) / 32 + 12; }

inline void expect_within(double actual, double expected, double bound, const char* what, std::int64_t index) {
  // Written so that a NaN fails.
  if (!(std::fabs(actual - expected) <= bound)) {
    ADD_FAILURE() << what << '[' << index << "] = " << actual << ", expected " << expected << " +- " << bound;
  }
}

}  // namespace qw::kernels::test
