// The training product with AVX-512: VDPBF16PS on pairs of k, or float FMA.
#include "kernels/internal/fill.h"
#include "kernels/internal/gemm_tiles.h"
#include "kernels/internal/target.h"

#if QW_X86
#include <algorithm>
#include <array>
#include <utility>

#include "kernels/cpu/avx512/pack_rows.h"
#include "kernels/cpu/avx512/vectors.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {

template <bool kPairs>
void pack_b_panel_as(const GemmArgs& g, std::int64_t n, std::int64_t k0, std::int64_t words, std::uint32_t* panel) {
  for (std::int64_t word = 0; word < words; word += 16, panel += 16 * kTileColumns) {
    const std::int64_t k = k0 + word * (kPairs ? 2 : 1), k_left = g.k - k;
    for (int half = 0; half < kTileVectors; ++half) {
      const std::int64_t column = n + half * 16, columns_left = g.n - column;
      __m512i r[16];
      if (g.trans_b) {
        load_lines_along_k(kPairs, g.b + column * g.ldb + k, g.ldb, columns_left, k_left, r);
        transpose(r);
      } else {
        load_words_across_k(kPairs, g.b + k * g.ldb + column, g.ldb, columns_left, k_left, r);
      }
      for (int w = 0; w < 16; ++w) _mm512_storeu_si512(panel + w * kTileColumns + half * 16, r[w]);
    }
  }
}

// Words [16 half, 16 half + 16) of 32 pairs: lower halves from `even`, upper ones from `odd`.
QW_INLINE __m512i pairs_of(__m512i even, __m512i odd, int half) {
  const __m512i first = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  return _mm512_permutex2var_epi16(even, half == 0 ? first : _mm512_add_epi16(first, _mm512_set1_epi16(16)), odd);
}

// Elements that are bfloat16 already, in pairs: what pack_b_panel_as<true> makes of them as floats.
void pack_b_bfloats(const GemmArgs& g, const std::uint16_t* b, std::int64_t n, std::int64_t k0, std::int64_t words,
                    std::uint32_t* panel) {
  const auto first = [](std::int64_t count, int most) {
    return static_cast<__mmask32>((std::uint64_t{1} << std::clamp<std::int64_t>(count, 0, most)) - 1);
  };
  static_assert(kTileColumns == 32);  // bfloat16 numbers of a register
  for (std::int64_t word = 0; word < words; word += 16, panel += 16 * kTileColumns) {
    const std::int64_t k = k0 + word * 2, k_left = g.k - k;
    if (!g.trans_b) {
      const __mmask32 part = first(g.n - n, 32);
      const auto row = [&](std::int64_t i) {
        return _mm512_maskz_loadu_epi16(i < k_left ? part : __mmask32{0}, b + (k + i) * g.ldb + n);
      };
      for (int w = 0; w < 16; ++w) {
        const __m512i even = row(2 * w), odd = row(2 * w + 1);
        for (int half = 0; half < 2; ++half)
          _mm512_storeu_si512(panel + w * kTileColumns + half * 16, pairs_of(even, odd, half));
      }
      continue;
    }
    for (int half = 0; half < kTileVectors; ++half) {
      const std::int64_t column = n + half * 16, columns_left = g.n - column;
      __m512i r[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i)
        r[i] = _mm512_maskz_loadu_epi16(i < columns_left ? first(k_left, 32) : 0, b + (column + i) * g.ldb + k);
      transpose(r);
      for (int w = 0; w < 16; ++w) _mm512_storeu_si512(panel + w * kTileColumns + half * 16, r[w]);
    }
  }
}

