// The block formats of GGUF opened into integers: the one place of this room that knows how their bytes are cut
// (docs/formats/gguf.md). The tensor room states the same for files, and tests hold both to each other.
//
// Every format is w = scale[group] * level(q) - min[group] with groups of 16 or 32 elements. `level` is q - offset, or a
// table of sixteen; the group's scale is a half, or a half times a small integer, or a power of two.
#pragma once

#include <cstring>

#include "kernels/internal/scalar.h"

namespace qw::kernels {

enum class ScaleKind : std::uint8_t {
  kHalf,       // d per group (and a half as its min)
  kPower,      // 2^(e - 128) per group: MXFP4, whose levels are doubled
  kSuper,      // d (and dmin) of 256 elements times an integer of the group
  kFloat,      // a float per group (and one as its min): kGroups8, kGroups4
};

// Which table a format's levels come from. (A name, not a pointer: with the sanitizers GCC 12 takes no comparison of
// addresses for a constant.)
enum class Levels : std::uint8_t { kNone, kIq4, kMxfp4 };

struct BlockFormat {
  std::int16_t elements = 0, bytes = 0;  // of a block in the file; elements 0: not a block format opened here
  std::int8_t bits = 0;                  // of q
  std::int8_t group = 0;                 // elements that share a scale: 16 or 32
  ScaleKind scale = ScaleKind::kHalf;
  bool has_min = false;
  std::int8_t offset = 0;                // level = q - offset where there is no table
  Levels table = Levels::kNone;          // sixteen of them
};

inline constexpr std::int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr std::int8_t kMxfp4Levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

constexpr BlockFormat block_format(WeightType type) {
  switch (type) {
    case WeightType::kQ8_0: return {32, 34, 8, 32, ScaleKind::kHalf, false, 0, Levels::kNone};  // q as it is: signed
    case WeightType::kQ4_0: return {32, 18, 4, 32, ScaleKind::kHalf, false, 8, Levels::kNone};
    case WeightType::kGroups8: return {32, 48, 8, 16, ScaleKind::kFloat, true, 0, Levels::kNone};
    case WeightType::kGroups4: return {32, 24, 4, 32, ScaleKind::kFloat, true, 0, Levels::kNone};
    case WeightType::kQ4_1: return {32, 20, 4, 32, ScaleKind::kHalf, true, 0, Levels::kNone};
    case WeightType::kQ5_0: return {32, 22, 5, 32, ScaleKind::kHalf, false, 16, Levels::kNone};
    case WeightType::kQ5_1: return {32, 24, 5, 32, ScaleKind::kHalf, true, 0, Levels::kNone};
    case WeightType::kIQ4_NL: return {32, 18, 4, 32, ScaleKind::kHalf, false, 0, Levels::kIq4};
    case WeightType::kMXFP4: return {32, 17, 4, 32, ScaleKind::kPower, false, 0, Levels::kMxfp4};
    case WeightType::kQ2_K: return {256, 84, 2, 16, ScaleKind::kSuper, true, 0, Levels::kNone};
    case WeightType::kQ3_K: return {256, 110, 3, 16, ScaleKind::kSuper, false, 4, Levels::kNone};
    case WeightType::kQ4_K: return {256, 144, 4, 32, ScaleKind::kSuper, true, 0, Levels::kNone};
    case WeightType::kQ5_K: return {256, 176, 5, 32, ScaleKind::kSuper, true, 0, Levels::kNone};
    case WeightType::kQ6_K: return {256, 210, 6, 16, ScaleKind::kSuper, false, 32, Levels::kNone};
    case WeightType::kIQ4_XS: return {256, 136, 4, 32, ScaleKind::kSuper, false, 0, Levels::kIq4};
    default: return {};
  }
}

// How the products of bytes want activations for weights of a format: levels of tables are made unsigned by the next power
// of two above the lowest of them. Scales that are powers of two round activations with twice the error (in squares) of
// scales that fit exactly: next to what weights of up to four bits have lost that is little, and next to what those of
// five or more bits have, not. With sixteen steps from one power to the next it is a twentieth more, with eight a tenth.
constexpr ActivationKind activation_kind(WeightType type) {
  const BlockFormat f = block_format(type);
  const int offset = f.bits == 8 || f.table == Levels::kIq4 ? 128 : f.table == Levels::kMxfp4 ? 16 : f.offset;
  return {offset, f.group == 16, f.bits <= 4 ? 0 : f.group == 16 ? 3 : 4};
}

// The types whose activations are the same bytes: one of them for all.
constexpr WeightType prepared_as(WeightType type) {
  if (!is_quantised(type)) return type;
  const ActivationKind kind = activation_kind(type);
  switch (kind.offset) {
    case 0: return kind.halves ? WeightType::kQ2_K : kind.powers() ? WeightType::kQ4_K : WeightType::kQ5_K;
    case 4: return WeightType::kQ3_K;
    case 8: return WeightType::kQ4_0;
    case 16: return kind.powers() ? WeightType::kMXFP4 : WeightType::kQ5_0;
    case 32: return WeightType::kQ6_K;
    default: return kind.halves ? WeightType::kGroups8 : kind.powers() ? WeightType::kIQ4_XS : WeightType::kQ8_0;
  }
}

// Up to 256 elements of one row: the quants without their offset, and what their scales are made of.
struct OpenedBlock {
  std::uint8_t q[256];
  std::uint16_t d = 0, dmin = 0;                       // kSuper
  std::uint16_t half_scale[8] = {}, half_min[8] = {};  // kHalf, per 32: w = scale * level + min, as files have it
  float float_scale[16] = {}, float_min[16] = {};      // kFloat, per group
  std::int8_t scale[16] = {};                          // kSuper per group, and kPower (as unsigned bytes) per 32
  std::uint8_t min[16] = {};
};

namespace opening {

inline std::uint16_t half_bits(const std::uint8_t* p) {
  std::uint16_t h;
  std::memcpy(&h, p, 2);
  return h;
}

inline void nibbles(const std::uint8_t* from, std::uint8_t* q) {
  for (int j = 0; j < 16; ++j) {
    q[j] = from[j] & 15;
    q[j + 16] = static_cast<std::uint8_t>(from[j] >> 4);
  }
}

inline void fifth_bits(const std::uint8_t* from, std::uint8_t* q) {
  for (int j = 0; j < 32; ++j) q[j] = static_cast<std::uint8_t>(q[j] | (from[j / 8] >> (j % 8) & 1) << 4);
}

// One block of 32 elements into place i of `out`.
inline void small_block(WeightType type, const std::uint8_t* b, int i, OpenedBlock& out) {
  std::uint8_t* q = out.q + 32 * i;
  switch (type) {
    case WeightType::kQ8_0:
      out.half_scale[i] = half_bits(b);
      std::memcpy(q, b + 2, 32);
      return;
    case WeightType::kQ4_0:
    case WeightType::kIQ4_NL:
      out.half_scale[i] = half_bits(b);
      return nibbles(b + 2, q);
    case WeightType::kGroups8:
      std::memcpy(&out.float_scale[2 * i], b, 8);
      std::memcpy(&out.float_min[2 * i], b + 8, 8);
      std::memcpy(q, b + 16, 32);
      return;
    case WeightType::kGroups4:
      std::memcpy(&out.float_scale[i], b, 4);
      std::memcpy(&out.float_min[i], b + 4, 4);
      return nibbles(b + 8, q);
    case WeightType::kQ4_1:
      out.half_scale[i] = half_bits(b);
      out.half_min[i] = half_bits(b + 2);
      return nibbles(b + 4, q);
    case WeightType::kQ5_0:
      out.half_scale[i] = half_bits(b);
      nibbles(b + 6, q);
      return fifth_bits(b + 2, q);
    case WeightType::kQ5_1:
      out.half_scale[i] = half_bits(b);
      out.half_min[i] = half_bits(b + 2);
      nibbles(b + 8, q);
      return fifth_bits(b + 4, q);
    case WeightType::kMXFP4:
      out.scale[i] = static_cast<std::int8_t>(b[0]);
      return nibbles(b + 1, q);
    default: return;
  }
}

// Q4_K and Q5_K: d, dmin, twelve bytes of scales and minima, (32 of fifth bits,) 128 of nibbles.
inline void q45_k(const std::uint8_t* b, bool five, OpenedBlock& out) {
  out.d = half_bits(b);
  out.dmin = half_bits(b + 2);
  const std::uint8_t* s = b + 4;
  for (int j = 0; j < 4; ++j) {
    out.scale[j] = static_cast<std::int8_t>(s[j] & 63);
    out.min[j] = s[j + 4] & 63;
    out.scale[j + 4] = static_cast<std::int8_t>((s[j + 8] & 15) | s[j] >> 6 << 4);
    out.min[j + 4] = static_cast<std::uint8_t>(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
  }
  const std::uint8_t* q = b + (five ? 48 : 16);
  for (int j = 0; j < 4; ++j, q += 32) {
    for (int l = 0; l < 32; ++l) {
      out.q[64 * j + l] = q[l] & 15;
      out.q[64 * j + 32 + l] = static_cast<std::uint8_t>(q[l] >> 4);
    }
  }
  if (!five) return;
  for (int j = 0; j < 8; ++j) {
    for (int l = 0; l < 32; ++l) out.q[32 * j + l] = static_cast<std::uint8_t>(out.q[32 * j + l] | (b[16 + l] >> j & 1) << 4);
  }
}

// Low four bits [128], high two [64], scales [16], d: 32 elements at a time share a byte's place.
inline void q6_k(const std::uint8_t* b, OpenedBlock& out) {
  out.d = half_bits(b + 208);
  std::memcpy(out.scale, b + 192, 16);
  for (int t = 0; t < 8; ++t) {
    const std::uint8_t *low = b + t / 4 * 64 + t % 2 * 32, *high = b + 128 + t / 4 * 32;
    for (int l = 0; l < 32; ++l) {
      out.q[32 * t + l] =
          static_cast<std::uint8_t>((low[l] >> (t % 4 / 2 * 4) & 15) | (high[l] >> (t % 4 * 2) & 3) << 4);
    }
  }
}

// Scales with minima [16], two bits [64], d, dmin.
inline void q2_k(const std::uint8_t* b, OpenedBlock& out) {
  out.d = half_bits(b + 80);
  out.dmin = half_bits(b + 82);
  for (int j = 0; j < 16; ++j) {
    out.scale[j] = static_cast<std::int8_t>(b[j] & 15);
    out.min[j] = static_cast<std::uint8_t>(b[j] >> 4);
  }
  for (int t = 0; t < 8; ++t) {
    for (int l = 0; l < 32; ++l) out.q[32 * t + l] = b[16 + t / 4 * 32 + l] >> (t % 4 * 2) & 3;
  }
}

// Third bits [32], two bits [64], scales [12] of six bits less 32, d.
inline void q3_k(const std::uint8_t* b, OpenedBlock& out) {
  out.d = half_bits(b + 108);
  const std::uint8_t* s = b + 96;
  for (int j = 0; j < 16; ++j) {
    out.scale[j] =
        static_cast<std::int8_t>(((s[j % 8] >> (j / 8 * 4) & 15) | (s[8 + j % 4] >> (j / 4 * 2) & 3) << 4) - 32);
  }
  for (int t = 0; t < 8; ++t) {
    for (int l = 0; l < 32; ++l) {
      out.q[32 * t + l] =
          static_cast<std::uint8_t>((b[32 + t / 4 * 32 + l] >> (t % 4 * 2) & 3) | (b[l] >> t & 1) << 2);
    }
  }
}

// d, high scale bits, low ones [4], nibbles [128]: eight blocks of 32, scales of six bits less 32.
inline void iq4_xs(const std::uint8_t* b, OpenedBlock& out) {
  out.d = half_bits(b);
  const int high = b[2] | b[3] << 8;
  for (int t = 0; t < 8; ++t) {
    out.scale[t] = static_cast<std::int8_t>(((b[4 + t / 2] >> (t % 2 * 4) & 15) | (high >> (2 * t) & 3) << 4) - 32);
    nibbles(b + 8 + 16 * t, out.q + 32 * t);
  }
}

}  // namespace opening

// Opens `count` elements (a multiple of the format's block, at most 256) of a row from `block` on.
inline void open_block(WeightType type, const std::uint8_t* block, int count, OpenedBlock& out) {
  switch (type) {
    case WeightType::kQ2_K: return opening::q2_k(block, out);
    case WeightType::kQ3_K: return opening::q3_k(block, out);
    case WeightType::kQ4_K: return opening::q45_k(block, false, out);
    case WeightType::kQ5_K: return opening::q45_k(block, true, out);
    case WeightType::kQ6_K: return opening::q6_k(block, out);
    case WeightType::kIQ4_XS: return opening::iq4_xs(block, out);
    default: break;
  }
  const int bytes = block_format(type).bytes;
  for (int i = 0; i < count / 32; ++i, block += bytes) opening::small_block(type, block, i, out);
}

// 2^(e - 128), subnormal numbers included.
inline float power_scale(std::uint8_t e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<std::uint32_t>(e - 1) << 23);
}

// The scale and min of the group that holds element j of an opened block, w = scale * level - min. Products of a half
// and a small integer fit a float32 without rounding.
inline float group_scale(const BlockFormat& f, const OpenedBlock& b, int j) {
  switch (f.scale) {
    case ScaleKind::kHalf: return half_to_float(b.half_scale[j / 32]);
    case ScaleKind::kPower: return power_scale(static_cast<std::uint8_t>(b.scale[j / 32]));
    case ScaleKind::kSuper: return half_to_float(b.d) * static_cast<float>(b.scale[j / f.group]);
    case ScaleKind::kFloat: return b.float_scale[j / f.group];
  }
  return 0;
}
inline float group_min(const BlockFormat& f, const OpenedBlock& b, int j) {
  if (!f.has_min) return 0;
  return f.scale == ScaleKind::kHalf    ? -half_to_float(b.half_min[j / 32])
         : f.scale == ScaleKind::kFloat ? b.float_min[j / f.group]
                                        : half_to_float(b.dmin) * static_cast<float>(b.min[j / f.group]);
}
constexpr int level_of(const BlockFormat& f, std::uint8_t q) {
  if (f.bits == 8) return static_cast<std::int8_t>(q);
  if (f.table == Levels::kIq4) return kIq4Levels[q];
  return f.table == Levels::kMxfp4 ? kMxfp4Levels[q] : q - f.offset;
}

// A group of 16 elements of any format with its own scale and min: w[j] = scale * q[j] - min.
struct Group16 {
  float scale, min;
  std::int8_t q[16];
};

// Opens `count` elements, at most 256.
inline void open_groups(WeightType type, const std::uint8_t* block, int count, Group16* to) {
  const BlockFormat f = block_format(type);
  OpenedBlock b;
  open_block(type, block, count, b);
  for (int i = 0; i < count / 16; ++i) {
    to[i].scale = group_scale(f, b, 16 * i);
    to[i].min = group_min(f, b, 16 * i);
    for (int j = 0; j < 16; ++j) to[i].q[j] = static_cast<std::int8_t>(level_of(f, b.q[16 * i + j]));
  }
}

}  // namespace qw::kernels
