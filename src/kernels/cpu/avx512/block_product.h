// Opened blocks of weights times a few rows of bytes (VPDPBUSD), and how rows become bytes. Included once by each file,
// after the standard headers; internal linkage.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "kernels/cpu/avx512/open.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {

// Rows of a quantised tile: 12 integer and 12 float sums and two registers of weights leave six for the scales.
constexpr int kQuantisedRows = 6;

template <int kRows>
QW_INLINE void store_tile(const MatmulTile& t, const __m512 (&sums)[kRows][kTileVectors]) {
  const __mmask16 low = lanes(t.outputs), high = lanes(t.outputs - 16);
  __m512 bias[kTileVectors] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  if (t.bias != nullptr) {
    bias[0] = _mm512_maskz_loadu_ps(low, t.bias);
    bias[1] = _mm512_maskz_loadu_ps(high, t.bias + 16);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    _mm512_mask_storeu_ps(t.y + r * t.ldy, low, _mm512_add_ps(sums[r][0], bias[0]));
    _mm512_mask_storeu_ps(t.y + r * t.ldy + 16, high, _mm512_add_ps(sums[r][1], bias[1]));
  }
}

// Integer sums of one block: sums[r][v] += four-byte products of `word` of each row with the columns in w.
template <int kRows>
QW_INLINE void add_word(const ActivationBlock* x, int word, const __m512i (&w)[kTileVectors],
                        __m512i (&sums)[kRows][kTileVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    std::int32_t four;
    __builtin_memcpy(&four, x[r].q + 4 * word, 4);
    const __m512i q = _mm512_set1_epi32(four);
    sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], w[0], q);
    sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], w[1], q);
  }
}

using Tile = ChunkTile<kTileColumns>;

// The step of a row's scale (kStepBit). A byte of its own, or GCC takes it from the vector that d is loaded into.
QW_INLINE std::uint8_t step_byte(const ActivationBlock& x) {
  std::uint8_t low;
  __builtin_memcpy(&low, &x.d, 1);
  return low;
}
template <int kSteps>
QW_INLINE __m512 step_factor(const ActivationBlock& x) {
  static constexpr auto kFactors = []<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    return std::array<float, kSteps>{step_of(kIndex, kSteps)...};
  }(std::make_integer_sequence<int, kSteps>());
  return _mm512_set1_ps(kFactors[step_byte(x) >> kStepBit]);
}

// Integer sums of a block's group, as many as a tile has, scaled and added.
template <int kSteps, int kRows>
QW_INLINE void add_scaled(const __m512i (&q)[kRows][kTileVectors], const __m512 (&scale)[kTileVectors],
                          const ActivationBlock* x, __m512 (&sums)[kRows][kTileVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const __m512 d = _mm512_set1_ps(x[r].d);
    [[maybe_unused]] __m512 step;
    if constexpr (kSteps > 1) step = step_factor<kSteps>(x[r]);
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      const __m512 factor = kSteps > 1 ? _mm512_mul_ps(scale[v], step) : scale[v];
      sums[r][v] = _mm512_fmadd_ps(_mm512_sub_ps(_mm512_castsi512_ps(q[r][v]), d), factor, sums[r][v]);
    }
  }
}
// The same where all steps of the scale lie ready: a row's is loaded, and nothing multiplied but once.
template <int kRows>
QW_INLINE void add_stepped(const __m512i (&q)[kRows][kTileVectors], const float (*steps)[kTileColumns],
                           const ActivationBlock* x, __m512 (&sums)[kRows][kTileVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const __m512 d = _mm512_set1_ps(x[r].d);
    static_assert(sizeof(*steps) == 8 << kStepBit);
    const auto* const factor =
        reinterpret_cast<const float*>(reinterpret_cast<const char*>(steps) + 8 * step_byte(x[r]));
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v)
      sums[r][v] = _mm512_fmadd_ps(_mm512_sub_ps(_mm512_castsi512_ps(q[r][v]), d), _mm512_load_ps(factor + 16 * v),
                                   sums[r][v]);
  }
}

