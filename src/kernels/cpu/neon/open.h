// Opens blocks of a panel (internal/compact.h): levels as bytes, scales and minima as floats. Included once by each
// file, after the standard headers; internal linkage.
#pragma once

#include "kernels/cpu/neon/vectors.h"
#include "kernels/internal/tiles.h"

namespace qw::kernels::neon {
namespace {

// Bytes ahead of what is opened that are asked for: opening reads in fits and starts, which the hardware does not run
// ahead of.
constexpr int kAhead = 2048;

// Levels of eight bits are multiplied as they are. Others are unsigned, which fits a signed byte: the offset comes off
// by the activations' correction.
constexpr bool signed_levels(const BlockFormat& f) { return f.bits == 8 || f.table == Levels::kIq4; }
// The largest size of a level as it is multiplied.
constexpr int most_level(const BlockFormat& f) {
  return signed_levels(f) ? 128 : f.table == Levels::kMxfp4 ? 31 : (1 << f.bits) - 1;
}

// Eight floats, one for each output of a panel.
using Eight = float32x4_t[2];

QW_INLINE uint8x16_t bytes_at(const char* p) { return vld1q_u8(reinterpret_cast<const std::uint8_t*>(p)); }
QW_INLINE uint8x8_t eight_bytes(const char* p) { return vld1_u8(reinterpret_cast<const std::uint8_t*>(p)); }
QW_INLINE void eight_halves(const char* p, Eight& to) {
  to[0] = load_halves(p);
  to[1] = load_halves(p + 8);
}
QW_INLINE void store_eight(float32x4_t first, float32x4_t second, float* to) {
  vst1q_f32(to, first);
  vst1q_f32(to + 4, second);
}
QW_INLINE void store_scaled(const Eight& d, int16x8_t factor, float* to) {
  store_eight(vmulq_f32(d[0], vcvtq_f32_s32(vmovl_s16(vget_low_s16(factor)))),
              vmulq_f32(d[1], vcvtq_f32_s32(vmovl_high_s16(factor))), to);
}
QW_INLINE int16x8_t unsigned_factor(uint8x8_t bytes) { return vreinterpretq_s16_u16(vmovl_u8(bytes)); }
QW_INLINE float32x4_t powers(uint32x4_t e) {  // power_scale in blocks.h
  const uint32x4_t normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
  const uint32x4_t small = vshlq_u32(vdupq_n_u32(0x00200000), vreinterpretq_s32_u32(e));
  return vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), small, normal));
}

// kPairs: words 2 i and 2 i + 1 are stored as [output][8 inputs], which is what matrix products of bytes take.
template <WeightType kType, bool kPairs>
struct Opener {
  static constexpr Compact c = compact_of(kType);
  static constexpr BlockFormat f = c.format;
  uint8x16_t table;  // of formats with levels from a table

  QW_INLINE Opener() {
    std::uint8_t levels[16] = {};
    if constexpr (f.table != Levels::kNone) {
      for (std::uint8_t q = 0; q < 16; ++q)
        levels[q] = unsigned_level(f, q, signed_levels(f) ? 0 : activation_kind(kType).offset);
    }
    table = vld1q_u8(levels);
  }

  // Every byte moved left by kBy bits, or right by -kBy.
  template <int kBy>
  static QW_INLINE uint8x16_t moved(uint8x16_t v) {
    if constexpr (kBy > 0) return vshlq_n_u8(v, kBy);
    if constexpr (kBy < 0) return vshrq_n_u8(v, -kBy);
    return v;
  }

  // Word kWord of a block: four levels of four outputs.
  template <int kWord>
  QW_INLINE uint8x16_t word(const char* from) const {
    const auto part = [&](int i) { return bytes_at(from + i * kTileColumns * 4); };
    if constexpr (c.low_bits == 8) {
      return part(kWord);
    } else {
      constexpr int kFrom = c.low_bits == 4 ? kWord % 4 : kWord / 4,
                    kAt = c.low_bits == 4 ? kWord / 4 * 4 : kWord % 4 * 2;
      constexpr int kLowMask = (1 << c.low_bits) - 1;
      const uint8x16_t q = vandq_u8(moved<-kAt>(part(kFrom)), vdupq_n_u8(kLowMask));
      if constexpr (f.table != Levels::kNone) return vqtbl1q_u8(table, q);
      if constexpr (c.high_bits == 0) {
        return q;
      } else {
        constexpr int kHighFrom = c.high_bits == 2 ? kWord / 4 : 0, kHighAt = c.high_bits == 2 ? kWord % 4 * 2 : kWord;
        const uint8x16_t rest = moved<c.low_bits - kHighAt>(part(c.low_bits + kHighFrom));
        return vorrq_u8(q, vandq_u8(rest, vdupq_n_u8(((1 << f.bits) - 1) ^ kLowMask)));
      }
    }
  }

