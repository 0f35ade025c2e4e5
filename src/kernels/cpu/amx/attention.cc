// Attention over the paged cache with tiles of bfloat16 (AMX). What each function computes is told by kernels.h.
//
// Keys are the left side of one product and values, transposed, of the other: S^T = K Q^T and O^T = V^T P^T. So both go
// from the cache into tiles as they lie, a lane of every vector is a query, and no sum crosses lanes. A column of a tile
// product does not depend on the other columns: rows of a prompt and single rows run through the same code and give the
// same bytes.
//
// Precision: queries and probabilities are rounded to bfloat16, as the cache's elements are, for kBF16, kQ8 and kQ4. For
// kF16 both sides are split into a rounded part and what it leaves (x = hi + lo, exact for the cache, 2^-17 for queries and
// probabilities), and hi hi + hi lo + lo hi are summed: the cache's eleven bits count in full. Sums are float32; tile
// products take denormals as zero. kF32 is left to the vectors of AVX-512.
//
// Within a block, kv head h: keys are rows [slot][head_dim]; values are transposed by kSub = min(32, block_tokens) slots,
// [slot / kSub][head_dim][slot % kSub]. Values with scales: of each 32 slots and each 32 components, binary16 scales
// [component / 32][slot], then integers: [component][slot] bytes, or [component / 32][16][slot] bytes with components
// 0..15 in the low nibbles and 16..31 in the high ones.
#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "kernels/internal/cache_element.h"
#include "kernels/internal/cache_gather.h"
#include "kernels/internal/exp.h"
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"

#if QW_X86
#if defined(QW_EMULATED_TILES)
#include "kernels/cpu/amx/emulated_tiles.h"
#endif

QW_TARGET_AMX_BEGIN
namespace qw::kernels::amx {
namespace {
#include "kernels/internal/vec_avx512.inc"

constexpr std::int64_t kTile = 16;     // rows of a tile, and columns of one of sums
constexpr std::int64_t kStrip = 32;    // bfloat16 in a row of a tile: components or keys that one instruction takes
constexpr std::int64_t kQueries = 64;  // most queries that pass together: each key read from memory serves all
// Keys between two looks at the running maximum. Scores of 64 queries take 32 KiB then, and four strips of keys go with one
// load and store of the outputs' sums.
constexpr std::int64_t kChunk = 128;
constexpr std::int64_t kGroups = kChunk / kStrip;
constexpr float kMinusInfinity = -__builtin_inff();

QW_INLINE std::int64_t lower(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
QW_INLINE std::int64_t higher(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
QW_INLINE std::int64_t round_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b * b; }

struct TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
alignas(64) constexpr TileConfig kFullTiles;

// Tiles hold what a thread computes with between these two.
struct TileUse {
  TileUse() { _tile_loadconfig(&kFullTiles); }
  ~TileUse() { _tile_release(); }
};

// At most kQueries queries of one kv head in order of position. Query i sees keys [first[i], end[i]). Places from `count`
// to `ld`, a multiple of kTile, repeat the last query's range and are not read.
struct Queries {
  std::int64_t count, ld;
  alignas(64) std::int32_t first[kQueries], end[kQueries];
  const float* q[kQueries];
  float* o[kQueries];
};

// The state of the queries' softmax over some keys: maximum, sum of exponentials, outputs [dim][ld].
struct Sums {
  float *max, *sum, *o;
};
QW_INLINE Sums carve_sums(float* from, std::int64_t ld) { return {from, from + ld, from + 2 * ld}; }
QW_INLINE std::int64_t padded(std::int64_t head_dim) { return round_up(head_dim, kStrip); }

// 32 keys or 32 slots of values as tiles want them. lo: what rounding left, for kF16.
struct Strip {
  const char *hi, *lo;
  std::int64_t stride;  // bytes from row to row
  static Strip of(const char* rounded, std::int64_t stride) { return {rounded, rounded, stride}; }
};

struct Scratch {
  alignas(64) std::uint16_t q[2][kMaxHeadDim * kQueries];  // [dim / 2][ld] pairs
  alignas(64) std::uint16_t p[2][kChunk * kQueries];       // [keys / 2][ld] pairs
  alignas(64) float s[kChunk * kQueries];                  // [keys][ld]
  alignas(64) std::uint16_t cache[2][kMaxHeadDim * kChunk];
  alignas(64) float total[(kMaxHeadDim + 2) * kQueries], part[(kMaxHeadDim + 2) * kQueries];
  Strip strips[kGroups];
};

// ---- bfloat16 ----------------------------------------------------------------------------------------------------------

QW_INLINE __m512i bits(__m512bh v) { return (__m512i)v; }
QW_INLINE __m512i to_bfloat(vf low, vf high) { return bits(_mm512_cvtne2ps_pbh(high, low)); }

QW_INLINE void store_rounded(vf low, vf high, void* to) { _mm512_store_si512(to, to_bfloat(low, high)); }

// Lane i becomes the pair (even[i], odd[i]).
template <bool kSplit>
QW_INLINE void store_pairs(vf even, vf odd, void* hi, void* lo) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20,
                                         4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i pairs = _mm512_permutexvar_epi16(order, to_bfloat(even, odd));
  _mm512_store_si512(hi, pairs);
  if (!kSplit) return;
  const vf rounded_even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  const vf rounded_odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xFFFF0000U))));
  _mm512_store_si512(lo, _mm512_permutexvar_epi16(order, to_bfloat(vsub(even, rounded_even), vsub(odd, rounded_odd))));
}

