// How NEON keeps quantised weights: panels of 8 outputs, cut along `in` into units of 32 elements, or of 256 where 256
// share a super-block's scale; as many bits a weight as the file has (Q4_K and Q5_K 1/8 more, IQ4_XS 1/16).
//
//   unit    [scales][quants of block 0][quants of block 1]...      a block: 32 elements of all 8 outputs
//   scales  kHalf: half[8], then half[8] of minima; kPower: byte[8]; kGroups8 and kGroups4: float[8] per group, then
//   the
//           minima likewise; kSuper: half d[8], half dmin[8] if there are minima, byte[8] of scale per group, byte[8]
//           of min per group (Q2_K: one byte with both)
//   quants  sixteen registers of bytes; register 4 i + p holds elements 8 i .. 8 i + 7 of output 2 p, then those of
//           output 2 p + 1. That is what SMMLA takes, and what SDOT and widening products read as easily. Fewer bits:
//             4 bits  eight registers: r in the lower nibbles, r + 8 in the upper ones
//             5 bits  the same, then two of fifth bits: bit r % 8 of register r / 8
//             6 bits  the same as 4, then four of two bits: field r % 4 of register r / 4
//             2 bits  four registers: field r / 4 of register r % 4
//             3 bits  the same, then two of third bits as of fifth ones
//           Where this costs nothing, an offset is taken away by the sign of what is stored (stored_flip).
#pragma once

#include <cstdint>

#include "kernels/internal/blocks.h"

