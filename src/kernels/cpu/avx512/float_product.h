// Products in floats: weights of float, binary16 and bfloat16 (opened exactly) times rows of floats. Included once by
// each file, after the standard headers; internal linkage.
//
// An output is one chain of multiply-adds over the inputs in order, whatever the number of rows. Up to one tile of
// rows, columns are opened as they come from memory; more rows share a part of a panel that is opened to floats once,
// in the first cache, and multiplied with tile after tile.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/cpu/avx512/block_product.h"
#include "kernels/cpu/avx512/vectors.h"
#include "kernels/internal/tiles.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {

// A step of a panel's 32 outputs: kInputs inputs in kBytes bytes. `open` gives one of them, of 16 outputs.
struct FloatColumns {
  static constexpr int kInputs = 1, kBytes = 128;
  template <int kInput>
  static QW_INLINE __m512 open(const char* step, int half) {
    return _mm512_loadu_ps(step + 64 * half);
  }
};
struct HalfColumns {
  static constexpr int kInputs = 1, kBytes = 64;
  template <int kInput>
  static QW_INLINE __m512 open(const char* step, int half) {
    return halves(step + 32 * half);
  }
};
struct BfloatColumns {  // pairs of inputs, the first in the lower halves
  static constexpr int kInputs = 2, kBytes = 128;
  template <int kInput>
  static QW_INLINE __m512 open(const char* step, int half) {
    const __m512i pair = _mm512_loadu_si512(step + 64 * half);
    return _mm512_castsi512_ps(kInput == 0 ? _mm512_slli_epi32(pair, 16)
                                           : _mm512_and_si512(pair, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
};

constexpr int kStripInputs = 16;  // of a row of floats
template <class Columns>
constexpr int kColumnBytes = kStripInputs / Columns::kInputs * Columns::kBytes;  // of a strip of inputs

template <class Columns, int kInput, int kRows>
QW_INLINE void add_input(const float* x, const char* step, __m512 (&sums)[kRows][kTileVectors]) {
  if constexpr (kInput < Columns::kInputs) {
    const __m512 w0 = Columns::template open<kInput>(step, 0), w1 = Columns::template open<kInput>(step, 1);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512 v = _mm512_set1_ps(x[r * kStripInputs + kInput]);
      sums[r][0] = _mm512_fmadd_ps(v, w0, sums[r][0]);
      sums[r][1] = _mm512_fmadd_ps(v, w1, sums[r][1]);
    }
    add_input<Columns, kInput + 1, kRows>(x, step, sums);
  }
}

// One strip of inputs of a tile's rows.
template <class Columns, int kRows>
QW_INLINE void add_strip(const float* x, const char* columns, __m512 (&sums)[kRows][kTileVectors]) {
  for (int i = 0; i < kStripInputs; i += Columns::kInputs, columns += Columns::kBytes)
    add_input<Columns, 0, kRows>(x + i, columns, sums);
}

// ---- one tile of rows
// ---------------------------------------------------------------------------------------------------

template <class Columns, int kRows>
void float_tile(const MatmulTile& t) {
  __m512 sums[kRows][kTileVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  const auto* x = reinterpret_cast<const float*>(t.rows);
  const char* columns = t.panel;
  for (std::int64_t s = 0; s < t.steps; ++s, x += kRows * kStripInputs, columns += kColumnBytes<Columns>) {
#pragma GCC unroll 32
    for (int line = 0; line < kColumnBytes<Columns>; line += 64) {
      __builtin_prefetch(columns + kAhead + line);
      __builtin_prefetch(columns + kFarAhead + line, 0, 2);
    }
    add_strip<Columns, kRows>(x, columns, sums);
  }
  store_tile<kRows>(t, sums);
}

// ---- many rows
// ----------------------------------------------------------------------------------------------------------

// Strips of inputs opened at a time, at most: 24 KB of floats, which leave room for the rows' in a first cache of 48
// KB.
constexpr std::int64_t kFloatChunk = 12;
// Rows that share them, at most: their floats stay in a second cache of 2 MB, their sums are on the stack.
constexpr std::int64_t kFloatRowBytes = 1024 * 1024, kMostFloatRows = 36 * kTileRows;

// An opened part of a panel times one tile of rows.
struct FloatPart {
  const float* x;        // [strip][row][16]
  const float* columns;  // [input][32]
  std::int64_t strips;
  const char* soon;  // what this tile asks for of the part behind
  std::int64_t soon_bytes;
  float* sums;  // [row][32]
  bool first, last;
  MatmulTile to;  // for the last part
};

template <int kRows>
void float_part(const FloatPart& t) {
  __m512 sums[kRows][kTileVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const float* from = t.sums + r * kTileColumns;
    sums[r][0] = t.first ? _mm512_setzero_ps() : _mm512_load_ps(from);
    sums[r][1] = t.first ? _mm512_setzero_ps() : _mm512_load_ps(from + 16);
  }
  const float* x = t.x;
  const char *columns = reinterpret_cast<const char*>(t.columns), *soon = t.soon, *const soon_end = soon + t.soon_bytes;
  if (t.last) {  // what is written at the end comes meanwhile, too
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      __builtin_prefetch(t.to.y + r * t.to.ldy, 1);
      __builtin_prefetch(t.to.y + r * t.to.ldy + 16, 1);
    }
  }
  const std::int64_t soon_each = (t.soon_bytes / 64 + t.strips - 1) / t.strips;
  for (std::int64_t s = 0; s < t.strips; ++s, x += kRows * kStripInputs, columns += kColumnBytes<FloatColumns>) {
    for (std::int64_t i = 0; i < soon_each && soon < soon_end; ++i, soon += 64) __builtin_prefetch(soon, 0, 2);
    add_strip<FloatColumns, kRows>(x, columns, sums);
  }
  if (t.last) return store_tile<kRows>(t.to, sums);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    _mm512_store_ps(t.sums + r * kTileColumns, sums[r][0]);
    _mm512_store_ps(t.sums + r * kTileColumns + 16, sums[r][1]);
  }
}

template <class Columns, int kInput = 0>
QW_INLINE void open_inputs(const char* step, float* to) {
  if constexpr (kInput < Columns::kInputs) {
    _mm512_store_ps(to, Columns::template open<kInput>(step, 0));
    _mm512_store_ps(to + 16, Columns::template open<kInput>(step, 1));
    open_inputs<Columns, kInput + 1>(step, to + kTileColumns);
  }
}

template <class Columns>
const float* open_part(const char* columns, std::int64_t strips, float* to) {
  if constexpr (std::is_same_v<Columns, FloatColumns>) return reinterpret_cast<const float*>(columns);
  float* const opened = to;
  for (std::int64_t i = 0; i < strips * kStripInputs;
       i += Columns::kInputs, columns += Columns::kBytes, to += Columns::kInputs * kTileColumns)
    open_inputs<Columns>(columns, to);
  return opened;
}

using FloatPartFunction = void (*)(const FloatPart&);
template <std::size_t... kIndex>
constexpr std::array<FloatPartFunction, sizeof...(kIndex)> float_parts(std::index_sequence<kIndex...>) {
  return {&float_part<static_cast<int>(kIndex) + 1>...};
}
constexpr auto kFloatParts = float_parts(std::make_index_sequence<kTileRows>{});
using FloatTileFunction = void (*)(const MatmulTile&);
template <class Columns, std::size_t... kIndex>
constexpr std::array<FloatTileFunction, sizeof...(kIndex)> float_tiles(std::index_sequence<kIndex...>) {
  return {&float_tile<Columns, static_cast<int>(kIndex) + 1>...};
}
template <class Columns>
constexpr auto kFloatTiles = float_tiles<Columns>(std::make_index_sequence<kTileRows>{});

// The size of the parts when `all` is cut into as few as hold at most `most` each, and these are made even.
constexpr std::int64_t even_part(std::int64_t all, std::int64_t most) {
  return ceil_div(all, std::max<std::int64_t>(1, ceil_div(all, most)));
}
// Rows of a tile where there are `rows`: sixteen go as eight and eight.
constexpr std::int64_t float_tile_rows(std::int64_t rows) {
  return std::max<std::int64_t>(1, even_part(rows, kTileRows));
}

// Of a product in floats.
struct FloatProduct {
  const MatmulArgs& a;
  std::int64_t strips = ceil_div(a.in, kStripInputs), panel = panel_bytes(a.type, kTileColumns, a.in);
  std::int64_t tile_rows = float_tile_rows(a.rows), tiles = ceil_div(a.rows, tile_rows);