template <int kRows>
QW_INLINE void subtract_minima(const __m512 (&min)[kTileVectors], const ActivationBlock* x, int group,
                               __m512 (&sums)[kRows][kTileVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const __m512 sum = _mm512_set1_ps(x[r].sum[group]);
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) sums[r][v] = _mm512_fnmadd_ps(min[v], sum, sums[r][v]);
  }
}

// The pair of integers, and the anchor of a unit (join_sums) of a row's blocks that are `next` apart.
QW_INLINE __m512i sum_pair(const ActivationBlock* x, int i, std::int64_t next) {
  std::int32_t pair;
  __builtin_memcpy(&pair, &x[2 * i * next].sum[1], 4);
  return _mm512_set1_epi32(pair);
}
QW_INLINE __m512 unit_anchor(const ActivationBlock* x, std::int64_t next) { return _mm512_set1_ps(x[next].sum[1]); }

// The minima of a unit times the sums of its rows, whose first blocks are at x.
template <int kRows>
QW_INLINE void subtract_unit(const __m512i (&pairs)[kUnitBlocks / 2][kTileVectors], const __m512 (&dmin)[kTileVectors],
                             const ActivationBlock* x, std::int64_t next, __m512 (&sums)[kRows][kTileVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const __m512 begin = unit_anchor(x + r, next);
    __m512i dot[kTileVectors] = {_mm512_castps_si512(begin), _mm512_castps_si512(begin)};
#pragma GCC unroll 4
    for (int i = 0; i < kUnitBlocks / 2; ++i) {
      const __m512i pair = sum_pair(x + r, i, next);
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) dot[v] = _mm512_dpwssd_epi32(dot[v], pairs[i][v], pair);
    }
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v)
      sums[r][v] = _mm512_fnmadd_ps(_mm512_sub_ps(_mm512_castsi512_ps(dot[v]), begin), dmin[v], sums[r][v]);
  }
}

QW_INLINE void load_both(const float* from, __m512 (&to)[kTileVectors]) {
  to[0] = _mm512_load_ps(from);
  to[1] = _mm512_load_ps(from + 16);
}

// Group kGroup of kGroups of one block: integer sums of its inputs, scaled and added.
template <int kGroups, int kGroup, Minima kMinima, int kSteps, int kRows>
QW_INLINE void add_group(const OpenedChunk<kTileColumns>& w, int b, const ActivationBlock* x,
                         __m512 (&sums)[kRows][kTileVectors]) {
  __m512i q[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) q[r][0] = q[r][1] = _mm512_set1_epi32(x[r].correction[kGroup]);
#pragma GCC unroll 8
  for (int i = 0; i < 8 / kGroups; ++i) {
    const int word = 8 / kGroups * kGroup + i;
    const __m512i columns[kTileVectors] = {_mm512_load_si512(w.q[b][word]), _mm512_load_si512(w.q[b][word] + 64)};
    add_word<kRows>(x, word, columns, q);
  }
  if constexpr (kSteps > 1) {
    add_stepped(q, w.stepped + b * kStepsOfBlock + kGroup * kSteps, x, sums);
  } else {
    __m512 scale[kTileVectors];
    load_both(w.scale[b][kGroup], scale);
    add_scaled<1>(q, scale, x, sums);
  }
  if constexpr (kMinima == Minima::kGroups) {
    __m512 min[kTileVectors];
    load_both(w.min[b][kGroup], min);
    subtract_minima(min, x, kGroup, sums);
  }
}

