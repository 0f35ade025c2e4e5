// How the products read packed weights (layout.h): per unit scales of 8 outputs, and registers of signed bytes.
#pragma once

#include <type_traits>

#include "kernels/cpu/neon/layout.h"
#include "kernels/cpu/neon/vectors.h"

namespace qw::kernels::neon {
namespace {

// Eight values, one for each output of a panel.
using Eight = float32x4_t[2];

QW_INLINE uint8x16_t load_bytes(const char* p) { return vld1q_u8(reinterpret_cast<const std::uint8_t*>(p)); }
QW_INLINE void load_eight_halves(const char* p, Eight& to) {
  to[0] = load_halves(p);
  to[1] = load_halves(p + 8);
}
QW_INLINE void load_eight_floats(const char* p, Eight& to) {
  to[0] = vld1q_f32(reinterpret_cast<const float*>(p));
  to[1] = vld1q_f32(reinterpret_cast<const float*>(p + 16));
}
QW_INLINE void store_eight_floats(const Eight& from, char* p) {
  vst1q_f32(reinterpret_cast<float*>(p), from[0]);
  vst1q_f32(reinterpret_cast<float*>(p + 16), from[1]);
}
QW_INLINE void scaled(const Eight& d, int16x8_t factor, Eight& to) {
  to[0] = vmulq_f32(d[0], vcvtq_f32_s32(vmovl_s16(vget_low_s16(factor))));
  to[1] = vmulq_f32(d[1], vcvtq_f32_s32(vmovl_high_s16(factor)));
}

// 2^(e - 128), subnormal numbers included: power_scale of blocks.h.
QW_INLINE float32x4_t powers(uint32x4_t e) {
  const uint32x4_t normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
  const uint32x4_t small = vshlq_u32(vdupq_n_u32(0x00200000), vreinterpretq_s32_u32(e));
  return vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), small, normal));
}

// Blocks with their scales, and minima if kMin, as floats: what kGroups8 is, and what chunks of other types are opened
// to.
template <int kGroupsOfBlock, bool kHasMin>
struct FloatScaled {
  static constexpr int kGroups = kGroupsOfBlock, kBlocks = 1;
  static constexpr bool kMin = kHasMin, kBytes = true;
  static constexpr int kScaleBytes = kGroups * 32 * (kMin ? 2 : 1), kBlockBytes = 256;
  static constexpr int kUnitBytes = kScaleBytes + kBlockBytes;
  const char* unit;

  explicit QW_INLINE FloatScaled(const char* u) : unit(u) {}
  QW_INLINE void scales(int, int group, Eight& scale, Eight& min) const {
    load_eight_floats(unit + 32 * group, scale);
    if constexpr (kMin) load_eight_floats(unit + 32 * (kGroups + group), min);
  }
  QW_INLINE const char* block(int) const { return unit + kScaleBytes; }
  template <int kI, int kP>
  static QW_INLINE int8x16_t bytes(const char* block) {
    return vreinterpretq_s8_u8(load_bytes(block + 16 * (4 * kI + kP)));
  }
};

template <WeightType kType>
struct Packed {
  static constexpr Layout l = layout_of(kType);
  static constexpr BlockFormat f = l.format;
  static constexpr int kGroups = 32 / f.group, kBlocks = l.blocks;
  static constexpr bool kMin = f.has_min, kBytes = f.bits == 8;
  static constexpr int kUnitBytes = l.unit_bytes;
  // Registers hold so many times the level: the scale is divided by it, exactly.
  static constexpr int kFactor = kType == WeightType::kQ4_0 ? 16 : kType == WeightType::kQ6_K ? 4 : 1;
  const char* unit;
  Eight d, dmin;

  explicit QW_INLINE Packed(const char* u) : unit(u) {
    if constexpr (f.scale == ScaleKind::kSuper) {
      load_eight_halves(unit, d);
      for (float32x4_t& v : d) v = vmulq_n_f32(v, 1.0F / kFactor);
      if constexpr (kMin) load_eight_halves(unit + l.min_offset, dmin);
    }
  }

  QW_INLINE void scales(int block, int group, Eight& scale, Eight& min) const {
    if constexpr (l.float_scales) {
      load_eight_floats(unit + 32 * group, scale);
      load_eight_floats(unit + l.min_offset + 32 * group, min);
    } else if constexpr (f.scale == ScaleKind::kSuper) {
      const int at = static_cast<int>(kPanel) * (block * kGroups + group);
      const auto sub = vld1_u8(reinterpret_cast<const std::uint8_t*>(unit + l.sub_offset + at));
      if constexpr (kType == WeightType::kQ2_K) {
        scaled(d, vreinterpretq_s16_u16(vmovl_u8(vand_u8(sub, vdup_n_u8(15)))), scale);
        scaled(dmin, vreinterpretq_s16_u16(vmovl_u8(vshr_n_u8(sub, 4))), min);
      } else {
        scaled(d, vmovl_s8(vreinterpret_s8_u8(sub)), scale);
        if constexpr (kMin) {
          const auto sub_min = vld1_u8(reinterpret_cast<const std::uint8_t*>(unit + l.sub_min_offset + at));
          scaled(dmin, vreinterpretq_s16_u16(vmovl_u8(sub_min)), min);
        }
      }
    } else if constexpr (f.scale == ScaleKind::kPower) {
      const uint16x8_t e = vmovl_u8(vld1_u8(reinterpret_cast<const std::uint8_t*>(unit)));
      scale[0] = powers(vmovl_u16(vget_low_u16(e)));
      scale[1] = powers(vmovl_high_u16(e));
    } else {
      load_eight_halves(unit, scale);
      if constexpr (kFactor != 1) {
        for (float32x4_t& v : scale) v = vmulq_n_f32(v, 1.0F / kFactor);
      }
      if constexpr (kMin) {
        load_eight_halves(unit + l.min_offset, min);
        for (float32x4_t& v : min) v = vnegq_f32(v);
      }
    }
  }

