// How the vector instruction sets lay out the operands of an inference product, and the loops around their inner tiles;
// those of training are in gemm_tiles.h.
//
// Outputs (columns) come in panels of `granule`, interleaved so that one vector register holds the same k of many
// outputs: no horizontal sums. Rows come in tiles of at most `tile_rows`, their elements in strips of 64 bytes:
//
//   panel   [word][granule]           a word is one float, a pair of bfloat16 (k, k+1), or four bytes of a quantised
//   block rows    [tile][strip][row of the tile][16 words]
//
// so that a tile's inner loop reads both operands forward, with small constant displacements between the rows.
//
// Everything here has internal linkage and is compiled for the baseline CPU; the tiles it calls are not.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/internal/compact.h"

namespace qw::kernels {
namespace {

constexpr std::int64_t kStripWords = 16;  // 64 bytes: a cache line, and one AVX-512 register
constexpr std::int64_t kStripBytes = kStripWords * 4;

// ---- inference: packed weights --------------------------------------------------------------------------------------

// `in` is padded so that whole strips of every word kind fit: 16 pairs of bfloat16.
constexpr std::int64_t kInPadding = 32;

constexpr std::int64_t panel_bytes(WeightType type, std::int64_t granule, std::int64_t in) {
  switch (type) {
    case WeightType::kF32:
      return granule * round_up(in, kInPadding) * 4;
    case WeightType::kF16:
    case WeightType::kBF16:
      return granule * round_up(in, kInPadding) * 2;
    default:
      return compact_panel_bytes(compact_of(type), granule, in);
  }
}

template <std::int64_t kGranule>
std::size_t tiled_packed_bytes(WeightType type, std::int64_t out, std::int64_t in) {
  return static_cast<std::size_t>(ceil_div(out, kGranule) * panel_bytes(type, kGranule, in));
}

// Where element i of output o (of the panel) lies, in elements of two or four bytes.
constexpr std::int64_t float_position(WeightType type, std::int64_t granule, std::int64_t i, std::int64_t o) {
  return type == WeightType::kBF16 ? (i / 2 * granule + o) * 2 + i % 2 : i * granule + o;
}

template <class T>
void pack_float_panel(WeightType type, const T* rows, std::int64_t outputs, std::int64_t granule, std::int64_t in,
                      T* panel) {
  // A few elements of all outputs at a time: whole lines of the panel are written while they are in L1.
  constexpr std::int64_t kStep = 16;
  for (std::int64_t begin = 0; begin < in; begin += kStep) {
    const std::int64_t end = std::min(begin + kStep, in);
    for (std::int64_t o = 0; o < outputs; ++o) {
      for (std::int64_t i = begin; i < end; ++i) panel[float_position(type, granule, i, o)] = rows[o * in + i];
    }
  }
}

// kFlipQ8: stored Q8_0 bytes get their top bit flipped, which adds 128 and makes them unsigned.
template <std::int64_t kGranule, bool kFlipQ8>
void tiled_pack(WeightType type, const void* rows, std::int64_t out, std::int64_t in, void* packed) {
  for (std::int64_t o = 0; o < out; o += kGranule) {
    const std::int64_t n = std::min(kGranule, out - o), bytes = panel_bytes(type, kGranule, in);
    char* panel = static_cast<char*>(packed) + o / kGranule * bytes;
    const bool padded = n < kGranule || (!is_quantised(type) && in % kInPadding != 0);
    if (padded) std::memset(panel, 0, static_cast<std::size_t>(bytes));  // with zeros, and scales of zero
    const char* from = static_cast<const char*>(rows) + o * raw_row_bytes(type, in);
    switch (type) {
      case WeightType::kF32:
        pack_float_panel(type, reinterpret_cast<const float*>(from), n, kGranule, in, reinterpret_cast<float*>(panel));
        break;
      case WeightType::kF16:
      case WeightType::kBF16:
        pack_float_panel(type, reinterpret_cast<const std::uint16_t*>(from), n, kGranule, in,
                         reinterpret_cast<std::uint16_t*>(panel));
        break;
      default:
        with_block_type(type, [&]<WeightType kType>() {
          pack_compact_panel<kType>(reinterpret_cast<const std::uint8_t*>(from), n, in, kGranule, kFlipQ8 ? 0x80 : 0,
                                    panel);
        });
    }
  }
}

template <std::int64_t kGranule, bool kFlipQ8>
void tiled_unpack_row(WeightType type, const void* packed, std::int64_t, std::int64_t in, std::int64_t row, float* y) {
  const std::int64_t o = row % kGranule;
  const char* panel = static_cast<const char*>(packed) + row / kGranule * panel_bytes(type, kGranule, in);
  if (!is_quantised(type)) {
    for (std::int64_t i = 0; i < in; ++i) {
      const std::int64_t at = float_position(type, kGranule, i, o);
      const auto half = [&] { return reinterpret_cast<const std::uint16_t*>(panel)[at]; };
      y[i] = type == WeightType::kF32    ? reinterpret_cast<const float*>(panel)[at]
             : type == WeightType::kBF16 ? bfloat_to_float(half())
                                         : half_to_float(half());
    }
    return;
  }
  with_block_type(
      type, [&]<WeightType kType>() { unpack_compact_row<kType>(panel, in, kGranule, kFlipQ8 ? 0x80 : 0, o, y); });
}

// ---- inference: prepared rows ---------------------------------------------------------------------------------------

// Bytes of one row of prepared activations, when `pairs` elements of bfloat16 share a word.
constexpr std::int64_t block_row_bytes(std::int64_t in) {
  return in / kBlock * static_cast<std::int64_t>(sizeof(ActivationBlock));
}

template <class Isa>
std::int64_t prepared_row_bytes(WeightType type, std::int64_t in) {
  if (is_quantised(type)) return block_row_bytes(in);
  return round_up(in, kStripWords * Isa::elements_per_word(type)) / Isa::elements_per_word(type) * 4;
}

template <class Isa>
std::size_t tiled_prepared_bytes(WeightType type, std::int64_t rows, std::int64_t in) {
  return static_cast<std::size_t>(rows * prepared_row_bytes<Isa>(type, in));
}

// Rows for block formats, whose tiles have `tile_rows` rows.
template <class Isa>
void prepare_blocks(WeightType type, std::int64_t tile_rows, const float* x, std::int64_t ldx, std::int64_t rows,
                    std::int64_t in, void* prepared, std::int64_t row_begin, std::int64_t row_end) {
  const ActivationKind kind = activation_kind(type);
  for (std::int64_t r = row_begin; r < row_end; ++r) {
    const std::int64_t first = r / tile_rows * tile_rows, in_tile = std::min(tile_rows, rows - first);
    char* tile = static_cast<char*>(prepared) + first * block_row_bytes(in);
    auto* blocks = reinterpret_cast<ActivationBlock*>(tile) + (r - first);
    Isa::quantise_row(x + r * ldx, in / kBlock, kind, blocks, in_tile);
  }
}

// And for the others.
template <class Isa>
void prepare_words(WeightType type, std::int64_t tile_rows, const float* x, std::int64_t ldx, std::int64_t rows,
                   std::int64_t in, void* prepared, std::int64_t row_begin, std::int64_t row_end) {
  const std::int64_t row_bytes = prepared_row_bytes<Isa>(type, in);
  for (std::int64_t r = row_begin; r < row_end; ++r) {
    const std::int64_t first = r / tile_rows * tile_rows, in_tile = std::min(tile_rows, rows - first);
    char* tile = static_cast<char*>(prepared) + first * row_bytes;
    Isa::prepare_row(type, x + r * ldx, in, reinterpret_cast<std::uint32_t*>(tile) + (r - first) * kStripWords,
                     in_tile * kStripWords);
  }
}

template <class Isa>
void tiled_prepare(WeightType type, const float* x, std::int64_t ldx, std::int64_t rows, std::int64_t in,
                   void* prepared, std::int64_t row_begin, std::int64_t row_end) {
  (is_quantised(type) ? prepare_blocks<Isa> : prepare_words<Isa>)(type, Isa::tile_rows(type), x, ldx, rows, in,
                                                                  prepared, row_begin, row_end);
}

// ---- inference: the product -----------------------------------------------------------------------------------------

// One tile of a type that is no block format: `rows` rows (at most tile_rows) times one panel. `steps` counts strips.
struct MatmulTile {
  const char* rows;
  const char* panel;
  std::int64_t steps;
  const float* bias;  // of the panel's first output, or nullptr
  float* y;
  std::int64_t ldy;
  std::int64_t outputs;  // of the panel, that exist
};

// Activations that are read again for every panel; half of a 1 MB L2 leaves room for the panel and the outputs.
constexpr std::int64_t kRowBlockBytes = 512 * 1024;

// Blocks of a panel that are opened at a time, into a first-level cache: unsigned levels as bytes, [word][output][4]
// like the quants of compact.h, and scales (and minima) as floats, one for each group. 12 KB for 32 outputs.
constexpr int kChunkBlocks = 8;
// With one tile of rows, so few that multiplying one chunk and opening the next overlap: memory would rest meanwhile.
constexpr int kSmallChunkBlocks = 2;
inline constexpr int kStepsOfBlock = 16;  // of a group of 32, or eight of each of two of 16
template <std::int64_t kGranule>
struct alignas(64) OpenedChunk {
  std::uint8_t q[kChunkBlocks][8][kGranule * 4];
  float scale[kChunkBlocks][2][kGranule];
  float min[kChunkBlocks][2][kGranule];
  // In place of the latter, where minima go with the sums of a unit (scalar.h): of blocks 2i and 2i + 1, in 16 bits
  // each, and what all are multiplied with.
  std::int32_t min_pairs[kChunkBlocks / 2][kGranule];
  float dmin[kGranule];
  // In place of `scale`, where rows choose among steps of their own scale (scalar.h): by block, group and step.
  float stepped[kChunkBlocks * kStepsOfBlock][kGranule];
};

// One chunk times one tile of rows, or several. Sums stay in `sums` from chunk to chunk.
template <std::int64_t kGranule>
struct ChunkTile {
  const OpenedChunk<kGranule>* weights;
  int blocks;                // of the chunk
  const ActivationBlock* x;  // of the tile's first row and the chunk's first block, the next row's after it
  std::int64_t next;         // blocks of activations from one block of a row to the next
  std::int64_t ahead;        // and from the tile to the one after it, which is asked for meanwhile
  const char* soon;          // a part of the next chunk: so many lines of 64 bytes, to be asked for meanwhile
  int soon_lines;
  float* sums;        // [row of the tile][kGranule]
  bool first, last;   // chunk
  const float* bias;  // as MatmulTile, for the last chunk
  float* y;
  std::int64_t ldy, outputs;
  int tiles = 1;  // of as many rows, one behind the other: more where the instruction set takes them so (kManyTiles)
};

// Rows for which an opened chunk is used, at most: their sums are on the stack.
constexpr std::int64_t kMostBlockRows = 512;

// Whether an instruction set takes no less than a unit at a time, where others take what blocks they like.
template <class Isa, WeightType kType>
constexpr bool whole_units() {
  if constexpr (requires { Isa::template whole_units<kType>(); }) return Isa::template whole_units<kType>();
  return false;
}

// Whether it multiplies all tiles of as many rows in one call.
template <class Isa>
constexpr bool takes_many_tiles() {
  return requires { Isa::kManyTiles; };
}

// Every row goes the same way whatever their number: its sums are exact integers for each group, and their products
// with scales are added group after group.
template <class Isa, WeightType kType>
void block_product(const MatmulArgs& a) {
  constexpr std::int64_t kGranule = Isa::kGranule;
  constexpr Compact c = compact_of(kType);
  const std::int64_t row_bytes = block_row_bytes(a.in), tile_rows = Isa::tile_rows(kType), blocks = a.in / kBlock;
  const std::int64_t block_rows =
      std::clamp<std::int64_t>(kRowBlockBytes / row_bytes / tile_rows, 1, kMostBlockRows / tile_rows) * tile_rows;
  const std::int64_t chunk_blocks =
      a.rows <= tile_rows && !whole_units<Isa, kType>() ? kSmallChunkBlocks : kChunkBlocks;
  OpenedChunk<kGranule> opened;
  alignas(64) float sums[kMostBlockRows * kGranule];
  for (std::int64_t block = 0; block < a.rows; block += block_rows) {
    const std::int64_t block_end = std::min(a.rows, block + block_rows);
    for (std::int64_t o = a.out_begin; o < a.out_end; o += kGranule) {
      const char* panel = static_cast<const char*>(a.packed) + o / kGranule * panel_bytes(kType, kGranule, a.in);
      for (std::int64_t b = 0; b < blocks; b += chunk_blocks) {
        const int n = static_cast<int>(std::min(chunk_blocks, blocks - b));
        // The next chunk, of this panel or the one behind it, comes from memory while this one is multiplied: every
        // tile of rows asks for its share. Else memory rests meanwhile, and multiplying while chunks are opened.
        const char* soon = panel + compact_head_at(c, kGranule, b + n);
        const std::int64_t soon_lines = chunk_blocks * c.block * kGranule / kStripBytes,
                           tiles = ceil_div(block_end - block, tile_rows);
        std::int64_t tile = 0, asked = 0;
        Isa::template open_chunk<kType>(panel + compact_head_at(c, kGranule, b),
                                        panel + compact_block_at(c, kGranule, b), n, opened);
        for (std::int64_t r = block; r < block_end;) {
          const std::int64_t rows = std::min(tile_rows, block_end - r);
          const std::int64_t at_once = takes_many_tiles<Isa>() ? (block_end - r) / rows : 1;
          const auto* x =
              reinterpret_cast<const ActivationBlock*>(static_cast<const char*>(a.prepared) + r * row_bytes);
          tile += at_once;
          const std::int64_t due = soon_lines * tile / tiles;
          Isa::template chunk_tile<kType>(
              static_cast<int>(rows),
              {&opened, n, x + b * rows, rows, tile_rows * blocks, soon + asked * kStripBytes,
               static_cast<int>(due - asked), sums + (r - block) * kGranule, b == 0, b + n == blocks,
               a.bias == nullptr ? nullptr : a.bias + o, a.y + r * a.ldy + o, a.ldy,
               std::min(kGranule, a.out_end - o), static_cast<int>(at_once)});
          asked = due;
          r += at_once * rows;
        }
      }
    }
  }
}

template <class Isa>
void tiled_matmul(const MatmulArgs& a) {
  if (is_quantised(a.type)) return with_block_type(a.type, [&]<WeightType kType>() { block_product<Isa, kType>(a); });
  constexpr std::int64_t kGranule = Isa::kGranule;
  const std::int64_t row_bytes = prepared_row_bytes<Isa>(a.type, a.in), tile_rows = Isa::tile_rows(a.type);
  const std::int64_t block_rows =
      std::max<std::int64_t>(1, kRowBlockBytes / std::max<std::int64_t>(1, row_bytes * tile_rows)) * tile_rows;
  const std::int64_t steps = ceil_div(a.in, kStripWords * Isa::elements_per_word(a.type));
  for (std::int64_t block = 0; block < a.rows; block += block_rows) {
    const std::int64_t block_end = std::min(a.rows, block + block_rows);
    for (std::int64_t o = a.out_begin; o < a.out_end; o += kGranule) {
      MatmulTile t{nullptr,
                   static_cast<const char*>(a.packed) + o / kGranule * panel_bytes(a.type, kGranule, a.in),
                   steps,
                   a.bias == nullptr ? nullptr : a.bias + o,
                   nullptr,
                   a.ldy,
                   std::min(kGranule, a.out_end - o)};
      for (std::int64_t r = block; r < block_end; r += tile_rows) {
        t.rows = static_cast<const char*>(a.prepared) + r * row_bytes;
        t.y = a.y + r * a.ldy + o;
        Isa::matmul_tile(a.type, static_cast<int>(std::min(tile_rows, a.rows - r)), t);
      }
    }
  }
}

template <class Isa, bool kFlipQ8>
void fill_tiled_matmul(Kernels& k) {
  k.out_granule = Isa::kGranule;
  k.packed_bytes = tiled_packed_bytes<Isa::kGranule>;
  k.pack = tiled_pack<Isa::kGranule, kFlipQ8>;
  k.prepared_bytes = tiled_prepared_bytes<Isa>;
  k.prepare = tiled_prepare<Isa>;
  k.prepared_as = prepared_as;
  k.matmul = tiled_matmul<Isa>;
  k.unpack_row = tiled_unpack_row<Isa::kGranule, kFlipQ8>;
}

}  // namespace
}  // namespace qw::kernels
