// How the vector instruction sets lay out the operands of a matrix product, and the loops around their inner tiles.
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
template <std::int64_t kGranule>
struct alignas(64) OpenedChunk {
  std::uint8_t q[kChunkBlocks][8][kGranule * 4];
  float scale[kChunkBlocks][2][kGranule];
  float min[kChunkBlocks][2][kGranule];
  // In place of the latter, where minima go with the sums of a unit (scalar.h): of blocks 2i and 2i + 1, in 16 bits
  // each, and what all are multiplied with.
  std::int32_t min_pairs[kChunkBlocks / 2][kGranule];
  float dmin[kGranule];
};

// One chunk times one tile of rows. Sums stay in `sums` from chunk to chunk.
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
};

// Rows for which an opened chunk is used, at most: their sums are on the stack.
constexpr std::int64_t kMostBlockRows = 512;

// Whether an instruction set takes no less than a unit at a time, where others take what blocks they like.
template <class Isa, WeightType kType>
constexpr bool whole_units() {
  if constexpr (requires { Isa::template whole_units<kType>(); }) return Isa::template whole_units<kType>();
  return false;
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
        for (std::int64_t r = block; r < block_end; r += tile_rows) {
          const std::int64_t rows = std::min(tile_rows, a.rows - r);
          const auto* x =
              reinterpret_cast<const ActivationBlock*>(static_cast<const char*>(a.prepared) + r * row_bytes);
          const std::int64_t due = soon_lines * ++tile / tiles;
          Isa::template chunk_tile<kType>(
              static_cast<int>(rows),
              {&opened, n, x + b * rows, rows, tile_rows * blocks, soon + asked * kStripBytes,
               static_cast<int>(due - asked), sums + (r - block) * kGranule, b == 0, b + n == blocks,
               a.bias == nullptr ? nullptr : a.bias + o, a.y + r * a.ldy + o, a.ldy,
               std::min(kGranule, a.out_end - o)});
          asked = due;
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

// ---- training product -----------------------------------------------------------------------------------------------

// Words of k that are summed in registers before C is touched: a panel of kGemmColumns columns then takes half of L1
// or a little more, and a tile of rows streams past it from L2.
constexpr std::int64_t kBlockWords = 256;
// Rows of A packed at a time, in tiles: with kBlockWords, two fifths of a 1 MB L2.
constexpr std::int64_t kBlockTiles = 28;

// How k is cut into blocks: depends on k alone, so every element of C is summed in one order.
struct KSplit {
  std::int64_t per_word, words, block_words, blocks;
  KSplit(std::int64_t k, std::int64_t elements_per_word)
      : per_word(elements_per_word),
        words(std::max<std::int64_t>(1, ceil_div(k, per_word * kStripWords)) * kStripWords),
        block_words(round_up(ceil_div(words, ceil_div(words, kBlockWords)), kStripWords)),
        blocks(ceil_div(words, block_words)) {}
  std::int64_t words_of(std::int64_t block) const { return std::min(block_words, words - block * block_words); }
};

template <class Isa>
std::size_t tiled_packed_b_bytes(GemmPrecision precision, std::int64_t n, std::int64_t k) {
  return static_cast<std::size_t>(round_up(n, Isa::kGemmColumns) * KSplit(k, Isa::elements_per_word(precision)).words) *
         4;
}

// Layout: [block of k][panel][word][column].
template <class Isa>
const std::uint32_t* packed_panel(const KSplit& split, std::int64_t n_total, const void* packed_b, std::int64_t block,
                                  std::int64_t n) {
  const std::int64_t padded = round_up(n_total, Isa::kGemmColumns);
  return static_cast<const std::uint32_t*>(packed_b) + block * split.block_words * padded + n * split.words_of(block);
}

// Panels of one block of k, at panels[0], panels[words * kGemmColumns], ...; of B as bfloat16 if `bfloats` is not null.
template <class Isa>
void pack_panels(const GemmArgs& g, const std::uint16_t* bfloats, const KSplit& split, std::int64_t block,
                 std::int64_t n_begin, std::int64_t n_end, std::uint32_t* panels) {
  const std::int64_t k0 = block * split.block_words * split.per_word, words = split.words_of(block);
  const auto pack = [&](std::int64_t n, std::int64_t word, std::int64_t count) {
    std::uint32_t* to = panels + (n - n_begin) * words + word * Isa::kGemmColumns;
    const std::int64_t k = k0 + word * split.per_word;
    if constexpr (requires { &Isa::pack_b_panel_bfloats; }) {
      if (bfloats != nullptr) return Isa::pack_b_panel_bfloats(g, bfloats, n, k, count, to);
    }
    Isa::pack_b_panel(g, n, k, count, to);
  };
  if constexpr (requires { Isa::kStripsApart; }) {
    if (!g.trans_b) {  // in the order in which B lies in memory
      for (std::int64_t word = 0; word < words; word += kStripWords)
        for (std::int64_t n = n_begin; n < n_end; n += Isa::kGemmColumns) pack(n, word, kStripWords);
      return;
    }
  }
  for (std::int64_t n = n_begin; n < n_end; n += Isa::kGemmColumns) pack(n, 0, words);
}

template <class Isa>
void tiled_pack_b_bfloats(const GemmArgs& g, const std::uint16_t* b, void* packed_b, std::int64_t n_begin,
                          std::int64_t n_end) {
  const KSplit split(g.k, Isa::elements_per_word(g.precision));
  for (std::int64_t block = 0; block < split.blocks; ++block)
    pack_panels<Isa>(g, b, split, block, n_begin, n_end,
                     const_cast<std::uint32_t*>(packed_panel<Isa>(split, g.n, packed_b, block, n_begin)));
}
template <class Isa>
void tiled_pack_b(const GemmArgs& g, void* packed_b, std::int64_t n_begin, std::int64_t n_end) {
  tiled_pack_b_bfloats<Isa>(g, nullptr, packed_b, n_begin, n_end);
}

template <class Isa>
std::size_t tiled_scratch_bytes(GemmPrecision precision, std::int64_t m, std::int64_t k) {
  return static_cast<std::size_t>(std::min(m, kBlockTiles * Isa::kGemmRows) *
                                  KSplit(k, Isa::elements_per_word(precision)).block_words) *
         4;
}

struct GemmTile {
  const std::uint32_t* rows;
  const std::uint32_t* panel;
  std::int64_t strips;
  float* c;
  std::int64_t ldc;
  std::int64_t columns;  // of the panel, that exist
  bool add;              // to what C holds
};

template <class Isa>
void tiled_gemm(const GemmArgs& g, const void* packed_b, void* scratch, std::int64_t m_begin, std::int64_t m_end,
                std::int64_t n_begin, std::int64_t n_end) {
  const KSplit split(g.k, Isa::elements_per_word(g.precision));
  auto* a = static_cast<std::uint32_t*>(scratch);
  for (std::int64_t m = m_begin; m < m_end; m += kBlockTiles * Isa::kGemmRows) {
    const std::int64_t rows = std::min(kBlockTiles * Isa::kGemmRows, m_end - m);
    for (std::int64_t block = 0; block < split.blocks; ++block) {
      const std::int64_t words = split.words_of(block);
      Isa::pack_a_rows(g, m, rows, block * split.block_words * split.per_word, words, a);
      for (std::int64_t n = n_begin; n < n_end; n += Isa::kGemmColumns) {
        GemmTile t{
            a,     packed_panel<Isa>(split, g.n, packed_b, block, n),    words / kStripWords,      g.c + m * g.ldc + n,
            g.ldc, std::min<std::int64_t>(Isa::kGemmColumns, n_end - n), g.accumulate || block > 0};
        for (std::int64_t r = 0; r < rows; r += Isa::kGemmRows) {
          t.rows = a + r * words;
          t.c = g.c + (m + r) * g.ldc + n;
          Isa::gemm_tile(g.precision, static_cast<int>(std::min<std::int64_t>(Isa::kGemmRows, rows - r)), t);
        }
      }
    }
  }
}

// Few rows of C: op(A) lies packed as [block of k][tile][strip][row][16 words], and columns of B are packed by who
// multiplies them, just before.
template <class Isa>
std::size_t tiled_packed_a_bytes(GemmPrecision precision, std::int64_t m, std::int64_t k) {
  return static_cast<std::size_t>(m * KSplit(k, Isa::elements_per_word(precision)).words) * 4;
}

template <class Isa>
void tiled_pack_a(const GemmArgs& g, void* packed_a, std::int64_t m_begin, std::int64_t m_end) {
  const KSplit split(g.k, Isa::elements_per_word(g.precision));
  for (std::int64_t block = 0; block < split.blocks; ++block) {
    const std::int64_t words = split.words_of(block);
    Isa::pack_a_rows(g, m_begin, m_end - m_begin, block * split.block_words * split.per_word, words,
                     static_cast<std::uint32_t*>(packed_a) + block * split.block_words * g.m + m_begin * words);
  }
}

template <class Isa>
std::size_t tiled_columns_scratch_bytes(GemmPrecision precision, std::int64_t columns, std::int64_t k) {
  return static_cast<std::size_t>(round_up(columns, Isa::kGemmColumns) *
                                  KSplit(k, Isa::elements_per_word(precision)).block_words) *
         4;
}

// A part of B as it lies in memory, to be asked for a share at a time while something else is multiplied.
class PartOfB {
 public:
  PartOfB(const GemmArgs& g, const std::uint16_t* bfloats, std::int64_t k0, std::int64_t k_end, std::int64_t n0,
          std::int64_t n_end) {
    const auto bytes = static_cast<std::int64_t>(bfloats != nullptr ? sizeof(std::uint16_t) : sizeof(float));
    const std::int64_t lines = g.trans_b ? n_end - n0 : k_end - k0, length = g.trans_b ? k_end - k0 : n_end - n0;
    if (lines <= 0 || length <= 0) return;
    const char* b = bfloats != nullptr ? reinterpret_cast<const char*>(bfloats) : reinterpret_cast<const char*>(g.b);
    at_ = b + (g.trans_b ? n0 * g.ldb + k0 : k0 * g.ldb + n0) * bytes;
    stride_ = g.ldb * bytes;
    length_ = length * bytes;
    lines_ = lines;
  }
  // The `part`-th of `parts`, as whole lines, into the second-level cache.
  void ask(std::int64_t part, std::int64_t parts) const {
    for (std::int64_t line = lines_ * part / parts; line < lines_ * (part + 1) / parts; ++line)
      for (std::int64_t i = 0; i < length_; i += kStripBytes) __builtin_prefetch(at_ + line * stride_ + i, 0, 2);
  }

 private:
  const char* at_ = nullptr;
  std::int64_t stride_ = 0, length_ = 0, lines_ = 0;
};

// Columns [n_begin, n_end) of C, one block of k; `panel_at` says where a panel of B lies, and before every tile `soon`
// asks for its share of what is wanted next.
template <class Isa, class PanelAt, class Soon>
void multiply_columns(const GemmArgs& g, const KSplit& split, std::int64_t block, const void* packed_a,
                      std::int64_t n_begin, std::int64_t n_end, PanelAt&& panel_at, Soon&& soon) {
  const std::int64_t words = split.words_of(block);
  const auto* a = static_cast<const std::uint32_t*>(packed_a) + block * split.block_words * g.m;
  for (std::int64_t n = n_begin; n < n_end; n += Isa::kGemmColumns) {
    GemmTile t{a,
               panel_at(n),
               words / kStripWords,
               g.c + n,
               g.ldc,
               std::min<std::int64_t>(Isa::kGemmColumns, n_end - n),
               g.accumulate || block > 0};
    for (std::int64_t r = 0; r < g.m; r += Isa::kGemmRows) {
      t.rows = a + r * words;
      t.c = g.c + r * g.ldc + n;
      soon();
      Isa::gemm_tile(g.precision, static_cast<int>(std::min<std::int64_t>(Isa::kGemmRows, g.m - r)), t);
    }
  }
}

template <class Isa>
void tiled_gemm_columns(const GemmArgs& g, const std::uint16_t* bfloats, const void* packed_a, void* scratch,
                        std::int64_t n_begin, std::int64_t n_end) {
  const KSplit split(g.k, Isa::elements_per_word(g.precision));
  auto* panels = static_cast<std::uint32_t*>(scratch);
  for (std::int64_t block = 0; block < split.blocks; ++block) {
    const std::int64_t words = split.words_of(block);
    pack_panels<Isa>(g, bfloats, split, block, n_begin, n_end, panels);
    // Comes from memory meanwhile: the next block of k; after the last one the first of the columns that this thread is
    // probably given next, while another thread has those in between.
    const bool last = block + 1 == split.blocks;
    const std::int64_t k0 = last ? 0 : (block + 1) * split.block_words * split.per_word,
                       next = last ? std::min(g.n, 2 * n_end - n_begin) : n_begin;
    const PartOfB soon(g, bfloats, k0, std::min(g.k, k0 + split.words_of(last ? 0 : block + 1) * split.per_word), next,
                       std::min(g.n, next + n_end - n_begin));
    const std::int64_t tiles = ceil_div(n_end - n_begin, Isa::kGemmColumns) * ceil_div(g.m, Isa::kGemmRows);
    std::int64_t tile = 0;
    multiply_columns<Isa>(
        g, split, block, packed_a, n_begin, n_end, [&](std::int64_t n) { return panels + (n - n_begin) * words; },
        [&] { soon.ask(tile++, tiles); });
  }
}

// A matrix as the product with its transpose has it packed (x W^T, W [out, in]): strips of 16 words along `in` of a
// panel of `out`, which is what a strip along `out` of the product with itself (y W) is made of.
template <class Isa>
class TurnedB {
 public:
  static constexpr std::int64_t kSquareBytes = kStripWords * Isa::kGemmColumns * 4;
  TurnedB(const GemmArgs& g, const void* packed) : along_n_(g.n, 2), outputs_(g.k), packed_(packed) {}
  // Around column n and output k, multiples of a panel's columns both.
  const std::uint32_t* square(std::int64_t n, std::int64_t k) const {
    const std::int64_t word = n / 2, block = word / along_n_.block_words;
    return packed_panel<Isa>(along_n_, outputs_, packed_, block, k) +
           (word - block * along_n_.block_words) * Isa::kGemmColumns;
  }
  // The panel of columns [n, n + kGemmColumns) of one block of k, as pack_panels makes it.
  void panel(const KSplit& split, std::int64_t block, std::int64_t n, std::uint32_t* to) const {
    const std::int64_t k0 = block * split.block_words * 2;
    for (std::int64_t word = 0; word < split.words_of(block); word += kStripWords)
      Isa::turn_square(square(n, k0 + word * 2), to + word * Isa::kGemmColumns);
  }
  // Asks for the `part`-th of `parts` of what it is made of. Inlined, for GCC takes a function that only asks for one
  // that does nothing, and leaves its calls out; line by line, for processors leave out what is asked for in bursts.
  [[gnu::always_inline]] inline void ask(const KSplit& split, std::int64_t block, std::int64_t n, std::int64_t part,
                                         std::int64_t parts) const {
    constexpr std::int64_t kLines = kSquareBytes / kStripBytes;
    const std::int64_t lines = split.words_of(block) / kStripWords * kLines, k0 = block * split.block_words * 2;
    for (std::int64_t i = lines * part / parts; i < lines * (part + 1) / parts; ++i) {
      const auto* at = reinterpret_cast<const char*>(square(n, k0 + i / kLines * kStripWords * 2));
      __builtin_prefetch(at + i % kLines * kStripBytes, 0, 2);
    }
  }

 private:
  KSplit along_n_;
  std::int64_t outputs_;
  const void* packed_;
};

// The panel that is multiplied behind the one at n: of these columns, or the first of those that this thread is
// probably given next, while another thread has those in between. n == g.n: there is none.
struct NextPanel {
  std::int64_t block, n;
  NextPanel(const GemmArgs& g, const KSplit& split, std::int64_t at_block, std::int64_t at, std::int64_t columns,
            std::int64_t n_begin, std::int64_t n_end)
      : block(at_block), n(at + columns) {
    if (n < n_end) return;
    const bool last = block + 1 == split.blocks;
    block = last ? 0 : block + 1;
    n = last ? std::min(g.n, 2 * n_end - n_begin) : n_begin;
  }
};

template <class Isa>
void multiply_turned(const GemmArgs& g, const void* packed, const void* packed_a, void* scratch, std::int64_t n_begin,
                     std::int64_t n_end) {
  static_assert(Isa::kGemmColumns == 2 * kStripWords);  // so that squares of 16 words and a panel's columns are square
  const KSplit split(g.k, 2);
  const TurnedB<Isa> b(g, packed);
  auto* panel = static_cast<std::uint32_t*>(scratch);
  const std::int64_t tiles = ceil_div(g.m, Isa::kGemmRows);
  for (std::int64_t block = 0; block < split.blocks; ++block) {
    NextPanel next(g, split, block, n_begin, 0, n_begin, n_end);
    std::int64_t tile = 0;
    multiply_columns<Isa>(
        g, split, block, packed_a, n_begin, n_end,
        [&](std::int64_t n) {
          b.panel(split, block, n, panel);
          next = NextPanel(g, split, block, n, Isa::kGemmColumns, n_begin, n_end);
          tile = 0;
          return panel;
        },
        [&] {  // comes from memory meanwhile
          if (next.n < g.n) b.ask(split, next.block, next.n, tile, tiles);
          ++tile;
        });
  }
}

template <class Isa>
void multiply_in_place(const GemmArgs& g, const void* packed, const void* packed_a, std::int64_t n_begin,
                       std::int64_t n_end) {
  const KSplit split(g.k, 2);
  const std::int64_t tiles = ceil_div(g.m, Isa::kGemmRows);
  for (std::int64_t block = 0; block < split.blocks; ++block) {
    const char* soon = nullptr;
    std::int64_t lines = 0, tile = 0;
    multiply_columns<Isa>(
        g, split, block, packed_a, n_begin, n_end,
        [&](std::int64_t n) {
          const NextPanel next(g, split, block, n, Isa::kGemmColumns, n_begin, n_end);
          lines = next.n < g.n ? split.words_of(next.block) * Isa::kGemmColumns * 4 / kStripBytes : 0;
          soon = reinterpret_cast<const char*>(packed_panel<Isa>(split, g.n, packed, next.block, next.n));
          tile = 0;
          return packed_panel<Isa>(split, g.n, packed, block, n);
        },
        [&] {  // comes from memory meanwhile
          for (std::int64_t i = lines * tile / tiles; i < lines * (tile + 1) / tiles; ++i)
            __builtin_prefetch(soon + i * kStripBytes, 0, 2);
          ++tile;
        });
  }
}

template <class Isa>
void tiled_gemm_columns_packed(const GemmArgs& g, const void* packed, const void* packed_a, void* scratch,
                               std::int64_t n_begin, std::int64_t n_end) {
  if (g.trans_b) return multiply_in_place<Isa>(g, packed, packed_a, n_begin, n_end);
  multiply_turned<Isa>(g, packed, packed_a, scratch, n_begin, n_end);
}

template <class Isa>
void tiled_gemm_packed(const GemmArgs& g, const void* packed_a, const void* packed_b, std::int64_t m_begin,
                       std::int64_t m_end) {
  const KSplit split(g.k, Isa::elements_per_word(g.precision));
  for (std::int64_t block = 0; block < split.blocks; ++block) {
    const std::int64_t words = split.words_of(block);
    const auto* a = static_cast<const std::uint32_t*>(packed_a) + block * split.block_words * g.m;
    for (std::int64_t n = 0; n < g.n; n += Isa::kGemmColumns) {
      GemmTile t{a,     packed_panel<Isa>(split, g.n, packed_b, block, n),  words / kStripWords,      g.c + n,
                 g.ldc, std::min<std::int64_t>(Isa::kGemmColumns, g.n - n), g.accumulate || block > 0};
      for (std::int64_t r = m_begin; r < m_end; r += Isa::kGemmRows) {
        t.rows = a + r * words;
        t.c = g.c + r * g.ldc + n;
        Isa::gemm_tile(g.precision, static_cast<int>(std::min<std::int64_t>(Isa::kGemmRows, g.m - r)), t);
      }
    }
  }
}

template <class Isa>
void fill_tiled_gemm_columns(Kernels& k) {
  k.gemm_packed = tiled_gemm_packed<Isa>;
  k.gemm_columns_packed = tiled_gemm_columns_packed<Isa>;
  k.gemm_packed_a_bytes = tiled_packed_a_bytes<Isa>;
  k.gemm_pack_a = tiled_pack_a<Isa>;
  k.gemm_columns_scratch_bytes = tiled_columns_scratch_bytes<Isa>;
  k.gemm_columns = tiled_gemm_columns<Isa>;
}

template <class Isa>
void fill_tiled_gemm(Kernels& k) {
  k.gemm_m_granule = Isa::kGemmRows;
  k.gemm_n_granule = Isa::kGemmColumns;
  k.gemm_packed_b_bytes = tiled_packed_b_bytes<Isa>;
  k.gemm_pack_b = tiled_pack_b<Isa>;
  if constexpr (requires { &Isa::pack_b_panel_bfloats; }) {
    k.gemm_pack_b_bfloats = tiled_pack_b_bfloats<Isa>;
  } else {
    k.gemm_pack_b_bfloats = nullptr;
  }
  k.gemm_scratch_bytes = tiled_scratch_bytes<Isa>;
  k.gemm = tiled_gemm<Isa>;
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