// ---- the product -------------------------------------------------------------------------------------------------------

// C [32, 16 kColumns] (+)= sum over strips of A [32, 32] B [32, 16 kColumns]; B's rows are pairs. a(i, lo) and b(i, lo) give
// the first of strip i.
template <bool kSplit, int kColumns, class A, class B>
QW_INLINE void tile_product(std::int64_t strips, A a, B b, std::int64_t ld, float* c, bool add) {
  const std::int64_t ldb = ld * 4;
  float* const c1 = c + kTile * ld;
  if (add) {
    _tile_loadd(0, c, ldb);
    _tile_loadd(1, c1, ldb);
    if (kColumns == 2) {
      _tile_loadd(2, c + kTile, ldb);
      _tile_loadd(3, c1 + kTile, ldb);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const auto load_a = [&](const Strip& s, bool low) {
    const char* from = low ? s.lo : s.hi;
    _tile_loadd(4, from, s.stride);
    _tile_loadd(5, from + kTile * s.stride, s.stride);
  };
  const auto load_b = [&](const char* from) {
    _tile_loadd(6, from, ldb);
    if (kColumns == 2) _tile_loadd(7, from + 4 * kTile, ldb);
  };
  const auto multiply = [&]() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
    if (kColumns == 2) {
      _tile_dpbf16ps(2, 4, 7);
      _tile_dpbf16ps(3, 5, 7);
    }
  };
  for (std::int64_t i = 0; i < strips; ++i) {
    const Strip s = a(i);
    load_b(b(i, false));
    if (kSplit) {
      load_a(s, true);
      multiply();
    }
    load_a(s, false);
    multiply();
    if (kSplit) {
      load_b(b(i, true));
      multiply();
    }
  }
  _tile_stored(0, c, ldb);
  _tile_stored(1, c1, ldb);
  if (kColumns == 2) {
    _tile_stored(2, c + kTile, ldb);
    _tile_stored(3, c1 + kTile, ldb);
  }
}

// The same over all columns of queries.
template <bool kSplit, class A>
QW_INLINE void product(std::int64_t strips, A a, const std::uint16_t* hi, const std::uint16_t* lo, std::int64_t ld, float* c, bool add) {
  asm volatile("" ::: "memory");  // GCC 12 does not know that loads of tiles read memory
  std::int64_t column = 0;
  const auto b = [&](std::int64_t i, bool low) {
    return reinterpret_cast<const char*>((low ? lo : hi) + (i * kTile * ld + column) * 2);
  };
  for (; column + 2 * kTile <= ld; column += 2 * kTile) tile_product<kSplit, 2>(strips, a, b, ld, c + column, add);
  if (column < ld) tile_product<kSplit, 1>(strips, a, b, ld, c + column, add);
}

// ---- from the cache ----------------------------------------------------------------------------------------------------

// Where a block's part of one kv head begins.
QW_INLINE const char* head_block(const AttentionDecodeArgs& a, const void* pool, std::int64_t head, std::int64_t pos) {
  const std::int64_t block = a.blocks[pos / a.block_tokens];
  return static_cast<const char*>(pool) + cache_bytes(a.type, (block * a.kv_heads + head) * a.block_tokens * a.head_dim);
}

QW_INLINE __mmask32 lanes32(std::int64_t n) { return static_cast<__mmask32>(n >= 32 ? ~0U : (1U << n) - 1U); }

// 32 16-bit elements. The eleven bits of a binary16 are split by cutting them: eight go to hi, the others to lo, exactly.
template <CacheType kType>
QW_INLINE void store_halves(__m512i x, void* hi, void* lo) {
  if (kType == CacheType::kBF16) {
    _mm512_store_si512(hi, x);
    return;
  }
  const __m512i upper = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21,
                                         19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  const __m512i cut = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
  const vf first = _mm512_cvtph_ps(_mm512_castsi512_si256(x)), second = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(x, 1));
  const auto pack = [&](vf a, vf b) { return _mm512_permutex2var_epi16(_mm512_castps_si512(a), upper, _mm512_castps_si512(b)); };
  const auto rest = [&](vf a) { return vsub(a, _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), cut))); };
  _mm512_store_si512(hi, pack(first, second));
  _mm512_store_si512(lo, pack(rest(first), rest(second)));
}

