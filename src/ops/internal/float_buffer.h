// Rooms for `n` floats, and their begin.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace qw::ops {

inline tensor::Buffer float_buffer(std::int64_t n) { return tensor::Buffer(static_cast<std::size_t>(n) * sizeof(float)); }
inline float* floats(const tensor::Buffer& b) { return reinterpret_cast<float*>(b.data()); }

}  // namespace qw::ops
