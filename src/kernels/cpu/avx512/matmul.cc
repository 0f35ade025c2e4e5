// The inference product with AVX-512: VDPBF16PS, VPDPBUSD on quantised blocks, float FMA (f16 weights convert exactly).
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"
#include "kernels/internal/tiles.h"

#if QW_X86
#include <array>
#include <limits>
#include <utility>

#include "kernels/cpu/avx512/block_product.h"
#include "kernels/cpu/avx512/vectors.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {

template <class Op, int kRows>
void float_tile(const MatmulTile& t) {
  __m512 sums[kRows][kTileVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  sum_strips<Op, kRows>(reinterpret_cast<const std::uint32_t*>(t.rows), t.panel, t.steps, sums);
  store_tile<kRows>(t, sums);
}

using TileFunction = void (*)(const MatmulTile&);
template <class Op, std::size_t... kIndex>
constexpr std::array<TileFunction, sizeof...(kIndex)> float_tiles(std::index_sequence<kIndex...>) {
  return {&float_tile<Op, static_cast<int>(kIndex) + 1>...};
}
constexpr auto kFloatTiles = float_tiles<FloatOp>(std::make_index_sequence<kTileRows>{});
constexpr auto kHalfTiles = float_tiles<HalfOp>(std::make_index_sequence<kTileRows>{});
constexpr auto kBfloatTiles = float_tiles<BfloatOp>(std::make_index_sequence<kTileRows>{});
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

  static void quantise(const float* x, ActivationKind kind, ActivationBlock& out) { avx512::quantise(x, kind, out); }

  static void matmul_tile(WeightType type, int rows, const MatmulTile& t) {
    const auto index = static_cast<std::size_t>(rows - 1);
    switch (type) {
      case WeightType::kF32:
        return kFloatTiles[index](t);
      case WeightType::kF16:
        return kHalfTiles[index](t);
      case WeightType::kBF16:
        return kBfloatTiles[index](t);
      default:
        return;  // block formats come in chunks
    }
  }

  template <WeightType kType>
  static void open_chunk(const char* head, const char* block, int blocks, OpenedChunk<kGranule>& to) {
    const Opener<kType, false> open;
    open.template chunk<false>(head, block, blocks, to);
  }
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

void matmul(const MatmulArgs& a) {
  if (!is_quantised(a.type) || a.rows == 0 || a.rows > kMostFewRows) return tiled_matmul<Avx512Matmul>(a);
  with_block_type(a.type, [&]<WeightType kType>() {
    if (a.rows <= kFewRows) return one_tile<kType>(a, std::make_index_sequence<kFewRows>{});
    two_tiles<kType>(a);
  });
}

void prepare(WeightType type, const float* x, std::int64_t ldx, std::int64_t rows, std::int64_t in, void* prepared,
             std::int64_t row_begin, std::int64_t row_end) {
  if (!is_quantised(type) || rows > kMostFewRows)
    return tiled_prepare<Avx512Matmul>(type, x, ldx, rows, in, prepared, row_begin, row_end);
  prepare_blocks<Avx512Matmul>(type, rows, x, ldx, rows, in, prepared, row_begin, row_end);
}

}  // namespace

void fill_matmul(Kernels& k) {
  fill_tiled_matmul<Avx512Matmul, true>(k);
  k.prepare = prepare;
  k.matmul = matmul;
}

}  // namespace qw::kernels::avx512
QW_TARGET_END
#endif  // QW_X86
