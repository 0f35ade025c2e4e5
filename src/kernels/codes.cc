#include "kernels/codes.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/result.h"
#include "kernels/internal/fill_codes.h"

namespace qw::kernels {
namespace {

constexpr std::uint32_t kBuckets = 1u << 16, kBucketFloats = 1u << 16;

// An entry of CodeBook::nearest; upper[c]: up to here, inclusive, c is nearest.
std::uint32_t entry(std::uint32_t high, const std::array<float, 256>& upper) {
  const bool negative = (high >> 15) != 0;
  const auto code_of = [&](std::uint32_t bits) {
    return static_cast<std::uint32_t>(std::lower_bound(upper.begin(), upper.end(), std::bit_cast<float>(bits)) -
                                      upper.begin());
  };
  // What has no border: all floats are at or above it, or below it.
  const std::uint32_t all_lower = negative ? 0 : kBucketFloats;
  if ((high & 0x7F80) == 0x7F80) return all_lower;  // infinite, which no number over its scale is, or not a number
  const std::uint32_t least = high << 16, first = code_of(least), last = code_of(least | (kBucketFloats - 1));
  if (first == last) return first << 24 | all_lower;
  const std::uint32_t code = std::min(first, last);
  QW_CHECK(std::max(first, last) == code + 1);
  const std::uint32_t border = std::bit_cast<std::uint32_t>(upper[code]) - least;
  return code << 24 | (negative ? border : border + 1);
}

}  // namespace

CodeBook code_book(const std::array<float, 256>& ascending) {
  CodeBook out{ascending, {}, std::vector<std::uint32_t>(kBuckets)};
  std::array<float, 256> upper;
  for (std::size_t c = 0; c < upper.size(); ++c) {
    const auto bits = std::bit_cast<std::uint32_t>(ascending[c]);
    for (std::size_t p = 0; p < out.planes.size(); ++p) out.planes[p][c] = static_cast<std::uint8_t>(bits >> (8 * p));
    upper[c] = c + 1 < upper.size()
                   ? static_cast<float>((static_cast<double>(ascending[c]) + static_cast<double>(ascending[c + 1])) / 2)
                   : std::numeric_limits<float>::infinity();
  }
  for (std::uint32_t high = 0; high < kBuckets; ++high) out.nearest[high] = entry(high, upper);
  return out;
}

const CodeKernels& code_kernels(base::Isa isa) {
  QW_CHECK(isa <= base::best_isa());
  static const CodeKernels portable = portable::code_kernels();
#if defined(__x86_64__)
  static const CodeKernels avx512 = avx512::code_kernels();
  if (isa == base::Isa::kAvx512 || isa == base::Isa::kAmx) return avx512;
#endif
  return portable;
}

}  // namespace qw::kernels