// 16 pairs along k' of 32 columns as 16 pairs along the columns of 32 numbers of k'.
void turn_square(const std::uint32_t* from, std::uint32_t* to) {
  for (int half = 0; half < kTileVectors; ++half) {
    __m512i r[16];
#pragma GCC unroll 16
    for (int w = 0; w < 16; ++w) r[w] = _mm512_loadu_si512(from + w * kTileColumns + half * 16);
    transpose(r);
#pragma GCC unroll 8
    for (int pair = 0; pair < 8; ++pair)
      for (int part = 0; part < 2; ++part)
        _mm512_storeu_si512(to + (half * 8 + pair) * kTileColumns + part * 16,
                            pairs_of(r[2 * pair], r[2 * pair + 1], part));
  }
}

template <class Op, int kRows>
void tile(const GemmTile& t) {
  __m512 sums[kRows][kTileVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    __builtin_prefetch(t.c + r * t.ldc, 1);
    __builtin_prefetch(t.c + r * t.ldc + 16, 1);
  }
  sum_strips<Op, kRows>(t.rows, reinterpret_cast<const char*>(t.panel), t.strips, sums);
  const __mmask16 low = lanes(t.columns), high = lanes(t.columns - 16);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    float* c = t.c + r * t.ldc;
    if (t.add) {
      sums[r][0] = _mm512_add_ps(_mm512_maskz_loadu_ps(low, c), sums[r][0]);
      sums[r][1] = _mm512_add_ps(_mm512_maskz_loadu_ps(high, c + 16), sums[r][1]);
    }
    _mm512_mask_storeu_ps(c, low, sums[r][0]);
    _mm512_mask_storeu_ps(c + 16, high, sums[r][1]);
  }
}

using TileFunction = void (*)(const GemmTile&);
template <class Op, std::size_t... kIndex>
constexpr std::array<TileFunction, sizeof...(kIndex)> tiles_of(std::index_sequence<kIndex...>) {
  return {&tile<Op, static_cast<int>(kIndex) + 1>...};
}
constexpr auto kFloatTiles = tiles_of<FloatOp>(std::make_index_sequence<kTileRows>{});
constexpr auto kBfloatTiles = tiles_of<BfloatOp>(std::make_index_sequence<kTileRows>{});

struct Avx512Gemm {
  static constexpr std::int64_t kGemmRows = kTileRows, kGemmColumns = kTileColumns;
  static constexpr bool kStripsApart = true;  // strips of a panel may be packed one by one
  static std::int64_t elements_per_word(GemmPrecision p) { return p == GemmPrecision::kBF16 ? 2 : 1; }

  static void pack_b_panel(const GemmArgs& g, std::int64_t n, std::int64_t k0, std::int64_t words,
                           std::uint32_t* panel) {
    (g.precision == GemmPrecision::kBF16 ? pack_b_panel_as<true> : pack_b_panel_as<false>)(g, n, k0, words, panel);
  }
  static void pack_b_panel_bfloats(const GemmArgs& g, const std::uint16_t* b, std::int64_t n, std::int64_t k0,
                                   std::int64_t words, std::uint32_t* panel) {
    pack_b_bfloats(g, b, n, k0, words, panel);
  }
  static void turn_square(const std::uint32_t* from, std::uint32_t* to) { avx512::turn_square(from, to); }
  static void pack_a_rows(const GemmArgs& g, std::int64_t m, std::int64_t rows, std::int64_t k0, std::int64_t words,
                          std::uint32_t* a) {
    (g.precision == GemmPrecision::kBF16 ? pack_a_rows_as<true, kTileRows> : pack_a_rows_as<false, kTileRows>)(g, m, rows, k0, words, a);
  }
  static void gemm_tile(GemmPrecision precision, int rows, const GemmTile& t) {
    (precision == GemmPrecision::kBF16 ? kBfloatTiles : kFloatTiles)[static_cast<std::size_t>(rows - 1)](t);
  }
};

}  // namespace

void fill_gemm(Kernels& k) {
  fill_tiled_gemm<Avx512Gemm>(k);
  fill_tiled_gemm_columns<Avx512Gemm>(k);
}

}  // namespace qw::kernels::avx512
QW_TARGET_END
#endif  // QW_X86
