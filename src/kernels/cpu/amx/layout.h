// How AMX keeps weights: panels of 32 outputs, cut along `in` into units; close to the file's bits per weight.
//
//   unit   [scales of 32 outputs][quants of output 0][quants of output 1]...
//
// A unit is 256 elements where 256 share a super-block's scale, else 128 (a short last one is padded with zeros).
//   scales   kSuper: half d[32], half dmin[32] if there are minima, then per group a byte of scale[32], a byte of min[32]
//            (Q2_K: one byte with both); kHalf: per group half[32], then the minima likewise; kPower: per group byte[32];
//            kGroups8 and kGroups4: per group float[32], then the minima likewise
//   quants   a word of 16 bits for each of 32 lanes, whose field i of 4 (or 2) bits belongs to block i of 32 elements of
//            the 128 (256); then what is left over: fifth and third bits as one word of 32 bits per block, or two more
//            bits in fields. Formats of 8 bits: bytes.
// In 2, 3 and 6 bit formats lane 2i holds element i of a block and lane 2i + 1 element 16 + i: see open.h.
#pragma once

#include <cstdint>

#include "kernels/internal/blocks.h"

namespace qw::kernels::amx {
namespace {

constexpr std::int64_t kPanel = 32;  // outputs

enum class Quants : std::uint8_t { kTable16, kTable32, kFields, kBytes };

struct Layout {
  BlockFormat format;
  Quants quants = Quants::kBytes;
  bool float_scales = false;
  int unit = 128, groups = 4, blocks = 4;             // elements, scales and blocks of 32 in a unit
  int min_offset = 0, sub_offset = 0, sub_min_offset = 0;  // in the scales
  int scale_bytes = 0, quant_bytes = 0, unit_bytes = 0;    // of 32 outputs, of one output, of the unit
  int low_bits = 4;                                   // bits of a field
  bool interleaved = false;
};

constexpr Layout layout_of(WeightType type) {
  Layout l;
  l.format = block_format(type);
  if (type == WeightType::kGroups8) l.format = {32, 48, 8, 16, ScaleKind::kHalf, true, 0, nullptr};
  if (type == WeightType::kGroups4) l.format = {32, 24, 4, 32, ScaleKind::kHalf, true, 0, nullptr};
  const BlockFormat& f = l.format;
  l.float_scales = type == WeightType::kGroups8 || type == WeightType::kGroups4;
  l.unit = f.scale == ScaleKind::kSuper ? 256 : 128;
  l.groups = l.unit / f.group;
  l.blocks = l.unit / 32;
  if (l.float_scales) {
    l.min_offset = l.groups * kPanel * 4;
    l.scale_bytes = 2 * l.min_offset;
  } else if (f.scale == ScaleKind::kSuper) {
    l.min_offset = 64;
    l.sub_offset = f.has_min ? 128 : 64;
    l.sub_min_offset = type == WeightType::kQ2_K ? l.sub_offset : l.sub_offset + l.groups * 32;
    l.scale_bytes = (f.has_min && type != WeightType::kQ2_K ? l.sub_min_offset : l.sub_offset) + l.groups * 32;
  } else {
    l.min_offset = l.groups * 64;
    l.scale_bytes = f.scale == ScaleKind::kPower ? l.groups * 32 : l.groups * 64 * (f.has_min ? 2 : 1);
  }
  l.quants = f.bits == 8 ? Quants::kBytes : f.bits == 4 ? Quants::kTable16 : f.bits == 5 ? Quants::kTable32 : Quants::kFields;
  l.interleaved = l.quants == Quants::kFields;
  l.low_bits = f.bits < 4 ? 2 : 4;
  l.quant_bytes = l.unit * f.bits / 8;
  l.unit_bytes = l.scale_bytes + static_cast<int>(kPanel) * l.quant_bytes;
  return l;
}

constexpr std::int64_t units_of(const Layout& l, std::int64_t in) { return ceil_div(in, l.unit); }

// Bytes of a panel; bfloat16 is kept as tiles: [step of 32][half][16 outputs][32].
constexpr std::int64_t panel_bytes_of(WeightType type, std::int64_t in) {
  if (type == WeightType::kBF16) return round_up(in, 32) * kPanel * 2;
  const Layout l = layout_of(type);
  return units_of(l, in) * l.unit_bytes;
}

// Element of a block that lane `lane` holds.
constexpr int element_of_lane(const Layout& l, int lane) { return l.interleaved ? lane / 2 + lane % 2 * 16 : lane; }

// ---- packing --------------------------------------------------------------------------------------------------------

template <class T>
inline void put(char* at, T value) {
  __builtin_memcpy(at, &value, sizeof(value));
}

// Fields of `bits` bits (q >> shift) of 16 / bits blocks of 32.
template <bool kInterleaved, int kBits>
inline void pack_fields(const std::uint8_t* q, int shift, char* to) {
  constexpr int kFields = 16 / kBits, kMask = (1 << kBits) - 1;
  std::uint16_t words[32];
  for (int j = 0; j < 32; ++j) {
    unsigned word = 0;
    for (int i = 0; i < kFields; ++i) word |= static_cast<unsigned>(q[32 * i + j] >> shift & kMask) << (kBits * i);
    words[kInterleaved ? (j < 16 ? 2 * j : 2 * (j - 16) + 1) : j] = static_cast<std::uint16_t>(word);
  }
  __builtin_memcpy(to, words, sizeof(words));
}

// One bit of every element of a block, as a mask of its lanes.
inline std::uint32_t pack_bits(const Layout& l, const std::uint8_t* q, int bit) {
  std::uint32_t mask = 0;
  for (int lane = 0; lane < 32; ++lane)
    mask |= static_cast<std::uint32_t>(q[element_of_lane(l, lane)] >> bit & 1) << lane;
  return mask;
}

template <WeightType kType>
inline void pack_quants(const std::uint8_t* q, char* to) {
  constexpr Layout l = layout_of(kType);
  if constexpr (l.quants == Quants::kBytes) {
    __builtin_memcpy(to, q, static_cast<std::size_t>(l.unit));
    return;
  }
  constexpr int kCovered = 16 / l.low_bits * 32;  // elements of 64 bytes of fields
  char* rest = to + l.unit * l.low_bits / 8;
  for (int i = 0; i < l.unit; i += kCovered)
    pack_fields<l.interleaved, l.low_bits>(q + i, 0, to + i * l.low_bits / 8);
  if constexpr (l.format.bits == 6) pack_fields<l.interleaved, 2>(q, 4, rest);
  if constexpr (l.format.bits == 5 || l.format.bits == 3) {
    for (int b = 0; b < l.blocks; ++b) put(rest + 4 * b, pack_bits(l, q + 32 * b, l.low_bits));
  }
}

template <WeightType kType>
inline void pack_scales(const OpenedBlock& b, std::int64_t o, char* unit) {
  constexpr Layout l = layout_of(kType);
  constexpr BlockFormat f = l.format;
  if constexpr (f.scale == ScaleKind::kSuper) {
    put(unit + 2 * o, b.d);
    if constexpr (f.has_min) put(unit + l.min_offset + 2 * o, b.dmin);
    for (int g = 0; g < l.groups; ++g) {
      if constexpr (kType == WeightType::kQ2_K) {
        put(unit + l.sub_offset + 32 * g + o, static_cast<std::uint8_t>(b.scale[g] | b.min[g] << 4));
      } else {
        put(unit + l.sub_offset + 32 * g + o, b.scale[g]);
        if constexpr (f.has_min) put(unit + l.sub_min_offset + 32 * g + o, b.min[g]);
      }
    }
  } else {
    for (int g = 0; g < l.groups; ++g) {
      if constexpr (f.scale == ScaleKind::kPower) {
        put(unit + 32 * g + o, b.scale[g]);
      } else {
        put(unit + 64 * g + 2 * o, b.half_scale[g]);
        if constexpr (f.has_min) put(unit + l.min_offset + 64 * g + 2 * o, b.half_min[g]);
      }
    }
  }
}

// Elements [0, count) of a unit of one row of kGroups8 or kGroups4.
template <WeightType kType>
inline void pack_groups(const std::uint8_t* row, int count, std::int64_t o, char* unit, std::uint8_t* q) {
  constexpr Layout l = layout_of(kType);
  for (int b = 0; b < count / 32; ++b, row += l.format.bytes) {
    constexpr int kPerBlock = 32 / l.format.group;
    for (int h = 0; h < kPerBlock; ++h) {
      __builtin_memcpy(unit + ((kPerBlock * b + h) * kPanel + o) * 4, row + 4 * h, 4);
      __builtin_memcpy(unit + l.min_offset + ((kPerBlock * b + h) * kPanel + o) * 4, row + 4 * (kPerBlock + h), 4);
    }
    if constexpr (kType == WeightType::kGroups8) {
      __builtin_memcpy(q + 32 * b, row + 16, 32);
    } else {
      opening::nibbles(row + 8, q + 32 * b);
    }
  }
}

template <WeightType kType>
void pack_panel(const std::uint8_t* rows, std::int64_t outputs, std::int64_t in, char* panel) {
  constexpr Layout l = layout_of(kType);
  const std::int64_t row_bytes = raw_row_bytes(kType, in);
  for (std::int64_t i = 0; i < in; i += l.unit, panel += l.unit_bytes) {
    const int count = static_cast<int>(in - i < l.unit ? in - i : l.unit);
    if (outputs < kPanel || count < l.unit) __builtin_memset(panel, 0, static_cast<std::size_t>(l.unit_bytes));
    for (std::int64_t o = 0; o < outputs; ++o) {
      const std::uint8_t* from = rows + o * row_bytes + i / l.format.elements * l.format.bytes;
      OpenedBlock b;
      if (count < l.unit) __builtin_memset(b.q, 0, sizeof(b.q));
      if constexpr (l.float_scales) {
        pack_groups<kType>(from, count, o, panel, b.q);
      } else {
        open_block(kType, from, count, b);
        pack_scales<kType>(b, o, panel);
      }
      pack_quants<kType>(b.q, panel + l.scale_bytes + o * l.quant_bytes);
    }
  }
}

// ---- reading back ---------------------------------------------------------------------------------------------------

// q of element i of the unit of one output, as packed from.
constexpr std::uint8_t quant_at(const Layout& l, const char* quants, int i) {
  const auto byte = [&](int at) { return static_cast<unsigned>(static_cast<std::uint8_t>(quants[at])); };
  if (l.quants == Quants::kBytes) return static_cast<std::uint8_t>(byte(i));
  const int covered = 16 / l.low_bits * 32, j = i % 32, block = i / 32;
  const int lane = l.interleaved ? (j < 16 ? 2 * j : 2 * (j - 16) + 1) : j;
  const auto field = [&](int first_byte, int bits, int within) {
    const int at = first_byte + 2 * lane;
    return (byte(at) | byte(at + 1) << 8) >> (bits * within) & ((1u << bits) - 1);
  };
  const int rest = l.unit * l.low_bits / 8;
  unsigned q = field(i / covered * 64, l.low_bits, block % (covered / 32));
  if (l.format.bits == 6) q |= field(rest, 2, block) << 4;
  if (l.format.bits == 5 || l.format.bits == 3) q |= (byte(rest + 4 * block + lane / 8) >> (lane % 8) & 1) << l.low_bits;
  return static_cast<std::uint8_t>(q);
}

}  // namespace
}  // namespace qw::kernels::amx