  const char* columns(std::int64_t o) const { return static_cast<const char*>(a.packed) + o / kTileColumns * panel; }
  std::int64_t rows(std::int64_t tile) const { return std::min(tile_rows, a.rows - tile * tile_rows); }
  // Of a tile, from a strip of inputs on.
  const float* x(std::int64_t tile, std::int64_t strip) const {
    return static_cast<const float*>(a.prepared) + (tile * tile_rows * strips + strip * rows(tile)) * kStripInputs;
  }
  MatmulTile to(std::int64_t tile, std::int64_t o) const {
    return {reinterpret_cast<const char*>(x(tile, 0)),
            columns(o),
            strips,
            a.bias == nullptr ? nullptr : a.bias + o,
            a.y + tile * tile_rows * a.ldy + o,
            a.ldy,
            std::min<std::int64_t>(kTileColumns, a.out_end - o)};
  }
};

template <class Columns>
void many_float_rows(const FloatProduct& p) {
  constexpr std::int64_t kBytes = kColumnBytes<Columns>;
  const std::int64_t tile_bytes = p.strips * kStripInputs * 4 * p.tile_rows;
  const std::int64_t part = even_part(p.strips, kFloatChunk),
                     block_tiles = even_part(
                         p.tiles, std::clamp<std::int64_t>(kFloatRowBytes / tile_bytes, 1, kMostFloatRows / kTileRows));
  alignas(64) float opened[kFloatChunk * kStripInputs * kTileColumns], sums[kMostFloatRows * kTileColumns];
  for (std::int64_t block = 0; block < p.tiles; block += block_tiles) {
    const std::int64_t tiles = std::min(block_tiles, p.tiles - block);
    for (std::int64_t o = p.a.out_begin; o < p.a.out_end; o += kTileColumns) {
      for (std::int64_t s = 0; s < p.strips; s += part) {
        const std::int64_t n = std::min(part, p.strips - s);
        const float* const columns = open_part<Columns>(p.columns(o) + s * kBytes, n, opened);
        // The part behind comes from memory meanwhile: every tile asks for its share.
        const char* const soon = p.columns(o) + (s + n) * kBytes;
        const auto share = [&](std::int64_t tile) { return part * kBytes / 64 * tile / tiles * 64; };
        for (std::int64_t i = 0; i < tiles; ++i) {
          kFloatParts[static_cast<std::size_t>(p.rows(block + i) - 1)]({.x = p.x(block + i, s),
                                                                        .columns = columns,
                                                                        .strips = n,
                                                                        .soon = soon + share(i),
                                                                        .soon_bytes = share(i + 1) - share(i),
                                                                        .sums = sums + i * kTileRows * kTileColumns,
                                                                        .first = s == 0,
                                                                        .last = s + n == p.strips,
                                                                        .to = p.to(block + i, o)});
        }
      }
    }
  }
}

template <class Columns>
void float_product(const MatmulArgs& a) {
  const FloatProduct p{a};
  if (a.rows == 0) return;
  if (p.tiles > 1) return many_float_rows<Columns>(p);
  for (std::int64_t o = a.out_begin; o < a.out_end; o += kTileColumns)
    kFloatTiles<Columns>[static_cast<std::size_t>(a.rows - 1)](p.to(0, o));
}

}  // namespace
}  // namespace qw::kernels::avx512
QW_TARGET_END