template <int kGroups, Minima kMinima, int kSteps, int kRows>
void chunk_tile(const Tile& t) {
  const int soon_each = (t.soon_lines + t.tiles - 1) / t.tiles, soon_block = (soon_each + t.blocks - 1) / t.blocks;
  const char *soon = t.soon, *const soon_end = soon + 64 * t.soon_lines;
  const ActivationBlock* rows = t.x;
  float *at = t.sums, *y = t.y;
  for (int tile = 0; tile < t.tiles; ++tile) {
    __m512 sums[kRows][kTileVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      sums[r][0] = t.first ? _mm512_setzero_ps() : _mm512_load_ps(at + r * kTileColumns);
      sums[r][1] = t.first ? _mm512_setzero_ps() : _mm512_load_ps(at + r * kTileColumns + 16);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows * kTileVectors; ++i) __builtin_prefetch(at + kRows * kTileColumns + 16 * i);
    const char* const until = std::min(soon_end, soon + 64 * soon_each);
    const ActivationBlock* x = rows;
    for (int b = 0; b < t.blocks; ++b, x += t.next) {
      for (int i = 0; i < soon_block && soon < until; ++i, soon += 64) __builtin_prefetch(soon);
#pragma GCC unroll 8
      for (int i = 0; i < kRows * static_cast<int>(sizeof(ActivationBlock)); i += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(x + t.ahead) + i);
      add_group<kGroups, 0, kMinima, kSteps, kRows>(*t.weights, b, x, sums);
      if constexpr (kGroups == 2) add_group<kGroups, 1, kMinima, kSteps, kRows>(*t.weights, b, x, sums);
    }
    if constexpr (kMinima == Minima::kUnits) {
      __m512i pairs[kUnitBlocks / 2][kTileVectors];
      __m512 dmin[kTileVectors];
#pragma GCC unroll 4
      for (int i = 0; i < kUnitBlocks / 2; ++i) {
        pairs[i][0] = _mm512_load_si512(t.weights->min_pairs[i]);
        pairs[i][1] = _mm512_load_si512(t.weights->min_pairs[i] + 16);
      }
      load_both(t.weights->dmin, dmin);
      subtract_unit(pairs, dmin, rows, t.next, sums);
    }
    if (t.last) {
      store_tile<kRows>({nullptr, nullptr, 0, t.bias, y, t.ldy, t.outputs}, sums);
    } else {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        _mm512_store_ps(at + r * kTileColumns, sums[r][0]);
        _mm512_store_ps(at + r * kTileColumns + 16, sums[r][1]);
      }
    }
    rows += t.ahead;
    at += kRows * kTileColumns;
    y += kRows * t.ldy;
  }
}

using ChunkTileFunction = void (*)(const Tile&);
template <int kGroups, Minima kMinima, int kSteps, std::size_t... kIndex>
constexpr std::array<ChunkTileFunction, sizeof...(kIndex)> chunk_tiles(std::index_sequence<kIndex...>) {
  return {&chunk_tile<kGroups, kMinima, kSteps, static_cast<int>(kIndex) + 1>...};
}
template <int kGroups, Minima kMinima, int kSteps>
constexpr auto kChunkTiles = chunk_tiles<kGroups, kMinima, kSteps>(std::make_index_sequence<kQuantisedRows>{});

// The tile of a type's kind; 1 <= rows <= kQuantisedRows.
template <WeightType kType>
QW_INLINE void chunk_tile_of(int rows, const Tile& t) {
  constexpr auto& kOf = kChunkTiles<compact_of(kType).groups, minima_of(kType), 1 << activation_kind(kType).step_bits>;
  kOf[static_cast<std::size_t>(rows - 1)](t);
}

// ---- few rows: weights are multiplied as they are opened, and never stored ----------------------------------------

// Rows that go this way, at most, in one tile of up to kFewRows or two, and lie as one. The sums are those of
// chunk_tile, in its order. Beside chunks and tiles of six: one row takes 13.9 GB/s of Q4_0 and 14.1 of Q4_K from
// memory beside 12.4 and 11.9, eight rows 10.1 and 9.6 beside 8.6 and 8.1, sixteen 6.8 and 6.2 beside 6.2 and 5.6. A
// row's four bytes are loaded once for both halves of the outputs: loads bound these loops as much as products do.
constexpr int kFewRows = 8, kMostFewRows = 2 * kFewRows;
// And up to so many, memory bounds them and not arithmetic, whoever asks for what comes next.
constexpr int kLightRows = 4;

