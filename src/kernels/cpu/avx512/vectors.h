// What the AVX-512 matrix products share: masked loads, the 16x16 transpose, and the operations of the inner loop.
// Included once by each file, after the standard headers; internal linkage throughout.
#pragma once

#include <cstdint>

#include "kernels/internal/target.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {

// The first `count` of 16 lanes; count may be anything.
QW_INLINE __mmask16 lanes(std::int64_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xffff)
                     : static_cast<__mmask16>(count <= 0 ? 0 : (1u << count) - 1u);
}

QW_INLINE __m512 load_floats(const float* p, std::int64_t count) { return _mm512_maskz_loadu_ps(lanes(count), p); }

QW_INLINE __m512i bits(__m512 v) { return _mm512_castps_si512(v); }
QW_INLINE __m512i bits(__m512bh v) { return (__m512i)v; }

// 32 floats to bfloat16, in order.
QW_INLINE __m512i to_bfloat(__m512 low, __m512 high) { return bits(_mm512_cvtne2ps_pbh(high, low)); }

// Sixteen floats that bfloat16 holds, as floats.
QW_INLINE __m512i rounded_to_bfloat(__m512 v) {
  return _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v)), 16);
}

// Sixteen scales of weights, as block formats hold them: halves, powers of two (MXFP4), small integers.
QW_INLINE __m512 halves(const char* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
QW_INLINE __m128i sixteen_bytes(const char* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
QW_INLINE __m512 small_integers(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)); }
QW_INLINE __m512 powers(const char* p) {
  const __m512i e = _mm512_cvtepu8_epi32(sixteen_bytes(p)), one = _mm512_set1_epi32(1), two = _mm512_set1_epi32(2);
  const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, one), 23);
  const __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
  return _mm512_castsi512_ps(_mm512_mask_blend_epi32(_mm512_cmplt_epu32_mask(e, two), normal, small));
}

// Lane i becomes the pair (even[i], odd[i]).
QW_INLINE __m512i bfloat_pairs(__m512 even, __m512 odd) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, to_bfloat(even, odd));
}

// Transposes 16 registers of 16 words.
QW_INLINE void transpose(__m512i (&r)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // r[4g + j], 128-bit lane l, now holds rows 4g..4g+3 of column 4l + j.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88), b = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88),
                  d = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
    t[j] = _mm512_shuffle_i32x4(a, c, 0x88);
    t[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
    t[8 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
    t[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

// The operations of the inner loop. kWordBytes: bytes of one word of k for the 16 columns of a register.
struct FloatOp {
  using Vector = __m512;
  static constexpr int kWordBytes = 64;
  static QW_INLINE Vector columns(const char* p) { return _mm512_loadu_ps(p); }
  static QW_INLINE Vector broadcast(const std::uint32_t* p) { return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(*p))); }
  static QW_INLINE __m512 multiply_add(Vector a, Vector b, __m512 sum) { return _mm512_fmadd_ps(a, b, sum); }
};

struct BfloatOp {  // pairs of k
  using Vector = __m512i;
  static constexpr int kWordBytes = 64;
  static QW_INLINE Vector columns(const char* p) { return _mm512_loadu_si512(p); }
  static QW_INLINE Vector broadcast(const std::uint32_t* p) {
    __m512i pair = _mm512_set1_epi32(static_cast<int>(*p));
#if defined(__clang__)
    asm("" : "+v"(pair));  // clang 16 overflows its stack when it sees a broadcast become a vector of bfloat16
#endif
    return pair;
  }
  static QW_INLINE __m512 multiply_add(Vector a, Vector b, __m512 sum) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
};

// A tile of 14 rows by two registers: 28 sums, two registers of columns and one broadcast row fill the 32 registers,
// and 16 loads go with 28 multiply-adds, which is less than the two loads per cycle there are.
constexpr int kTileRows = 14;
constexpr int kTileVectors = 2;
constexpr int kTileColumns = 16 * kTileVectors;

// sums[r][v] += rows of a tile times columns of a panel.
template <class Op, int kRows>
QW_INLINE void sum_strips(const std::uint32_t* a, const char* b, std::int64_t strips,
                          __m512 (&sums)[kRows][kTileVectors]) {
  for (; strips > 0; --strips, a += kRows * 16) {
    for (int word = 0; word < 16; ++word, b += kTileVectors * Op::kWordBytes) {
      const typename Op::Vector b0 = Op::columns(b), b1 = Op::columns(b + Op::kWordBytes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const typename Op::Vector x = Op::broadcast(a + r * 16 + word);
        sums[r][0] = Op::multiply_add(x, b0, sums[r][0]);
        sums[r][1] = Op::multiply_add(x, b1, sums[r][1]);
      }
    }
  }
}

}  // namespace
}  // namespace qw::kernels::avx512
QW_TARGET_END
