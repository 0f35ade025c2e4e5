// The inference product with AVX2. bfloat16 weights and rounded activations are multiplied as floats; quantised blocks
// with VPMADDUBSW, whose 16-bit sums cannot saturate here (see the tiles).
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"
#include "kernels/internal/tiles.h"

#if QW_X86
#include <array>
#include <limits>
#include <utility>

#include "kernels/cpu/avx2/open.h"
#include "kernels/cpu/avx2/vectors.h"

QW_TARGET_AVX2_BEGIN
namespace qw::kernels::avx2 {
namespace {

// Rows of a quantised tile: six integer sums, six float sums, and four registers for the weights.
constexpr int kQuantisedRows = 3;

// The loops over registers must be unrolled: an index known only at run time would put the sums in
// memory, for the inner loop as well.
template <int kRows>
QW_INLINE void store_tile(const MatmulTile& t, const __m256 (&sums)[kRows][kTileVectors]) {
#pragma GCC unroll 2
  for (int v = 0; v < kTileVectors; ++v) {
    const __m256i mask = lane_mask(t.outputs - 8 * v);
    const __m256 bias = t.bias == nullptr ? _mm256_setzero_ps() : _mm256_maskload_ps(t.bias + 8 * v, mask);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      _mm256_maskstore_ps(t.y + r * t.ldy + 8 * v, mask, _mm256_add_ps(sums[r][v], bias));
    }
  }
}

template <class Op, int kRows>
void float_tile(const MatmulTile& t) {
  __m256 sums[kRows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
  sum_strips<Op, kRows>(reinterpret_cast<const float*>(t.rows), t.panel, t.steps, sums);
  store_tile<kRows>(t, sums);
}

QW_INLINE __m256i broadcast_word(const ActivationBlock& x, int word) {
  std::int32_t four;
  __builtin_memcpy(&four, x.q + 4 * word, 4);
  return _mm256_set1_epi32(four);
}

using Tile = ChunkTile<kTileColumns>;

// How many products of a word may be summed in 16 bits before they are widened: a word is two pairs, and 8 * 2 * 15 *
// 127, 4 * 2 * 31 * 127 and 2 * 2 * 63 * 127 are all below 2^15. 0: levels of eight bits, signed (see Opener), which
// are split into their size, the unsigned factor, and their sign, which the activations get: 2 * 128 * 127 for a pair.
constexpr int words_at_once(const BlockFormat& f) {
  if (signed_levels(f)) return 0;
  return f.table != Levels::kNone || f.bits == 5 ? 4 : f.bits == 6 ? 2 : 8;
}

// Words [kBegin, kEnd) of a block: q[r][v] += their products.
template <int kBegin, int kEnd, int kAtOnce, int kRows>
QW_INLINE void add_words(const OpenedChunk<kTileColumns>& w, int b, const ActivationBlock* x,
                         __m256i (&q)[kRows][kTileVectors]) {
  const __m256i ones = _mm256_set1_epi16(1);
  constexpr int kStep = kAtOnce == 0 ? 1 : kAtOnce < kEnd - kBegin ? kAtOnce : kEnd - kBegin;
  for (int begin = kBegin; begin < kEnd; begin += kStep) {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      __m256i sums[kRows];
#pragma GCC unroll 8
      for (int word = begin; word < begin + kStep; ++word) {
        const __m256i columns = _mm256_load_si256(reinterpret_cast<const __m256i*>(w.q[b][word] + 32 * v));
        const __m256i size = kAtOnce == 0 ? _mm256_abs_epi8(columns) : columns;
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          __m256i four = broadcast_word(x[r], word);
          if constexpr (kAtOnce == 0) four = _mm256_sign_epi8(four, columns);
          const __m256i pairs = _mm256_maddubs_epi16(size, four);
          sums[r] = word == begin ? pairs : _mm256_add_epi16(sums[r], pairs);
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) q[r][v] = _mm256_add_epi32(q[r][v], _mm256_madd_epi16(sums[r], ones));
    }
  }
}

// Group kGroup of kGroups of one block: integer sums of its inputs, scaled and added.
template <int kGroups, int kGroup, bool kMinima, int kAtOnce, int kRows>
QW_INLINE void add_group(const OpenedChunk<kTileColumns>& w, int b, const ActivationBlock* x,
                         __m256 (&sums)[kRows][kTileVectors]) {
  __m256i q[kRows][kTileVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) q[r][0] = q[r][1] = _mm256_set1_epi32(kAtOnce == 0 ? 0 : x[r].correction[kGroup]);
  add_words<8 / kGroups * kGroup, 8 / kGroups*(kGroup + 1), kAtOnce, kRows>(w, b, x, q);
#pragma GCC unroll 2
  for (int v = 0; v < kTileVectors; ++v) {
    const __m256 scale = _mm256_load_ps(w.scale[b][kGroup] + 8 * v);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      sums[r][v] =
          _mm256_fmadd_ps(_mm256_cvtepi32_ps(q[r][v]), _mm256_mul_ps(scale, _mm256_set1_ps(x[r].d)), sums[r][v]);
      if constexpr (kMinima)
        sums[r][v] =
            _mm256_fnmadd_ps(_mm256_load_ps(w.min[b][kGroup] + 8 * v), _mm256_set1_ps(x[r].sum[kGroup]), sums[r][v]);
    }
  }
}