// One key's row.
template <CacheType kType>
QW_INLINE void open_key(const char* from, std::int64_t d, std::uint16_t* hi, std::uint16_t* lo) {
  for (std::int64_t i = 0; i < d; i += kStrip) {
    if constexpr (kType == CacheType::kQ8 || kType == CacheType::kQ4) {
      const auto* group = reinterpret_cast<const std::uint8_t*>(from) + cache_bytes(kType, i);
      const vf scale = vset_f16(group);
      const vf low = kType == CacheType::kQ8 ? vload_int8(group + 2) : vload_nibbles(group + 2, false);
      const vf high = kType == CacheType::kQ8 ? vload_int8(group + 18) : vload_nibbles(group + 2, true);
      store_rounded(vmul(scale, low), vmul(scale, high), hi + i);
    } else {
      store_halves<kType>(_mm512_maskz_loadu_epi16(lanes32(d - i), from + 2 * i), hi + i, lo + i);
    }
  }
}

// The next chunk comes from memory or a far cache, 8 KiB here and 8 KiB there: what is opened asks for its like in the next
// chunk, a little at a time.
QW_INLINE void ask_for(const char* from, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += 64) _mm_prefetch(from + i, _MM_HINT_T1);
}

// Keys [begin, begin + 32) of a chunk's strip; zeros from `total` on. `next`: the like in the next chunk, or null.
template <CacheType kType>
QW_INLINE Strip open_keys(const AttentionDecodeArgs& a, std::int64_t head, std::int64_t begin, std::int64_t total,
                          const char* next, std::uint16_t* hi, std::uint16_t* lo) {
  const std::int64_t d = a.head_dim, row = cache_bytes(kType, d), width = padded(d);
  const bool together = a.block_tokens % kStrip == 0;
  if (kType == CacheType::kBF16 && together && d % kStrip == 0 && begin + kStrip <= total) {
    if (next != nullptr) ask_for(next, kStrip * row);
    return Strip::of(head_block(a, a.k_pool, head, begin) + begin % a.block_tokens * row, row);
  }
  const char* from = head_block(a, a.k_pool, head, begin) + begin % a.block_tokens * row;
  for (std::int64_t j = 0; j < kStrip; ++j, from += row) {
    const std::int64_t pos = begin + j;
    if (next != nullptr) ask_for(next + j * row, row);
    if (pos < total) {
      if (!together) from = head_block(a, a.k_pool, head, pos) + pos % a.block_tokens * row;
      open_key<kType>(from, d, hi + j * width, lo + j * width);
    } else {
      for (std::int64_t i = 0; i < width; i += kStrip) {
        _mm512_store_si512(hi + j * width + i, _mm512_setzero_si512());
        if (kType == CacheType::kF16) _mm512_store_si512(lo + j * width + i, _mm512_setzero_si512());
      }
    }
  }
  return {reinterpret_cast<const char*>(hi), reinterpret_cast<const char*>(lo), width * 2};
}

// Values with scales: a strip of 32 slots is one piece of memory.
template <CacheType kType>
QW_INLINE void open_scaled_values(const char* strip, std::int64_t d, __mmask32 seen, const char* next, std::uint16_t* hi) {
  const auto* scales = reinterpret_cast<const std::uint16_t*>(strip);
  const auto* q = reinterpret_cast<const std::uint8_t*>(strip) + d * 2;
  for (std::int64_t i = 0; i < d; i += kStrip, scales += kStrip) {
    if (next != nullptr) ask_for(next + cache_bytes(kType, i * kStrip), cache_bytes(kType, kStrip * kStrip));
    const __m512i s = _mm512_maskz_loadu_epi16(seen, scales);  // zero: out of sight
    const vf s0 = _mm512_cvtph_ps(_mm512_castsi512_si256(s)), s1 = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(s, 1));
    for (std::int64_t r = 0; r < (kType == CacheType::kQ8 ? kStrip : kStrip / 2); ++r, q += kStrip) {
      std::uint16_t* to = hi + (i + r) * kStrip;
      if (kType == CacheType::kQ8) {
        store_rounded(vmul(s0, vload_int8(q)), vmul(s1, vload_int8(q + 16)), to);
      } else {
        store_rounded(vmul(s0, vload_nibbles(q, false)), vmul(s1, vload_nibbles(q + 16, false)), to);
        store_rounded(vmul(s0, vload_nibbles(q, true)), vmul(s1, vload_nibbles(q + 16, true)), to + 16 * kStrip);
      }
    }
  }
}

