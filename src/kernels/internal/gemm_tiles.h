// How the vector instruction sets lay out the operands of a training product (kernels.h), and the loops around their inner
// tiles. Words, strips and tiles are those of tiles.h; both operands are floats and packed by who multiplies.
//
// Everything here has internal linkage and is compiled for the baseline CPU; the tiles it calls are not.
#pragma once

#include <algorithm>

#include "kernels/internal/tiles.h"

namespace qw::kernels {
namespace {

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

}  // namespace
}  // namespace qw::kernels
