// The inference product with AVX-512: VDPBF16PS, VPDPBUSD on quantised blocks, float FMA (f16 weights convert exactly).
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"
#include "kernels/internal/tiles.h"

#if QW_X86
#include <array>
#include <limits>
#include <utility>

#include "kernels/cpu/avx512/vectors.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {

// Rows of a quantised tile: 12 integer and 12 float sums and two registers of weights leave six for the scales.
constexpr int kQuantisedRows = 6;

template <int kRows>
QW_INLINE void store_tile(const MatmulTile& t, const __m512 (&sums)[kRows][kTileVectors]) {
  const __mmask16 low = lanes(t.outputs), high = lanes(t.outputs - 16);
  __m512 bias[kTileVectors] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  if (t.bias != nullptr) {
    bias[0] = _mm512_maskz_loadu_ps(low, t.bias);
    bias[1] = _mm512_maskz_loadu_ps(high, t.bias + 16);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    _mm512_mask_storeu_ps(t.y + r * t.ldy, low, _mm512_add_ps(sums[r][0], bias[0]));
    _mm512_mask_storeu_ps(t.y + r * t.ldy + 16, high, _mm512_add_ps(sums[r][1], bias[1]));
  }
}

template <class Op, int kRows>
void float_tile(const MatmulTile& t) {
  __m512 sums[kRows][kTileVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  sum_strips<Op, kRows>(reinterpret_cast<const std::uint32_t*>(t.rows), t.panel, t.steps, sums);
  store_tile<kRows>(t, sums);
}

// Integer sums of one block: sums[r][v] += four-byte products of `word` of each row with the columns in w.
template <int kRows>
QW_INLINE void add_word(const ActivationBlock* x, int word, const __m512i (&w)[kTileVectors],
                        __m512i (&sums)[kRows][kTileVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    std::int32_t four;
    __builtin_memcpy(&four, x[r].q + 4 * word, 4);
    const __m512i q = _mm512_set1_epi32(four);
    sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], w[0], q);
    sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], w[1], q);
  }
}

template <WeightType kType, int kRows>
void quantised_tile(const MatmulTile& t) {
  __m512 sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  const auto* x = reinterpret_cast<const ActivationBlock*>(t.rows);
  const char* panel = t.panel;
  constexpr std::int64_t kPanelBlock = quantised_panel_block_bytes(kType, kTileColumns);
  const __m512i nibble = _mm512_set1_epi8(15);
  for (std::int64_t b = 0; b < t.steps; ++b, x += kRows, panel += kPanelBlock) {
    __m512i q[kRows][kTileVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) q[r][0] = q[r][1] = _mm512_set1_epi32(x[r].correction);
    if constexpr (kType == WeightType::kQ8_0) {
#pragma GCC unroll 8
      for (int word = 0; word < 8; ++word) {
        const __m512i w[kTileVectors] = {_mm512_loadu_si512(panel + word * 128),
                                         _mm512_loadu_si512(panel + word * 128 + 64)};
        add_word<kRows>(x, word, w, q);
      }
    } else {
#pragma GCC unroll 4
      for (int word = 0; word < 4; ++word) {
        const __m512i both[kTileVectors] = {_mm512_loadu_si512(panel + word * 128),
                                            _mm512_loadu_si512(panel + word * 128 + 64)};
        const __m512i low[kTileVectors] = {_mm512_and_si512(both[0], nibble), _mm512_and_si512(both[1], nibble)};
        add_word<kRows>(x, word, low, q);
        const __m512i high[kTileVectors] = {_mm512_and_si512(_mm512_srli_epi16(both[0], 4), nibble),
                                            _mm512_and_si512(_mm512_srli_epi16(both[1], 4), nibble)};
        add_word<kRows>(x, word + 4, high, q);
      }
    }
    const auto* scales = reinterpret_cast<const __m256i*>(panel + kPanelBlock - 2 * kTileColumns);
    const __m512 d0 = _mm512_cvtph_ps(_mm256_loadu_si256(scales)), d1 = _mm512_cvtph_ps(_mm256_loadu_si256(scales + 1));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512 d = _mm512_set1_ps(x[r].d);
      sums[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(q[r][0]), _mm512_mul_ps(d0, d), sums[r][0]);
      sums[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(q[r][1]), _mm512_mul_ps(d1, d), sums[r][1]);
    }
  }
  store_tile<kRows>(t, sums);
}

