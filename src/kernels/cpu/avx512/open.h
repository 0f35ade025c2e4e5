// Opens blocks of a panel (internal/compact.h): levels as unsigned bytes, scales and minima as floats. Included once by
// each file, after the standard headers; internal linkage.
#pragma once

#include "kernels/cpu/avx512/vectors.h"
#include "kernels/internal/tiles.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {

// Bytes ahead of what is opened that are asked for: opening reads in fits and starts, which the hardware does not run
// ahead of. From memory into the second cache far ahead, and from there into the first one soon before: the few
// requests that the first cache keeps open at a time are then answered sooner (docs/lessons/speed.md has other
// distances).
constexpr int kAhead = 1024, kFarAhead = 4096;
struct Ahead {
  int near = kAhead, far = kFarAhead;  // near = 0: nobody asks
};

// Where a format's minima are subtracted: nowhere, group by group, or for a whole unit (kUnitSteps in
// internal/scalar.h).
enum class Minima : std::uint8_t { kNone, kGroups, kUnits };
constexpr Minima minima_of(WeightType type) {
  const Compact c = compact_of(type);
  if (!c.format.has_min) return Minima::kNone;
  return activation_kind(type).has_units() && c.unit_blocks == kUnitBlocks ? Minima::kUnits : Minima::kGroups;
}

// What a scale of step `step` of `steps` is of its power of two.
constexpr float step_of(int step, int steps) { return 1.0f + static_cast<float>(step) / static_cast<float>(steps); }

// kSigned: bytes are the levels themselves, for products of signed bytes; else with what makes them unsigned added.
template <WeightType kType, bool kSigned>
struct Opener {
  static constexpr Compact c = compact_of(kType);
  static constexpr BlockFormat f = c.format;
  static constexpr int kOffset = activation_kind(kType).offset;
  static constexpr Minima kMinima = minima_of(kType);
  static constexpr int kBytes = c.block * kTileColumns;
  static constexpr int kSteps = kSigned ? 1 : 1 << activation_kind(kType).step_bits;
  static_assert(kSteps == 1 || kSteps * c.groups == kStepsOfBlock);
  __m512i table;  // of formats with levels from a table: sixteen of them, unsigned, in every quarter