// Values of positions [begin, begin + 32), transposed; zeros outside [low, high), whatever memory holds there.
template <CacheType kType>
QW_INLINE Strip open_values(const AttentionDecodeArgs& a, std::int64_t head, std::int64_t begin, std::int64_t low,
                            std::int64_t high, const char* next, std::uint16_t* hi, std::uint16_t* lo) {
  const std::int64_t d = a.head_dim, sub = lower(kStrip, a.block_tokens);
  const __mmask32 seen = lanes32(higher(high - begin, 0)) & ~(low > begin ? lanes32(low - begin) : 0U);
  const char* strip = head_block(a, a.v_pool, head, begin) + cache_bytes(kType, begin % a.block_tokens * d);
  if (kType == CacheType::kBF16 && sub == kStrip && d % kStrip == 0 && seen == ~0U) {
    if (next != nullptr) ask_for(next, 2 * kStrip * d);
    return Strip::of(strip, 2 * kStrip);
  }
  if constexpr (kType == CacheType::kQ8 || kType == CacheType::kQ4) {
    open_scaled_values<kType>(strip, d, seen, next, hi);
  } else {
    alignas(64) std::uint16_t row[kStrip] = {};
    for (std::int64_t i = 0; i < d; ++i) {
      const void* from = strip + i * 2 * kStrip;
      if (next != nullptr) ask_for(next + i * 2 * kStrip, 2 * kStrip);
      if (sub < kStrip) {
        for (std::int64_t j = 0; j < kStrip && begin + j < high; j += sub)
          __builtin_memcpy(row + j, head_block(a, a.v_pool, head, begin + j) + i * 2 * sub, static_cast<std::size_t>(2 * sub));
        from = row;
      }
      store_halves<kType>(_mm512_maskz_loadu_epi16(seen, from), hi + i * kStrip, lo + i * kStrip);
    }
    for (std::int64_t i = d; i < padded(d); ++i) {
      _mm512_store_si512(hi + i * kStrip, _mm512_setzero_si512());
      if (kType == CacheType::kF16) _mm512_store_si512(lo + i * kStrip, _mm512_setzero_si512());
    }
  }
  return {reinterpret_cast<const char*>(hi), reinterpret_cast<const char*>(lo), 2 * kStrip};
}

// ---- softmax -----------------------------------------------------------------------------------------------------------

// Scores of 16 queries against n keys become pairs of probabilities; the sums so far are brought to the new maximum.
// kMasked: some query does not see some key.
template <bool kSplit, bool kMasked>
QW_INLINE void softmax_column(const Queries& x, Scratch& w, const Sums& to, std::int64_t column, std::int64_t begin,
                              std::int64_t n, float scale, std::int64_t dim, bool first) {
  const std::int64_t ld = x.ld;
  float* const s = w.s + column;
  const __m512i from = _mm512_load_si512(x.first + column), end = _mm512_load_si512(x.end + column);
  const auto sees = [&](std::int64_t j) {
    const __m512i pos = _mm512_set1_epi32(static_cast<int>(begin + j));
    return static_cast<__mmask16>(_mm512_cmple_epi32_mask(from, pos) & _mm512_cmplt_epi32_mask(pos, end));
  };
  vf top = vset(kMinusInfinity);
  for (std::int64_t j = 0; j < n; ++j) {
    const vf v = vload(s + j * ld);
    top = kMasked ? _mm512_mask_max_ps(top, sees(j), top, v) : vmax(top, v);
  }
  const vf factor = vset(scale), old = first ? vset(kMinusInfinity) : vload(to.max + column);
  const vf highest = vmax(old, vmul(top, factor));
  vstore(to.max + column, highest);
  // A query that has seen no key yet keeps zeros.
  const vf base = vselect(_mm512_cmp_ps_mask(highest, vset(kMinusInfinity), _CMP_EQ_OQ), vzero(), highest);
  const vf shrink = vexp(vsub(old, base));
  vf even = vzero(), odd = vzero();
  for (std::int64_t j = 0; j < n; j += 2) {
    vf p0 = vexp(vsub(vmul(vload(s + j * ld), factor), base)), p1 = vexp(vsub(vmul(vload(s + (j + 1) * ld), factor), base));
    if (kMasked) p0 = vselect(sees(j), p0, vzero()), p1 = vselect(sees(j + 1), p1, vzero());
    even = vadd(even, p0);
    odd = vadd(odd, p1);
    const std::int64_t at = (j / 2 * ld + column) * 2;
    store_pairs<kSplit>(p0, p1, w.p[0] + at, w.p[1] + at);
  }
  const vf sum = vadd(even, odd);
  vstore(to.sum + column, first ? sum : vfma(vload(to.sum + column), shrink, sum));
  if (first || _mm512_cmp_ps_mask(shrink, vset(1.0F), _CMP_NEQ_UQ) == 0) return;
  for (std::int64_t i = 0; i < dim; ++i) vstore(to.o + i * ld + column, vmul(vload(to.o + i * ld + column), shrink));
}