// Grouped blocks: one integer sum per scale; the minima meet the sums of the activations. VPDPBUSD wants unsigned
// weights: kGroups8 is stored with 128 added, which the start of its sums takes away again.
template <WeightType kType, int kRows>
void grouped_tile(const MatmulTile& t) {
  constexpr bool kBytes = kType == WeightType::kGroups8;
  constexpr int kGroups = kBytes ? 2 : 1, kWords = kBytes ? 8 : 4;
  constexpr std::int64_t kPanelBlock = quantised_panel_block_bytes(kType, kTileColumns);
  __m512 sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  const auto* x = reinterpret_cast<const ActivationBlock*>(t.rows);
  const char* panel = t.panel;
  const __m512i nibble = _mm512_set1_epi8(15);
  for (std::int64_t b = 0; b < t.steps; ++b, x += kRows, panel += kPanelBlock) {
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
      const auto x_sum = [&](int r) {
        const std::int32_t c = x[r].correction;
        return !kBytes ? low_sum(c) + high_sum(c) : g == 0 ? low_sum(c) : high_sum(c);
      };
      __m512i q[kRows][kTileVectors];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) q[r][0] = q[r][1] = _mm512_set1_epi32(kBytes ? -128 * x_sum(r) : 0);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const int word = 4 * g + i;
        const __m512i w[kTileVectors] = {_mm512_loadu_si512(panel + word * 128),
                                         _mm512_loadu_si512(panel + word * 128 + 64)};
        if constexpr (kBytes) {
          add_word<kRows>(x, word, w, q);
        } else {
          const __m512i low[kTileVectors] = {_mm512_and_si512(w[0], nibble), _mm512_and_si512(w[1], nibble)};
          add_word<kRows>(x, word, low, q);
          const __m512i high[kTileVectors] = {_mm512_and_si512(_mm512_srli_epi16(w[0], 4), nibble),
                                              _mm512_and_si512(_mm512_srli_epi16(w[1], 4), nibble)};
          add_word<kRows>(x, word + 4, high, q);
        }
      }
      const auto* scale = reinterpret_cast<const float*>(panel + (kWords + g) * kTileColumns * 4);
      const float* min = scale + kGroups * kTileColumns;
      const __m512 s0 = _mm512_loadu_ps(scale), s1 = _mm512_loadu_ps(scale + 16);
      const __m512 m0 = _mm512_loadu_ps(min), m1 = _mm512_loadu_ps(min + 16);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512 d = _mm512_set1_ps(x[r].d), dx = _mm512_set1_ps(x[r].d * static_cast<float>(x_sum(r)));
        sums[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(q[r][0]), _mm512_mul_ps(s0, d), sums[r][0]);
        sums[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(q[r][1]), _mm512_mul_ps(s1, d), sums[r][1]);
        sums[r][0] = _mm512_fnmadd_ps(m0, dx, sums[r][0]);
        sums[r][1] = _mm512_fnmadd_ps(m1, dx, sums[r][1]);
      }
    }
  }
  store_tile<kRows>(t, sums);
}

