// How the vector instruction sets keep block formats: in as many bits as the file does, a few scales aside, interleaved
// so that a register holds the same inputs of many outputs. Outputs come in panels of `granule`, inputs in units: the
// 256 that share a super-block's scale, or a block of 32. For G outputs of a panel:
//
//   unit    kSuper: half d[G], half dmin[G] if there are minima; then its blocks
//   block   scales [group of 16 or 32][G], minima likewise, quants. A scale is a half, a float, a power's exponent, or
//   the
//           byte that a super-block's scale is multiplied with; Q2_K has scale and min in one byte
//   quants  the low 4, 2 or 8 bits, then what is left, one or two bits. Each part consists of words of 4 bytes
//   [word][G]:
//           byte j of a word has the bits of the inputs j of several words of 4 inputs (word w: inputs 4w..4w+3),
//           4 bits: words w and w + 4 of the block;  2 bits: words 4w..4w+3;  1 bit: words 0..7
//
// so that a shift and a mask give four inputs of every output, as the byte products want them. Everything here has
// internal linkage and is compiled for the baseline CPU.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/internal/blocks.h"

namespace qw::kernels {
namespace {

struct Compact {
  BlockFormat format;
  bool float_scales = false;
  int groups = 1;  // of a block of 32
  int unit_blocks = 1;
  int low_bits = 8, high_bits = 0;
  // Bytes of one output:
  int head = 0;                // before a unit's blocks
  int minima = 0, quants = 0;  // where they begin in a block
  int block = 0;
};

constexpr Compact compact_of(WeightType type) {
  Compact c;
  c.format = block_format(type);
  c.float_scales = c.format.scale == ScaleKind::kFloat;
  const BlockFormat& f = c.format;
  c.groups = 32 / f.group;
  c.low_bits = f.bits == 8 ? 8 : f.bits >= 4 ? 4 : 2;
  c.high_bits = f.bits - c.low_bits;
  const int scale = c.float_scales ? 4 : f.scale == ScaleKind::kHalf ? 2 : 1;
  c.minima = c.groups * scale;
  c.quants = c.minima * (f.has_min && type != WeightType::kQ2_K ? 2 : 1);
  c.block = c.quants + 4 * f.bits;
  if (f.scale == ScaleKind::kSuper) {
    c.unit_blocks = 8;
    c.head = f.has_min ? 4 : 2;
  }
  return c;
}

// Of a panel; `in` is a multiple of the format's block.
constexpr std::int64_t compact_panel_bytes(const Compact& c, std::int64_t granule, std::int64_t in) {
  return in / kBlock / c.unit_blocks * (c.head + c.unit_blocks * c.block) * granule;
}
// Where block b of a panel begins.
constexpr std::int64_t compact_block_at(const Compact& c, std::int64_t granule, std::int64_t b) {
  return ((b / c.unit_blocks + 1) * c.head + b * c.block) * granule;
}
// And the head of its unit.
constexpr std::int64_t compact_head_at(const Compact& c, std::int64_t granule, std::int64_t b) {
  return compact_block_at(c, granule, b / c.unit_blocks * c.unit_blocks) - c.head * granule;
}
// A quant as it is multiplied, without its sign: level + this. See activation_kind.
constexpr std::uint8_t unsigned_level(const BlockFormat& f, std::uint8_t q, int offset) {
  return static_cast<std::uint8_t>(level_of(f, q) + offset);
}

// ---- packing --------------------------------------------------------------------------------------------------------

// The words of `kBits` bits (q >> shift) of a block's 32 quants: word w of four inputs stands in word w / n or, of four
// bits, w % 4 (see above).
template <int kBits>
inline void pack_words(const std::uint32_t (&q)[8], int shift, std::int64_t granule, char* to) {
  constexpr std::uint32_t kMask = 0x01010101u * ((1u << kBits) - 1u);
  for (int w = 0; w < kBits; ++w) {
    std::uint32_t word = 0;
    for (int i = 0; i < 8 / kBits; ++i) {
      const int from = kBits == 4 ? w + 4 * i : w * (8 / kBits) + i;
      word |= (q[from] >> shift & kMask) << (kBits * i);
    }
    std::memcpy(to + w * granule * 4, &word, 4);
  }
}

// flip: what is added to every byte of quants of 8 bits, modulo 256.
template <WeightType kType>
inline void pack_block_quants(const std::uint8_t* quants, std::uint8_t flip, std::int64_t granule, char* to) {
  constexpr Compact c = compact_of(kType);
  std::uint32_t q[8];
  std::memcpy(q, quants, sizeof(q));
  if constexpr (c.low_bits == 8) {
    for (int w = 0; w < 8; ++w) {
      const std::uint32_t word = q[w] ^ 0x01010101u * flip;  // 0 or the top bit
      std::memcpy(to + w * granule * 4, &word, 4);
    }
  } else {
    pack_words<c.low_bits>(q, 0, granule, to);
    if constexpr (c.high_bits > 0) pack_words<c.high_bits>(q, c.low_bits, granule, to + c.low_bits * granule * 4);
  }
}

// Block b of an opened piece of a row as the scales of output o.
template <WeightType kType>
inline void pack_block_scales(const OpenedBlock& opened, int b, std::int64_t granule, std::int64_t o, char* block) {
  constexpr Compact c = compact_of(kType);
  constexpr BlockFormat f = c.format;
  for (int g = 0; g < c.groups; ++g) {
    char *scale = block + g * c.minima / c.groups * granule,
         *min = block + (c.minima + g * c.minima / c.groups) * granule;
    if constexpr (f.scale == ScaleKind::kHalf) {
      std::memcpy(scale + 2 * o, &opened.half_scale[b], 2);
      if constexpr (f.has_min) std::memcpy(min + 2 * o, &opened.half_min[b], 2);
    } else if constexpr (kType == WeightType::kQ2_K) {
      scale[o] = static_cast<char>(opened.scale[2 * b + g] | opened.min[2 * b + g] << 4);
    } else if constexpr (c.float_scales) {
      std::memcpy(scale + 4 * o, &opened.float_scale[c.groups * b + g], 4);
      std::memcpy(min + 4 * o, &opened.float_min[c.groups * b + g], 4);
    } else {
      const int group = c.groups * b + g;
      scale[o] = static_cast<char>(opened.scale[group]);
      if constexpr (f.has_min) min[o] = static_cast<char>(opened.min[group]);
    }
  }
}

// One unit of output o, opened, into its place.
template <WeightType kType>
inline void pack_unit(const OpenedBlock& opened, std::uint8_t flip, std::int64_t granule, std::int64_t o, char* unit) {
  constexpr Compact c = compact_of(kType);
  if constexpr (c.format.scale == ScaleKind::kSuper) {
    std::memcpy(unit - c.head * granule + 2 * o, &opened.d, 2);
    if constexpr (c.format.has_min) std::memcpy(unit - 2 * granule + 2 * o, &opened.dmin, 2);
  }
  for (int b = 0; b < c.unit_blocks; ++b) {
    char* block = unit + b * c.block * granule;
    pack_block_scales<kType>(opened, b, granule, o, block);
    pack_block_quants<kType>(opened.q + 32 * b, flip, granule, block + c.quants * granule + o * 4);
  }
}

// Every byte of the panel is written where `outputs` is the granule.
template <WeightType kType>
void pack_compact_panel(const std::uint8_t* rows, std::int64_t outputs, std::int64_t in, std::int64_t granule,
                        std::uint8_t flip, char* panel) {
  constexpr Compact c = compact_of(kType);
  constexpr BlockFormat f = c.format;
  constexpr std::int64_t kUnit = 32 * c.unit_blocks;
  const std::int64_t row_bytes = raw_row_bytes(kType, in);
  OpenedBlock opened;
  for (std::int64_t i = 0; i < in; i += kUnit) {
    for (std::int64_t o = 0; o < outputs; ++o) {
      open_block(kType, rows + o * row_bytes + i / f.elements * f.bytes, kUnit, opened);
      pack_unit<kType>(opened, flip, granule, o, panel + compact_block_at(c, granule, i / 32));
    }
  }
}

// ---- reading back ---------------------------------------------------------------------------------------------------

template <int kBits>
inline void unpack_words(const char* from, std::int64_t granule, int shift, std::uint32_t (&q)[8]) {
  constexpr std::uint32_t kMask = 0x01010101u * ((1u << kBits) - 1u);
  for (int w = 0; w < kBits; ++w) {
    std::uint32_t word;
    std::memcpy(&word, from + w * granule * 4, 4);
    for (int i = 0; i < 8 / kBits; ++i)
      q[kBits == 4 ? w + 4 * i : w * (8 / kBits) + i] |= (word >> (kBits * i) & kMask) << shift;
  }
}

// Scale and min of group g of a block of output o.
template <WeightType kType>
inline void unpack_group(const char* block, const char* head, int g, std::int64_t granule, std::int64_t o, float& scale,
                         float& min) {
  constexpr Compact c = compact_of(kType);
  constexpr BlockFormat f = c.format;
  const auto half = [&](const char* p) {
    return half_to_float(opening::half_bits(reinterpret_cast<const std::uint8_t*>(p)));
  };
  const char *scales = block + g * c.minima / c.groups * granule, *minima = scales + c.minima * granule;
  min = 0;
  if constexpr (c.float_scales) {
    std::memcpy(&scale, scales + 4 * o, 4);
    std::memcpy(&min, minima + 4 * o, 4);
  } else if constexpr (f.scale == ScaleKind::kHalf) {
    scale = half(scales + 2 * o);
    if constexpr (f.has_min) min = -half(minima + 2 * o);
  } else if constexpr (f.scale == ScaleKind::kPower) {
    scale = power_scale(static_cast<std::uint8_t>(scales[o]));
  } else {
    const float d = half(head + 2 * o);
    const int byte = static_cast<std::int8_t>(scales[o]);
    scale = d * static_cast<float>(kType == WeightType::kQ2_K ? byte & 15 : byte);
    if constexpr (f.has_min) {
      const int sub = kType == WeightType::kQ2_K ? (byte & 255) >> 4 : static_cast<std::uint8_t>(minima[o]);
      min = half(head + 2 * granule + 2 * o) * static_cast<float>(sub);
    }
  }
}

template <WeightType kType>
void unpack_compact_row(const char* panel, std::int64_t in, std::int64_t granule, std::uint8_t flip, std::int64_t o,
                        float* y) {
  constexpr Compact c = compact_of(kType);
  for (std::int64_t b = 0; b < in / kBlock; ++b, y += kBlock) {
    const char* block = panel + compact_block_at(c, granule, b);
    const char* head = panel + compact_head_at(c, granule, b);
    std::uint32_t words[8] = {};
    const char* quants = block + c.quants * granule + o * 4;
    if constexpr (c.low_bits == 8) {
      for (int w = 0; w < 8; ++w) std::memcpy(&words[w], quants + w * granule * 4, 4);
    } else {
      unpack_words<c.low_bits>(quants, granule, 0, words);
      if constexpr (c.high_bits > 0)
        unpack_words<c.high_bits>(quants + c.low_bits * granule * 4, granule, c.low_bits, words);
    }
    std::uint8_t q[32];
    std::memcpy(q, words, sizeof(q));
    for (int g = 0; g < c.groups; ++g) {
      float scale, min;
      unpack_group<kType>(block, head, g, granule, o, scale, min);
      for (int j = g * c.format.group; j < (g + 1) * c.format.group; ++j) {
        const int level = level_of(c.format, c.low_bits == 8 ? static_cast<std::uint8_t>(q[j] ^ flip) : q[j]);
        const float product = scale * static_cast<float>(level);
        y[j] = c.format.has_min ? product - min : product;
      }
    }
  }
}

// Calls f with the block format as a constant.
template <class F>
inline void with_block_type(WeightType type, F&& f) {
  switch (type) {
#define QW_CASE(t)    \
  case WeightType::t: \
    return f.template operator()<WeightType::t>()
    QW_CASE(kQ8_0);
    QW_CASE(kQ4_0);
    QW_CASE(kGroups8);
    QW_CASE(kGroups4);
    QW_CASE(kQ4_1);
    QW_CASE(kQ5_0);
    QW_CASE(kQ5_1);
    QW_CASE(kQ2_K);
    QW_CASE(kQ3_K);
    QW_CASE(kQ4_K);
    QW_CASE(kQ5_K);
    QW_CASE(kQ6_K);
    QW_CASE(kIQ4_NL);
    QW_CASE(kIQ4_XS);
    QW_CASE(kMXFP4);
#undef QW_CASE
    default:
      return;
  }
}

}  // namespace
}  // namespace qw::kernels
