// The inference product with NEON. bfloat16 weights and rounded activations are multiplied as floats; quantised blocks by
// dot products of four signed bytes (SDOT), each word of activations broadcast by the instruction itself.
#include "kernels/internal/fill.h"
#include "kernels/internal/tiles.h"

#if defined(__aarch64__)
#include <array>
#include <limits>

// The inner functions use SDOT, which is optional in ARMv8.2: base::best_isa() asks for it.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#include "kernels/cpu/neon/vectors.h"

namespace qw::kernels::neon {
namespace {

// Rows of a quantised tile: eight integer and eight float sums; blocks of activations and weights take the rest.
constexpr int kQuantisedRows = 4;

template <int kRows>
QW_INLINE void store_tile(const MatmulTile& t, const float32x4_t (&sums)[kRows][kTileVectors]) {
#pragma GCC unroll 2
  for (int v = 0; v < kTileVectors; ++v) {
    const std::int64_t count = t.outputs - 4 * v;
    const float32x4_t bias = t.bias == nullptr ? vdupq_n_f32(0) : load_first(t.bias + 4 * v, count);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) store_first(t.y + r * t.ldy + 4 * v, count, vaddq_f32(sums[r][v], bias));
  }
}

template <class Op, int kRows>
void float_tile(const MatmulTile& t) {
  float32x4_t sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = vdupq_n_f32(0);
  sum_strips<Op, kRows>(reinterpret_cast<const float*>(t.rows), t.panel, t.steps, sums);
  store_tile<kRows>(t, sums);
}

// q[r][v] += the word kWord of a block's activations times one word of each of 8 outputs.
template <int kWord, int kRows>
QW_INLINE void dot_word(const int8x16_t (&w)[kTileVectors], const ActivationBlock* x, int32x4_t (&q)[kRows][kTileVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const int8x16_t words = vld1q_s8(x[r].q + kWord / 4 * 16);  // four words; the compiler keeps them
    q[r][0] = vdotq_laneq_s32(q[r][0], w[0], words, kWord % 4);
    q[r][1] = vdotq_laneq_s32(q[r][1], w[1], words, kWord % 4);
  }
}

template <int kRows>
QW_INLINE void no_sums(int32x4_t (&q)[kRows][kTileVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) q[r][0] = q[r][1] = vdupq_n_s32(0);
}

template <int kWord, int kEnd, int kRows>
QW_INLINE void q8_words(const char* panel, const ActivationBlock* x, int32x4_t (&q)[kRows][kTileVectors]) {
  if constexpr (kWord < kEnd) {
    const auto* p = reinterpret_cast<const std::int8_t*>(panel) + kWord * 4 * kTileColumns;
    const int8x16_t w[kTileVectors] = {vld1q_s8(p), vld1q_s8(p + 16)};
    dot_word<kWord, kRows>(w, x, q);
    q8_words<kWord + 1, kEnd, kRows>(panel, x, q);
  }
}

// Nibbles as they are, 0..15: word w of a panel holds elements 4 w.. of the lower half and of the upper.
template <int kWord, int kRows>
QW_INLINE void q4_words(const char* panel, const ActivationBlock* x, int32x4_t (&q)[kRows][kTileVectors]) {
  if constexpr (kWord < 4) {
    const auto* p = reinterpret_cast<const std::uint8_t*>(panel) + kWord * 4 * kTileColumns;
    const uint8x16_t both[kTileVectors] = {vld1q_u8(p), vld1q_u8(p + 16)}, nibble = vdupq_n_u8(15);
    const int8x16_t low[kTileVectors] = {vreinterpretq_s8_u8(vandq_u8(both[0], nibble)),
                                         vreinterpretq_s8_u8(vandq_u8(both[1], nibble))};
    const int8x16_t high[kTileVectors] = {vreinterpretq_s8_u8(vshrq_n_u8(both[0], 4)),
                                          vreinterpretq_s8_u8(vshrq_n_u8(both[1], 4))};
    dot_word<kWord, kRows>(low, x, q);
    dot_word<kWord + 4, kRows>(high, x, q);
    q4_words<kWord + 1, kRows>(panel, x, q);
  }
}

template <WeightType kType, int kRows>
void quantised_tile(const MatmulTile& t) {
  float32x4_t sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = vdupq_n_f32(0);
  const auto* x = reinterpret_cast<const ActivationBlock*>(t.rows);
  const char* panel = t.panel;
  constexpr std::int64_t kPanelBlock = quantised_panel_block_bytes(kType, kTileColumns);
  for (std::int64_t b = 0; b < t.steps; ++b, x += kRows, panel += kPanelBlock) {
    int32x4_t q[kRows][kTileVectors];
    no_sums<kRows>(q);
    if constexpr (kType == WeightType::kQ8_0) {
      q8_words<0, 8, kRows>(panel, x, q);
    } else {
      q4_words<0, kRows>(panel, x, q);
    }
    const char* scales = panel + kPanelBlock - 2 * kTileColumns;
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      const float32x4_t d = load_halves(scales + 8 * v);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const int32x4_t offset = vdupq_n_s32(kType == WeightType::kQ8_0 ? 0 : x[r].correction);
        sums[r][v] = vfmaq_f32(sums[r][v], vcvtq_f32_s32(vaddq_s32(q[r][v], offset)), vmulq_n_f32(d, x[r].d));
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
  float32x4_t sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = vdupq_n_f32(0);
  const auto* x = reinterpret_cast<const ActivationBlock*>(t.rows);
  const char* panel = t.panel;
  for (std::int64_t b = 0; b < t.steps; ++b, x += kRows, panel += kPanelBlock) {
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
      int32x4_t q[kRows][kTileVectors];
      no_sums<kRows>(q);
      if constexpr (!kBytes) {
        q4_words<0, kRows>(panel, x, q);
      } else if (g == 0) {
        q8_words<0, 4, kRows>(panel, x, q);
      } else {
        q8_words<4, 8, kRows>(panel, x, q);
      }
      const auto* scale = reinterpret_cast<const float*>(panel + (kWords + g) * kTileColumns * 4);
      const float* min = scale + kGroups * kTileColumns;
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const std::int32_t c = x[r].correction;
        const std::int32_t x_sum = !kBytes ? low_sum(c) + high_sum(c) : g == 0 ? low_sum(c) : high_sum(c);
        const float dx = x[r].d * static_cast<float>(x_sum);
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; ++v) {
          const float32x4_t s = vmulq_n_f32(vld1q_f32(scale + 4 * v), x[r].d);
          sums[r][v] = vfmaq_f32(sums[r][v], vcvtq_f32_s32(q[r][v]), s);
          sums[r][v] = vfmsq_n_f32(sums[r][v], vld1q_f32(min + 4 * v), dx);
        }
      }
    }
  }
  store_tile<kRows>(t, sums);
}

