// Decodes units of a panel (layout.h) into tiles of bfloat16, the left operand: [block of 32][half][16 outputs][32].
//
// Each decoder makes the 32 elements of one output and one block in a register of 16-bit lanes. Four and five bits: the
// levels are scaled and rounded first (16 or 32 of them, one table for a group), and the quants choose from the table.
// Fewer and six bits: a field becomes the number 2^bits + q in bfloat16 by setting an exponent before it; its even and odd
// lanes are floats after a shift and a mask, and one multiply-add scales them and takes 2^bits, offset and min away.
#pragma once

#include "kernels/cpu/amx/layout.h"
#include "kernels/cpu/avx512/vectors.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::amx {
namespace {

using avx512::bits;
using avx512::to_bfloat;

// Scales and minima of one unit: w = scale * level - min.
struct UnitScales {
  alignas(64) float scale[16][kPanel];
  alignas(64) float min[16][kPanel];
};

QW_INLINE __m512 halves(const char* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
QW_INLINE __m128i sixteen_bytes(const char* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

QW_INLINE __m512 powers(const char* p) {
  const __m512i e = _mm512_cvtepu8_epi32(sixteen_bytes(p)), one = _mm512_set1_epi32(1), two = _mm512_set1_epi32(2);
  const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, one), 23);
  const __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
  return _mm512_castsi512_ps(_mm512_mask_blend_epi32(_mm512_cmplt_epu32_mask(e, two), normal, small));
}

template <WeightType kType>
QW_INLINE void open_scales(const char* unit, UnitScales& to) {
  constexpr Layout l = layout_of(kType);
  constexpr BlockFormat f = l.format;
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    __m512 d{}, dmin{};
    if constexpr (f.scale == ScaleKind::kSuper) {
      d = halves(unit + 32 * h);
      if constexpr (f.has_min) dmin = halves(unit + l.min_offset + 32 * h);
    }
#pragma GCC unroll 16
    for (int g = 0; g < l.groups; ++g) {
      __m512 scale{}, min{};
      if constexpr (l.float_scales) {
        scale = _mm512_loadu_ps(unit + (g * kPanel + 16 * h) * 4);
        min = _mm512_loadu_ps(unit + l.min_offset + (g * kPanel + 16 * h) * 4);
      } else if constexpr (f.scale == ScaleKind::kHalf) {
        scale = halves(unit + 64 * g + 32 * h);
        if constexpr (f.has_min) min = _mm512_sub_ps(_mm512_setzero_ps(), halves(unit + l.min_offset + 64 * g + 32 * h));
      } else if constexpr (f.scale == ScaleKind::kPower) {
        scale = powers(unit + 32 * g + 16 * h);
      } else {
        const __m128i sub = sixteen_bytes(unit + l.sub_offset + 32 * g + 16 * h);
        if constexpr (kType == WeightType::kQ2_K) {
          const __m128i low = _mm_and_si128(sub, _mm_set1_epi8(15));
          const __m128i high = _mm_and_si128(_mm_srli_epi16(sub, 4), _mm_set1_epi8(15));
          scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low)));
          min = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high)));
        } else {
          scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sub)));
          if constexpr (f.has_min)
            min = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(
                                          sixteen_bytes(unit + l.sub_min_offset + 32 * g + 16 * h))));
        }
      }
      _mm512_store_ps(to.scale[g] + 16 * h, scale);
      if constexpr (f.has_min) _mm512_store_ps(to.min[g] + 16 * h, min);
    }
  }
}

// What a decoder needs beside the scales.
template <WeightType kType>
struct Decoder {
  static constexpr Layout l = layout_of(kType);
  static constexpr BlockFormat f = l.format;
  // kFields: the number a field becomes is kBase + q.
  static constexpr int kBase = 1 << f.bits;
  static constexpr int kShift = 7 - f.bits;  // of q in the seven bits of a bfloat16's fraction
  __m512 low, high;                          // levels

  QW_INLINE Decoder() {
    alignas(64) float level[32] = {};
    if constexpr (l.quants == Quants::kTable16 || l.quants == Quants::kTable32) {
      for (int q = 0; q < kBase; ++q) level[q] = static_cast<float>(level_of(f, static_cast<std::uint8_t>(q)));
    }
    low = _mm512_load_ps(level);
    high = _mm512_load_ps(level + 16);
  }

