// The inference product with AMX. Weights of bfloat16 are tiles as they are: one instruction multiplies 16 outputs x 32
// inputs x 16 rows; they are the left operand and rows of activations the columns of the right one, so that a short
// batch is a narrow tile. Block formats are kept and opened as AVX-512 does it, and many rows are multiplied on tiles
// of bytes (block_product.h). The sums of an output run over the inputs in one order and know nothing of the other
// rows, so a row is the same in any batch.
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"
#include "kernels/internal/tiles.h"

#if QW_X86
#include <algorithm>
#include <cstring>

#include "kernels/cpu/amx/block_product.h"
#include "kernels/cpu/amx/tile.h"
#include "kernels/cpu/avx512/vectors.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::amx {
namespace {

constexpr std::int64_t kPanel = 32;    // outputs
constexpr std::int64_t kColumns = 16;  // rows of activations in a tile
// Steps of 32 inputs taken at a time for many rows: 16 KB of weights, which with as many bytes of activations stay in a
// first-level cache of 48 KB, so that only activations come from the second level.
constexpr std::int64_t kChunkSteps = 8;
// Rows for which a chunk is used: their part of the activations (1 KB a row) stays in a 2 MB second-level cache beside
// their sums (128 bytes a row).
constexpr std::int64_t kRowBlock = 512;

// Rounded to bfloat16: panels of [step of 32 inputs][half][16 outputs][32].
constexpr bool is_bfloat(WeightType type) { return type == WeightType::kBF16; }
constexpr std::int64_t bfloat_panel_bytes(std::int64_t in) { return round_up(in, 32) * kPanel * 2; }

const Kernels& vector_kernels() {
  static const Kernels k = [] {
    Kernels table{};
    avx512::fill_matmul(table);
    return table;
  }();
  return k;
}

std::size_t packed_bytes(WeightType type, std::int64_t out, std::int64_t in) {
  if (!is_bfloat(type)) return vector_kernels().packed_bytes(type, out, in);
  return static_cast<std::size_t>(ceil_div(out, kPanel) * bfloat_panel_bytes(in));
}

void pack_bfloat_panel(const std::uint8_t* rows, std::int64_t outputs, std::int64_t in, char* panel) {
  for (std::int64_t i = 0; i < in; i += 32, panel += kStepBytes) {
    const auto bytes = static_cast<std::size_t>(std::min<std::int64_t>(32, in - i)) * 2;
    if (outputs < kPanel || bytes < 64) std::memset(panel, 0, kStepBytes);
    for (std::int64_t o = 0; o < outputs; ++o) std::memcpy(panel + o * 64, rows + (o * in + i) * 2, bytes);
  }
}

void pack(WeightType type, const void* rows, std::int64_t out, std::int64_t in, void* packed) {
  if (!is_bfloat(type)) return vector_kernels().pack(type, rows, out, in, packed);
  for (std::int64_t o = 0; o < out; o += kPanel) {
    pack_bfloat_panel(static_cast<const std::uint8_t*>(rows) + o * in * 2, std::min(kPanel, out - o), in,
                      static_cast<char*>(packed) + o / kPanel * bfloat_panel_bytes(in));
  }
}

void unpack_row(WeightType type, const void* packed, std::int64_t out, std::int64_t in, std::int64_t row, float* y) {
  if (!is_bfloat(type)) return vector_kernels().unpack_row(type, packed, out, in, row, y);
  const char* panel = static_cast<const char*>(packed) + row / kPanel * bfloat_panel_bytes(in);
  for (std::int64_t i = 0; i < in; ++i) {
    std::uint16_t h;
    std::memcpy(&h, panel + i / 32 * kStepBytes + row % kPanel * 64 + i % 32 * 2, 2);
    y[i] = bfloat_to_float(h);
  }
}

// ---- activations: [tile of rows][step of 32][pair of inputs][row], a tile of 16 rows, or fewer if there are fewer
// -------

std::int64_t columns_of(std::int64_t rows) { return std::min(rows, kColumns); }

std::size_t prepared_bytes(WeightType type, std::int64_t rows, std::int64_t in) {
  if (is_quantised(type))
    return static_cast<std::size_t>(rows * block_row_bytes(in) + (rows > kByteRows ? kTileSlack : 0));
  if (!is_bfloat(type)) return vector_kernels().prepared_bytes(type, rows, in);
  return static_cast<std::size_t>(rows < kColumns ? rows : round_up(rows, kColumns)) *
         static_cast<std::size_t>(round_up(in, 32)) * 2;
}

QW_INLINE __m512i rounded(const float* x, std::int64_t left) {
  return avx512::to_bfloat(avx512::load_floats(x, left), avx512::load_floats(x + 16, left - 16));
}

// Sixteen rows, of which `rows` exist.
void prepare_tile(const float* x, std::int64_t ldx, std::int64_t rows, std::int64_t in, char* to) {
  for (std::int64_t i = 0; i < in; i += 32, to += kTileBytes) {
    __m512i r[16];
#pragma GCC unroll 16
    for (int row = 0; row < 16; ++row) r[row] = rounded(x + row * ldx + i, row < rows ? in - i : 0);
    avx512::transpose(r);
#pragma GCC unroll 16
    for (int pair = 0; pair < 16; ++pair) _mm512_storeu_si512(to + pair * 64, r[pair]);
  }
}

// One row, and zeros in the `empty` columns after it.
void prepare_column(const float* x, std::int64_t in, std::int64_t columns, std::int64_t empty, char* to) {
  for (std::int64_t i = 0; i < in; i += 32, to += 64 * columns) {
    alignas(64) std::uint32_t pairs[16];
    _mm512_store_si512(pairs, rounded(x + i, in - i));
    for (std::int64_t pair = 0; pair < 16; ++pair) {
      std::memcpy(to + pair * 4 * columns, pairs + pair, 4);
      if (empty > 0) std::memset(to + pair * 4 * columns + 4, 0, static_cast<std::size_t>(4 * empty));
    }
  }
}

void prepare(WeightType type, const float* x, std::int64_t ldx, std::int64_t rows, std::int64_t in, void* prepared,
             std::int64_t row_begin, std::int64_t row_end) {
  if (is_quantised(type))
    return prepare_blocks<FewRows>(type, kByteRows, x, ldx, rows, in, prepared, row_begin, row_end);
  if (!is_bfloat(type)) return vector_kernels().prepare(type, x, ldx, rows, in, prepared, row_begin, row_end);
  const std::int64_t columns = columns_of(rows), tile_bytes = round_up(in, 32) * 2 * columns;
  for (std::int64_t r = row_begin; r < row_end;) {
    const std::int64_t column = r % columns, first = r - column, end = std::min(rows, first + columns);
    char* tile = static_cast<char*>(prepared) + first / columns * tile_bytes;
    if (columns == kColumns && column == 0 && end <= row_end) {
      prepare_tile(x + r * ldx, ldx, end - r, in, tile);
      r = end;
    } else {
      prepare_column(x + r * ldx, in, columns, r + 1 == rows ? columns - 1 - column : 0, tile + 4 * column);
      ++r;
    }
  }
}

// ---- the product ----------------------------------------------------------------------------------------------------

// Where sums go: y of 16 outputs for each row of a tile.
struct Sink {
  const float* bias;  // of the panel's first output, or nullptr
  float* y;           // of the panel's first output and the tile's first row
  std::int64_t ldy, outputs, rows;
};

// Sums of 16 outputs, stored as [output][16 rows], half `half` of the panel.
QW_INLINE void finish(const float* sums, const Sink& to, std::int64_t half) {
  const std::int64_t outputs = to.outputs - 16 * half;
  if (outputs <= 0) return;
  const __mmask16 mask = avx512::lanes(outputs);
  const __m512 bias = to.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, to.bias + 16 * half);
  __m512i r[16];
#pragma GCC unroll 16
  for (int o = 0; o < 16; ++o) r[o] = _mm512_load_si512(sums + 16 * o);
  avx512::transpose(r);
  alignas(64) float rows[16][16];
#pragma GCC unroll 16
  for (int row = 0; row < 16; ++row) _mm512_store_ps(rows[row], _mm512_add_ps(_mm512_castsi512_ps(r[row]), bias));
  for (std::int64_t row = 0; row < to.rows; ++row)
    _mm512_mask_storeu_ps(to.y + row * to.ldy + 16 * half, mask, _mm512_load_ps(rows[row]));
}

