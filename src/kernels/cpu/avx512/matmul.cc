// The inference product with AVX-512: VPDPBUSD on quantised blocks, float FMA (f16 and bf16 weights convert exactly),
// and VDPBF16PS where that is the faster of the two.
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"
#include "kernels/internal/tiles.h"

#if QW_X86
#include <array>
#include <limits>
#include <utility>

#include "kernels/cpu/avx512/block_product.h"
#include "kernels/cpu/avx512/float_product.h"
#include "kernels/cpu/avx512/vectors.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {

template <int kRows>
void bfloat_tile(const MatmulTile& t) {
  __m512 sums[kRows][kTileVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  sum_strips<BfloatOp, kRows>(reinterpret_cast<const std::uint32_t*>(t.rows), t.panel, t.steps, sums);
  store_tile<kRows>(t, sums);
}
template <std::size_t... kIndex>
constexpr std::array<FloatTileFunction, sizeof...(kIndex)> bfloat_tiles(std::index_sequence<kIndex...>) {
  return {&bfloat_tile<static_cast<int>(kIndex) + 1>...};
}
constexpr auto kBfloatTiles = bfloat_tiles(std::make_index_sequence<kTileRows>{});

// kDots: rows for bfloat16 weights are pairs of bfloat16, or rounded floats.
template <bool kDots>
struct Avx512Matmul {
  static constexpr std::int64_t kGranule = kTileColumns;
  static std::int64_t tile_rows(WeightType type) { return is_quantised(type) ? kQuantisedRows : kTileRows; }
  static std::int64_t elements_per_word(WeightType type) { return kDots && type == WeightType::kBF16 ? 2 : 1; }

  // One row as strips of 16 words, `stride` words apart.
  static void prepare_row(WeightType type, const float* x, std::int64_t in, std::uint32_t* strips,
                          std::int64_t stride) {
    if (elements_per_word(type) == 2) {
      for (std::int64_t i = 0; i < in; i += 32, strips += stride) {
        _mm512_storeu_si512(strips, to_bfloat(load_floats(x + i, in - i), load_floats(x + i + 16, in - i - 16)));
      }
    } else {
      for (std::int64_t i = 0; i < in; i += 16, strips += stride) {
        const __m512 v = load_floats(x + i, in - i);
        _mm512_storeu_si512(strips, type == WeightType::kBF16 ? rounded_to_bfloat(v) : bits(v));
      }
    }
  }

  static void quantise_row(const float* x, std::int64_t blocks, ActivationKind kind, ActivationBlock* out,
                           std::int64_t stride) {
    quantise_blocks(x, blocks, kind, out, stride);
  }

  static void matmul_tile(WeightType, int rows, const MatmulTile& t) {
    kBfloatTiles[static_cast<std::size_t>(rows - 1)](t);
  }

  template <WeightType kType>
  static constexpr bool whole_units() {
    return minima_of(kType) == Minima::kUnits;
  }
  template <WeightType kType>
  static void open_chunk(const char* head, const char* block, int blocks, OpenedChunk<kGranule>& to) {
    const Opener<kType, false> open;
    open.template chunk<false>(head, block, blocks, to);
  }
  static constexpr bool kManyTiles = true;
  template <WeightType kType>
  static void chunk_tile(int rows, const Tile& t) {
    chunk_tile_of<kType>(rows, t);
  }
};

template <WeightType kType, std::size_t... kIndex>
void one_tile(const MatmulArgs& a, std::index_sequence<kIndex...>) {
  static constexpr std::array<void (*)(const MatmulArgs&), sizeof...(kIndex)> kOf = {
      &few_rows<kType, static_cast<int>(kIndex) + 1>...};
  kOf[static_cast<std::size_t>(a.rows - 1)](a);
}

void quantised_matmul(const MatmulArgs& a) {
  if (a.rows == 0) return;
  with_block_type(a.type, [&]<WeightType kType>() {
    if (a.rows <= kFewRows) return one_tile<kType>(a, std::make_index_sequence<kFewRows>{});
    if (a.rows <= kMostFewRows) return two_tiles<kType>(a);
    block_product<Avx512Matmul<true>, kType>(a);
  });
}

template <bool kDots>
void matmul(const MatmulArgs& a) {
  switch (a.type) {
    case WeightType::kF32:
      return float_product<FloatColumns>(a);
    case WeightType::kF16:
      return float_product<HalfColumns>(a);
    case WeightType::kBF16:
      return kDots ? tiled_matmul<Avx512Matmul<true>>(a) : float_product<BfloatColumns>(a);
    default:
      return quantised_matmul(a);
  }
}

template <bool kDots>
void prepare(WeightType type, const float* x, std::int64_t ldx, std::int64_t rows, std::int64_t in, void* prepared,
             std::int64_t row_begin, std::int64_t row_end) {
  using M = Avx512Matmul<kDots>;
  if (is_quantised(type)) {
    const std::int64_t tile_rows = rows > kMostFewRows ? kQuantisedRows : std::max<std::int64_t>(rows, 1);
    return prepare_blocks<Avx512Matmul<true>>(type, tile_rows, x, ldx, rows, in, prepared, row_begin, row_end);
  }
  const std::int64_t tile_rows = M::elements_per_word(type) == 2 ? kTileRows : float_tile_rows(rows);
  prepare_words<M>(type, tile_rows, x, ldx, rows, in, prepared, row_begin, row_end);
}

template <bool kDots>
void fill(Kernels& k) {
  fill_tiled_matmul<Avx512Matmul<true>, true>(k);
  k.prepared_bytes = tiled_prepared_bytes<Avx512Matmul<kDots>>;
  k.prepare = prepare<kDots>;
  k.matmul = matmul<kDots>;
}

}  // namespace

void fill_matmul(Kernels& k, bool bfloat_dots) { bfloat_dots ? fill<true>(k) : fill<false>(k); }
void fill_matmul(Kernels& k) { fill_matmul(k, base::bfloat_dots_pay()); }

}  // namespace qw::kernels::avx512
QW_TARGET_END
#endif  // QW_X86
