// The training product with NEON. Where the processor has no BFMMLA, bfloat16 means that elements are rounded when they
// are packed, then multiplied as floats.
#include "kernels/internal/fill.h"
#include "kernels/internal/gemm_tiles.h"
#include "kernels/internal/target.h"

#if QW_NEON
#include <array>

#include "kernels/cpu/neon/bfloat.h"
#include "kernels/cpu/neon/vectors.h"

namespace qw::kernels::neon {
namespace {

template <int kRows>
QW_INLINE void store_tile(const GemmTile& t, const float32x4_t (&sums)[kRows][kTileVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      float* c = t.c + r * t.ldc + 4 * v;
      const std::int64_t count = t.columns - 4 * v;
      store_first(c, count, t.add ? vaddq_f32(load_first(c, count), sums[r][v]) : sums[r][v]);
    }
  }
}

template <int kRows>
void float_tile(const GemmTile& t) {
  float32x4_t sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = vdupq_n_f32(0);
  sum_strips<FloatOp, kRows>(reinterpret_cast<const float*>(t.rows), reinterpret_cast<const char*>(t.panel), t.strips,
                             sums);
  store_tile<kRows>(t, sums);
}

}  // namespace
}  // namespace qw::kernels::neon

QW_TARGET_BF16_BEGIN
namespace qw::kernels::neon {
namespace {

template <int kRows>
void bfloat_tile(const GemmTile& t) {
  float32x4_t sums[kRows][kTileVectors];
  sum_bfloat_strips<kRows>(t.rows, t.panel, t.strips, sums);
  store_tile<kRows>(t, sums);
}

}  // namespace
}  // namespace qw::kernels::neon
QW_TARGET_END

namespace qw::kernels::neon {
namespace {

using TileFunction = void (*)(const GemmTile&);
constexpr std::array<TileFunction, kTileRows> kFloatTiles = {float_tile<1>, float_tile<2>, float_tile<3>,
                                                             float_tile<4>, float_tile<5>, float_tile<6>,
                                                             float_tile<7>, float_tile<8>};
constexpr std::array<TileFunction, kTileRows> kBfloatTiles = {bfloat_tile<1>, bfloat_tile<2>, bfloat_tile<3>,
                                                              bfloat_tile<4>, bfloat_tile<5>, bfloat_tile<6>,
                                                              bfloat_tile<7>, bfloat_tile<8>};

// kBfloat: whether words of bfloat16 are pairs of elements, or one rounded to it.
template <bool kBfloat>
struct NeonGemm {
  static constexpr std::int64_t kGemmRows = kTileRows, kGemmColumns = kTileColumns;
  static bool pairs(GemmPrecision precision) { return kBfloat && precision == GemmPrecision::kBF16; }
  static std::int64_t elements_per_word(GemmPrecision precision) { return pairs(precision) ? 2 : 1; }

  // The word that begins at element k of a line whose elements are `step` apart; zeros from `end` on.
  static std::uint32_t word(GemmPrecision precision, const float* line, std::int64_t step, std::int64_t k,
                            std::int64_t end) {
    if (pairs(precision)) {
      const std::uint32_t low = float_to_bfloat(line[k * step]);
      return low | (k + 1 < end ? static_cast<std::uint32_t>(float_to_bfloat(line[(k + 1) * step])) << 16 : 0u);
    }
    const float v = line[k * step];
    return std::bit_cast<std::uint32_t>(precision == GemmPrecision::kBF16 ? round_to_bfloat(v) : v);
  }

  static void pack_b_panel(const GemmArgs& g, std::int64_t n, std::int64_t k0, std::int64_t words,
                           std::uint32_t* panel) {
    const std::int64_t columns = std::min<std::int64_t>(kTileColumns, g.n - n), each = elements_per_word(g.precision);
    const std::int64_t real = std::min(words, ceil_div(g.k - k0, each));
    std::fill_n(panel, words * kTileColumns, 0u);
    for (std::int64_t w = 0; w < real; ++w) {
      for (std::int64_t j = 0; j < columns; ++j) {
        panel[w * kTileColumns + j] = g.trans_b ? word(g.precision, g.b + (n + j) * g.ldb, 1, k0 + w * each, g.k)
                                                : word(g.precision, g.b + n + j, g.ldb, k0 + w * each, g.k);
      }
    }
  }

  static void pack_a_rows(const GemmArgs& g, std::int64_t m, std::int64_t rows, std::int64_t k0, std::int64_t words,
                          std::uint32_t* a) {
    const std::int64_t each = elements_per_word(g.precision), real = std::min(words, ceil_div(g.k - k0, each));
    std::fill_n(a, rows * words, 0u);
    for (std::int64_t first = 0; first < rows; first += kTileRows) {
      const std::int64_t in_tile = std::min<std::int64_t>(kTileRows, rows - first);
      std::uint32_t* out = a + first * words;
      for (std::int64_t r = 0; r < in_tile; ++r) {
        const std::int64_t row = m + first + r;
        for (std::int64_t w = 0; w < real; ++w) {
          out[(w / 16 * in_tile + r) * 16 + w % 16] = g.trans_a
                                                          ? word(g.precision, g.a + row, g.lda, k0 + w * each, g.k)
                                                          : word(g.precision, g.a + row * g.lda, 1, k0 + w * each, g.k);
        }
      }
    }
  }

  static void gemm_tile(GemmPrecision precision, int rows, const GemmTile& t) {
    (pairs(precision) ? kBfloatTiles : kFloatTiles)[static_cast<std::size_t>(rows - 1)](t);
  }
};

}  // namespace

void fill_gemm(Kernels& k, base::ArmFeatures has) {
  has.bfloat ? fill_tiled_gemm<NeonGemm<true>>(k) : fill_tiled_gemm<NeonGemm<false>>(k);
}
void fill_gemm(Kernels& k) { fill_gemm(k, base::arm_features()); }

}  // namespace qw::kernels::neon
#endif  // QW_NEON