// ---- attention ---------------------------------------------------------------------------------------------------------

constexpr bool split(CacheType type) { return type == CacheType::kF16; }

// Positions [begin, begin + n) of one segment; n at most kChunk.
template <CacheType kType>
void attend_chunk(const AttentionDecodeArgs& a, std::int64_t head, const Queries& x, Scratch& w, std::int64_t begin,
                  std::int64_t n, bool first, const Sums& to) {
  constexpr bool kSplit = split(kType);
  const std::int64_t dim = padded(a.head_dim), ld = x.ld, groups = (n + kStrip - 1) / kStrip;
  const std::int64_t lowest = x.first[0], total = x.end[x.count - 1];
  const auto next = [&](const void* pool, std::int64_t g) -> const char* {
    const std::int64_t pos = begin + kChunk + g * kStrip;
    if (a.block_tokens % kStrip != 0 || pos >= total) return nullptr;
    return head_block(a, pool, head, pos) + cache_bytes(kType, pos % a.block_tokens * a.head_dim);
  };
  for (std::int64_t g = 0; g < groups; ++g) {
    const Strip keys = open_keys<kType>(a, head, begin + g * kStrip, total, next(a.k_pool, g), w.cache[0], w.cache[1]);
    const auto strip = [&](std::int64_t i) { return Strip{keys.hi + i * 64, keys.lo + i * 64, keys.stride}; };
    product<kSplit>(dim / kStrip, strip, w.q[0], w.q[1], ld, w.s + g * kStrip * ld, false);
  }
  for (std::int64_t c = 0; c < ld; c += kTile) {
    const std::int64_t latest_first = x.first[lower(c + kTile, x.count) - 1], earliest_end = x.end[c];
    if (latest_first <= begin && begin + groups * kStrip <= earliest_end) {
      softmax_column<kSplit, false>(x, w, to, c, begin, groups * kStrip, a.scale, dim, first);
    } else {
      softmax_column<kSplit, true>(x, w, to, c, begin, groups * kStrip, a.scale, dim, first);
    }
  }
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t at = g * kStrip * dim;
    w.strips[g] = open_values<kType>(a, head, begin + g * kStrip, lowest, total, next(a.v_pool, g), w.cache[0] + at, w.cache[1] + at);
  }
  for (std::int64_t i = 0; i < dim; i += kStrip) {
    const auto strip = [&](std::int64_t g) {
      const Strip& s = w.strips[g];
      return Strip{s.hi + i * s.stride, s.lo + i * s.stride, s.stride};
    };
    product<kSplit>(groups, strip, w.p[0], w.p[1], ld, to.o + i * ld, !first);
  }
}

template <CacheType kType>
void attend_segment(const AttentionDecodeArgs& a, std::int64_t head, const Queries& x, Scratch& w, std::int64_t segment,
                    const Sums& to) {
  // Chunks begin at multiples of their length whatever the window: a query's sums must not depend on its neighbours.
  const std::int64_t begin = higher(segment * kAttentionSegment, x.first[0] / kChunk * kChunk);
  const std::int64_t end = lower(x.end[x.count - 1], (segment + 1) * kAttentionSegment);
  for (std::int64_t at = begin; at < end; at += kChunk)
    attend_chunk<kType>(a, head, x, w, at, lower(kChunk, end - at), at == begin, to);
}

void attend_segment(const AttentionDecodeArgs& a, std::int64_t head, const Queries& x, Scratch& w, std::int64_t segment,
                    const Sums& to) {
  switch (a.type) {
    case CacheType::kF32: return;  // not here: see decode and prefill
    case CacheType::kF16: return attend_segment<CacheType::kF16>(a, head, x, w, segment, to);
    case CacheType::kBF16: return attend_segment<CacheType::kBF16>(a, head, x, w, segment, to);
    case CacheType::kQ8: return attend_segment<CacheType::kQ8>(a, head, x, w, segment, to);
    case CacheType::kQ4: return attend_segment<CacheType::kQ4>(a, head, x, w, segment, to);
  }
}

