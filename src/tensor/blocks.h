// Block-quantised formats (ggml layout) and their scalar reference codecs: the truth the kernels are tested against.
// Layouts and rounding: the GGUF/ggml block definitions (docs/formats/gguf.md).
#pragma once

#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace qw::tensor {

inline constexpr int kQ8_0Elements = 32;
struct BlockQ8_0 {    // y[j] = d * q[j]
  std::uint16_t d;    // f16
  std::int8_t q[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

struct BlockQ4_0 {    // y[j] = d * (lo(q[j]) - 8), y[j+16] = d * (hi(q[j]) - 8)
  std::uint16_t d;    // f16
  std::uint8_t q[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

struct BlockQ4_Z {    // y[j] = d * (lo(q[j]) - zero), y[j+16] = d * (hi(q[j]) - zero)
  std::uint16_t d;    // f16
  std::uint16_t zero; // 0..16
  std::uint8_t q[16];
};
static_assert(sizeof(BlockQ4_Z) == 20);
// The same values as Q8_0, which files can hold; n is a multiple of 32.
void q4_z_to_q8_0(const void* row, std::int64_t n, void* out);

// Decodes / encodes one row of n elements (n a multiple of the block size) between float and `type` (float types and
// block formats only; others are a bug). Encoding rounds as ggml's reference does; values of a block must be finite.
void decode_row(DType type, const void* row, std::int64_t n, float* out);
// All rows of a view, [rows, columns] one after the other; rows that must be made are made.
void decode(const ConstView& view, float* out);
// `importance`: n weights >= 0 of the elements' squared errors, or nullptr; formats with one rule of rounding (all up to
// Q4_0) do without.
void encode_row(DType type, const float* row, std::int64_t n, void* out, const float* importance = nullptr);
// Formats that encode_row writes; decode_row reads every float and block format.
bool can_encode(DType type);

}  // namespace qw::tensor
