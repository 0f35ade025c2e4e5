// Encoders of the block formats in groups.h: a search over scales (and minima) per block for the least weighted squared
// error, after the reference quantisers of ggml. Without weights from a calibration they choose their own.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace qw::tensor {

// Encodes n finite elements (n a multiple of the block size, has_groups(type)). `importance`: n weights >= 0 of the
// squared errors of the elements (mean squares of the activations they meet), or nullptr.
void encode_groups(DType type, const float* row, std::int64_t n, const float* importance, void* out);

}  // namespace qw::tensor
