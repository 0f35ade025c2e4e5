#include "train/internal/dynamic_code.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace qw::train {
namespace {

constexpr int kExponents = 7;

}  // namespace

const DynamicCode& DynamicCode::with_sign() {
  static const DynamicCode code(true);
  return code;
}
const DynamicCode& DynamicCode::without_sign() {
  static const DynamicCode code(false);
  return code;
}

DynamicCode::DynamicCode(bool with_sign) {
  std::vector<float> all{0.0f, 1.0f};
  for (int i = 0; i < kExponents; ++i) {
    const int steps = 1 << (with_sign ? i : i + 1);
    const double power = std::pow(10.0, i - (kExponents - 1));
    for (int s = 0; s < steps; ++s) {  // the middle of each step between 0.1 and 1
      const auto x = static_cast<float>(power * (0.1 + 0.9 * (s + 0.5) / steps));
      all.push_back(x);
      if (with_sign) all.push_back(-x);
    }
  }
  std::sort(all.begin(), all.end());
  std::copy(all.begin(), all.end(), values_.begin());
  for (std::size_t c = 0; c + 1 < values_.size(); ++c)
    upper_[c] = static_cast<float>((static_cast<double>(values_[c]) + static_cast<double>(values_[c + 1])) / 2);
  upper_.back() = std::numeric_limits<float>::infinity();
  start_.resize(1 << 16);
  for (std::uint32_t high = 0; high < start_.size(); ++high) {
    // The least number with these bits: below zero the one of the largest magnitude.
    const std::uint32_t sign = high >> 15;
    const auto least = std::bit_cast<float>((high << 16) | (sign != 0 ? 0xFFFFu : 0u));
    const auto at = std::lower_bound(upper_.begin(), upper_.end(), least);
    start_[high] = std::isnan(least) ? 0 : static_cast<std::uint8_t>(at - upper_.begin());
  }
}

std::uint8_t DynamicCode::nearest(float x) const {
  std::uint8_t code = start_[std::bit_cast<std::uint32_t>(x) >> 16];
  while (x > upper_[code]) ++code;
  return code;
}

float DynamicCode::close(const float* x, std::int64_t n, std::uint8_t* codes) const {
  float scale = 0;
  for (std::int64_t i = 0; i < n; ++i) scale = std::max(scale, std::abs(x[i]));
  const float by = scale > 0 ? scale : 1.0f;
  for (std::int64_t i = 0; i < n; ++i) codes[i] = nearest(x[i] / by);
  return scale;
}

void DynamicCode::open(const std::uint8_t* codes, std::int64_t n, float scale, float* x) const {
  for (std::int64_t i = 0; i < n; ++i) x[i] = scale * values_[codes[i]];
}

}  // namespace qw::train