  QW_INLINE const char* block(int b) const { return unit + l.scale_bytes + b * l.block_bytes; }

  // Register 4 kI + kP of a block: levels (times kFactor).
  template <int kI, int kP>
  static QW_INLINE int8x16_t bytes(const char* block) {
    constexpr int r = 4 * kI + kP;
    uint8x16_t q;
    if constexpr (f.bits == 8) {
      q = reg(block, r);
    } else if constexpr (kType == WeightType::kQ4_0) {  // signed nibbles, each in the upper half of its byte
      q = r < 8 ? vshlq_n_u8(reg(block, r % 8), 4) : vandq_u8(reg(block, r % 8), vdupq_n_u8(0xf0));
    } else if constexpr (kType == WeightType::kQ6_K) {  // six signed bits in the upper part of the byte
      const uint8x16_t low = r < 8 ? vshlq_n_u8(reg(block, r % 8), 2) : vshrq_n_u8(reg(block, r % 8), 2);
      q = vsliq_n_u8(vandq_u8(low, vdupq_n_u8(0x3c)), shifted_right<r % 4 * 2>(reg(block, 8 + r / 4)), 6);
    } else if constexpr (f.bits >= 4) {
      q = r < 8 ? vandq_u8(reg(block, r % 8), vdupq_n_u8(15)) : vshrq_n_u8(reg(block, r % 8), 4);
      if constexpr (f.bits == 5)
        q = vsliq_n_u8(q, vandq_u8(shifted_right<r % 8>(reg(block, 8 + r / 8)), vdupq_n_u8(1)), 4);
      if constexpr (f.table != nullptr) return vqtbl1q_s8(vld1q_s8(f.table), q);
    } else {
      q = vandq_u8(shifted_right<r / 4 * 2>(reg(block, r % 4)), vdupq_n_u8(3));
      if constexpr (f.bits == 3)
        q = vsliq_n_u8(q, vandq_u8(shifted_right<r % 8>(reg(block, 4 + r / 8)), vdupq_n_u8(1)), 2);
    }
    const int8x16_t levels = vreinterpretq_s8_u8(q);
    if constexpr (f.offset != 0 && stored_flip(kType) == 0) return vsubq_s8(levels, vdupq_n_s8(f.offset));
    return levels;
  }

 private:
  static QW_INLINE uint8x16_t reg(const char* block, int at) { return load_bytes(block + 16 * at); }
  template <int kBy>
  static QW_INLINE uint8x16_t shifted_right(uint8x16_t v) {
    if constexpr (kBy == 0)
      return v;
    else
      return vshrq_n_u8(v, kBy);
  }
};

template <WeightType kType>
using WeightsOf = std::conditional_t<kType == WeightType::kGroups8, FloatScaled<2, true>, Packed<kType>>;

// Chunks of a type with fewer than 8 bits, opened for products with many rows.
template <WeightType kType>
using OpenedOf = FloatScaled<Packed<kType>::kGroups, Packed<kType>::kMin>;

template <WeightType kType, int kR = 0>
QW_INLINE void open_registers(const char* block, char* to) {
  if constexpr (kR < 16) {
    vst1q_s8(reinterpret_cast<std::int8_t*>(to + 16 * kR), Packed<kType>::template bytes<kR / 4, kR % 4>(block));
    open_registers<kType, kR + 1>(block, to);
  }
}

template <WeightType kType>
void open_units(const char* unit, std::int64_t units, char* to) {
  using From = Packed<kType>;
  using To = OpenedOf<kType>;
  for (; units > 0; --units, unit += From::kUnitBytes) {
    const From from(unit);
    for (int b = 0; b < From::kBlocks; ++b, to += To::kUnitBytes) {
      for (int g = 0; g < From::kGroups; ++g) {
        Eight scale, min;
        from.scales(b, g, scale, min);
        store_eight_floats(scale, to + 32 * g);
        if constexpr (From::kMin) store_eight_floats(min, to + 32 * (From::kGroups + g));
      }
      open_registers<kType>(from.block(b), to + To::kScaleBytes);
    }
  }
}

}  // namespace
}  // namespace qw::kernels::neon