QW_INLINE void finish_one_row(const float* sums, const Sink& to, std::int64_t half) {
  const std::int64_t outputs = to.outputs - 16 * half;
  if (outputs <= 0) return;
  const __mmask16 mask = avx512::lanes(outputs);
  const __m512 bias = to.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, to.bias + 16 * half);
  _mm512_mask_storeu_ps(to.y + 16 * half, mask, _mm512_add_ps(_mm512_load_ps(sums), bias));
}

struct Job {
  const MatmulArgs& a;
  std::int64_t steps, columns, tile_bytes, panel_bytes;
  const char* panel(std::int64_t o) const { return static_cast<const char*>(a.packed) + o / kPanel * panel_bytes; }
  const char* rows(std::int64_t r) const { return static_cast<const char*>(a.prepared) + r / columns * tile_bytes; }
  std::int64_t right_step() const { return 64 * columns; }
  std::int64_t right_stride() const { return 4 * columns; }
  Sink sink(std::int64_t o, std::int64_t r) const {
    return {a.bias == nullptr ? nullptr : a.bias + o, a.y + r * a.ldy + o, a.ldy, std::min(kPanel, a.out_end - o),
            std::min(columns, a.rows - r)};
  }
};

// At most two tiles of rows: the sums stay in tiles from the first step to the last.
template <bool kTwoColumns>
void few_rows(const Job& j) {
  alignas(64) float sums[4][256] = {};  // a narrow tile writes a part of each row
  const char *b0 = j.rows(0), *b1 = b0 + j.tile_bytes;
  for (std::int64_t o = j.a.out_begin; o < j.a.out_end; o += kPanel) {
    zero_sums();
    multiply_steps<kTwoColumns>(j.panel(o), kStepBytes, kTileBytes, b0, b1, j.right_step(), j.right_stride(), j.steps);
    const std::int64_t stride = j.columns == 1 ? 4 : 64;
    QW_TILE_STORE(0, sums[0], stride);
    QW_TILE_STORE(1, sums[1], stride);
    if (j.columns == 1) {
      finish_one_row(sums[0], j.sink(o, 0), 0);
      finish_one_row(sums[1], j.sink(o, 0), 1);
      continue;
    }
    finish(sums[0], j.sink(o, 0), 0);
    finish(sums[1], j.sink(o, 0), 1);
    if constexpr (kTwoColumns) {
      QW_TILE_STORE(2, sums[2], 64);
      QW_TILE_STORE(3, sums[3], 64);
      finish(sums[2], j.sink(o, kColumns), 0);
      finish(sums[3], j.sink(o, kColumns), 1);
    }
  }
}

