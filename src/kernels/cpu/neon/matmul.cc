// The inference product with NEON: float weights by multiply-adds (bfloat16 by BFMMLA where the processor has it),
// quantised blocks by whatever multiplies bytes best here: SMMLA for two rows and more, SDOT, or widening products.
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"
#include "kernels/internal/tiles.h"

#if QW_NEON
#include <array>
#include <limits>

#include "kernels/cpu/neon/bfloat.h"
#include "kernels/cpu/neon/open.h"
#include "kernels/cpu/neon/vectors.h"

namespace qw::kernels::neon {
namespace {

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

// ---- quantised weights ----------------------------------------------------------------------------------------------

// Rows of a quantised tile: eight integer sums (with matrix products in squares), eight of floats; activations and
// weights take eight more of 32 registers.
constexpr int kQuantisedRows = 4;

using Tile = ChunkTile<kTileColumns>;
using ChunkTileFunction = void (*)(const Tile&);

// One for all ways of multiplying that want the same.
template <WeightType kType, bool kPairs>
void open_panel_chunk(const char* head, const char* block, int blocks, OpenedChunk<kTileColumns>& to) {
  const Opener<kType, kPairs> open;
  open.chunk(head, block, blocks, to);
}

// Four outputs of a word, or with kPairs two outputs of two.
QW_INLINE int8x16_t levels_at(const OpenedChunk<kTileColumns>& w, int b, int word, int v) {
  return vreinterpretq_s8_u8(vld1q_u8(w.q[b][word] + 16 * v));
}

namespace widening {

struct Multiplier {
  static constexpr bool kPairs = false;

  template <int kBegin, int kEnd, int kMost, int kRows>
  static QW_INLINE void sums(const OpenedChunk<kTileColumns>& w, int b, const ActivationBlock* x,
                             int32x4_t (&q)[kRows][kTileVectors]) {
    // Words whose products may be summed in 16 bits before they are widened: a lane has one product of each.
    constexpr int kStep = std::min(kEnd - kBegin, std::numeric_limits<std::int16_t>::max() / (127 * kMost));
    static_assert((kEnd - kBegin) % kStep == 0);
    for (int begin = kBegin; begin < kEnd; begin += kStep) {
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
        int16x8_t left[kRows], right[kRows];
#pragma GCC unroll 8
        for (int word = begin; word < begin + kStep; ++word) {
          const int8x16_t columns = levels_at(w, b, word, v);
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r) {
            const int8x16_t four = four_times(x[r].q + 4 * word);
            left[r] = word == begin ? vmull_s8(vget_low_s8(columns), vget_low_s8(four))
                                    : vmlal_s8(left[r], vget_low_s8(columns), vget_low_s8(four));
            right[r] = word == begin ? vmull_high_s8(columns, four) : vmlal_high_s8(right[r], columns, four);
          }
        }
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          const int32x4_t outputs = vpaddq_s32(vpaddlq_s16(left[r]), vpaddlq_s16(right[r]));
          q[r][v] = begin == kBegin ? outputs : vaddq_s32(q[r][v], outputs);
        }
      }
    }
  }

 private:
  static QW_INLINE int8x16_t four_times(const std::int8_t* q) {
    std::int32_t word;
    __builtin_memcpy(&word, q, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
  }
};
#include "kernels/cpu/neon/quantised.inc"

}  // namespace widening

}  // namespace
}  // namespace qw::kernels::neon

QW_TARGET_DOT_BEGIN
namespace qw::kernels::neon {
namespace {
namespace dots {

// Four inputs of four outputs, with one word of a register of activations.
struct Multiplier {
  static constexpr bool kPairs = false;

  template <int kBegin, int kEnd, int kMost, int kRows>
  static QW_INLINE void sums(const OpenedChunk<kTileColumns>& w, int b, const ActivationBlock* x,
                             int32x4_t (&q)[kRows][kTileVectors]) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) q[r][0] = q[r][1] = vdupq_n_s32(0);
#pragma GCC unroll 2
    for (int word = kBegin; word < kEnd; word += 4) {
      int8x16_t sixteen[kRows];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sixteen[r] = vld1q_s8(x[r].q + 4 * word);
      add_words(w, b, word, sixteen, q);
    }
  }

