// Products of pairs of bfloat16 with BFMMLA, for the inference and the training product: rows in strips of 16 words,
// columns as panels [word][8], a word two elements of k. Included after vectors.h; internal linkage.
//
// One instruction multiplies four elements of k of two rows with those of two columns. It is the only one used, for a
// single row too: a sum then runs through the same roundings whatever rows go beside it.
#pragma once

#include "kernels/cpu/neon/vectors.h"

QW_TARGET_BF16_BEGIN
namespace qw::kernels::neon {
namespace {

QW_INLINE bfloat16x8_t two_rows(const std::uint32_t* a, const std::uint32_t* b) {
  return vreinterpretq_bf16_u32(vcombine_u32(vld1_u32(a), vld1_u32(b)));
}

template <int kRows>
QW_INLINE void sum_bfloat_strips(const std::uint32_t* a, const std::uint32_t* b, std::int64_t strips,
                                 float32x4_t (&sums)[kRows][kTileVectors]) {
  constexpr int kPairs = (kRows + 1) / 2;
  float32x4_t pairs[kPairs][4];  // of rows by pairs of columns: [row][column]
#pragma GCC unroll 4
  for (int r = 0; r < kPairs; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) pairs[r][c] = vdupq_n_f32(0);
  }
  for (; strips > 0; --strips, a += kRows * 16) {
    for (int w = 0; w < 16; w += 2, b += 2 * kTileColumns) {
      bfloat16x8_t columns[4];
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
        const uint32x4_t first = vld1q_u32(b + 4 * v), second = vld1q_u32(b + kTileColumns + 4 * v);
        columns[2 * v] = vreinterpretq_bf16_u32(vzip1q_u32(first, second));
        columns[2 * v + 1] = vreinterpretq_bf16_u32(vzip2q_u32(first, second));
      }
#pragma GCC unroll 4
      for (int r = 0; r < kPairs; ++r) {
        const int other = 2 * r + 1 < kRows ? 2 * r + 1 : 2 * r;
        const bfloat16x8_t rows = two_rows(a + 2 * r * 16 + w, a + other * 16 + w);
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) pairs[r][c] = vbfmmlaq_f32(pairs[r][c], rows, columns[c]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      const float64x2_t left = vreinterpretq_f64_f32(pairs[r / 2][2 * v]);
      const float64x2_t right = vreinterpretq_f64_f32(pairs[r / 2][2 * v + 1]);
      sums[r][v] = vreinterpretq_f32_f64(r % 2 == 0 ? vzip1q_f64(left, right) : vzip2q_f64(left, right));
    }
  }
}

}  // namespace
}  // namespace qw::kernels::neon
QW_TARGET_END
