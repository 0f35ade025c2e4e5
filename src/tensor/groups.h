// Block formats opened up: every one of them is, for groups of 16 elements, w = scale * q - min with small integers q.
// This is the truth about their layouts (docs/formats/gguf.md); decode_row and the packing of weights both go by it.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace qw::tensor {

// 32 elements: w[j] = scale[j / 16] * q[j] - min[j / 16], each operation rounded to float32 as the formats' reference
// decoders round it. The kernels room takes these bytes as WeightType::kGroups8.
struct Groups8 {
  float scale[2];
  float min[2];
  std::int8_t q[32];
};
static_assert(sizeof(Groups8) == 48);

// The same for formats with one scale and one min per 32 and q in 0..15 (element j + 16 in the high nibble of q[j]).
// The kernels room takes these bytes as WeightType::kGroups4.
struct Groups4 {
  float scale, min;
  std::uint8_t q[16];
};
static_assert(sizeof(Groups4) == 24);

// Formats that open_groups knows: all block formats but Q8_0 and Q4_0, which are simpler still.
bool has_groups(DType type);
// Of those, the ones that fit Groups4 without loss.
bool fits_groups4(DType type);

// Opens a row of n elements (n a multiple of the block size) into n / 32 groups.
void open_groups(DType type, const void* row, std::int64_t n, Groups8* out);
void open_groups(DType type, const void* row, std::int64_t n, Groups4* out);  // fits_groups4(type)

// The sixteen levels of IQ4_NL and IQ4_XS, and of MXFP4 (E2M1, doubled).
inline constexpr std::int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr std::int8_t kMxfp4Levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
// 2^(e - 128) with its subnormals: the scale of an MXFP4 block, for the doubled levels.
inline float mxfp4_scale(std::uint8_t e) {
  const std::uint32_t bits = e < 2 ? 0x00200000u << e : std::uint32_t{e - 1u} << 23;
  return __builtin_bit_cast(float, bits);
}
// Scale and min (6 bits each) of sub-block j = 0..7 of Q4_K and Q5_K.
struct ScaleMin {
  int scale, min;
};
inline ScaleMin scale_min(const std::uint8_t* s, int j) {
  if (j < 4) return {s[j] & 63, s[j + 4] & 63};
  return {(s[j + 4] & 15) | (s[j - 4] >> 6) << 4, (s[j + 4] >> 4) | (s[j] >> 6) << 4};
}

}  // namespace qw::tensor