using TileFunction = void (*)(const MatmulTile&);
template <class Op>
constexpr std::array<TileFunction, kTileRows> kFloatTiles = {float_tile<Op, 1>, float_tile<Op, 2>, float_tile<Op, 3>,
                                                             float_tile<Op, 4>, float_tile<Op, 5>, float_tile<Op, 6>,
                                                             float_tile<Op, 7>, float_tile<Op, 8>};
template <WeightType kType>
constexpr std::array<TileFunction, kQuantisedRows> kQuantisedTiles = {
    quantised_tile<kType, 1>, quantised_tile<kType, 2>, quantised_tile<kType, 3>, quantised_tile<kType, 4>};
template <WeightType kType>
constexpr std::array<TileFunction, kQuantisedRows> kGroupedTiles = {grouped_tile<kType, 1>, grouped_tile<kType, 2>,
                                                                    grouped_tile<kType, 3>, grouped_tile<kType, 4>};

struct NeonMatmul {
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
    float32x4_t v[8], largest = vdupq_n_f32(0);
    uint32x4_t finite = vdupq_n_u32(~0u);
    for (int i = 0; i < 8; ++i) {
      v[i] = vld1q_f32(x + 4 * i);
      const float32x4_t size = vabsq_f32(v[i]);
      largest = vmaxq_f32(largest, size);
      finite = vandq_u32(finite, vcltq_f32(size, vdupq_n_f32(std::numeric_limits<float>::infinity())));
    }
    const bool all_finite = vminvq_u32(finite) != 0;
    const float amax = vmaxvq_f32(largest);
    if (!all_finite || amax < kSmallestActivation) {
      out = ActivationBlock{};
      if (!all_finite) out.d = std::numeric_limits<float>::quiet_NaN();
      return;
    }
    out.d = amax / 127.0f;
    const float inverse = 1.0f / out.d;
    std::int32_t sum = 0;
    for (int i = 0; i < 8; i += 4) {
      int16x4_t q[4];
      for (int j = 0; j < 4; ++j) q[j] = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(v[i + j], inverse)));
      const int8x16_t bytes = vcombine_s8(vmovn_s16(vcombine_s16(q[0], q[1])), vmovn_s16(vcombine_s16(q[2], q[3])));
      vst1q_s8(out.q + 4 * i, bytes);
      sum += vaddlvq_s8(bytes);
    }
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
    }
  }
};

}  // namespace

void fill_matmul(Kernels& k) { fill_tiled_matmul<NeonMatmul, false>(k); }

}  // namespace qw::kernels::neon
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // __aarch64__