namespace qw::kernels::neon {
namespace {

constexpr std::int64_t kPanel = 8;  // outputs

struct Layout {
  BlockFormat format;
  bool float_scales = false;
  int unit = 32, blocks = 1, groups = 1;  // elements, blocks of 32 and groups of a unit
  int min_offset = 0, sub_offset = 0, sub_min_offset = 0, scale_bytes = 0;
  int block_bytes = 0, unit_bytes = 0;
};

constexpr Layout layout_of(WeightType type) {
  Layout l;
  l.format = block_format(type);
  if (type == WeightType::kGroups8) l.format = {32, 48, 8, 16, ScaleKind::kHalf, true, 0, nullptr};
  if (type == WeightType::kGroups4) l.format = {32, 24, 4, 32, ScaleKind::kHalf, true, 0, nullptr};
  const BlockFormat& f = l.format;
  constexpr int kOutputs = static_cast<int>(kPanel);
  l.float_scales = type == WeightType::kGroups8 || type == WeightType::kGroups4;
  l.unit = f.scale == ScaleKind::kSuper ? 256 : 32;
  l.blocks = l.unit / 32;
  l.groups = l.unit / f.group;
  if (f.scale == ScaleKind::kSuper) {
    const bool both_in_a_byte = type == WeightType::kQ2_K;
    l.min_offset = 2 * kOutputs;
    l.sub_offset = f.has_min ? 4 * kOutputs : 2 * kOutputs;
    l.sub_min_offset = both_in_a_byte ? l.sub_offset : l.sub_offset + l.groups * kOutputs;
    l.scale_bytes = (f.has_min ? l.sub_min_offset : l.sub_offset) + l.groups * kOutputs;
  } else {
    l.min_offset = l.groups * kOutputs * (l.float_scales ? 4 : f.scale == ScaleKind::kPower ? 1 : 2);
    l.scale_bytes = l.min_offset * (f.has_min ? 2 : 1);
  }
  l.block_bytes = static_cast<int>(kPanel) * 32 * f.bits / 8;
  l.unit_bytes = l.scale_bytes + l.blocks * l.block_bytes;
  return l;
}

// q is stored with these bits turned: then the sign of the stored number takes the offset away.
constexpr std::uint8_t stored_flip(WeightType type) {
  return type == WeightType::kQ4_0 ? 8 : type == WeightType::kQ6_K ? 32 : 0;
}

constexpr std::int64_t panel_bytes_of(WeightType type, std::int64_t in) {
  const Layout l = layout_of(type);
  return in / l.unit * l.unit_bytes;
}

// ---- eight elements of one output at a time, as the bytes of a word
// ----------------------------------------------------

constexpr std::uint64_t every_byte(std::uint64_t b) { return b * 0x0101010101010101u; }

inline std::uint64_t load_word(const void* p) {
  std::uint64_t w;
  __builtin_memcpy(&w, p, 8);
  return w;
}
template <class T>
inline void put(char* at, T value) {
  __builtin_memcpy(at, &value, sizeof(value));
}
inline void add_bits(char* at, std::uint64_t bits) { put(at, load_word(at) | bits); }

// Elements 8 i .. 8 i + 7 of output o into a block that began as zeros.
template <int kBits>
inline void put_eight(char* block, int i, int o, std::uint64_t q) {
  const int r = 4 * i + o / 2, lanes = o % 2 * 8;
  const auto reg = [&](int at) { return block + at * 16 + lanes; };
  if constexpr (kBits == 8) {
    put(reg(r), q);
  } else if constexpr (kBits >= 4) {
    add_bits(reg(r % 8), (q & every_byte(15)) << (r / 8 * 4));
    if constexpr (kBits == 5) add_bits(reg(8 + r / 8), (q >> 4 & every_byte(1)) << (r % 8));
    if constexpr (kBits == 6) add_bits(reg(8 + r / 4), (q >> 4 & every_byte(3)) << (r % 4 * 2));
  } else {
    add_bits(reg(r % 4), (q & every_byte(3)) << (r / 4 * 2));
    if constexpr (kBits == 3) add_bits(reg(4 + r / 8), (q >> 2 & every_byte(1)) << (r % 8));
  }
}

template <int kBits>
inline std::uint64_t get_eight(const char* block, int i, int o) {
  const int r = 4 * i + o / 2, lanes = o % 2 * 8;
  const auto reg = [&](int at) { return load_word(block + at * 16 + lanes); };
  if constexpr (kBits == 8) {
    return reg(r);
  } else if constexpr (kBits >= 4) {
    std::uint64_t q = reg(r % 8) >> (r / 8 * 4) & every_byte(15);
    if constexpr (kBits == 5) q |= (reg(8 + r / 8) >> (r % 8) & every_byte(1)) << 4;
    if constexpr (kBits == 6) q |= (reg(8 + r / 4) >> (r % 4 * 2) & every_byte(3)) << 4;
    return q;
  } else {
    std::uint64_t q = reg(r % 4) >> (r / 4 * 2) & every_byte(3);
    if constexpr (kBits == 3) q |= (reg(4 + r / 8) >> (r % 8) & every_byte(1)) << 2;
    return q;
  }
}

// ---- packing
// -----------------------------------------------------------------------------------------------------------

template <WeightType kType>
inline void put_scales(const OpenedBlock& b, int o, char* unit) {
  constexpr Layout l = layout_of(kType);
  constexpr BlockFormat f = l.format;
  if constexpr (f.scale == ScaleKind::kSuper) {
    put(unit + 2 * o, b.d);
    if constexpr (f.has_min) put(unit + l.min_offset + 2 * o, b.dmin);
    for (int g = 0; g < l.groups; ++g) {
      if constexpr (kType == WeightType::kQ2_K) {
        put(unit + l.sub_offset + kPanel * g + o, static_cast<std::uint8_t>(b.scale[g] | b.min[g] << 4));
      } else {
        put(unit + l.sub_offset + kPanel * g + o, b.scale[g]);
        if constexpr (f.has_min) put(unit + l.sub_min_offset + kPanel * g + o, b.min[g]);
      }
    }
  } else if constexpr (f.scale == ScaleKind::kPower) {
    put(unit + o, b.scale[0]);
  } else {
    put(unit + 2 * o, b.half_scale[0]);
    if constexpr (f.has_min) put(unit + l.min_offset + 2 * o, b.half_min[0]);
  }
}

// One unit of one row of kGroups8 or kGroups4.
template <WeightType kType>
inline void put_float_groups(const std::uint8_t* raw, int o, char* unit, std::uint8_t* q) {
  constexpr Layout l = layout_of(kType);
  for (int g = 0; g < l.groups; ++g) {
    __builtin_memcpy(unit + (kPanel * g + o) * 4, raw + 4 * g, 4);
    __builtin_memcpy(unit + l.min_offset + (kPanel * g + o) * 4, raw + 4 * (l.groups + g), 4);
  }
  if constexpr (kType == WeightType::kGroups8) {
    __builtin_memcpy(q, raw + 16, 32);
  } else {
    opening::nibbles(raw + 8, q);
  }
}

template <WeightType kType>
void pack_panel(const std::uint8_t* rows, std::int64_t outputs, std::int64_t in, char* panel) {
  constexpr Layout l = layout_of(kType);
  const std::int64_t row_bytes = raw_row_bytes(kType, in);
  for (std::int64_t i = 0; i < in; i += l.unit, panel += l.unit_bytes) {
    __builtin_memset(panel, 0, static_cast<std::size_t>(l.unit_bytes));
    for (int o = 0; o < static_cast<int>(outputs); ++o) {
      const std::uint8_t* raw = rows + o * row_bytes + i / l.format.elements * l.format.bytes;
      OpenedBlock b;
      if constexpr (l.float_scales) {
        put_float_groups<kType>(raw, o, panel, b.q);
      } else {
        open_block(kType, raw, l.unit, b);
        put_scales<kType>(b, o, panel);
      }
      for (int e = 0; e < l.unit; e += 8)
        put_eight<l.format.bits>(panel + l.scale_bytes + e / 32 * l.block_bytes, e % 32 / 8, o,
                                 load_word(b.q + e) ^ every_byte(stored_flip(kType)));
    }
  }
}

// Scale and min of the group that holds element j of a unit, as group_scale and group_min of blocks.h.
template <WeightType kType>
inline void get_scales(const char* unit, int j, int o, float& scale, float& min) {
  constexpr Layout l = layout_of(kType);
  constexpr BlockFormat f = l.format;
  const int g = j / f.group;
  min = 0;
  if constexpr (l.float_scales) {
    __builtin_memcpy(&scale, unit + (kPanel * g + o) * 4, 4);
    __builtin_memcpy(&min, unit + l.min_offset + (kPanel * g + o) * 4, 4);
  } else {
    OpenedBlock b;
    const auto half = [&](int at) {
      return opening::half_bits(reinterpret_cast<const std::uint8_t*>(unit) + at + 2 * o);
    };
    const auto byte = [&](int at) { return static_cast<std::uint8_t>(unit[at + kPanel * g + o]); };
    if constexpr (f.scale == ScaleKind::kSuper) {
      b.d = half(0);
      if constexpr (f.has_min) b.dmin = half(l.min_offset);
      const std::uint8_t sub = byte(l.sub_offset);
      b.scale[g] = static_cast<std::int8_t>(kType == WeightType::kQ2_K ? sub & 15 : sub);
      if constexpr (f.has_min)
        b.min[g] = kType == WeightType::kQ2_K ? static_cast<std::uint8_t>(sub >> 4) : byte(l.sub_min_offset);
    } else if constexpr (f.scale == ScaleKind::kPower) {
      b.scale[0] = static_cast<std::int8_t>(byte(0));
    } else {
      b.half_scale[0] = half(0);
      if constexpr (f.has_min) b.half_min[0] = half(l.min_offset);
    }
    scale = group_scale(f, b, j);
    min = group_min(f, b, j);
  }
}

template <WeightType kType>
void unpack_panel_row(const char* panel, std::int64_t in, int o, float* y) {
  constexpr Layout l = layout_of(kType);
  for (std::int64_t i = 0; i < in; i += l.unit, panel += l.unit_bytes) {
    for (int j = 0; j < l.unit; j += 8) {
      const char* block = panel + l.scale_bytes + j / 32 * l.block_bytes;
      const std::uint64_t q = get_eight<l.format.bits>(block, j % 32 / 8, o) ^ every_byte(stored_flip(kType));
      float scale, min;
      get_scales<kType>(panel, j, o, scale, min);
      for (int k = 0; k < 8; ++k) {
        const float product = scale * static_cast<float>(level_of(l.format, static_cast<std::uint8_t>(q >> (8 * k))));
        y[i + j + k] = l.format.has_min ? product - min : product;
      }
    }
  }
}

}  // namespace
}  // namespace qw::kernels::neon
