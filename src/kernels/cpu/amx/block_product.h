// Opened blocks of weights times rows of bytes, on tiles: the integer sums of one block of 32 inputs, 16 rows x 16
// outputs, are one product of tiles, which vectors then scale and add as VPDPBUSD's sums are scaled and added
// (cpu/avx512/block_product.h): the same bytes. So few rows may go that way, and many rows this one. A block fills half
// of a tile's inputs; scaling its sums takes longer than the product. Included once by each file; internal linkage.
#pragma once

#include "kernels/cpu/amx/tile.h"
#include "kernels/cpu/avx512/block_product.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::amx {
namespace {

using avx512::kTileColumns;
using avx512::Minima;
constexpr int kByteRows = 16;  // of a tile

// Tiles 0 and 1 are sums, 2 and 3 rows, 4 and 5 weights: two of each, so that one product runs while another's is
// scaled.
QW_INLINE void configure_byte_tiles() {
  TileConfig c;
  for (int i = 0; i < 2; ++i) {
    c.rows[i] = c.rows[2 + i] = kByteRows;
    c.row_bytes[i] = c.row_bytes[4 + i] = 64;
    c.row_bytes[2 + i] = kBlock;
    c.rows[4 + i] = kBlock / 4;
  }
  QW_TILES_CONFIGURE(c);
}

// Blocks multiplied before the first of them is scaled: what tiles store reaches vectors through the cache, which takes
// long.
constexpr int kBlocksAhead = 4;
using BlockSums = std::int32_t[kByteRows][16];

// Block b of a chunk times a tile's rows, for the outputs of half v of the panel.
QW_INLINE void multiply_block(const ChunkTile<kTileColumns>& t, int b, int v, BlockSums& to) {
  const auto* x = (t.x + b * t.next)->q;
  const auto* w = t.weights->q[b][0] + 64 * v;
  if (b % 2 != 0) {
    QW_TILE_ZERO(1);
    QW_TILE_LOAD(3, x, sizeof(ActivationBlock));
    QW_TILE_LOAD(5, w, kTileColumns * 4);
    QW_TILE_MULTIPLY_BYTES(1, 3, 5);
    QW_TILE_STORE(1, to, 64);
  } else {
    QW_TILE_ZERO(0);
    QW_TILE_LOAD(2, x, sizeof(ActivationBlock));
    QW_TILE_LOAD(4, w, kTileColumns * 4);
    QW_TILE_MULTIPLY_BYTES(0, 2, 4);
    QW_TILE_STORE(0, to, 64);
  }
}

// A row's sums of one block scaled and added, as add_group of AVX-512 does.
template <Minima kMinima, int kSteps>
QW_INLINE __m512 scaled(const std::int32_t* q, __m512 scale, __m512 min, const ActivationBlock& x, __m512 sum) {
  const __m512 d = _mm512_set1_ps(x.d);
  const __m512 anchored = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_load_si512(q), _mm512_castps_si512(d)));
  if constexpr (kSteps > 1) scale = _mm512_mul_ps(scale, avx512::step_factor<kSteps>(x));
  sum = _mm512_fmadd_ps(_mm512_sub_ps(anchored, d), scale, sum);
  if constexpr (kMinima == Minima::kGroups) sum = _mm512_fnmadd_ps(min, _mm512_set1_ps(x.sum[0]), sum);
  return sum;
}

// The minima of a unit, of the outputs of half v, as subtract_unit of AVX-512 subtracts them.
struct UnitMinima {
  __m512i pairs[kUnitBlocks / 2];
  __m512 dmin;
  QW_INLINE UnitMinima(const OpenedChunk<kTileColumns>& w, int v) : dmin(_mm512_load_ps(w.dmin + 16 * v)) {
#pragma GCC unroll 4
    for (int i = 0; i < kUnitBlocks / 2; ++i) pairs[i] = _mm512_load_si512(w.min_pairs[i] + 16 * v);
  }
  QW_INLINE __m512 subtract(const ActivationBlock* x, std::int64_t next, __m512 sum) const {
    const __m512 begin = avx512::unit_anchor(x, next);
    __m512i dot = _mm512_castps_si512(begin);
#pragma GCC unroll 4
    for (int i = 0; i < kUnitBlocks / 2; ++i) dot = _mm512_dpwssd_epi32(dot, pairs[i], avx512::sum_pair(x, i, next));
    return _mm512_fnmadd_ps(_mm512_sub_ps(_mm512_castsi512_ps(dot), begin), dmin, sum);
  }
};