 private:
  template <int kLane = 0, int kRows>
  static QW_INLINE void add_words(const OpenedChunk<kTileColumns>& w, int b, int word, const int8x16_t (&x)[kRows],
                                  int32x4_t (&q)[kRows][kTileVectors]) {
    if constexpr (kLane < 4) {
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
        const int8x16_t columns = levels_at(w, b, word + kLane, v);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) q[r][v] = vdotq_laneq_s32(q[r][v], columns, x[r], kLane);
      }
      add_words<kLane + 1>(w, b, word, x, q);
    }
  }
};
#include "kernels/cpu/neon/quantised.inc"

}  // namespace dots
}  // namespace
}  // namespace qw::kernels::neon
QW_TARGET_END

QW_TARGET_I8MM_BEGIN
namespace qw::kernels::neon {
namespace {
namespace matrices {

// Eight inputs of two rows by two outputs. A row without another is multiplied twice: that takes no more instructions
// than dot products would.
struct Multiplier {
  static constexpr bool kPairs = true;

  template <int kBegin, int kEnd, int kMost, int kRows>
  static QW_INLINE void sums(const OpenedChunk<kTileColumns>& w, int b, const ActivationBlock* x,
                             int32x4_t (&q)[kRows][kTileVectors]) {
    int32x4_t square[(kRows + 1) / 2][4];  // [row][output] of two rows and two outputs
#pragma GCC unroll 2
    for (int r = 0; r < kRows; r += 2)
      square[r / 2][0] = square[r / 2][1] = square[r / 2][2] = square[r / 2][3] = vdupq_n_s32(0);
#pragma GCC unroll 4
    for (int word = kBegin; word < kEnd; word += 2) {
      const int8x16_t columns[4] = {levels_at(w, b, word, 0), levels_at(w, b, word, 1), levels_at(w, b, word + 1, 0),
                                    levels_at(w, b, word + 1, 1)};
#pragma GCC unroll 2
      for (int r = 0; r < kRows; r += 2) {
        const int other = r + 1 < kRows ? r + 1 : r;
        const int8x16_t rows = vcombine_s8(vld1_s8(x[r].q + 4 * word), vld1_s8(x[other].q + 4 * word));
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) square[r / 2][c] = vmmlaq_s32(square[r / 2][c], rows, columns[c]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
        const int64x2_t left = vreinterpretq_s64_s32(square[r / 2][2 * v]);
        const int64x2_t right = vreinterpretq_s64_s32(square[r / 2][2 * v + 1]);
        q[r][v] = vreinterpretq_s32_s64(r % 2 == 0 ? vzip1q_s64(left, right) : vzip2q_s64(left, right));
      }
    }
  }
};
#include "kernels/cpu/neon/quantised.inc"

}  // namespace matrices
}  // namespace
}  // namespace qw::kernels::neon
QW_TARGET_END

// ---- float weights --------------------------------------------------------------------------------------------------

namespace qw::kernels::neon {
namespace {

template <class Op, int kRows>
void float_tile(const MatmulTile& t) {
  float32x4_t sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = vdupq_n_f32(0);
  sum_strips<Op, kRows>(reinterpret_cast<const float*>(t.rows), t.panel, t.steps, sums);
  store_tile<kRows>(t, sums);
}

}  // namespace
}  // namespace qw::kernels::neon

QW_TARGET_BF16_BEGIN
namespace qw::kernels::neon {
namespace {

template <int kRows>
void bfloat_tile(const MatmulTile& t) {
  float32x4_t sums[kRows][kTileVectors];
  sum_bfloat_strips<kRows>(reinterpret_cast<const std::uint32_t*>(t.rows),
                           reinterpret_cast<const std::uint32_t*>(t.panel), t.steps, sums);
  store_tile<kRows>(t, sums);
}

}  // namespace
}  // namespace qw::kernels::neon
QW_TARGET_END

namespace qw::kernels::neon {
namespace {

using TileFunction = void (*)(const MatmulTile&);
template <class Op>
constexpr std::array<TileFunction, kTileRows> kFloatTiles = {float_tile<Op, 1>, float_tile<Op, 2>, float_tile<Op, 3>,
                                                             float_tile<Op, 4>, float_tile<Op, 5>, float_tile<Op, 6>,
                                                             float_tile<Op, 7>, float_tile<Op, 8>};
constexpr std::array<TileFunction, kTileRows> kBfloatTiles = {bfloat_tile<1>, bfloat_tile<2>, bfloat_tile<3>,
                                                              bfloat_tile<4>, bfloat_tile<5>, bfloat_tile<6>,
                                                              bfloat_tile<7>, bfloat_tile<8>};

// For the loops of tiles.h. kBfloat: whether rows for bfloat16 weights are pairs of bfloat16, or rounded floats.
template <bool kBfloat>
struct NeonMatmul : widening::Quantised {
  static std::int64_t tile_rows(WeightType type) { return is_quantised(type) ? kQuantisedRows : kTileRows; }
  static std::int64_t elements_per_word(WeightType type) { return kBfloat && type == WeightType::kBF16 ? 2 : 1; }

