// Numbers in 8 bits, block by block, as 8-bit optimizers keep their moments (Dettmers et al., "8-bit Optimizers via
// Block-wise Quantization", ICLR 2022).
//
// A block's scale is its largest magnitude; each number is the code nearest to it over the scale, of equally near ones
// the lower. Codes are "dynamic": of decimal exponents 0 to -6, the higher ones with more steps between 0.1 and 1, and
// 0 and 1: bitsandbytes' map. Its blocks have 256 numbers today (2048 in the paper), and so have these.
#pragma once

#include <cstdint>

#include "kernels/codes.h"

namespace qw::train {

struct DynamicCode {
  static constexpr std::int64_t kBlock = 256;

  static const kernels::CodeBook& with_sign();     // from -0.993 to 1
  static const kernels::CodeBook& without_sign();  // from 0 to 1
};

}  // namespace qw::train
