// codes.h with sixteen floats at a time.
#include <array>
#include <cstdint>

#include "kernels/internal/exp.h"
#include "kernels/internal/fill_codes.h"
#include "kernels/internal/target.h"

#if QW_X86

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {
#include "kernels/internal/vec_avx512.inc"

// The operands' order lets what is no number pass by, as std::max(largest, |x|) does.
QW_INLINE vf vlargest(vf largest, vf x) { return _mm512_max_ps(_mm512_abs_ps(x), largest); }

QW_INLINE float largest_magnitude(const float* x, std::int64_t n) {
  vf s0 = vzero(), s1 = vzero(), s2 = vzero(), s3 = vzero();
  std::int64_t i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
    s0 = vlargest(s0, vload(x + i));
    s1 = vlargest(s1, vload(x + i + kWidth));
    s2 = vlargest(s2, vload(x + i + 2 * kWidth));
    s3 = vlargest(s3, vload(x + i + 3 * kWidth));
  }
  for (; i < n; i += kWidth) s0 = vlargest(s0, vload(x + i, vfirst(n - i < kWidth ? n - i : kWidth)));
  return vmax_lane(vmax(vmax(s0, s1), vmax(s2, s3)));
}

QW_INLINE __m128i nearest(const std::uint32_t* table, vf x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i entry = _mm512_i32gather_epi32(_mm512_srli_epi32(bits, 16), table, 4);
  const __mmask16 beyond = _mm512_cmpge_epi32_mask(_mm512_and_si512(bits, _mm512_set1_epi32(0xFFFF)),
                                                   _mm512_and_si512(entry, _mm512_set1_epi32(0xFFFFFF)));
  const __m512i code = _mm512_srli_epi32(entry, 24);
  const auto next = static_cast<__mmask16>(beyond ^ _mm512_movepi32_mask(bits));
  return _mm512_cvtepi32_epi8(_mm512_mask_add_epi32(code, next, code, _mm512_set1_epi32(1)));
}

float close(const CodeBook& book, const float* x, std::int64_t n, std::uint8_t* codes) {
  const float scale = largest_magnitude(x, n);
  const vf by = vset(scale > 0 ? scale : 1.0F);
  const std::uint32_t* const table = book.nearest.data();
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), nearest(table, vdiv(vload(x + i), by)));
  if (i < n) {
    alignas(16) std::uint8_t part[kWidth];
    _mm_store_si128(reinterpret_cast<__m128i*>(part), nearest(table, vdiv(vload(x + i, vfirst(n - i)), by)));
    __builtin_memcpy(codes + i, part, static_cast<std::size_t>(n - i));
  }
  return scale;
}

// Of the value of each of 64 codes, one byte.
QW_INLINE __m512i plane(const std::array<std::uint8_t, 256>& bytes, __m512i codes, __mmask64 upper_half) {
  const auto part = [&](int i) { return _mm512_loadu_si512(bytes.data() + 64 * i); };
  return _mm512_mask_blend_epi8(upper_half, _mm512_permutex2var_epi8(part(0), codes, part(1)),
                                _mm512_permutex2var_epi8(part(2), codes, part(3)));
}

struct Values {
  vf of[4];
};
// The values of 64 codes, in order.
QW_INLINE Values values(const CodeBook& book, __m512i codes) {
  // Unpacking stays within 128 bits, so that what is to end in a register must lie in a column of the four times four
  // words.
  codes = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), codes);
  const __mmask64 upper_half = _mm512_movepi8_mask(codes);
  const __m512i b0 = plane(book.planes[0], codes, upper_half), b1 = plane(book.planes[1], codes, upper_half);
  const __m512i b2 = plane(book.planes[2], codes, upper_half), b3 = plane(book.planes[3], codes, upper_half);
  const __m512i low01 = _mm512_unpacklo_epi8(b0, b1), high01 = _mm512_unpackhi_epi8(b0, b1);
  const __m512i low23 = _mm512_unpacklo_epi8(b2, b3), high23 = _mm512_unpackhi_epi8(b2, b3);
  const auto floats = [](__m512i bits) { return _mm512_castsi512_ps(bits); };
  return {{floats(_mm512_unpacklo_epi16(low01, low23)), floats(_mm512_unpackhi_epi16(low01, low23)),
           floats(_mm512_unpacklo_epi16(high01, high23)), floats(_mm512_unpackhi_epi16(high01, high23))}};
}

void open(const CodeBook& book, const std::uint8_t* codes, std::int64_t n, float scale, float* x) {
  constexpr std::int64_t kCodes = 4 * kWidth;
  const vf by = vset(scale);
  std::int64_t i = 0;
  for (; i + kCodes <= n; i += kCodes) {
    const Values v = values(book, _mm512_loadu_si512(codes + i));
    for (int j = 0; j < 4; ++j) vstore(x + i + j * kWidth, vmul(by, v.of[j]));
  }
  if (i == n) return;
  const Values v = values(book, _mm512_maskz_loadu_epi8((std::uint64_t{1} << (n - i)) - 1, codes + i));
  for (int j = 0; i < n; ++j, i += kWidth) vstore(x + i, vfirst(n - i < kWidth ? n - i : kWidth), vmul(by, v.of[j]));
}

}  // namespace

CodeKernels code_kernels() { return {close, open}; }

}  // namespace qw::kernels::avx512
QW_TARGET_END

#endif  // QW_X86