// Adds one segment's sums to those of the segments before it. A query that sees nothing there keeps its own, exactly.
void join(const Sums& total, const Sums& part, std::int64_t dim, std::int64_t ld) {
  for (std::int64_t c = 0; c < ld; c += kTile) {
    const vf old = vload(total.max + c), other = vload(part.max + c), max = vmax(old, other);
    const vf base = vselect(_mm512_cmp_ps_mask(max, vset(kMinusInfinity), _CMP_EQ_OQ), vzero(), max);
    const vf keep = vexp(vsub(old, base)), add = vexp(vsub(other, base));
    vstore(total.max + c, max);
    vstore(total.sum + c, vfma(vload(part.sum + c), add, vmul(vload(total.sum + c), keep)));
    for (std::int64_t i = 0; i < dim; ++i) {
      float* o = total.o + i * ld + c;
      vstore(o, vfma(vload(part.o + i * ld + c), add, vmul(vload(o), keep)));
    }
  }
}

// Queries as pairs of components.
template <bool kSplit>
void take_queries(const Queries& x, std::int64_t d, Scratch& w) {
  for (std::int64_t c = 0; c < x.ld; c += kTile) {
    for (std::int64_t i = 0; i < padded(d); i += kStrip) {
      vf even[kTile], odd[kTile];
      for (int r = 0; r < kTile; ++r) {
        const bool there = c + r < x.count;
        const float* q = there ? x.q[c + r] + i : nullptr;
        const vf low = there ? vload(q, vfirst(lower(kTile, d - i))) : vzero();
        const vf high = there && d - i > kTile ? vload(q + kTile, vfirst(lower(kTile, d - i - kTile))) : vzero();
        const __m512i evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        even[r] = _mm512_permutex2var_ps(low, evens, high);
        odd[r] = _mm512_permutex2var_ps(low, _mm512_add_epi32(evens, _mm512_set1_epi32(1)), high);
      }
      vtranspose(even);
      vtranspose(odd);
      for (int r = 0; r < kTile; ++r) {
        const std::int64_t at = ((i / 2 + r) * x.ld + c) * 2;
        store_pairs<kSplit>(even[r], odd[r], w.q[0] + at, w.q[1] + at);
      }
    }
  }
}

void write_outputs(const Queries& x, const Sums& sums, std::int64_t d) {
  for (std::int64_t c = 0; c < x.ld; c += kTile) {
    const vf inverse = vdiv(vset(1.0F), vload(sums.sum + c));
    for (std::int64_t i = 0; i < d; i += kTile) {
      vf square[kTile];
      // The addition makes -0 +0, which is what chunks out of a query's sight, all zeros, do too.
      for (int r = 0; r < kTile; ++r) square[r] = vfma(vload(sums.o + (i + r) * x.ld + c), inverse, vzero());
      vtranspose(square);
      const vmask part = vfirst(lower(kTile, d - i));
      for (int r = 0; r < kTile && c + r < x.count; ++r) vstore(x.o[c + r] + i, part, square[r]);
    }
  }
}

// Finds the place of query i; `ready` afterwards.
QW_INLINE void place(const AttentionDecodeArgs& a, Queries& x, std::int64_t i, std::int64_t n_keys) {
  x.end[i] = static_cast<std::int32_t>(n_keys);
  x.first[i] = static_cast<std::int32_t>(a.window > 0 && n_keys > a.window ? n_keys - a.window : 0);
}
void ready(const AttentionDecodeArgs& a, Queries& x, Scratch& w) {
  x.ld = round_up(x.count, kTile);
  for (std::int64_t i = x.count; i < x.ld; ++i) x.end[i] = x.end[x.count - 1], x.first[i] = x.first[x.count - 1];
  split(a.type) ? take_queries<true>(x, a.head_dim, w) : take_queries<false>(x, a.head_dim, w);
}

// Is every value at positions [begin, end) a number? Values with scales: is every scale.
bool values_are_finite(const AttentionDecodeArgs& a, std::int64_t head, std::int64_t begin, std::int64_t end) {
  const std::int64_t sub = lower(kStrip, a.block_tokens);
  const std::int64_t rows = has_cache_scales(a.type) ? a.head_dim / kStrip : a.head_dim;
  const __m512i exponent = _mm512_set1_epi16(a.type == CacheType::kBF16 ? 0x7F80 : 0x7C00);
  for (std::int64_t pos = begin / sub * sub; pos < end; pos += sub) {
    const auto* values = reinterpret_cast<const std::uint16_t*>(
        head_block(a, a.v_pool, head, pos) + cache_bytes(a.type, pos % a.block_tokens * a.head_dim));
    const __mmask32 part = lanes32(lower(sub, end - pos)) & ~lanes32(higher(begin - pos, 0));
    __mmask32 bad = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
      const __m512i v = _mm512_maskz_loadu_epi16(part, values + i * sub);
      bad |= _mm512_cmpeq_epi16_mask(_mm512_and_si512(v, exponent), exponent);
    }
    if (bad != 0) return false;
  }
  return true;
}