// Sums of two tiles of rows between chunks: [tile of the four][16 outputs][16 rows].
using FourSums = float[4][256];

template <bool kTwoColumns>
QW_INLINE void load_sums(const FourSums& from) {
  QW_TILE_LOAD(0, from[0], 64);
  QW_TILE_LOAD(1, from[1], 64);
  if constexpr (kTwoColumns) {
    QW_TILE_LOAD(2, from[2], 64);
    QW_TILE_LOAD(3, from[3], 64);
  }
}
template <bool kTwoColumns>
QW_INLINE void store_sums(FourSums& to) {
  QW_TILE_STORE(0, to[0], 64);
  QW_TILE_STORE(1, to[1], 64);
  if constexpr (kTwoColumns) {
    QW_TILE_STORE(2, to[2], 64);
    QW_TILE_STORE(3, to[3], 64);
  }
}

// One chunk of a panel times two tiles of rows from r on (or one, at the end).
template <bool kTwoColumns>
QW_INLINE void chunk_times_rows(const Job& j, const char* left, std::int64_t step, std::int64_t steps, std::int64_t o,
                                std::int64_t r, FourSums& sums) {
  if (step == 0) {
    zero_sums();
  } else {
    load_sums<kTwoColumns>(sums);
  }
  const char *b0 = j.rows(r) + step * kTileBytes, *b1 = b0 + j.tile_bytes;
  multiply_steps<kTwoColumns>(left, kStepBytes, kTileBytes, b0, b1, kTileBytes, 64, steps);
  store_sums<kTwoColumns>(sums);
  if (step + steps < j.steps) return;
  finish(sums[0], j.sink(o, r), 0);
  finish(sums[1], j.sink(o, r), 1);
  if constexpr (kTwoColumns) {
    finish(sums[2], j.sink(o, r + kColumns), 0);
    finish(sums[3], j.sink(o, r + kColumns), 1);
  }
}