// Whether the processor itself runs ahead of a thread that opens weights as they come from memory, so that asking for
// them costs more than it brings. Known by its maker: AMD's. Zen 4, one thread, Q4_0 and Q8_0: 26 to 29 GB/s so with
// one row and 20 to 22 when asked, 22 to 25 and 16 with four; but 8 to 9.5 and 12 with eight, which arithmetic bounds.
inline bool runs_ahead_itself() {
  static const bool is = base::bfloat_dots_pay();  // it too tells AMD's from Intel's
  return is;
}

// The parts of a block's quants, of both halves of its outputs.
template <WeightType kType>
struct Quants {
  static constexpr Compact c = compact_of(kType);
  __m512i low[kTileVectors][c.low_bits], high[kTileVectors][c.high_bits + 1];
};

// Adds words [kWord, kEnd) of a block times each row's bytes.
template <WeightType kType, int kWord, int kEnd, int kRows>
QW_INLINE void add_opened(const Opener<kType, false>& open, const Quants<kType>& of, const ActivationBlock* x,
                          __m512i (&q)[kRows][kTileVectors]) {
  if constexpr (kWord < kEnd) {
    add_word<kRows>(
        x, kWord, {open.template word<kWord>(of.low[0], of.high[0]), open.template word<kWord>(of.low[1], of.high[1])},
        q);
    add_opened<kType, kWord + 1, kEnd, kRows>(open, of, x, q);
  }
}

// Group kGroup of a block, for all rows.
template <WeightType kType, int kGroup, int kRows>
QW_INLINE void add_opened_group(const Opener<kType, false>& open, const char* block, const __m512 (&d)[kTileVectors],
                                const __m512 (&dmin)[kTileVectors], const Quants<kType>& of, const ActivationBlock* x,
                                __m512 (&sums)[kRows][kTileVectors]) {
  constexpr Compact c = compact_of(kType);
  constexpr int kWords = 8 / c.groups;
  __m512i q[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) q[r][0] = q[r][1] = _mm512_set1_epi32(x[r].correction[kGroup]);
  add_opened<kType, kWords * kGroup, kWords*(kGroup + 1), kRows>(open, of, x, q);
  __m512 scale[kTileVectors], min[kTileVectors] = {};
#pragma GCC unroll 2
  for (int v = 0; v < kTileVectors; ++v)
    open.group(block + kGroup * (c.minima / c.groups) * kTileColumns, v, d[v], dmin[v], scale[v], min[v]);
  add_scaled<1 << activation_kind(kType).step_bits>(q, scale, x, sums);
  if constexpr (minima_of(kType) == Minima::kGroups) subtract_minima(min, x, kGroup, sums);
}

// Behind the blocks of a unit, of which `block` is the first.
template <WeightType kType, int kRows>
QW_INLINE void end_unit(const char* block, const __m512 (&dmin)[kTileVectors], const ActivationBlock* x,
                        std::int64_t next, __m512 (&sums)[kRows][kTileVectors]) {
  __m512i pairs[kUnitBlocks / 2][kTileVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kUnitBlocks / 2; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v)
      pairs[i][v] = Opener<kType, false>::min_pairs(block + 2 * i * Opener<kType, false>::kBytes, v);
  }
  subtract_unit(pairs, dmin, x, next, sums);
}

// One block of a panel.
template <WeightType kType, int kRows>
QW_INLINE void add_opened_block(const Opener<kType, false>& open, const char* block, const __m512 (&d)[kTileVectors],
                                const __m512 (&dmin)[kTileVectors], const ActivationBlock* x,
                                __m512 (&sums)[kRows][kTileVectors]) {
  constexpr Compact c = compact_of(kType);
  Quants<kType> of;
#pragma GCC unroll 2
  for (int v = 0; v < kTileVectors; ++v) open.load_quants(block + c.quants * kTileColumns, v, of.low[v], of.high[v]);
  add_opened_group<kType, 0, kRows>(open, block, d, dmin, of, x, sums);
  if constexpr (c.groups == 2) add_opened_group<kType, 1, kRows>(open, block, d, dmin, of, x, sums);
}