void attend(const AttentionDecodeArgs& a, std::int64_t head, Queries& x, Scratch& w) {
  ready(a, x, w);
  const Sums total = carve_sums(w.total, x.ld), part = carve_sums(w.part, x.ld);
  const std::int64_t begin = x.first[0] / kAttentionSegment, end = (x.end[x.count - 1] - 1) / kAttentionSegment + 1;
  for (std::int64_t s = begin; s < end; ++s) {
    attend_segment(a, head, x, w, s, s == begin ? total : part);
    if (s > begin) join(total, part, padded(a.head_dim), x.ld);
  }
  write_outputs(x, total, a.head_dim);
}

// Rows [row, row + rows) of one kv head, whose queries fit.
void attend_rows(const AttentionPrefillArgs& args, std::int64_t head, std::int64_t row, std::int64_t rows, std::int64_t query,
                 std::int64_t queries, Queries& x, Scratch& w) {
  const AttentionDecodeArgs& a = args.first;
  const std::int64_t group = a.heads / a.kv_heads;
  x.count = 0;
  for (std::int64_t r = row; r < row + rows; ++r) {
    for (std::int64_t g = query; g < query + queries; ++g, ++x.count) {
      const std::int64_t at = (head * group + g) * a.head_dim;
      x.q[x.count] = a.q + r * args.ldq + at;
      x.o[x.count] = a.o + r * args.ldo + at;
      place(a, x, x.count, a.n_keys + r);
    }
  }
  // A value that some of the queries see and others do not must be a number: 0 times another would be NaN for those.
  const std::int64_t last = x.count - 1;
  if (rows > 1 && !(values_are_finite(a, head, x.first[0], x.first[last]) && values_are_finite(a, head, x.end[0], x.end[last]))) {
    for (std::int64_t r = row; r < row + rows; ++r) attend_rows(args, head, r, 1, query, queries, x, w);
    return;
  }
  attend(a, head, x, w);
}

void prefill(const AttentionPrefillArgs& args) {
  const AttentionDecodeArgs& a = args.first;
  QW_CHECK(a.n_keys > 0 && a.head_dim <= kMaxHeadDim && a.heads % a.kv_heads == 0);
  if (a.type == CacheType::kF32) return kernels_for(Isa::kAvx512).attention_prefill(args);
  const std::int64_t group = a.heads / a.kv_heads, step = higher(1, kQueries / group);
  const TileUse tiles;
  Queries x;
  Scratch w;
  for (std::int64_t h = a.head_begin; h < a.head_end; ++h)
    for (std::int64_t r = 0; r < args.rows; r += step)
      for (std::int64_t g = 0; g < group; g += kQueries)
        attend_rows(args, h, r, lower(step, args.rows - r), g, lower(kQueries, group - g), x, w);
}

void decode(const AttentionDecodeArgs& a) { prefill({a, 1, 0, 0}); }

// ---- in parts ----------------------------------------------------------------------------------------------------------

// A segment's sums, for every kQueries heads of the group.
QW_INLINE std::int64_t sums_floats(std::int64_t ld, std::int64_t head_dim) { return ld * (padded(head_dim) + 2); }

// Of one kv head.
std::int64_t head_floats(const AttentionDecodeArgs& a) {
  return sums_floats(round_up(a.heads / a.kv_heads, kTile), a.head_dim);
}
std::int64_t partial_floats(const AttentionDecodeArgs& a) {
  if (a.type == CacheType::kF32) return kernels_for(Isa::kAvx512).attention_partial_floats(a);
  return (a.head_end - a.head_begin) * head_floats(a);
}

// Calls body(kv head, queries, floats before them) for every kQueries heads of each kv head's group.
template <class Body>
QW_INLINE void over_groups(const AttentionDecodeArgs& a, Body body) {
  const std::int64_t group = a.heads / a.kv_heads;
  Queries x;
  for (std::int64_t h = a.head_begin; h < a.head_end; ++h) {
    for (std::int64_t begin = 0; begin < group; begin += kQueries) {
      x.count = lower(kQueries, group - begin);
      x.ld = round_up(x.count, kTile);
      for (std::int64_t i = 0; i < x.count; ++i) {
        const std::int64_t at = (h * group + begin + i) * a.head_dim;
        x.q[i] = a.q + at;
        x.o[i] = a.o + at;
        place(a, x, i, a.n_keys);
      }
      body(h, x, (h - a.head_begin) * head_floats(a) + sums_floats(begin, a.head_dim));
    }
  }
}

void segment(const AttentionDecodeArgs& a, std::int64_t s, float* partial) {
  if (a.type == CacheType::kF32) return kernels_for(Isa::kAvx512).attention_segment(a, s, partial);
  const TileUse tiles;
  Scratch w;
  over_groups(a, [&](std::int64_t h, Queries& x, std::int64_t before) {
    ready(a, x, w);
    attend_segment(a, h, x, w, s, carve_sums(partial + before, x.ld));
  });
}