void many_rows(const Job& j) {
  alignas(64) FourSums sums[kRowBlock / (2 * kColumns)];
  for (std::int64_t block = 0; block < j.a.rows; block += kRowBlock) {
    const std::int64_t end = std::min(j.a.rows, block + kRowBlock);
    for (std::int64_t o = j.a.out_begin; o < j.a.out_end; o += kPanel) {
      for (std::int64_t step = 0; step < j.steps; step += kChunkSteps) {
        const std::int64_t steps = std::min(kChunkSteps, j.steps - step);
        const char* left = j.panel(o) + step * kStepBytes;
        for (std::int64_t r = block, i = 0; r < end; r += 2 * kColumns, ++i) {
          if (r + kColumns < end) {
            chunk_times_rows<true>(j, left, step, steps, o, r, sums[i]);
          } else {
            chunk_times_rows<false>(j, left, step, steps, o, r, sums[i]);
          }
        }
      }
    }
  }
}

void bfloat_product(const MatmulArgs& a) {
  const std::int64_t columns = columns_of(a.rows), steps = ceil_div(a.in, 32);
  const Job j{a, steps, columns, steps * 64 * columns, bfloat_panel_bytes(a.in)};
  configure_tiles(16, 16, static_cast<int>(columns), static_cast<int>(columns));
  if (a.rows <= kColumns) {
    few_rows<false>(j);
  } else if (a.rows <= 2 * kColumns) {
    few_rows<true>(j);
  } else {
    many_rows(j);
  }
  release_tiles();
}

void matmul(const MatmulArgs& a) {
  if (a.rows == 0) return;
  if (is_bfloat(a.type)) return bfloat_product(a);
  // Fewer rows than fill a tile are laid out as with AVX-512, and its own code, made for them alone, is faster.
  static_assert(avx512::kMostFewRows == kByteRows);
  if (!is_quantised(a.type) || a.rows < kByteRows) return vector_kernels().matmul(a);
  with_block_type(a.type, [&]<WeightType kType>() { block_product_of<kType>(a); });
}

}  // namespace

void fill_matmul(Kernels& k) {
  k.out_granule = kPanel;
  k.packed_bytes = packed_bytes;
  k.pack = pack;
  k.prepared_bytes = prepared_bytes;
  k.prepare = prepare;
  k.prepared_as = prepared_as;
  k.matmul = matmul;
  k.unpack_row = unpack_row;
}

}  // namespace qw::kernels::amx
QW_TARGET_END
#endif  // QW_X86