template <WeightType kType, int kRows>
void few_rows(const MatmulArgs& a) {
  constexpr Compact c = compact_of(kType);
  const Opener<kType, false> open;
  const Ahead ahead = kRows <= kLightRows && runs_ahead_itself() ? Ahead{.near = 0, .far = 0} : Ahead{};
  const std::int64_t blocks = a.in / kBlock;
  for (std::int64_t o = a.out_begin; o < a.out_end; o += kTileColumns) {
    const char* block = static_cast<const char*>(a.packed) + o / kTileColumns * panel_bytes(kType, kTileColumns, a.in);
    const auto* x = static_cast<const ActivationBlock*>(a.prepared);
    __m512 sums[kRows][kTileVectors], d[kTileVectors] = {}, dmin[kTileVectors] = {};
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (std::int64_t b = 0; b < blocks; ++b, x += kRows, block += c.block * kTileColumns) {
      if constexpr (c.head > 0) {
        if (b % c.unit_blocks == 0) {
          open.unit(block, d, dmin);
          block += c.head * kTileColumns;
        }
      }
      open.template ask_ahead<true>(block, ahead);
      add_opened_block<kType, kRows>(open, block, d, dmin, x, sums);
      if constexpr (minima_of(kType) == Minima::kUnits) {
        constexpr std::int64_t kBack = kUnitBlocks - 1;
        if (b % kUnitBlocks == kBack)
          end_unit<kType>(block - kBack * open.kBytes, dmin, x - kBack * kRows, kRows, sums);
      }
    }
    store_tile<kRows>({nullptr, nullptr, 0, a.bias == nullptr ? nullptr : a.bias + o, a.y + o, a.ldy,
                       std::min<std::int64_t>(kTileColumns, a.out_end - o)},
                      sums);
  }
}

// A part of a panel, of one unit or of units without a head, times one of two tiles of rows.
struct PanelPart {
  const char *head, *block;
  int blocks;
  const ActivationBlock* x;  // of the tile's first row
  std::int64_t next;         // from one block of a row to the next
  bool ask;                  // for the blocks just behind, where nobody else does
  const char* soon;          // what this tile asks for of the part behind, so many bytes each block
  int soon_bytes;
  float* sums;  // [row of the tile][kTileColumns]
  bool first, last;
  MatmulTile to;  // for the last part
};

template <WeightType kType, int kRows>
void panel_part(const PanelPart& t) {
  constexpr Compact c = compact_of(kType);
  const Opener<kType, false> open;
  __m512 sums[kRows][kTileVectors], d[kTileVectors] = {}, dmin[kTileVectors] = {};
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const float* from = t.sums + r * kTileColumns;
    sums[r][0] = t.first ? _mm512_setzero_ps() : _mm512_load_ps(from);
    sums[r][1] = t.first ? _mm512_setzero_ps() : _mm512_load_ps(from + 16);
  }
  open.unit(t.head, d, dmin);
  const ActivationBlock* x = t.x;
  const char *block = t.block, *soon = t.soon;
  for (int b = 0; b < t.blocks; ++b, x += t.next, block += c.block * kTileColumns) {
    if (t.ask) open.template ask_ahead<false>(block);
    for (const char* const end = soon + t.soon_bytes; soon < end; soon += 64) __builtin_prefetch(soon, 0, 2);
    add_opened_block<kType, kRows>(open, block, d, dmin, x, sums);
  }
  if constexpr (minima_of(kType) == Minima::kUnits) end_unit<kType>(t.block, dmin, t.x, t.next, sums);
  if (t.last) return store_tile<kRows>(t.to, sums);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    _mm512_store_ps(t.sums + r * kTileColumns, sums[r][0]);
    _mm512_store_ps(t.sums + r * kTileColumns + 16, sums[r][1]);
  }
}

using PanelPartFunction = void (*)(const PanelPart&);
template <WeightType kType, std::size_t... kIndex>
constexpr std::array<PanelPartFunction, sizeof...(kIndex)> panel_parts(std::index_sequence<kIndex...>) {
  return {&panel_part<kType, kFewRows / 2 + static_cast<int>(kIndex)>...};
}
template <WeightType kType>
constexpr auto kPanelParts = panel_parts<kType>(std::make_index_sequence<kFewRows / 2 + 1>{});

