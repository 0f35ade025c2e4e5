#include "train/internal/dynamic_code.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/result.h"

namespace qw::train {
namespace {

constexpr int kExponents = 7;

kernels::CodeBook dynamic_code(bool with_sign) {
  std::array<float, 256> all{0.0f, 1.0f};
  std::size_t n = 2;
  for (int i = 0; i < kExponents; ++i) {
    const int steps = 1 << (with_sign ? i : i + 1);
    const double power = std::pow(10.0, i - (kExponents - 1));
    for (int s = 0; s < steps; ++s) {  // the middle of each step between 0.1 and 1
      const auto x = static_cast<float>(power * (0.1 + 0.9 * (s + 0.5) / steps));
      all[n++] = x;
      if (with_sign) all[n++] = -x;
    }
  }
  QW_CHECK(n == all.size());
  std::sort(all.begin(), all.end());
  return kernels::code_book(all);
}

}  // namespace

const kernels::CodeBook& DynamicCode::with_sign() {
  static const kernels::CodeBook code = dynamic_code(true);
  return code;
}
const kernels::CodeBook& DynamicCode::without_sign() {
  static const kernels::CodeBook code = dynamic_code(false);
  return code;
}

}  // namespace qw::train
