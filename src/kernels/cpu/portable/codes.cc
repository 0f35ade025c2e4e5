// What is meant by codes.h.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/internal/fill_codes.h"

namespace qw::kernels::portable {
namespace {

std::uint8_t nearest(const CodeBook& book, float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t entry = book.nearest[bits >> 16], border = entry & 0xFFFFFF;
  const bool beyond = (bits & 0xFFFF) >= border, negative = (bits >> 31) != 0;
  return static_cast<std::uint8_t>((entry >> 24) + static_cast<std::uint32_t>(beyond != negative));
}

float close(const CodeBook& book, const float* x, std::int64_t n, std::uint8_t* codes) {
  float scale = 0;
  for (std::int64_t i = 0; i < n; ++i) scale = std::max(scale, std::abs(x[i]));  // leaves out what is no number
  const float by = scale > 0 ? scale : 1.0F;
  for (std::int64_t i = 0; i < n; ++i) codes[i] = nearest(book, x[i] / by);
  return scale;
}

void open(const CodeBook& book, const std::uint8_t* codes, std::int64_t n, float scale, float* x) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = scale * book.values[codes[i]];
}

}  // namespace

CodeKernels code_kernels() { return {close, open}; }

}  // namespace qw::kernels::portable