// kFewRows + 1 to kMostFewRows rows: the second half takes a part of a panel from a near cache, where the first has
// left it.
template <WeightType kType>
void two_tiles(const MatmulArgs& a) {
  constexpr Compact c = compact_of(kType);
  constexpr int kPartBytes = kChunkBlocks * c.block * kTileColumns, kSoonBytes = c.block * kTileColumns / 2;
  const int rows = static_cast<int>(a.rows), half = (rows + 1) / 2;
  const std::int64_t blocks = a.in / kBlock;
  alignas(64) float sums[kMostFewRows * kTileColumns];
  for (std::int64_t o = a.out_begin; o < a.out_end; o += kTileColumns) {
    const char* panel = static_cast<const char*>(a.packed) + o / kTileColumns * panel_bytes(kType, kTileColumns, a.in);
    for (std::int64_t b = 0; b < blocks; b += kChunkBlocks) {
      const char* block = panel + compact_block_at(c, kTileColumns, b);
      const auto* x = static_cast<const ActivationBlock*>(a.prepared) + b * rows;
      PanelPart part{.head = panel + compact_head_at(c, kTileColumns, b),
                     .block = block,
                     .blocks = static_cast<int>(std::min<std::int64_t>(kChunkBlocks, blocks - b)),
                     .x = x,
                     .next = rows,
                     .ask = true,
                     .soon = block + kPartBytes,
                     .soon_bytes = kSoonBytes,
                     .sums = sums,
                     .first = b == 0,
                     .last = b + kChunkBlocks >= blocks,
                     .to = {nullptr, nullptr, 0, a.bias == nullptr ? nullptr : a.bias + o, a.y + o, a.ldy,
                            std::min<std::int64_t>(kTileColumns, a.out_end - o)}};
      kPanelParts<kType>[static_cast<std::size_t>(half - kFewRows / 2)](part);
      part.x += half;
      part.ask = false;
      part.soon += part.blocks * kSoonBytes;
      part.sums += half * kTileColumns;
      part.to.y += half * a.ldy;
      kPanelParts<kType>[static_cast<std::size_t>(rows - half - kFewRows / 2)](part);
    }
  }
}

// As quantise_activations in scalar.h, byte for byte, but anchored.
QW_INLINE void quantise(const float* x, ActivationKind kind, ActivationBlock& out) {
  const __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
  const __m512 a = _mm512_abs_ps(low), b = _mm512_abs_ps(high);
  const __m512 endless = _mm512_set1_ps(kEndlessActivation);
  const bool finite = (_mm512_cmp_ps_mask(a, endless, _CMP_NLT_UQ) | _mm512_cmp_ps_mask(b, endless, _CMP_NLT_UQ)) == 0;
  const float amax = _mm512_reduce_max_ps(_mm512_max_ps(a, b));
  if (!finite || amax < kSmallestActivation) {
    out = empty_block(finite);
    anchor(kind, out);
    return;
  }
  out.d = activation_scale(kind, amax);
  const __m512 inverse = _mm512_set1_ps(1.0f / out.d);
  const __m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
  const __m512i q1 = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out.q), _mm512_cvtepi32_epi8(q0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out.q + 16), _mm512_cvtepi32_epi8(q1));
  set_sums(kind, _mm512_reduce_add_epi32(q0), _mm512_reduce_add_epi32(q1), out);
  anchor(kind, out);
}

// The largest magnitudes of four blocks, as bits: of what is not finite more than of any number.
QW_INLINE __m128i largest_of_four(const float* x) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m128i of[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512i low = _mm512_and_si512(_mm512_loadu_si512(x + i * kBlock), magnitude);
    const __m512i high = _mm512_and_si512(_mm512_loadu_si512(x + i * kBlock + 16), magnitude);
    const __m512i both = _mm512_max_epi32(low, high);
    const __m256i half = _mm256_max_epi32(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1));
    of[i] = _mm_max_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  }
  const __m128i first = _mm_max_epi32(_mm_unpacklo_epi32(of[0], of[1]), _mm_unpackhi_epi32(of[0], of[1]));
  const __m128i second = _mm_max_epi32(_mm_unpacklo_epi32(of[2], of[3]), _mm_unpackhi_epi32(of[2], of[3]));
  return _mm_max_epi32(_mm_unpacklo_epi64(first, second), _mm_unpackhi_epi64(first, second));
}

