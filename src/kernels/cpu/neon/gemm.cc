// The training product with NEON: bfloat16 means that elements are rounded when they are packed, then multiplied as floats.
#include "kernels/internal/fill.h"
#include "kernels/internal/tiles.h"

#if defined(__aarch64__)
#include <array>

#include "kernels/cpu/neon/vectors.h"

namespace qw::kernels::neon {
namespace {

template <int kRows>
void tile(const GemmTile& t) {
  float32x4_t sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = vdupq_n_f32(0);
  sum_strips<FloatOp, kRows>(reinterpret_cast<const float*>(t.rows), reinterpret_cast<const char*>(t.panel), t.strips,
                             sums);
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

using TileFunction = void (*)(const GemmTile&);
constexpr std::array<TileFunction, kTileRows> kTiles = {tile<1>, tile<2>, tile<3>, tile<4>,
                                                        tile<5>, tile<6>, tile<7>, tile<8>};

std::uint32_t packed_word(bool round, float v) { return std::bit_cast<std::uint32_t>(round ? round_to_bfloat(v) : v); }

struct NeonGemm {
  static constexpr std::int64_t kGemmRows = kTileRows, kGemmColumns = kTileColumns;
  static std::int64_t elements_per_word(GemmPrecision) { return 1; }

  static void pack_b_panel(const GemmArgs& g, std::int64_t n, std::int64_t k0, std::int64_t words,
                           std::uint32_t* panel) {
    const bool round = g.precision == GemmPrecision::kBF16;
    const std::int64_t columns = std::min<std::int64_t>(kTileColumns, g.n - n), real = std::min(words, g.k - k0);
    std::fill_n(panel, words * kTileColumns, 0u);
    for (std::int64_t w = 0; w < real; ++w) {
      for (std::int64_t j = 0; j < columns; ++j) {
        const float v = g.trans_b ? g.b[(n + j) * g.ldb + k0 + w] : g.b[(k0 + w) * g.ldb + n + j];
        panel[w * kTileColumns + j] = packed_word(round, v);
      }
    }
  }

  static void pack_a_rows(const GemmArgs& g, std::int64_t m, std::int64_t rows, std::int64_t k0, std::int64_t words,
                          std::uint32_t* a) {
    const bool round = g.precision == GemmPrecision::kBF16;
    const std::int64_t real = std::min(words, g.k - k0);
    std::fill_n(a, rows * words, 0u);
    for (std::int64_t first = 0; first < rows; first += kTileRows) {
      const std::int64_t in_tile = std::min<std::int64_t>(kTileRows, rows - first);
      std::uint32_t* out = a + first * words;
      for (std::int64_t r = 0; r < in_tile; ++r) {
        for (std::int64_t w = 0; w < real; ++w) {
          const std::int64_t row = m + first + r;
          const float v = g.trans_a ? g.a[(k0 + w) * g.lda + row] : g.a[row * g.lda + k0 + w];
          out[(w / 16 * in_tile + r) * 16 + w % 16] = packed_word(round, v);
        }
      }
    }
  }

  static void gemm_tile(GemmPrecision, int rows, const GemmTile& t) { kTiles[static_cast<std::size_t>(rows - 1)](t); }
};

}  // namespace

void fill_gemm(Kernels& k) { fill_tiled_gemm<NeonGemm>(k); }

}  // namespace qw::kernels::neon
#endif  // __aarch64__
