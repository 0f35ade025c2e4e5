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

// Rows of a quantised tile: with SDOT sixteen integer sums (four of them one of 8 outputs) and eight of floats; blocks
// of activations and weights take the rest.
constexpr int kQuantisedRows = 4;
// Blocks of a panel opened at a time for more than one row: at most 12 KB, which stay in a first-level cache
// while all rows are multiplied with them. A multiple of 8, the blocks of 256 elements.
constexpr std::int64_t kOpenedBlocks = 32;

// Rows whose activations stay in a second-level cache, as in tiled_matmul.
constexpr std::int64_t rows_at_once(std::int64_t blocks) {
  const std::int64_t tile = blocks * static_cast<std::int64_t>(sizeof(ActivationBlock)) * kQuantisedRows;
  return std::max<std::int64_t>(1, kRowBlockBytes / std::max<std::int64_t>(1, tile)) * kQuantisedRows;
}

// Calls f with the type as a constant.
template <class F>
void with_block_type(WeightType type, F&& f) {
  switch (type) {
#define QW_CASE(t)    \
  case WeightType::t: \
    return f.template operator()<WeightType::t>()
    QW_CASE(kQ8_0);
    QW_CASE(kQ4_0);
    QW_CASE(kGroups8);
    QW_CASE(kGroups4);
    QW_CASE(kQ4_1);
    QW_CASE(kQ5_0);
    QW_CASE(kQ5_1);
    QW_CASE(kQ2_K);
    QW_CASE(kQ3_K);
    QW_CASE(kQ4_K);
    QW_CASE(kQ5_K);
    QW_CASE(kQ6_K);
    QW_CASE(kIQ4_NL);
    QW_CASE(kIQ4_XS);
    QW_CASE(kMXFP4);
#undef QW_CASE
    case WeightType::kF32:
    case WeightType::kF16:
    case WeightType::kBF16:
      return;
  }
}

// Eight bytes of activations, twice: for either output of a register of weights.
QW_INLINE int8x16_t eight_twice(const std::int8_t* q) {
  const int8x8_t eight = vld1_s8(q);
  return vcombine_s8(eight, eight);
}

// [a sum of output 2 p in two parts, one of 2 p + 1 in two parts] for the four pairs p, brought together.
template <int kRows>
QW_INLINE void add_parts(const int32x4_t (&part)[kRows][4], int32x4_t (&q)[kRows][2]) {
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    q[r][0] = vpaddq_s32(part[r][0], part[r][1]);
    q[r][1] = vpaddq_s32(part[r][2], part[r][3]);
  }
}
template <int kRows>
QW_INLINE void no_parts(int32x4_t (&part)[kRows][4]) {
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) part[r][0] = part[r][1] = part[r][2] = part[r][3] = vdupq_n_s32(0);
}

namespace widening {

constexpr bool kFusesOneRow = false;

// Two products of bytes, at most 2 * 128 * 127 = 32512 in size, fit 16 bits.
struct Multiplier {
  template <class Weights, int kRows, int kI, int kP = 0>
  static QW_INLINE void add_two(const char* block, const ActivationBlock* x, int32x4_t (&part)[kRows][4]) {
    if constexpr (kP < 4) {
      const int8x16_t a = Weights::template bytes<kI, kP>(block), b = Weights::template bytes<kI + 1, kP>(block);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const int8x16_t xa = eight_twice(x[r].q + 8 * kI), xb = eight_twice(x[r].q + 8 * kI + 8);
        const int16x8_t left = vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(xa)), vget_low_s8(b), vget_low_s8(xb));
        const int16x8_t right = vmlal_high_s8(vmull_high_s8(a, xa), b, xb);
        part[r][kP] = vaddq_s32(part[r][kP], vpaddq_s32(vpaddlq_s16(left), vpaddlq_s16(right)));
      }
      add_two<Weights, kRows, kI, kP + 1>(block, x, part);
    }
  }
  template <class Weights, int kRows, int kBegin, int kEnd>
  static QW_INLINE void sums(const char* block, const ActivationBlock* x, int32x4_t (&q)[kRows][2]) {
    int32x4_t part[kRows][4];
    no_parts<kRows>(part);
    add_two<Weights, kRows, kBegin>(block, x, part);
    if constexpr (kEnd - kBegin == 4) add_two<Weights, kRows, kBegin + 2>(block, x, part);
    add_parts<kRows>(part, q);
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

constexpr bool kFusesOneRow = true;

struct Multiplier {
  template <class Weights, int kRows, int kI, int kEnd>
  static QW_INLINE void add(const char* block, const ActivationBlock* x, int32x4_t (&part)[kRows][4]) {
    if constexpr (kI < kEnd) {
      const int8x16_t w[4] = {Weights::template bytes<kI, 0>(block), Weights::template bytes<kI, 1>(block),
                              Weights::template bytes<kI, 2>(block), Weights::template bytes<kI, 3>(block)};
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const int8x16_t q = eight_twice(x[r].q + 8 * kI);
#pragma GCC unroll 4
        for (int p = 0; p < 4; ++p) part[r][p] = vdotq_s32(part[r][p], w[p], q);
      }
      add<Weights, kRows, kI + 1, kEnd>(block, x, part);
    }
  }
  template <class Weights, int kRows, int kBegin, int kEnd>
  static QW_INLINE void sums(const char* block, const ActivationBlock* x, int32x4_t (&q)[kRows][2]) {
    int32x4_t part[kRows][4];
    no_parts<kRows>(part);
    add<Weights, kRows, kBegin, kEnd>(block, x, part);
    add_parts<kRows>(part, q);
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

constexpr bool kFusesOneRow = false;  // dots does

// Two rows by two outputs at a time; a single row has no use for that.
struct Multiplier {
  template <class Weights, int kRows, int kI, int kEnd>
  static QW_INLINE void add(const char* block, const ActivationBlock* x, int32x4_t (&square)[(kRows + 1) / 2][4]) {
    if constexpr (kI < kEnd) {
      const int8x16_t w[4] = {Weights::template bytes<kI, 0>(block), Weights::template bytes<kI, 1>(block),
                              Weights::template bytes<kI, 2>(block), Weights::template bytes<kI, 3>(block)};
#pragma GCC unroll 2
      for (int r = 0; r < kRows; r += 2) {
        const int other = r + 1 < kRows ? r + 1 : r;
        const int8x16_t q = vcombine_s8(vld1_s8(x[r].q + 8 * kI), vld1_s8(x[other].q + 8 * kI));
#pragma GCC unroll 4
        for (int p = 0; p < 4; ++p) square[r / 2][p] = vmmlaq_s32(square[r / 2][p], q, w[p]);
      }
      add<Weights, kRows, kI + 1, kEnd>(block, x, square);
    }
  }
  template <class Weights, int kRows, int kBegin, int kEnd>
  static QW_INLINE void sums(const char* block, const ActivationBlock* x, int32x4_t (&q)[kRows][2]) {
    if constexpr (kRows == 1) {
      dots::Multiplier::sums<Weights, 1, kBegin, kEnd>(block, x, q);
    } else {
      int32x4_t square[(kRows + 1) / 2][4];  // [row][output] of two rows and two outputs
      no_parts<(kRows + 1) / 2>(square);
      add<Weights, kRows, kBegin, kEnd>(block, x, square);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          const int64x2_t left = vreinterpretq_s64_s32(square[r / 2][2 * v]);
          const int64x2_t right = vreinterpretq_s64_s32(square[r / 2][2 * v + 1]);
          q[r][v] = vreinterpretq_s32_s64(r % 2 == 0 ? vzip1q_s64(left, right) : vzip2q_s64(left, right));
        }
      }
    }
  }
};
#include "kernels/cpu/neon/quantised.inc"

}  // namespace matrices
}  // namespace
}  // namespace qw::kernels::neon
QW_TARGET_END