// What stands behind the quants of four blocks, block by block.
struct FourBlocks {
  __m128i begin;  // anchors
  __m128 sum[2];
  __m128i correction[2];
  QW_INLINE void store(ActivationBlock* out, std::int64_t stride) const {
    __m128 to[4] = {_mm_castsi128_ps(begin), sum[0], sum[1], _mm_castsi128_ps(correction[0])};
    _MM_TRANSPOSE4_PS(to[0], to[1], to[2], to[3]);
    alignas(16) std::int32_t last[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(last), correction[1]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      ActivationBlock& block = out[i * stride];
      static_assert(offsetof(ActivationBlock, sum) == offsetof(ActivationBlock, d) + 4 &&
                    offsetof(ActivationBlock, correction) == offsetof(ActivationBlock, d) + 12);
      _mm_storeu_ps(&block.d, to[i]);
      block.correction[1] = last[i];
    }
  }
};

// The quants of four blocks at once, and what goes with them: the bytes that `quantise` gives each. False where one of
// the blocks is nothing, or no number: then nothing is written.
QW_INLINE bool quantise_four(const float* x, ActivationKind kind, ActivationBlock* out, std::int64_t stride,
                             FourBlocks& of) {
  const __m128i amax = largest_of_four(x);
  const __m128 size = _mm_castsi128_ps(amax);
  const __mmask8 usual = _mm_cmp_ps_mask(size, _mm_set1_ps(kSmallestActivation), _CMP_GE_OQ) &
                         _mm_cmp_ps_mask(size, _mm_set1_ps(kEndlessActivation), _CMP_LT_OQ);
  if (usual != 15) [[unlikely]]
    return false;
  const __m128i below = _mm_set1_epi32(static_cast<int>(below_step(kind)));
  const __m128i fits = _mm_castps_si128(_mm_div_ps(size, _mm_set1_ps(127.0f)));
  const __m128i scale = _mm_andnot_si128(below, _mm_add_epi32(fits, below));
  const __m128 d = _mm_castsi128_ps(scale);
  const __m512 inverses = _mm512_castps128_ps512(_mm_div_ps(_mm_set1_ps(1.0f), d));
  __m256i sums[4];  // of neighbours by four
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 inverse = _mm512_permutexvar_ps(_mm512_set1_epi32(i), inverses);
    const __m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i * kBlock), inverse));
    const __m512i q1 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i * kBlock + 16), inverse));
    const __m256i q =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm512_cvtepi32_epi8(q0)), _mm512_cvtepi32_epi8(q1), 1);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[i * stride].q), q);
    sums[i] = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q);
  }
  const __m256i halves = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
  const __m128i low = _mm256_castsi256_si128(halves), high = _mm256_extracti128_si256(halves, 1);
  const __m128i first = kind.halves ? low : _mm_add_epi32(low, high), second = kind.halves ? high : _mm_setzero_si128();
  const __m128i steps =
      _mm_and_si128(_mm_srli_epi32(scale, 23 - kind.step_bits), _mm_set1_epi32((1 << kind.step_bits) - 1));
  const __m128 powers = _mm_castsi128_ps(_mm_and_si128(scale, _mm_set1_epi32(0x7f800000)));
  const __m128i anchors = _mm_castps_si128(_mm_mul_ps(powers, _mm_set1_ps(anchor_of(1))));
  const __m128i offset = _mm_set1_epi32(-kind.offset);
  of.begin = _mm_add_epi32(anchors, _mm_slli_epi32(steps, kStepBit));
  of.sum[0] = _mm_mul_ps(d, _mm_cvtepi32_ps(first));
  of.sum[1] = _mm_mul_ps(d, _mm_cvtepi32_ps(second));
  of.correction[0] = _mm_add_epi32(_mm_mullo_epi32(first, offset), of.begin);
  of.correction[1] = _mm_add_epi32(_mm_mullo_epi32(second, offset), of.begin);
  return true;
}