// Sixteen outputs of `rows` rows: sums stay in registers if there are sixteen of them.
template <Minima kMinima, int kSteps, bool kFull>
QW_INLINE void half_tile(const ChunkTile<kTileColumns>& t, int rows, int v) {
  alignas(64) BlockSums q[2 * kBlocksAhead];
  __m512 sums[kByteRows];
  float* const at = t.sums + 16 * v;
  if constexpr (kFull) {
#pragma GCC unroll 16
    for (int r = 0; r < kByteRows; ++r) sums[r] = t.first ? _mm512_setzero_ps() : _mm512_load_ps(at + r * kTileColumns);
  } else if (t.first) {
    for (int r = 0; r < rows; ++r) _mm512_store_ps(at + r * kTileColumns, _mm512_setzero_ps());
  }
  for (int b = 0; b < t.blocks && b < kBlocksAhead; ++b) multiply_block(t, b, v, q[b]);
  for (int b = 0; b < t.blocks; ++b) {
    if (const int next = b + kBlocksAhead; next < t.blocks) multiply_block(t, next, v, q[next % (2 * kBlocksAhead)]);
    const ActivationBlock* x = t.x + b * t.next;
    if (v == 0) {
#pragma GCC unroll 16
      for (int line = 0; line < kByteRows * static_cast<int>(sizeof(ActivationBlock)); line += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(x + t.ahead) + line);
    }
    const __m512 scale = _mm512_load_ps(t.weights->scale[b][0] + 16 * v);
    const __m512 min = kMinima == Minima::kGroups ? _mm512_load_ps(t.weights->min[b][0] + 16 * v) : _mm512_setzero_ps();
    const BlockSums& from = q[b % (2 * kBlocksAhead)];
    if constexpr (kFull) {
#pragma GCC unroll 16
      for (int r = 0; r < kByteRows; ++r) sums[r] = scaled<kMinima, kSteps>(from[r], scale, min, x[r], sums[r]);
    } else {
      for (int r = 0; r < rows; ++r) {
        float* const sum = at + r * kTileColumns;
        _mm512_store_ps(sum, scaled<kMinima, kSteps>(from[r], scale, min, x[r], _mm512_load_ps(sum)));
      }
    }
  }
  if constexpr (kMinima == Minima::kUnits) {
    const UnitMinima minima(*t.weights, v);
    if constexpr (kFull) {
#pragma GCC unroll 16
      for (int r = 0; r < kByteRows; ++r) sums[r] = minima.subtract(t.x + r, t.next, sums[r]);
    } else {
      for (int r = 0; r < rows; ++r) {
        float* const sum = at + r * kTileColumns;
        _mm512_store_ps(sum, minima.subtract(t.x + r, t.next, _mm512_load_ps(sum)));
      }
    }
  }
  if constexpr (kFull) {
#pragma GCC unroll 16
    for (int r = 0; r < kByteRows; ++r) _mm512_store_ps(at + r * kTileColumns, sums[r]);
  }
  if (!t.last || 16 * v >= t.outputs) return;
  const __mmask16 mask = avx512::lanes(t.outputs - 16 * v);
  const __m512 bias = t.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, t.bias + 16 * v);
  for (int r = 0; r < rows; ++r)
    _mm512_mask_storeu_ps(t.y + r * t.ldy + 16 * v, mask, _mm512_add_ps(_mm512_load_ps(at + r * kTileColumns), bias));
}

template <Minima kMinima, int kSteps>
void byte_tiles(int rows, const ChunkTile<kTileColumns>& t) {
  for (int v = 0; v < 2; ++v) {
    if (rows == kByteRows) {
      half_tile<kMinima, kSteps, true>(t, rows, v);
    } else {
      half_tile<kMinima, kSteps, false>(t, rows, v);
    }
  }
}

// How the block formats' products see this instruction set: rows in tiles of 16, and with few rows, vectors.
struct FewRows {
  static constexpr std::int64_t kGranule = kTileColumns;
  static std::int64_t tile_rows(WeightType) { return kByteRows; }
  static void quantise_row(const float* x, std::int64_t blocks, ActivationKind kind, ActivationBlock* out,
                           std::int64_t stride) {
    avx512::quantise_blocks(x, blocks, kind, out, stride);
  }
  template <WeightType kType>
  static constexpr bool whole_units() {
    return avx512::minima_of(kType) == avx512::Minima::kUnits;
  }
  template <WeightType kType>
  static void open_chunk(const char* head, const char* block, int blocks, OpenedChunk<kGranule>& to) {
    const avx512::Opener<kType, false> open;
    open.template chunk<false>(head, block, blocks, to);
  }
  template <WeightType kType>
  static void chunk_tile(int rows, ChunkTile<kGranule> t) {
    for (; rows > 0; rows -= avx512::kQuantisedRows) {
      avx512::chunk_tile_of<kType>(rows < avx512::kQuantisedRows ? rows : avx512::kQuantisedRows, t);
      t.x += avx512::kQuantisedRows;
      t.sums += avx512::kQuantisedRows * kGranule;
      t.y += avx512::kQuantisedRows * t.ldy;
      t.soon_lines = 0;  // the first has asked for them
    }
  }
};
struct ManyRows : FewRows {
  template <WeightType kType>
  static void open_chunk(const char* head, const char* block, int blocks, OpenedChunk<kGranule>& to) {
    const avx512::Opener<kType, true> open;
    open.template chunk<true>(head, block, blocks, to);
  }
  template <WeightType kType>
  static void chunk_tile(int rows, const ChunkTile<kGranule>& t) {
    byte_tiles<avx512::minima_of(kType), 1 << activation_kind(kType).step_bits>(rows, t);
  }
};

// Tiles are faster from a full tile of rows on, and with groups of 32: 700 Gop/s beside 570 of vectors (Q4_0, 60 rows);
// with groups of 16, 370 beside 460 (Q6_K).
constexpr std::int64_t kManyRows = kByteRows;

// What tiles read past the rows of a last tile that is not full.
constexpr std::int64_t kTileSlack = (kByteRows - 1) * static_cast<std::int64_t>(sizeof(ActivationBlock));

template <WeightType kType>
void block_product_of(const MatmulArgs& a) {
  if constexpr (compact_of(kType).groups == 1) {
    if (a.rows >= kManyRows) {
      configure_byte_tiles();
      block_product<ManyRows, kType>(a);
      return release_tiles();
    }
  }
  block_product<FewRows, kType>(a);
}

}  // namespace
}  // namespace qw::kernels::amx
QW_TARGET_END
