// How the vector instruction sets lay out the operands of a matrix product, and the loops around their inner tiles.
//
// Outputs (columns) come in panels of `granule`, interleaved so that one vector register holds the same k of many
// outputs: no horizontal sums. Rows come in tiles of at most `tile_rows`, their elements in strips of 64 bytes:
//
//   panel   [word][granule]           a word is one float, a pair of bfloat16 (k, k+1), or four bytes of a quantised block
//   rows    [tile][strip][row of the tile][16 words]
//
// so that a tile's inner loop reads both operands forward, with small constant displacements between the rows.
//
// Everything here has internal linkage and is compiled for the baseline CPU; the tiles it calls are not.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/internal/blocks.h"

namespace qw::kernels {
namespace {

constexpr std::int64_t kStripWords = 16;  // 64 bytes: a cache line, and one AVX-512 register
constexpr std::int64_t kStripBytes = kStripWords * 4;

// ---- inference: packed weights --------------------------------------------------------------------------------------

// `in` is padded so that whole strips of every word kind fit: 16 pairs of bfloat16.
constexpr std::int64_t kInPadding = 32;

constexpr std::int64_t quantised_panel_block_bytes(WeightType type, std::int64_t granule) {
  switch (opened_as(type)) {  // quants of every output, then their scales: f16, or f32 with minima for grouped formats
    case WeightType::kGroups8: return granule * (32 + 16);
    case WeightType::kGroups4: return granule * (16 + 8);
    default: return granule * ((type == WeightType::kQ8_0 ? 32 : 16) + 2);
  }
}

constexpr std::int64_t panel_bytes(WeightType type, std::int64_t granule, std::int64_t in) {
  switch (type) {
    case WeightType::kF32: return granule * round_up(in, kInPadding) * 4;
    case WeightType::kF16:
    case WeightType::kBF16: return granule * round_up(in, kInPadding) * 2;
    default: return in / kBlock * quantised_panel_block_bytes(type, granule);
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

template <class Raw>
void pack_quantised_panel(WeightType type, const Raw* rows, std::int64_t outputs, std::int64_t granule,
                          std::int64_t blocks, std::uint32_t flip, char* panel) {
  constexpr int kWordsPerBlock = static_cast<int>(sizeof(Raw::q) / 4);
  for (std::int64_t b = 0; b < blocks; ++b, panel += quantised_panel_block_bytes(type, granule)) {
    for (std::int64_t o = 0; o < outputs; ++o) {
      const Raw& raw = rows[o * blocks + b];
      for (int w = 0; w < kWordsPerBlock; ++w) {
        std::uint32_t word;
        std::memcpy(&word, reinterpret_cast<const char*>(raw.q) + 4 * w, 4);
        word ^= flip;
        std::memcpy(panel + (w * granule + o) * 4, &word, 4);
      }
      std::memcpy(panel + kWordsPerBlock * granule * 4 + o * 2, &raw.d, 2);
    }
  }
}

// Grouped formats: the words of q, then each float of the raw block (scales before minima) for all outputs.
template <class Raw>
void pack_grouped_panel(WeightType type, const Raw* rows, std::int64_t outputs, std::int64_t granule,
                        std::int64_t blocks, std::uint32_t flip, char* panel) {
  constexpr int kWords = static_cast<int>(sizeof(Raw::q) / 4), kFloats = static_cast<int>(sizeof(Raw) / 4) - kWords;
  for (std::int64_t b = 0; b < blocks; ++b, panel += quantised_panel_block_bytes(type, granule)) {
    for (std::int64_t o = 0; o < outputs; ++o) {
      const char* raw = reinterpret_cast<const char*>(&rows[o * blocks + b]);
      for (int w = 0; w < kWords; ++w) {
        std::uint32_t word;
        std::memcpy(&word, raw + 4 * (kFloats + w), 4);
        word ^= flip;
        std::memcpy(panel + (w * granule + o) * 4, &word, 4);
      }
      for (int f = 0; f < kFloats; ++f) std::memcpy(panel + ((kWords + f) * granule + o) * 4, raw + 4 * f, 4);
    }
  }
}

// A block format of a file, opened eight blocks of all outputs at a time.
template <class Raw>
void pack_opened_panel(WeightType type, const std::uint8_t* rows, std::int64_t outputs, std::int64_t granule,
                       std::int64_t in, std::uint32_t flip, char* panel) {
  constexpr std::int64_t kAtOnce = 8, kMostOutputs = 32;
  const BlockFormat f = block_format(type);
  const WeightType as = opened_as(type);
  const std::int64_t blocks = in / kBlock, row_bytes = raw_row_bytes(type, in);
  Raw opened[kMostOutputs * kAtOnce];
  for (std::int64_t b = 0; b < blocks; b += kAtOnce) {
    const std::int64_t n = std::min(kAtOnce, blocks - b);
    for (std::int64_t o = 0; o < outputs; ++o)
      open_groups(type, rows + o * row_bytes + b * kBlock / f.elements * f.bytes, static_cast<int>(n * kBlock),
                  opened + o * n);
    pack_grouped_panel(as, opened, outputs, granule, n, flip, panel + b * quantised_panel_block_bytes(as, granule));
  }
}

template <std::int64_t kGranule, bool kFlipQ8>
void unpack_grouped_row(WeightType type, const char* panel, std::int64_t o, std::int64_t in, float* y) {
  type = opened_as(type);
  const int words = type == WeightType::kGroups8 ? 8 : 4, groups = type == WeightType::kGroups8 ? 2 : 1;
  for (std::int64_t b = 0; b < in / kBlock; ++b, y += kBlock, panel += quantised_panel_block_bytes(type, kGranule)) {
    std::uint8_t q[32];
    float of[4];
    for (int w = 0; w < words; ++w) std::memcpy(q + 4 * w, panel + (w * kGranule + o) * 4, 4);
    for (int f = 0; f < 2 * groups; ++f) std::memcpy(of + f, panel + ((words + f) * kGranule + o) * 4, 4);
    for (int j = 0; j < 32; ++j) {
      const int g = groups == 2 ? j / 16 : 0;
      const int level = groups == 2 ? static_cast<std::int8_t>(q[j] ^ (kFlipQ8 ? 0x80 : 0))
                                    : (j < 16 ? q[j] & 15 : q[j - 16] >> 4);
      y[j] = of[g] * static_cast<float>(level) - of[groups + g];
    }
  }
}

// kFlipQ8: stored Q8_0 (and kGroups8) bytes get their top bit flipped, which adds 128 and makes them unsigned.
template <std::int64_t kGranule, bool kFlipQ8>
void tiled_pack(WeightType type, const void* rows, std::int64_t out, std::int64_t in, void* packed) {
  std::memset(packed, 0, tiled_packed_bytes<kGranule>(type, out, in));  // padding: zeros, and scales of zero
  for (std::int64_t o = 0; o < out; o += kGranule) {
    const std::int64_t n = std::min(kGranule, out - o);
    char* panel = static_cast<char*>(packed) + o / kGranule * panel_bytes(type, kGranule, in);
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
      case WeightType::kQ8_0:
        pack_quantised_panel(type, reinterpret_cast<const RawQ8*>(from), n, kGranule, in / kBlock,
                             kFlipQ8 ? 0x80808080u : 0u, panel);
        break;
      case WeightType::kQ4_0:
        pack_quantised_panel(type, reinterpret_cast<const RawQ4*>(from), n, kGranule, in / kBlock, 0u, panel);
        break;
      case WeightType::kGroups8:
        pack_grouped_panel(type, reinterpret_cast<const RawGroups8*>(from), n, kGranule, in / kBlock,
                           kFlipQ8 ? 0x80808080u : 0u, panel);
        break;
      case WeightType::kGroups4:
        pack_grouped_panel(type, reinterpret_cast<const RawGroups4*>(from), n, kGranule, in / kBlock, 0u, panel);
        break;
      default:
        if (opened_as(type) == WeightType::kGroups4) {
          pack_opened_panel<RawGroups4>(type, reinterpret_cast<const std::uint8_t*>(from), n, kGranule, in, 0u, panel);
        } else {
          pack_opened_panel<RawGroups8>(type, reinterpret_cast<const std::uint8_t*>(from), n, kGranule, in,
                                        kFlipQ8 ? 0x80808080u : 0u, panel);
        }
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
  if (is_grouped(type)) return unpack_grouped_row<kGranule, kFlipQ8>(type, panel, o, in, y);
  const int words = type == WeightType::kQ8_0 ? 8 : 4;
  for (std::int64_t b = 0; b < in / kBlock; ++b, y += kBlock, panel += quantised_panel_block_bytes(type, kGranule)) {
    std::uint8_t q[32];
    std::uint16_t d;
    for (int w = 0; w < words; ++w) std::memcpy(q + 4 * w, panel + (w * kGranule + o) * 4, 4);
    std::memcpy(&d, panel + words * kGranule * 4 + o * 2, 2);
    const float scale = half_to_float(d);
    for (int j = 0; j < 32; ++j) {
      const int level = type == WeightType::kQ8_0 ? static_cast<std::int8_t>(q[j] ^ (kFlipQ8 ? 0x80 : 0))
                                                  : (j < 16 ? q[j] & 15 : q[j - 16] >> 4) - 8;
      y[j] = scale * static_cast<float>(level);
    }
  }
}

// ---- inference: prepared rows ---------------------------------------------------------------------------------------

// Bytes of one row of prepared activations, when `pairs` elements of bfloat16 share a word.
template <class Isa>
std::int64_t prepared_row_bytes(WeightType type, std::int64_t in) {
  if (is_quantised(type)) return in / kBlock * static_cast<std::int64_t>(sizeof(ActivationBlock));
  return round_up(in, kStripWords * Isa::elements_per_word(type)) / Isa::elements_per_word(type) * 4;
}

template <class Isa>
std::size_t tiled_prepared_bytes(WeightType type, std::int64_t rows, std::int64_t in) {
  return static_cast<std::size_t>(rows * prepared_row_bytes<Isa>(type, in));
}

template <class Isa>
void tiled_prepare(WeightType type, const float* x, std::int64_t ldx, std::int64_t rows, std::int64_t in,
                   void* prepared, std::int64_t row_begin, std::int64_t row_end) {
  const std::int64_t row_bytes = prepared_row_bytes<Isa>(type, in), tile_rows = Isa::tile_rows(type);
  for (std::int64_t r = row_begin; r < row_end; ++r) {
    const std::int64_t first = r / tile_rows * tile_rows, in_tile = std::min(tile_rows, rows - first);
    char* tile = static_cast<char*>(prepared) + first * row_bytes;
    if (is_quantised(type)) {
      auto* blocks = reinterpret_cast<ActivationBlock*>(tile) + (r - first);
      for (std::int64_t b = 0; b < in / kBlock; ++b) {
        ActivationBlock& block = blocks[b * in_tile];
        Isa::quantise(x + r * ldx + b * kBlock, weight_offset(type), block);
        if (is_grouped(type)) block.correction = half_sums(block.q);
      }
    } else {
      Isa::prepare_row(type, x + r * ldx, in, reinterpret_cast<std::uint32_t*>(tile) + (r - first) * kStripWords,
                       in_tile * kStripWords);
    }
  }
}

// ---- inference: the product -----------------------------------------------------------------------------------------

// One tile: `rows` rows (at most tile_rows) times one panel. `steps` counts strips, or blocks of a quantised type.
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

template <class Isa>
void tiled_matmul(const MatmulArgs& a) {
  constexpr std::int64_t kGranule = Isa::kGranule;
  const std::int64_t row_bytes = prepared_row_bytes<Isa>(a.type, a.in), tile_rows = Isa::tile_rows(a.type);
  const std::int64_t block_rows =
      std::max<std::int64_t>(1, kRowBlockBytes / std::max<std::int64_t>(1, row_bytes * tile_rows)) * tile_rows;
  const std::int64_t steps =
      is_quantised(a.type) ? a.in / kBlock : ceil_div(a.in, kStripWords * Isa::elements_per_word(a.type));
  for (std::int64_t block = 0; block < a.rows; block += block_rows) {
    const std::int64_t block_end = std::min(a.rows, block + block_rows);
    for (std::int64_t o = a.out_begin; o < a.out_end; o += kGranule) {
      MatmulTile t{nullptr, static_cast<const char*>(a.packed) + o / kGranule * panel_bytes(a.type, kGranule, a.in),
                   steps,   a.bias == nullptr ? nullptr : a.bias + o,
                   nullptr, a.ldy,
                   std::min(kGranule, a.out_end - o)};
      for (std::int64_t r = block; r < block_end; r += tile_rows) {
        t.rows = static_cast<const char*>(a.prepared) + r * row_bytes;
        t.y = a.y + r * a.ldy + o;
        Isa::matmul_tile(opened_as(a.type), static_cast<int>(std::min(tile_rows, a.rows - r)), t);
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

template <class Isa>
void tiled_pack_b(const GemmArgs& g, void* packed_b, std::int64_t n_begin, std::int64_t n_end) {
  const KSplit split(g.k, Isa::elements_per_word(g.precision));
  for (std::int64_t block = 0; block < split.blocks; ++block) {
    for (std::int64_t n = n_begin; n < n_end; n += Isa::kGemmColumns) {
      Isa::pack_b_panel(g, n, block * split.block_words * split.per_word, split.words_of(block),
                        const_cast<std::uint32_t*>(packed_panel<Isa>(split, g.n, packed_b, block, n)));
    }
  }
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
        GemmTile t{a,     packed_panel<Isa>(split, g.n, packed_b, block, n), words / kStripWords, g.c + m * g.ldc + n,
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

template <class Isa>
void fill_tiled_gemm(Kernels& k) {
  k.gemm_m_granule = Isa::kGemmRows;
  k.gemm_n_granule = Isa::kGemmColumns;
  k.gemm_packed_b_bytes = tiled_packed_b_bytes<Isa>;
  k.gemm_pack_b = tiled_pack_b<Isa>;
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