// ---- float weights
// -----------------------------------------------------------------------------------------------------

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
struct NeonMatmul {
  static constexpr std::int64_t kGranule = kTileColumns;
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
    if (type == WeightType::kF32) return kFloatTiles<FloatOp>[index](t);
    if (type == WeightType::kF16) return kFloatTiles<HalfOp>[index](t);
    (kBfloat ? kBfloatTiles[index] : kFloatTiles<BfloatOp>[index])(t);
  }
};

// ---- packed weights
// ----------------------------------------------------------------------------------------------------

static_assert(kPanel == kTileColumns);

std::size_t packed_bytes(WeightType type, std::int64_t out, std::int64_t in) {
  if (!is_quantised(type)) return tiled_packed_bytes<kPanel>(type, out, in);
  return static_cast<std::size_t>(ceil_div(out, kPanel) * panel_bytes_of(type, in));
}

void pack(WeightType type, const void* rows, std::int64_t out, std::int64_t in, void* packed) {
  if (!is_quantised(type)) return tiled_pack<kPanel, false>(type, rows, out, in, packed);
  with_block_type(type, [&]<WeightType kType>() {
    for (std::int64_t o = 0; o < out; o += kPanel) {
      pack_panel<kType>(static_cast<const std::uint8_t*>(rows) + o * raw_row_bytes(kType, in),
                        std::min(kPanel, out - o), in,
                        static_cast<char*>(packed) + o / kPanel * panel_bytes_of(kType, in));
    }
  });
}

void unpack_row(WeightType type, const void* packed, std::int64_t out, std::int64_t in, std::int64_t row, float* y) {
  if (!is_quantised(type)) return tiled_unpack_row<kPanel, false>(type, packed, out, in, row, y);
  with_block_type(type, [&]<WeightType kType>() {
    const char* panel = static_cast<const char*>(packed) + row / kPanel * panel_bytes_of(kType, in);
    unpack_panel_row<kType>(panel, in, static_cast<int>(row % kPanel), y);
  });
}

// ---- the table
// ---------------------------------------------------------------------------------------------------------

// A single row goes the way of dots from its decoding on.
void rows_or_row(const MatmulArgs& a) { a.rows == 1 ? dots::quantised_matmul(a) : matrices::quantised_matmul(a); }

template <void (*kQuantised)(const MatmulArgs&), bool kBfloat>
void matmul(const MatmulArgs& a) {
  if (is_quantised(a.type)) return kQuantised(a);
  tiled_matmul<NeonMatmul<kBfloat>>(a);
}

template <bool kBfloat>
void fill(Kernels& k, base::ArmFeatures has) {
  k.out_granule = kPanel;
  k.packed_bytes = packed_bytes;
  k.pack = pack;
  k.prepared_bytes = tiled_prepared_bytes<NeonMatmul<kBfloat>>;
  k.prepare = tiled_prepare<NeonMatmul<kBfloat>>;
  k.prepared_as = prepared_as;
  k.matmul = has.byte_matrices  ? matmul<rows_or_row, kBfloat>
             : has.dot_products ? matmul<dots::quantised_matmul, kBfloat>
                                : matmul<widening::quantised_matmul, kBfloat>;
  k.unpack_row = unpack_row;
}

}  // namespace

void fill_matmul(Kernels& k, base::ArmFeatures has) { has.bfloat ? fill<true>(k, has) : fill<false>(k, has); }
void fill_matmul(Kernels& k) { fill_matmul(k, base::arm_features()); }

}  // namespace qw::kernels::neon
#endif  // QW_NEON
