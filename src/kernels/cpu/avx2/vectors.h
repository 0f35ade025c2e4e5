// What the AVX2 matrix products share. Included once by each file, after the standard headers; internal linkage.
#pragma once

#include <cstdint>

#include "kernels/internal/target.h"

QW_TARGET_AVX2_BEGIN
namespace qw::kernels::avx2 {
namespace {

// A tile of 6 rows by two registers of 8: twelve sums, two registers of columns and one broadcast row of 16 registers.
constexpr int kTileRows = 6;
constexpr int kTileVectors = 2;
constexpr int kTileColumns = 8 * kTileVectors;

QW_INLINE __m256i lane_mask(std::int64_t count) {
  const int n = count >= 8 ? 8 : count <= 0 ? 0 : static_cast<int>(count);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// One step of the inner loop takes kElements elements of k for 16 columns, kStepBytes bytes of a panel.
struct FloatOp {
  static constexpr int kElements = 1, kStepBytes = 64;
  static QW_INLINE void columns(const char* p, __m256 (&w)[1][kTileVectors]) {
    w[0][0] = _mm256_loadu_ps(reinterpret_cast<const float*>(p));
    w[0][1] = _mm256_loadu_ps(reinterpret_cast<const float*>(p + 32));
  }
};

struct HalfOp {
  static constexpr int kElements = 1, kStepBytes = 32;
  static QW_INLINE void columns(const char* p, __m256 (&w)[1][kTileVectors]) {
    w[0][0] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    w[0][1] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)));
  }
};

struct BfloatOp {  // a word holds (k, k + 1); either half becomes a float by itself
  static constexpr int kElements = 2, kStepBytes = 64;
  static QW_INLINE void columns(const char* p, __m256 (&w)[2][kTileVectors]) {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      const __m256i pair = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32 * v));
      w[0][v] = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
      w[1][v] = _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
    }
  }
};

// sums[r][v] += rows of a tile (strips of 16 floats) times columns of a panel.
template <class Op, int kRows>
QW_INLINE void sum_strips(const float* a, const char* b, std::int64_t strips, __m256 (&sums)[kRows][kTileVectors]) {
  for (; strips > 0; --strips, a += kRows * 16) {
    for (int k = 0; k < 16; k += Op::kElements, b += Op::kStepBytes) {
      __m256 w[Op::kElements][kTileVectors];
      Op::columns(b, w);
#pragma GCC unroll 2
      for (int e = 0; e < Op::kElements; ++e) {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const __m256 x = _mm256_broadcast_ss(a + r * 16 + k + e);
          sums[r][0] = _mm256_fmadd_ps(x, w[e][0], sums[r][0]);
          sums[r][1] = _mm256_fmadd_ps(x, w[e][1], sums[r][1]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace qw::kernels::avx2
QW_TARGET_END
