// Numbers in 8 bits, block by block, as 8-bit optimizers keep their moments (Dettmers et al., "8-bit Optimizers via
// Block-wise Quantization", ICLR 2022).
//
// A block's scale is its largest magnitude; each number is the code nearest to it over the scale, of equally near ones
// the lower. Codes are "dynamic": of decimal exponents 0 to -6, the higher ones with more steps between 0.1 and 1, and
// 0 and 1: bitsandbytes' map. Its blocks have 256 numbers today (2048 in the paper), and so have these.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace qw::train {

class DynamicCode {
 public:
  static constexpr std::int64_t kBlock = 256;

  static const DynamicCode& with_sign();     // from -0.993 to 1
  static const DynamicCode& without_sign();  // from 0 to 1

  const std::array<float, 256>& values() const { return values_; }  // ascending
  // n <= kBlock numbers to codes; returns their scale.
  float close(const float* x, std::int64_t n, std::uint8_t* codes) const;
  void open(const std::uint8_t* codes, std::int64_t n, float scale, float* x) const;

 private:
  explicit DynamicCode(bool with_sign);
  std::uint8_t nearest(float x) const;
  std::array<float, 256> values_{}, upper_{};  // upper_[c]: up to here, inclusive, c is nearest
  std::vector<std::uint8_t> start_;            // by the upper 16 bits of x: a code that is not above the nearest
};

}  // namespace qw::train