template <int kGroups, bool kMinima, int kAtOnce, int kRows>
void chunk_tile(const Tile& t) {
  __m256 sums[kRows][kTileVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const float* from = t.sums + r * kTileColumns;
    sums[r][0] = t.first ? _mm256_setzero_ps() : _mm256_load_ps(from);
    sums[r][1] = t.first ? _mm256_setzero_ps() : _mm256_load_ps(from + 8);
  }
  const ActivationBlock* x = t.x;
  for (int b = 0; b < t.blocks; ++b, x += t.next) {
    add_group<kGroups, 0, kMinima, kAtOnce, kRows>(*t.weights, b, x, sums);
    if constexpr (kGroups == 2) add_group<kGroups, 1, kMinima, kAtOnce, kRows>(*t.weights, b, x, sums);
  }
  if (t.last) return store_tile<kRows>({nullptr, nullptr, 0, t.bias, t.y, t.ldy, t.outputs}, sums);
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    _mm256_store_ps(t.sums + r * kTileColumns, sums[r][0]);
    _mm256_store_ps(t.sums + r * kTileColumns + 8, sums[r][1]);
  }
}

using ChunkTileFunction = void (*)(const Tile&);
template <int kGroups, bool kMinima, int kAtOnce>
constexpr std::array<ChunkTileFunction, kQuantisedRows> kChunkTiles = {chunk_tile<kGroups, kMinima, kAtOnce, 1>,
                                                                       chunk_tile<kGroups, kMinima, kAtOnce, 2>,
                                                                       chunk_tile<kGroups, kMinima, kAtOnce, 3>};

using TileFunction = void (*)(const MatmulTile&);
template <class Op>
constexpr std::array<TileFunction, kTileRows> kFloatTiles = {float_tile<Op, 1>, float_tile<Op, 2>, float_tile<Op, 3>,
                                                             float_tile<Op, 4>, float_tile<Op, 5>, float_tile<Op, 6>};
struct Avx2Matmul {
  static constexpr std::int64_t kGranule = kTileColumns;
  static std::int64_t tile_rows(WeightType type) { return is_quantised(type) ? kQuantisedRows : kTileRows; }
  static std::int64_t elements_per_word(WeightType) { return 1; }

  // One row as strips of 16 words, `stride` words apart.
  static void prepare_row(WeightType type, const float* x, std::int64_t in, std::uint32_t* strips,
                          std::int64_t stride) {
    for (std::int64_t i = 0; i < in; i += 16, strips += stride) {
      for (std::int64_t j = 0; j < 16; ++j) {
        const float v = i + j < in ? x[i + j] : 0.0f;
        strips[j] = std::bit_cast<std::uint32_t>(type == WeightType::kBF16 ? round_to_bfloat(v) : v);
      }
    }
  }

  // As quantise_activations in scalar.h, byte for byte.
  static void quantise(const float* x, ActivationKind kind, ActivationBlock& out) {
    const __m256 sign = _mm256_set1_ps(-0.0f), endless = _mm256_set1_ps(kEndlessActivation);
    __m256 v[4], largest = _mm256_setzero_ps(), wrong = _mm256_setzero_ps();
    for (int i = 0; i < 4; ++i) {
      v[i] = _mm256_loadu_ps(x + 8 * i);
      const __m256 size = _mm256_andnot_ps(sign, v[i]);
      largest = _mm256_max_ps(largest, size);
      wrong = _mm256_or_ps(wrong, _mm256_cmp_ps(size, endless, _CMP_NLT_UQ));
    }
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps(largest, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));
    const float amax = _mm_cvtss_f32(m);
    const bool finite = _mm256_movemask_ps(wrong) == 0;
    if (!finite || amax < kSmallestActivation) {
      out = empty_block(finite);
      return;
    }
    out.d = activation_scale(kind, amax);
    const __m256 inverse = _mm256_set1_ps(1.0f / out.d);
    __m256i q[4];
    for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.q),
                        _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    std::int32_t sum[2] = {};
    for (int j = 0; j < 32; ++j) sum[j / 16] += out.q[j];
    set_sums(kind, sum[0], sum[1], out);
  }
  static void quantise_row(const float* x, std::int64_t blocks, ActivationKind kind, ActivationBlock* out,
                           std::int64_t stride) {
    for (std::int64_t b = 0; b < blocks; ++b) quantise(x + b * kBlock, kind, out[b * stride]);
  }

  static void matmul_tile(WeightType type, int rows, const MatmulTile& t) {
    const auto index = static_cast<std::size_t>(rows - 1);
    switch (type) {
      case WeightType::kF32:
        return kFloatTiles<FloatOp>[index](t);
      case WeightType::kF16:
        return kFloatTiles<HalfOp>[index](t);
      case WeightType::kBF16:
        return kFloatTiles<BfloatOp>[index](t);
      default:
        return;  // block formats come in chunks
    }
  }

  template <WeightType kType>
  static void open_chunk(const char* head, const char* block, int blocks, OpenedChunk<kGranule>& to) {
    const Opener<kType> open;
    open.chunk(head, block, blocks, to);
  }
  template <WeightType kType>
  static void chunk_tile(int rows, const Tile& t) {
    constexpr Compact c = compact_of(kType);
    kChunkTiles<c.groups, c.format.has_min, words_at_once(c.format)>[static_cast<std::size_t>(rows - 1)](t);
  }
};

}  // namespace

void fill_matmul(Kernels& k) { fill_tiled_matmul<Avx2Matmul, false>(k); }

}  // namespace qw::kernels::avx2
QW_TARGET_END
#endif  // QW_X86