  QW_INLINE Opener() {
    alignas(16) std::uint8_t levels[16] = {};
    if constexpr (f.table != Levels::kNone) {
      for (std::uint8_t q = 0; q < 16; ++q) levels[q] = unsigned_level(f, q, kSigned ? 0 : kOffset);
    }
    table = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(levels)));
  }

  // Moved left by kBy bits, or right by -kBy; what comes from the next byte is masked off later.
  template <int kBy>
  static QW_INLINE __m512i moved(__m512i v) {
    if constexpr (kBy > 0) return _mm512_slli_epi16(v, kBy);
    if constexpr (kBy < 0) return _mm512_srli_epi16(v, -kBy);
    return v;
  }

  // Word kWord of a block: four levels of sixteen outputs.
  template <int kWord>
  QW_INLINE __m512i word(const __m512i* low, const __m512i* high) const {
    if constexpr (c.low_bits == 8) return low[kWord];
    constexpr int kFrom = c.low_bits == 4 ? kWord % 4 : kWord / 4,
                  kAt = c.low_bits == 4 ? kWord / 4 * 4 : kWord % 4 * 2;
    const __m512i q = moved<-kAt>(low[kFrom]), low_mask = _mm512_set1_epi8((1 << c.low_bits) - 1);
    if constexpr (c.high_bits == 0) {
      const __m512i level = _mm512_and_si512(q, low_mask);
      return f.table != Levels::kNone ? _mm512_shuffle_epi8(table, level) : level;
    } else {
      constexpr int kHighFrom = c.high_bits == 2 ? kWord / 4 : 0, kHighAt = c.high_bits == 2 ? kWord % 4 * 2 : kWord;
      const __m512i rest = moved<c.low_bits - kHighAt>(high[kHighFrom]);
      // mask ? q : rest is 0xca.
      return _mm512_and_si512(_mm512_ternarylogic_epi32(low_mask, q, rest, 0xca), _mm512_set1_epi8((1 << f.bits) - 1));
    }
  }

  template <int kWord = 0>
  QW_INLINE void words(const __m512i* low, const __m512i* high, std::uint8_t (*to)[kTileColumns * 4]) const {
    if constexpr (kWord < 8) {
      __m512i level = word<kWord>(low, high);
      if constexpr (kSigned && kOffset != 0 && f.table == Levels::kNone)
        level = _mm512_sub_epi8(level, _mm512_set1_epi8(static_cast<char>(kOffset)));
      _mm512_store_si512(to[kWord], level);
      words<kWord + 1>(low, high, to);
    }
  }

  QW_INLINE void quants(const char* from, std::uint8_t (*to)[kTileColumns * 4]) const {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      __m512i low[c.low_bits], high[c.high_bits + 1];
      load_quants(from, v, low, high);
      words(low, high, reinterpret_cast<std::uint8_t(*)[kTileColumns * 4]>(to[0] + v * 64));
    }
  }

  // Scales, and minima that are subtracted there, of sixteen outputs of a group. Without minima, `min` stays as it is.
  static QW_INLINE void group(const char* from, int v, __m512 d, __m512 dmin, __m512& scale, __m512& min) {
    [[maybe_unused]] const char* minima = from + c.minima * kTileColumns;
    if constexpr (f.scale == ScaleKind::kFloat) {
      scale = _mm512_loadu_ps(from + 64 * v);
      min = _mm512_loadu_ps(minima + 64 * v);
    } else if constexpr (f.scale == ScaleKind::kHalf) {
      scale = halves(from + 32 * v);
      if constexpr (f.has_min) min = _mm512_sub_ps(_mm512_setzero_ps(), halves(minima + 32 * v));
    } else if constexpr (f.scale == ScaleKind::kPower) {
      scale = powers(from + 16 * v);
    } else if constexpr (kType == WeightType::kQ2_K) {
      const __m128i both = sixteen_bytes(from + 16 * v), nibble = _mm_set1_epi8(15);
      scale = _mm512_mul_ps(d, small_integers(_mm_and_si128(both, nibble)));
      min = _mm512_mul_ps(dmin, small_integers(_mm_and_si128(_mm_srli_epi16(both, 4), nibble)));
    } else {
      scale = _mm512_mul_ps(d, small_integers(sixteen_bytes(from + 16 * v)));
      if constexpr (kMinima == Minima::kGroups)
        min = _mm512_mul_ps(dmin, small_integers(sixteen_bytes(minima + 16 * v)));
    }
  }

  // Minima of a block and the one behind it, as pairs of small integers of sixteen outputs.
  static QW_INLINE __m512i min_pairs(const char* block, int v) {
    const char* minima = block + c.minima * kTileColumns + 16 * v;
    const __m128i even = sixteen_bytes(minima), odd = sixteen_bytes(minima + kBytes);
    return _mm512_cvtepu8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd)));
  }

  // What a unit's scales and minima are multiplied with; nothing for units without a head.
  static QW_INLINE void unit([[maybe_unused]] const char* head, __m512 (&d)[kTileVectors],
                             __m512 (&dmin)[kTileVectors]) {
    if constexpr (f.scale == ScaleKind::kSuper) {
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
        d[v] = halves(head + 32 * v);
        if constexpr (f.has_min) dmin[v] = halves(head + 64 + 32 * v);
      }
    }
  }

  // The parts of half v of a block's quants, as `word` takes them.
  static QW_INLINE void load_quants(const char* from, int v, __m512i (&low)[c.low_bits],
                                    __m512i (&high)[c.high_bits + 1]) {
#pragma GCC unroll 8
    for (int i = 0; i < c.low_bits; ++i) low[i] = _mm512_loadu_si512(from + i * kTileColumns * 4 + v * 64);
#pragma GCC unroll 2
    for (int i = 0; i < c.high_bits; ++i)
      high[i] = _mm512_loadu_si512(from + (c.low_bits + i) * kTileColumns * 4 + v * 64);
  }

  // kFar: from memory too, where nobody else does.
  template <bool kFar>
  static QW_INLINE void ask_ahead(const char* block, Ahead ahead = {}) {
    if (ahead.near == 0) return;
#pragma GCC unroll 32
    for (int line = 0; line < c.block * kTileColumns; line += 64) {
      __builtin_prefetch(block + ahead.near + line);
      if constexpr (kFar) __builtin_prefetch(block + ahead.far + line, 0, 2);
    }
  }

  // `blocks` blocks of one unit, or of units without a head. kAsk: nobody else asks for the blocks behind them.
  template <bool kAsk>
  QW_INLINE void chunk([[maybe_unused]] const char* head, const char* block, int blocks,
                       OpenedChunk<kTileColumns>& to) const {
    constexpr int kGroupBytes = c.minima / c.groups * kTileColumns;
    __m512 d[kTileVectors] = {}, dmin[kTileVectors] = {};
    unit(head, d, dmin);
    if constexpr (kMinima == Minima::kUnits) {
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
        _mm512_store_ps(to.dmin + 16 * v, dmin[v]);
        for (int b = 0; b < blocks; b += 2)
          _mm512_store_si512(to.min_pairs[b / 2] + 16 * v, min_pairs(block + b * kBytes, v));
      }
    }
    for (int b = 0; b < blocks; ++b, block += kBytes) {
      if constexpr (kAsk) ask_ahead<true>(block);
#pragma GCC unroll 2
      for (int g = 0; g < c.groups; ++g) {
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; ++v) {
          __m512 scale, min;
          group(block + g * kGroupBytes, v, d[v], dmin[v], scale, min);
          if constexpr (kSteps == 1) {
            _mm512_store_ps(to.scale[b][g] + 16 * v, scale);
          } else {
#pragma GCC unroll 16
            for (int s = 0; s < kSteps; ++s)
              _mm512_store_ps(to.stepped[b * kStepsOfBlock + g * kSteps + s] + 16 * v,
                              _mm512_mul_ps(scale, _mm512_set1_ps(step_of(s, kSteps))));
          }
          if constexpr (kMinima == Minima::kGroups) _mm512_store_ps(to.min[b][g] + 16 * v, min);
        }
      }
      quants(block + c.quants * kTileColumns, to.q[b]);
    }
  }
};

}  // namespace
}  // namespace qw::kernels::avx512
QW_TARGET_END
