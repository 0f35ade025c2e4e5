// The training product with AVX2: bfloat16 means that elements are rounded when they are packed, then multiplied as floats.
#include "kernels/internal/fill.h"
#include "kernels/internal/gemm_tiles.h"
#include "kernels/internal/target.h"

#if QW_X86
#include <array>
#include <utility>

#include "kernels/cpu/avx2/vectors.h"

namespace qw::kernels::avx2 {
namespace {

std::uint32_t packed_word(bool round, float v) { return std::bit_cast<std::uint32_t>(round ? round_to_bfloat(v) : v); }

}  // namespace
}  // namespace qw::kernels::avx2

QW_TARGET_AVX2_BEGIN
namespace qw::kernels::avx2 {
namespace {

template <int kRows>
void tile(const GemmTile& t) {
  __m256 sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
  sum_strips<FloatOp, kRows>(reinterpret_cast<const float*>(t.rows), reinterpret_cast<const char*>(t.panel), t.strips,
                             sums);
  const __m256i mask[kTileVectors] = {lane_mask(t.columns), lane_mask(t.columns - 8)};
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      float* c = t.c + r * t.ldc + 8 * v;
      const __m256 sum = t.add ? _mm256_add_ps(_mm256_maskload_ps(c, mask[v]), sums[r][v]) : sums[r][v];
      _mm256_maskstore_ps(c, mask[v], sum);
    }
  }
}

using TileFunction = void (*)(const GemmTile&);
constexpr std::array<TileFunction, kTileRows> kTiles = {tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>};

struct Avx2Gemm {
  static constexpr std::int64_t kGemmRows = kTileRows, kGemmColumns = kTileColumns;
  static std::int64_t elements_per_word(GemmPrecision) { return 1; }

  static void pack_b_panel(const GemmArgs& g, std::int64_t n, std::int64_t k0, std::int64_t words,
                           std::uint32_t* panel) {
    const bool round = g.precision == GemmPrecision::kBF16;
    const std::int64_t columns = std::min<std::int64_t>(kTileColumns, g.n - n), real = std::min(words, g.k - k0);
    std::fill_n(panel, words * kTileColumns, 0u);
    if (g.trans_b) {
      for (std::int64_t j = 0; j < columns; ++j) {
        const float* line = g.b + (n + j) * g.ldb + k0;
        for (std::int64_t w = 0; w < real; ++w) panel[w * kTileColumns + j] = packed_word(round, line[w]);
      }
    } else {
      for (std::int64_t w = 0; w < real; ++w) {
        const float* line = g.b + (k0 + w) * g.ldb + n;
        for (std::int64_t j = 0; j < columns; ++j) panel[w * kTileColumns + j] = packed_word(round, line[j]);
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
      if (g.trans_a) {
        for (std::int64_t w = 0; w < real; ++w) {
          const float* line = g.a + (k0 + w) * g.lda + m + first;
          for (std::int64_t r = 0; r < in_tile; ++r) {
            out[(w / 16 * in_tile + r) * 16 + w % 16] = packed_word(round, line[r]);
          }
        }
      } else {
        for (std::int64_t r = 0; r < in_tile; ++r) {
          const float* line = g.a + (m + first + r) * g.lda + k0;
          for (std::int64_t w = 0; w < real; ++w) {
            out[(w / 16 * in_tile + r) * 16 + w % 16] = packed_word(round, line[w]);
          }
        }
      }
    }
  }

  static void gemm_tile(GemmPrecision, int rows, const GemmTile& t) { kTiles[static_cast<std::size_t>(rows - 1)](t); }
};

}  // namespace

void fill_gemm(Kernels& k) { fill_tiled_gemm<Avx2Gemm>(k); }

}  // namespace qw::kernels::avx2
QW_TARGET_END
#endif  // QW_X86