  // For kFields: the min becomes what the multiply-add takes away.
  static QW_INLINE void finish_scales(UnitScales& s) {
    if constexpr (l.quants == Quants::kFields) {
      const __m512 base = _mm512_set1_ps(static_cast<float>(kBase + f.offset));
#pragma GCC unroll 16
      for (int g = 0; g < l.groups; ++g) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          const __m512 scale = _mm512_load_ps(s.scale[g] + 16 * h);
          const __m512 min = f.has_min ? _mm512_load_ps(s.min[g] + 16 * h) : _mm512_setzero_ps();
          _mm512_store_ps(s.min[g] + 16 * h, _mm512_fmadd_ps(base, scale, min));
        }
      }
    }
  }

  static QW_INLINE __m512 scaled(__m512 level, const UnitScales& s, int g, std::int64_t o) {
    const __m512 scale = _mm512_set1_ps(s.scale[g][o]);
    if constexpr (f.has_min || l.quants == Quants::kFields) return _mm512_fmsub_ps(level, scale, _mm512_set1_ps(s.min[g][o]));
    return _mm512_mul_ps(level, scale);
  }

  // Field kAt of words of kBits bits, moved so that its lowest bit is bit kTo; other bits are left around it.
  template <int kBits, int kAt, int kTo>
  static QW_INLINE __m512i field(__m512i words) {
    constexpr int kBy = kTo - kAt * kBits;
    if constexpr (kBy > 0) return _mm512_slli_epi16(words, kBy);
    if constexpr (kBy < 0) return _mm512_srli_epi16(words, -kBy);
    return words;
  }

  template <int kBlock32>
  QW_INLINE __m512i block(const char* quants, const UnitScales& s, std::int64_t o) const {
    constexpr int kFields = 16 / l.low_bits;  // blocks in 64 bytes
    [[maybe_unused]] const char* rest = quants + l.unit * l.low_bits / 8;
    if constexpr (l.quants == Quants::kBytes) {
      constexpr int g = kBlock32 * 32 / f.group, g2 = (kBlock32 * 32 + 16) / f.group;
      const __m512 a = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sixteen_bytes(quants + 32 * kBlock32)));
      const __m512 b = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sixteen_bytes(quants + 32 * kBlock32 + 16)));
      return to_bfloat(scaled(a, s, g, o), scaled(b, s, g2, o));
    } else {
      const __m512i words = _mm512_loadu_si512(quants + kBlock32 / kFields * 64);
      if constexpr (l.quants == Quants::kTable16) {  // the table stands twice: the bit above the field does not matter
        const __m512 t = scaled(low, s, kBlock32, o);
        return _mm512_permutexvar_epi16(field<4, kBlock32 % kFields, 0>(words), to_bfloat(t, t));
      } else if constexpr (l.quants == Quants::kTable32) {
        const __m512i table = to_bfloat(scaled(low, s, kBlock32, o), scaled(high, s, kBlock32, o));
        std::uint32_t fifth;
        __builtin_memcpy(&fifth, rest + 4 * kBlock32, 4);
        const __m512i four = _mm512_and_si512(field<4, kBlock32 % kFields, 0>(words), _mm512_set1_epi16(15));
        return _mm512_permutexvar_epi16(_mm512_mask_add_epi16(four, fifth, four, _mm512_set1_epi16(16)), table);
      } else {
        // (number & mask) | exponent: 0xea of VPTERNLOG.
        const __m512i exponent = _mm512_set1_epi16(static_cast<short>((127 + f.bits) << 7));
        const __m512i mask = _mm512_set1_epi16(static_cast<short>((kBase - 1) << kShift));
        __m512i number = field<l.low_bits, kBlock32 % kFields, kShift>(words);
        if constexpr (f.bits == 6) {
          const __m512i two = field<2, kBlock32, kShift + 4>(_mm512_loadu_si512(rest));
          // Low four bits from the first, the others from the second: mask ? a : b is 0xca.
          number = _mm512_ternarylogic_epi32(_mm512_set1_epi16(15 << kShift), number, two, 0xca);
        }
        if constexpr (f.bits == 3) {
          std::uint32_t third;
          __builtin_memcpy(&third, rest + 4 * kBlock32, 4);
          const __m512i low_mask = _mm512_set1_epi16(3 << kShift);
          number = _mm512_ternarylogic_epi32(number, low_mask, exponent, 0xea);
          number = _mm512_mask_add_epi16(number, third, number, _mm512_set1_epi16(4 << kShift));
        } else {
          number = _mm512_ternarylogic_epi32(number, mask, exponent, 0xea);
        }
        const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(number, 16));
        const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(number, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
        return to_bfloat(scaled(even, s, 2 * kBlock32, o), scaled(odd, s, 2 * kBlock32 + 1, o));
      }
    }
  }

  template <int kBlock32 = 0>
  QW_INLINE void blocks(const char* quants, const UnitScales& s, std::int64_t o, char* row) const {
    if constexpr (kBlock32 < l.blocks) {
      _mm512_store_si512(row + kBlock32 * 2048, block<kBlock32>(quants, s, o));
      blocks<kBlock32 + 1>(quants, s, o, row);
    }
  }

  QW_INLINE void unit(const char* unit, char* tiles) const {
    UnitScales s;
    open_scales<kType>(unit, s);
    finish_scales(s);
    for (std::int64_t o = 0; o < kPanel; ++o) {
      const char* quants = unit + l.scale_bytes + o * l.quant_bytes;
      // Decoding reads in fits and starts, which the hardware does not run ahead of: weights are asked for two units
      // before they are decoded, so that memory and decoding work at once.
#pragma GCC unroll 4
      for (int line = 0; line < l.quant_bytes; line += 64) __builtin_prefetch(quants + 2 * l.unit_bytes + line);
      blocks(quants, s, o, tiles + o * 64);  // 16 rows of 64 bytes, then the next half
    }
#pragma GCC unroll 16
    for (int line = 0; line < l.scale_bytes; line += 64) __builtin_prefetch(unit + 2 * l.unit_bytes + line);
  }
};

template <WeightType kType>
void unpack_row_of(const char* panel, std::int64_t in, std::int64_t o, float* y) {
  constexpr Layout l = layout_of(kType);
  UnitScales s;
  for (std::int64_t i = 0; i < in; i += l.unit, panel += l.unit_bytes) {
    open_scales<kType>(panel, s);
    const char* quants = panel + l.scale_bytes + o * l.quant_bytes;
    for (int j = 0; j < l.unit && i + j < in; ++j) {
      const int g = j / l.format.group;
      const float product = s.scale[g][o] * static_cast<float>(level_of(l.format, quant_at(l, quants, j)));
      y[i + j] = l.format.has_min ? product - s.min[g][o] : product;
    }
  }
}

}  // namespace
}  // namespace qw::kernels::amx
QW_TARGET_END