using TileFunction = void (*)(const MatmulTile&);
template <WeightType kType, std::size_t... kIndex>
constexpr std::array<TileFunction, sizeof...(kIndex)> grouped_tiles(std::index_sequence<kIndex...>) {
  return {&grouped_tile<kType, static_cast<int>(kIndex) + 1>...};
}
template <class Op, std::size_t... kIndex>
constexpr std::array<TileFunction, sizeof...(kIndex)> float_tiles(std::index_sequence<kIndex...>) {
  return {&float_tile<Op, static_cast<int>(kIndex) + 1>...};
}
template <WeightType kType, std::size_t... kIndex>
constexpr std::array<TileFunction, sizeof...(kIndex)> quantised_tiles(std::index_sequence<kIndex...>) {
  return {&quantised_tile<kType, static_cast<int>(kIndex) + 1>...};
}
constexpr auto kFloatTiles = float_tiles<FloatOp>(std::make_index_sequence<kTileRows>{});
constexpr auto kHalfTiles = float_tiles<HalfOp>(std::make_index_sequence<kTileRows>{});
constexpr auto kBfloatTiles = float_tiles<BfloatOp>(std::make_index_sequence<kTileRows>{});
constexpr auto kQ8Tiles = quantised_tiles<WeightType::kQ8_0>(std::make_index_sequence<kQuantisedRows>{});
constexpr auto kQ4Tiles = quantised_tiles<WeightType::kQ4_0>(std::make_index_sequence<kQuantisedRows>{});

constexpr auto kGroups8Tiles = grouped_tiles<WeightType::kGroups8>(std::make_index_sequence<kQuantisedRows>{});
constexpr auto kGroups4Tiles = grouped_tiles<WeightType::kGroups4>(std::make_index_sequence<kQuantisedRows>{});

struct Avx512Matmul {
  static constexpr std::int64_t kGranule = kTileColumns;
  static std::int64_t tile_rows(WeightType type) { return is_quantised(type) ? kQuantisedRows : kTileRows; }
  static std::int64_t elements_per_word(WeightType type) { return type == WeightType::kBF16 ? 2 : 1; }

  // One row as strips of 16 words, `stride` words apart.
  static void prepare_row(WeightType type, const float* x, std::int64_t in, std::uint32_t* strips,
                          std::int64_t stride) {
    if (type == WeightType::kBF16) {
      for (std::int64_t i = 0; i < in; i += 32, strips += stride) {
        _mm512_storeu_si512(strips, to_bfloat(load_floats(x + i, in - i), load_floats(x + i + 16, in - i - 16)));
      }
    } else {
      for (std::int64_t i = 0; i < in; i += 16, strips += stride) {
        _mm512_storeu_si512(strips, bits(load_floats(x + i, in - i)));
      }
    }
  }

  // As quantise_activations in scalar.h, byte for byte.
  static void quantise(const float* x, int offset, ActivationBlock& out) {
    const __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
    const __m512 a = _mm512_abs_ps(low), b = _mm512_abs_ps(high);
    const __m512 infinity = _mm512_set1_ps(std::numeric_limits<float>::infinity());
    const bool finite = (_mm512_cmp_ps_mask(a, infinity, _CMP_NLT_UQ) | _mm512_cmp_ps_mask(b, infinity, _CMP_NLT_UQ)) == 0;
    const float amax = _mm512_reduce_max_ps(_mm512_max_ps(a, b));
    if (!finite || amax < kSmallestActivation) {
      out = ActivationBlock{};
      if (!finite) out.d = std::numeric_limits<float>::quiet_NaN();
      return;
    }
    out.d = amax / 127.0f;
    const __m512 inverse = _mm512_set1_ps(1.0f / out.d);
    const __m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
    const __m512i q1 = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.q), _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.q + 16), _mm512_cvtepi32_epi8(q1));
    out.correction = -offset * _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));
  }

  static void matmul_tile(WeightType type, int rows, const MatmulTile& t) {
    const auto index = static_cast<std::size_t>(rows - 1);
    switch (type) {
      case WeightType::kF32: return kFloatTiles[index](t);
      case WeightType::kF16: return kHalfTiles[index](t);
      case WeightType::kBF16: return kBfloatTiles[index](t);
      case WeightType::kQ8_0: return kQ8Tiles[index](t);
      case WeightType::kQ4_0: return kQ4Tiles[index](t);
      case WeightType::kGroups8: return kGroups8Tiles[index](t);
      case WeightType::kGroups4: return kGroups4Tiles[index](t);
      default: return;  // opened when it was packed
    }
  }
};

}  // namespace

void fill_matmul(Kernels& k) { fill_tiled_matmul<Avx512Matmul, true>(k); }

}  // namespace qw::kernels::avx512
QW_TARGET_END
#endif  // QW_X86