// The sums of the eight blocks of a unit, none of which is nothing or no number (kUnitSteps in internal/scalar.h).
QW_INLINE void join_sums(FourBlocks& low, FourBlocks& high) {
  const __m128i most = _mm_max_epi32(low.begin, high.begin);  // as of all numbers above zero, bits grow with anchors
  const __m128i of_two = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4E));
  const __m128 largest = _mm_castsi128_ps(_mm_max_epi32(of_two, _mm_shuffle_epi32(of_two, 0xB1)));
  const __m128 begin = _mm_mul_ps(largest, _mm_set1_ps(1 / kUnitSteps));
  const __m128 inverse = _mm_div_ps(_mm_set1_ps(anchor_of(1)), begin);
  const __m128i first = _mm_cvtps_epi32(_mm_mul_ps(low.sum[0], inverse));
  const __m128i second = _mm_cvtps_epi32(_mm_mul_ps(high.sum[0], inverse));
  const __m128i pairs = _mm_packs_epi32(first, second), anchors = _mm_castps_si128(begin);
  low.sum[1] = _mm_castsi128_ps(_mm_unpacklo_epi32(pairs, anchors));
  high.sum[1] = _mm_castsi128_ps(_mm_unpackhi_epi32(pairs, anchors));
}
// The same of any blocks, where they are kept.
inline void join_sums(ActivationBlock* unit, std::int64_t stride) {
  std::int32_t largest = 0;  // NaN is more than any number
  for (int b = 0; b < kUnitBlocks; ++b) largest = std::max(largest, std::bit_cast<std::int32_t>(unit[b * stride].d));
  const float begin = std::bit_cast<float>(largest) / kUnitSteps, inverse = anchor_of(1) / begin;
  for (int b = 0; b < kUnitBlocks; b += 2) {
    std::int16_t pair[2] = {};
    for (int i = 0; i < 2 && begin > 0; ++i)
      pair[i] = static_cast<std::int16_t>(std::lrint(unit[(b + i) * stride].sum[0] * inverse));
    __builtin_memcpy(&unit[b * stride].sum[1], pair, sizeof(pair));
    unit[(b + 1) * stride].sum[1] = begin;
  }
}

QW_INLINE void quantise_unit(const float* x, ActivationKind kind, ActivationBlock* out, std::int64_t stride) {
  FourBlocks low, high;
  if (quantise_four(x, kind, out, stride, low) && quantise_four(x + 4 * kBlock, kind, out + 4 * stride, stride, high)) {
    join_sums(low, high);
    low.store(out, stride);
    high.store(out + 4 * stride, stride);
    return;
  }
  for (int b = 0; b < kUnitBlocks; ++b) quantise(x + b * kBlock, kind, out[b * stride]);
  join_sums(out, stride);
}

inline void quantise_blocks(const float* x, std::int64_t blocks, ActivationKind kind, ActivationBlock* out,
                            std::int64_t stride) {
  std::int64_t b = 0;
  if (kind.has_units())
    for (; b + kUnitBlocks <= blocks; b += kUnitBlocks) quantise_unit(x + b * kBlock, kind, out + b * stride, stride);
  for (; b + 4 <= blocks; b += 4) {
    FourBlocks of;
    if (quantise_four(x + b * kBlock, kind, out + b * stride, stride, of)) {
      of.store(out + b * stride, stride);
    } else {
      for (int i = 0; i < 4; ++i) quantise(x + (b + i) * kBlock, kind, out[(b + i) * stride]);
    }
  }
  for (; b < blocks; ++b) quantise(x + b * kBlock, kind, out[b * stride]);
}

}  // namespace
}  // namespace qw::kernels::avx512
QW_TARGET_END
