// Opens blocks of a panel (internal/compact.h): levels as bytes, scales and minima as floats. Included once by each
// file, after the standard headers; internal linkage.
#pragma once

#include "kernels/cpu/avx2/vectors.h"
#include "kernels/internal/tiles.h"

QW_TARGET_AVX2_BEGIN
namespace qw::kernels::avx2 {
namespace {

// Bytes ahead of what is opened that are asked for: opening reads in fits and starts, which the hardware does not run
// ahead of.
constexpr int kAhead = 2048;

// Levels of eight bits stay signed: without their sign, the 16-bit sums of byte products would overflow.
constexpr bool signed_levels(const BlockFormat& f) { return f.bits == 8 || f.table == Levels::kIq4; }

QW_INLINE __m256i bytes_at(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
QW_INLINE __m256 halves(const char* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
QW_INLINE __m128i eight_bytes(const char* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
QW_INLINE __m256 small_integers(__m128i bytes) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)); }
QW_INLINE __m256 powers(const char* p) {  // power_scale in blocks.h
  const __m256i e = _mm256_cvtepu8_epi32(eight_bytes(p));
  const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
  const __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
  return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}

template <WeightType kType>
struct Opener {
  static constexpr Compact c = compact_of(kType);
  static constexpr BlockFormat f = c.format;
  __m256i table;  // of formats with levels from a table: sixteen of them, in either half

  QW_INLINE Opener() {
    alignas(16) std::uint8_t levels[16] = {};
    if constexpr (f.table != Levels::kNone) {
      for (std::uint8_t q = 0; q < 16; ++q)
        levels[q] = unsigned_level(f, q, signed_levels(f) ? 0 : activation_kind(kType).offset);
    }
    table = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(levels)));
  }

  // Moved left by kBy bits, or right by -kBy; what comes from the next byte is masked off later.
  template <int kBy>
  static QW_INLINE __m256i moved(__m256i v) {
    if constexpr (kBy > 0) return _mm256_slli_epi16(v, kBy);
    if constexpr (kBy < 0) return _mm256_srli_epi16(v, -kBy);
    return v;
  }

  // Word kWord of a block: four levels of eight outputs.
  template <int kWord>
  QW_INLINE __m256i word(const char* from) const {
    const auto part = [&](int i) { return bytes_at(from + i * kTileColumns * 4); };
    if constexpr (c.low_bits == 8) return part(kWord);
    constexpr int kFrom = c.low_bits == 4 ? kWord % 4 : kWord / 4,
                  kAt = c.low_bits == 4 ? kWord / 4 * 4 : kWord % 4 * 2;
    constexpr int kLowMask = (1 << c.low_bits) - 1;
    const __m256i q = _mm256_and_si256(moved<-kAt>(part(kFrom)), _mm256_set1_epi8(kLowMask));
    if constexpr (c.high_bits == 0) {
      return f.table != Levels::kNone ? _mm256_shuffle_epi8(table, q) : q;
    } else {
      constexpr int kHighFrom = c.high_bits == 2 ? kWord / 4 : 0, kHighAt = c.high_bits == 2 ? kWord % 4 * 2 : kWord;
      const __m256i rest = moved<c.low_bits - kHighAt>(part(c.low_bits + kHighFrom));
      return _mm256_or_si256(q, _mm256_and_si256(rest, _mm256_set1_epi8(((1 << f.bits) - 1) ^ kLowMask)));
    }
  }

  template <int kWord = 0>
  QW_INLINE void words(const char* from, std::uint8_t* to) const {
    if constexpr (kWord < 8) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(to + kWord * kTileColumns * 4), word<kWord>(from));
      words<kWord + 1>(from, to);
    }
  }

  // Scales and minima of eight outputs of a group.
  static QW_INLINE void group(const char* from, int v, __m256 d, __m256 dmin, float* scale, float* min) {
    [[maybe_unused]] const char* minima = from + c.minima * kTileColumns;
    if constexpr (f.scale == ScaleKind::kFloat) {
      _mm256_store_ps(scale, _mm256_loadu_ps(reinterpret_cast<const float*>(from + 32 * v)));
      _mm256_store_ps(min, _mm256_loadu_ps(reinterpret_cast<const float*>(minima + 32 * v)));
    } else if constexpr (f.scale == ScaleKind::kHalf) {
      _mm256_store_ps(scale, halves(from + 16 * v));
      if constexpr (f.has_min) _mm256_store_ps(min, _mm256_sub_ps(_mm256_setzero_ps(), halves(minima + 16 * v)));
    } else if constexpr (f.scale == ScaleKind::kPower) {
      _mm256_store_ps(scale, powers(from + 8 * v));
    } else if constexpr (kType == WeightType::kQ2_K) {
      const __m128i both = eight_bytes(from + 8 * v), nibble = _mm_set1_epi8(15);
      _mm256_store_ps(scale, _mm256_mul_ps(d, small_integers(_mm_and_si128(both, nibble))));
      _mm256_store_ps(min, _mm256_mul_ps(dmin, small_integers(_mm_and_si128(_mm_srli_epi16(both, 4), nibble))));
    } else {
      _mm256_store_ps(scale, _mm256_mul_ps(d, small_integers(eight_bytes(from + 8 * v))));
      if constexpr (f.has_min) _mm256_store_ps(min, _mm256_mul_ps(dmin, small_integers(eight_bytes(minima + 8 * v))));
    }
  }

  // `blocks` blocks of one unit, or of units without a head.
  QW_INLINE void chunk([[maybe_unused]] const char* head, const char* block, int blocks,
                       OpenedChunk<kTileColumns>& to) const {
    constexpr int kBytes = c.block * kTileColumns, kGroupBytes = c.minima / c.groups * kTileColumns;
    __m256 d[kTileVectors] = {}, dmin[kTileVectors] = {};
    if constexpr (f.scale == ScaleKind::kSuper) {
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
        d[v] = halves(head + 16 * v);
        if constexpr (f.has_min) dmin[v] = halves(head + 32 + 16 * v);
      }
    }
    for (int b = 0; b < blocks; ++b, block += kBytes) {
#pragma GCC unroll 32
      for (int line = 0; line < kBytes; line += 64) __builtin_prefetch(block + kAhead + line);
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
#pragma GCC unroll 2
        for (int g = 0; g < c.groups; ++g)
          group(block + g * kGroupBytes, v, d[v], dmin[v], to.scale[b][g] + 8 * v, to.min[b][g] + 8 * v);
        words(block + c.quants * kTileColumns + 32 * v, to.q[b][0] + 32 * v);
      }
    }
  }
};

}  // namespace
}  // namespace qw::kernels::avx2
QW_TARGET_END
