// The inference product with AVX2. bfloat16 weights and rounded activations are multiplied as floats; quantised blocks
// with VPMADDUBSW, whose 16-bit sums cannot saturate here (see the tiles).
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"
#include "kernels/internal/tiles.h"

#if QW_X86
#include <array>
#include <limits>
#include <utility>

#include "kernels/cpu/avx2/vectors.h"

QW_TARGET_AVX2_BEGIN
namespace qw::kernels::avx2 {
namespace {

// Rows of a quantised tile: six integer sums, six float sums, and four registers for the weights.
constexpr int kQuantisedRows = 3;

// The loops over registers must be unrolled: an index known only at run time would put the sums in
// memory, for the inner loop as well.
template <int kRows>
QW_INLINE void store_tile(const MatmulTile& t, const __m256 (&sums)[kRows][kTileVectors]) {
#pragma GCC unroll 2
  for (int v = 0; v < kTileVectors; ++v) {
    const __m256i mask = lane_mask(t.outputs - 8 * v);
    const __m256 bias = t.bias == nullptr ? _mm256_setzero_ps() : _mm256_maskload_ps(t.bias + 8 * v, mask);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      _mm256_maskstore_ps(t.y + r * t.ldy + 8 * v, mask, _mm256_add_ps(sums[r][v], bias));
    }
  }
}

template <class Op, int kRows>
void float_tile(const MatmulTile& t) {
  __m256 sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
  sum_strips<Op, kRows>(reinterpret_cast<const float*>(t.rows), t.panel, t.steps, sums);
  store_tile<kRows>(t, sums);
}

QW_INLINE __m256i broadcast_word(const ActivationBlock& x, int word) {
  std::int32_t four;
  __builtin_memcpy(&four, x.q + 4 * word, 4);
  return _mm256_set1_epi32(four);
}

// |w| as the unsigned factor and x with the sign of w: a pair sums to at most 2 * 128 * 127 = 32512 < 2^15.
template <int kRows, int kBegin = 0, int kEnd = 8>
QW_INLINE void q8_block(const char* panel, const ActivationBlock* x, __m256i (&q)[kRows][kTileVectors]) {
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) q[r][0] = q[r][1] = _mm256_setzero_si256();
  for (int word = kBegin; word < kEnd; ++word) {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel + word * 64 + v * 32));
      const __m256i size = _mm256_abs_epi8(w);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(broadcast_word(x[r], word), w));
        q[r][v] = _mm256_add_epi32(q[r][v], _mm256_madd_epi16(pairs, ones));
      }
    }
  }
}

// Nibbles are 0..15: eight words of pairs sum to at most 8 * 2 * 15 * 127 = 30480 < 2^15, so they are widened once.
template <int kRows, bool kCorrect = true>
QW_INLINE void q4_block(const char* panel, const ActivationBlock* x, __m256i (&q)[kRows][kTileVectors]) {
  const __m256i ones = _mm256_set1_epi16(1), nibble = _mm256_set1_epi8(15);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) q[r][0] = q[r][1] = _mm256_setzero_si256();
  for (int word = 0; word < 4; ++word) {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel + word * 64 + v * 32));
      const __m256i low = _mm256_and_si256(both, nibble), high = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m256i sum = _mm256_add_epi16(_mm256_maddubs_epi16(low, broadcast_word(x[r], word)),
                                             _mm256_maddubs_epi16(high, broadcast_word(x[r], word + 4)));
        q[r][v] = _mm256_add_epi16(q[r][v], sum);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const __m256i correction = _mm256_set1_epi32(kCorrect ? x[r].correction : 0);
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) q[r][v] = _mm256_add_epi32(_mm256_madd_epi16(q[r][v], ones), correction);
  }
}

template <WeightType kType, int kRows>
void quantised_tile(const MatmulTile& t) {
  __m256 sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
  const auto* x = reinterpret_cast<const ActivationBlock*>(t.rows);
  const char* panel = t.panel;
  constexpr std::int64_t kPanelBlock = quantised_panel_block_bytes(kType, kTileColumns);
  for (std::int64_t b = 0; b < t.steps; ++b, x += kRows, panel += kPanelBlock) {
    __m256i q[kRows][kTileVectors];
    if constexpr (kType == WeightType::kQ8_0) {
      q8_block<kRows>(panel, x, q);
    } else {
      q4_block<kRows>(panel, x, q);
    }
    const auto* scales = reinterpret_cast<const __m128i*>(panel + kPanelBlock - 2 * kTileColumns);
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      const __m256 d = _mm256_cvtph_ps(_mm_loadu_si128(scales + v));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        sums[r][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(q[r][v]), _mm256_mul_ps(d, _mm256_set1_ps(x[r].d)), sums[r][v]);
      }
    }
  }
  store_tile<kRows>(t, sums);
}

