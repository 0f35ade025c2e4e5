// A dot product in plain C++.
#pragma once

#include <cstdint>

namespace qw::kernels {

// In eight sums, then what is left, then these in order.
inline float dot_product(const float* a, const float* b, std::int64_t n) {
  constexpr std::int64_t kLanes = 8;
  float sums[kLanes] = {}, total = 0;
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (std::int64_t j = 0; j < kLanes; ++j) sums[j] += a[i + j] * b[i + j];
  for (; i < n; ++i) total += a[i] * b[i];
  for (const float s : sums) total += s;
  return total;
}

}  // namespace qw::kernels