  // Outputs 4 v .. 4 v + 3 of a block. All words before the first is stored: a store of bytes might be to what is read.
  QW_INLINE void words(const char* from, int v, std::uint8_t (&to)[8][kTileColumns * 4]) const {
    from += 16 * v;
    const uint8x16_t w[8] = {word<0>(from), word<1>(from), word<2>(from), word<3>(from),
                             word<4>(from), word<5>(from), word<6>(from), word<7>(from)};
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      if constexpr (kPairs) {
        if (i % 2 != 0) continue;
        const uint32x4_t a = vreinterpretq_u32_u8(w[i]), b = vreinterpretq_u32_u8(w[i + 1]);
        vst1q_u8(to[i + v], vreinterpretq_u8_u32(vzip1q_u32(a, b)));
        vst1q_u8(to[i + v] + 16, vreinterpretq_u8_u32(vzip2q_u32(a, b)));
      } else {
        vst1q_u8(to[i] + 16 * v, w[i]);
      }
    }
  }

  // Scales and minima of the outputs of a group.
  static QW_INLINE void group(const char* from, const Eight& d, const Eight& dmin, float* scale, float* min) {
    [[maybe_unused]] const char* minima = from + c.minima * kTileColumns;
    if constexpr (f.scale == ScaleKind::kFloat) {
      __builtin_memcpy(scale, from, 4 * kTileColumns);
      __builtin_memcpy(min, minima, 4 * kTileColumns);
    } else if constexpr (f.scale == ScaleKind::kHalf) {
      store_eight(load_halves(from), load_halves(from + 8), scale);
      if constexpr (f.has_min) store_eight(vnegq_f32(load_halves(minima)), vnegq_f32(load_halves(minima + 8)), min);
    } else if constexpr (f.scale == ScaleKind::kPower) {
      const uint16x8_t e = vmovl_u8(eight_bytes(from));
      store_eight(powers(vmovl_u16(vget_low_u16(e))), powers(vmovl_high_u16(e)), scale);
    } else if constexpr (kType == WeightType::kQ2_K) {
      const uint8x8_t both = eight_bytes(from);
      store_scaled(d, unsigned_factor(vand_u8(both, vdup_n_u8(15))), scale);
      store_scaled(dmin, unsigned_factor(vshr_n_u8(both, 4)), min);
    } else {
      store_scaled(d, vmovl_s8(vreinterpret_s8_u8(eight_bytes(from))), scale);
      if constexpr (f.has_min) store_scaled(dmin, unsigned_factor(eight_bytes(minima)), min);
    }
  }

  // `blocks` blocks of one unit, or of units without a head.
  QW_INLINE void chunk([[maybe_unused]] const char* head, const char* block, int blocks,
                       OpenedChunk<kTileColumns>& to) const {
    constexpr int kBytes = c.block * kTileColumns, kGroupBytes = c.minima / c.groups * kTileColumns;
    Eight d = {}, dmin = {};
    if constexpr (f.scale == ScaleKind::kSuper) {
      eight_halves(head, d);
      if constexpr (f.has_min) eight_halves(head + 2 * kTileColumns, dmin);
    }
    for (int b = 0; b < blocks; ++b, block += kBytes) {
#pragma GCC unroll 32
      for (int line = 0; line < kBytes; line += 64) __builtin_prefetch(block + kAhead + line);
#pragma GCC unroll 2
      for (int g = 0; g < c.groups; ++g) group(block + g * kGroupBytes, d, dmin, to.scale[b][g], to.min[b][g]);
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) words(block + c.quants * kTileColumns, v, to.q[b]);
    }
  }
};

}  // namespace
}  // namespace qw::kernels::neon