void join_segments(const AttentionDecodeArgs& a, const float* partials) {
  if (a.type == CacheType::kF32) return kernels_for(Isa::kAvx512).attention_join(a, partials);
  const AttentionSegments segments = attention_segments(a.n_keys, a.window);
  const std::int64_t size = partial_floats(a);
  alignas(64) float joined[(kMaxHeadDim + 2) * kQueries];
  over_groups(a, [&](std::int64_t, Queries& x, std::int64_t before) {
    const Sums total = carve_sums(joined, x.ld);
    __builtin_memcpy(joined, partials + before, static_cast<std::size_t>(sums_floats(x.ld, a.head_dim)) * sizeof(float));
    for (std::int64_t s = 1; s < segments.end - segments.begin; ++s) {
      float* part = const_cast<float*>(partials) + s * size + before;  // read only
      join(total, carve_sums(part, x.ld), padded(a.head_dim), x.ld);
    }
    write_outputs(x, total, a.head_dim);
  });
}

// ---- writing -----------------------------------------------------------------------------------------------------------

// One token's values of one head into its slot of a strip of `sub`.
QW_INLINE void write_values(CacheType type, const float* x, std::int64_t d, std::int64_t sub, std::int64_t slot, char* strip) {
  if (!has_cache_scales(type)) {
    alignas(64) std::uint16_t row[kMaxHeadDim];
    cache_store(type, row, 0, x, d);
    auto* to = reinterpret_cast<std::uint16_t*>(strip) + slot;
    for (std::int64_t i = 0; i < d; ++i) to[i * sub] = row[i];
    return;
  }
  auto* scales = reinterpret_cast<std::uint16_t*>(strip) + slot;
  auto* q = reinterpret_cast<std::uint8_t*>(strip) + d * 2 + slot;
  for (std::int64_t i = 0; i < d; i += kStrip, scales += kStrip) {
    const CacheGroup g = quantise_group(type, x + i);
    *scales = g.scale;
    if (type == CacheType::kQ8) {
      for (std::int64_t r = 0; r < kStrip; ++r, q += kStrip) *q = static_cast<std::uint8_t>(g.q[r]);
    } else {
      for (std::int64_t r = 0; r < kStrip / 2; ++r, q += kStrip) *q = static_cast<std::uint8_t>(g.q[r] | g.q[r + 16] << 4);
    }
  }
}

// One token's key of one head as a row.
QW_INLINE void write_key(CacheType type, const float* x, std::int64_t d, std::int64_t at, void* pool) {
  if (has_cache_scales(type)) return cache_store(type, pool, at, x, d);
  auto* to = static_cast<std::uint16_t*>(pool) + at;
  for (std::int64_t i = 0; i < d; i += kTile) {
    const vmask part = vfirst(lower(kTile, d - i));
    if (type == CacheType::kF16) vstore_f16(to + i, part, vload(x + i, part));
    else vstore_bf16(to + i, part, vload(x + i, part));
  }
}

void cache_write(CacheType type, CachePart part, const float* kv, std::int64_t kv_heads, std::int64_t head_dim,
                 std::int64_t block_tokens, std::int32_t block, std::int64_t slot, void* pool) {
  if (type == CacheType::kF32)
    return kernels_for(Isa::kAvx512).cache_write(type, part, kv, kv_heads, head_dim, block_tokens, block, slot, pool);
  const std::int64_t sub = lower(kStrip, block_tokens);
  for (std::int64_t h = 0; h < kv_heads; ++h) {
    if (part == CachePart::kKeys) {
      write_key(type, kv + h * head_dim, head_dim, cache_index(kv_heads, head_dim, block_tokens, block, h, slot), pool);
      continue;
    }
    const std::int64_t rows = (block * kv_heads + h) * block_tokens + slot / sub * sub;
    write_values(type, kv + h * head_dim, head_dim, sub, slot % sub, static_cast<char*>(pool) + cache_bytes(type, rows * head_dim));
  }
}

void cache_gather(const CacheGatherArgs& a) {
  if (a.type == CacheType::kF32) return kernels_for(Isa::kAvx512).cache_gather(a);
  gather(a, [&](const StripCopy& c) { a.part == CachePart::kKeys ? c.rows() : c.tile_values(); });
}

}  // namespace

void fill_attention(Kernels& table) {
  table.attention_decode = decode;
  table.attention_prefill = prefill;
  table.attention_partial_floats = partial_floats;
  table.attention_segment = segment;
  table.attention_join = join_segments;
  table.cache_write = cache_write;
  table.cache_gather = cache_gather;
}

}  // namespace qw::kernels::amx
QW_TARGET_END

#endif  // QW_X86