  // One row as strips of 16 words, `stride` words apart.
  static void prepare_row(WeightType type, const float* x, std::int64_t in, std::uint32_t* strips,
                          std::int64_t stride) {
    const auto at = [&](std::int64_t i) { return i < in ? x[i] : 0.0f; };
    if (elements_per_word(type) == 2) {
      for (std::int64_t i = 0; i < in; i += 32, strips += stride) {
        for (std::int64_t j = 0; j < 16; ++j) {
          const std::uint32_t low = float_to_bfloat(at(i + 2 * j)), high = float_to_bfloat(at(i + 2 * j + 1));
          strips[j] = high << 16 | low;
        }
      }
      return;
    }
    for (std::int64_t i = 0; i < in; i += 16, strips += stride) {
      for (std::int64_t j = 0; j < 16; ++j) {
        const float v = at(i + j);
        strips[j] = std::bit_cast<std::uint32_t>(type == WeightType::kBF16 ? round_to_bfloat(v) : v);
      }
    }
  }

  // As quantise_activations in scalar.h, byte for byte.
  static void quantise(const float* x, ActivationKind kind, ActivationBlock& out) {
    float32x4_t v[8], largest = vdupq_n_f32(0);
    uint32x4_t finite = vdupq_n_u32(~0u);
    for (int i = 0; i < 8; ++i) {
      v[i] = vld1q_f32(x + 4 * i);
      const float32x4_t size = vabsq_f32(v[i]);
      largest = vmaxq_f32(largest, size);
      finite = vandq_u32(finite, vcltq_f32(size, vdupq_n_f32(kEndlessActivation)));
    }
    const bool all_finite = vminvq_u32(finite) != 0;
    const float amax = vmaxvq_f32(largest);
    if (!all_finite || amax < kSmallestActivation) {
      out = empty_block(all_finite);
      return;
    }
    out.d = activation_scale(kind, amax);
    const float inverse = 1.0f / out.d;
    std::int32_t sum[2];
    for (int i = 0; i < 8; i += 4) {
      int16x4_t q[4];
      for (int j = 0; j < 4; ++j) q[j] = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(v[i + j], inverse)));
      const int8x16_t bytes = vcombine_s8(vmovn_s16(vcombine_s16(q[0], q[1])), vmovn_s16(vcombine_s16(q[2], q[3])));
      vst1q_s8(out.q + 4 * i, bytes);
      sum[i / 4] = vaddlvq_s8(bytes);
    }
    set_sums(kind, sum[0], sum[1], out);
  }
  static void quantise_row(const float* x, std::int64_t blocks, ActivationKind kind, ActivationBlock* out,
                           std::int64_t stride) {
    for (std::int64_t b = 0; b < blocks; ++b) quantise(x + b * kBlock, kind, out[b * stride]);
  }

  static void matmul_tile(WeightType type, int rows, const MatmulTile& t) {
    const auto index = static_cast<std::size_t>(rows - 1);
    if (type == WeightType::kF32) return kFloatTiles<FloatOp>[index](t);
    if (type == WeightType::kF16) return kFloatTiles<HalfOp>[index](t);
    (kBfloat ? kBfloatTiles[index] : kFloatTiles<BfloatOp>[index])(t);
  }
};

// ---- the table ------------------------------------------------------------------------------------------------------

template <class Quantised, bool kBfloat>
void matmul(const MatmulArgs& a) {
  if (!is_quantised(a.type)) return tiled_matmul<NeonMatmul<kBfloat>>(a);
  with_block_type(a.type, [&]<WeightType kType>() { block_product<Quantised, kType>(a); });
}

template <bool kBfloat>
void fill(Kernels& k, base::ArmFeatures has) {
  fill_tiled_matmul<NeonMatmul<kBfloat>, false>(k);
  if (has.dot_products) k.matmul = matmul<dots::Quantised, kBfloat>;
  if (has.byte_matrices) k.matmul = matmul<matrices::Quantised, kBfloat>;
}

}  // namespace

void fill_matmul(Kernels& k, base::ArmFeatures has) { has.bfloat ? fill<true>(k, has) : fill<false>(k, has); }
void fill_matmul(Kernels& k) { fill_matmul(k, base::arm_features()); }

}  // namespace qw::kernels::neon
#endif  // QW_NEON