// Grouped blocks: one integer sum per scale; the minima meet the sums of the activations.
template <WeightType kType, int kRows>
void grouped_tile(const MatmulTile& t) {
  constexpr bool kBytes = kType == WeightType::kGroups8;
  constexpr int kGroups = kBytes ? 2 : 1, kWords = kBytes ? 8 : 4;
  constexpr std::int64_t kPanelBlock = quantised_panel_block_bytes(kType, kTileColumns);
  __m256 sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
  const auto* x = reinterpret_cast<const ActivationBlock*>(t.rows);
  const char* panel = t.panel;
  for (std::int64_t b = 0; b < t.steps; ++b, x += kRows, panel += kPanelBlock) {
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
      __m256i q[kRows][kTileVectors];
      if constexpr (!kBytes) {
        q4_block<kRows, false>(panel, x, q);
      } else if (g == 0) {
        q8_block<kRows, 0, 4>(panel, x, q);
      } else {
        q8_block<kRows, 4, 8>(panel, x, q);
      }
      const auto* scale = reinterpret_cast<const float*>(panel + (kWords + g) * kTileColumns * 4);
      const float* min = scale + kGroups * kTileColumns;
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const std::int32_t c = x[r].correction;
        const std::int32_t x_sum = !kBytes ? low_sum(c) + high_sum(c) : g == 0 ? low_sum(c) : high_sum(c);
        const __m256 d = _mm256_set1_ps(x[r].d), dx = _mm256_set1_ps(x[r].d * static_cast<float>(x_sum));
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; ++v) {
          sums[r][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(q[r][v]), _mm256_mul_ps(_mm256_loadu_ps(scale + 8 * v), d),
                                       sums[r][v]);
          sums[r][v] = _mm256_fnmadd_ps(_mm256_loadu_ps(min + 8 * v), dx, sums[r][v]);
        }
      }
    }
  }
  store_tile<kRows>(t, sums);
}

using TileFunction = void (*)(const MatmulTile&);
template <WeightType kType>
constexpr std::array<TileFunction, kQuantisedRows> kGroupedTiles = {grouped_tile<kType, 1>, grouped_tile<kType, 2>,
                                                                    grouped_tile<kType, 3>};
template <class Op>
constexpr std::array<TileFunction, kTileRows> kFloatTiles = {float_tile<Op, 1>, float_tile<Op, 2>, float_tile<Op, 3>,
                                                             float_tile<Op, 4>, float_tile<Op, 5>, float_tile<Op, 6>};
template <WeightType kType>
constexpr std::array<TileFunction, kQuantisedRows> kQuantisedTiles = {
    quantised_tile<kType, 1>, quantised_tile<kType, 2>, quantised_tile<kType, 3>};

struct Avx2Matmul {
  static constexpr std::int64_t kGranule = kTileColumns;
  static std::int64_t tile_rows(WeightType type) { return is_quantised(type) ? kQuantisedRows : kTileRows; }
  static std::int64_t elements_per_word(WeightType) { return 1; }

  // One row as strips of 16 words, `stride` words apart.
  static void prepare_row(WeightType type, const float* x, std::int64_t in, std::uint32_t* strips,
                          std::int64_t stride) {
    for (std::int64_t i = 0; i < in; i += 16, strips += stride) {
      for (std::int64_t j = 0; j < 16; ++j) {
        const float v = i + j < in ? x[i + j] : 0.0f;
        strips[j] = std::bit_cast<std::uint32_t>(type == WeightType::kBF16 ? round_to_bfloat(v) : v);
      }
    }
  }

  // As quantise_activations in scalar.h, byte for byte.
  static void quantise(const float* x, int offset, ActivationBlock& out) {
    const __m256 sign = _mm256_set1_ps(-0.0f), infinity = _mm256_set1_ps(std::numeric_limits<float>::infinity());
    __m256 v[4], largest = _mm256_setzero_ps(), wrong = _mm256_setzero_ps();
    for (int i = 0; i < 4; ++i) {
      v[i] = _mm256_loadu_ps(x + 8 * i);
      const __m256 size = _mm256_andnot_ps(sign, v[i]);
      largest = _mm256_max_ps(largest, size);
      wrong = _mm256_or_ps(wrong, _mm256_cmp_ps(size, infinity, _CMP_NLT_UQ));
    }
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps(largest, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));
    const float amax = _mm_cvtss_f32(m);
    const bool finite = _mm256_movemask_ps(wrong) == 0;
    if (!finite || amax < kSmallestActivation) {
      out = ActivationBlock{};
      if (!finite) out.d = std::numeric_limits<float>::quiet_NaN();
      return;
    }
    out.d = amax / 127.0f;
    const __m256 inverse = _mm256_set1_ps(1.0f / out.d);
    __m256i q[4];
    for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.q),
                        _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    std::int32_t sum = 0;
    for (int j = 0; j < 32; ++j) sum += out.q[j];
    out.correction = -offset * sum;
  }

  static void matmul_tile(WeightType type, int rows, const MatmulTile& t) {
    const auto index = static_cast<std::size_t>(rows - 1);
    switch (type) {
      case WeightType::kF32: return kFloatTiles<FloatOp>[index](t);
      case WeightType::kF16: return kFloatTiles<HalfOp>[index](t);
      case WeightType::kBF16: return kFloatTiles<BfloatOp>[index](t);
      case WeightType::kQ8_0: return kQuantisedTiles<WeightType::kQ8_0>[index](t);
      case WeightType::kQ4_0: return kQuantisedTiles<WeightType::kQ4_0>[index](t);
      case WeightType::kGroups8: return kGroupedTiles<WeightType::kGroups8>[index](t);
      case WeightType::kGroups4: return kGroupedTiles<WeightType::kGroups4>[index](t);
      default: return;  // opened when it was packed
    }
  }
};

}  // namespace

void fill_matmul(Kernels& k) { fill_tiled_matmul<Avx2Matmul, false>(k); }

}  // namespace qw::kernels::avx2
QW_TARGET_END
#endif  // QW_X86
