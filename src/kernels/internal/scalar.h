// Scalar number formats and block layouts, as the kernels read and write them. The byte layouts are those of GGUF/ggml
// (docs/formats/gguf.md); the tensor room states the same, and the room's test holds both to each other's bytes.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/kernels.h"

namespace qw::kernels {

inline constexpr std::int64_t kBlock = 32;  // elements of a Q8_0 or Q4_0 block, along `in`

struct RawQ8 {  // y[j] = d * q[j]
  std::uint16_t d;
  std::int8_t q[32];
};
static_assert(sizeof(RawQ8) == 34);

struct RawQ4 {  // y[j] = d * (lo(q[j]) - 8), y[j + 16] = d * (hi(q[j]) - 8)
  std::uint16_t d;
  std::uint8_t q[16];
};
static_assert(sizeof(RawQ4) == 18);

struct RawGroups8 {  // w[j] = scale[j / 16] * q[j] - min[j / 16]
  float scale[2];
  float min[2];
  std::int8_t q[32];
};
static_assert(sizeof(RawGroups8) == 48);

struct RawGroups4 {  // w[j] = scale * lo(q[j]) - min, w[j + 16] = scale * hi(q[j]) - min
  float scale, min;
  std::uint8_t q[16];
};
static_assert(sizeof(RawGroups4) == 24);

// Activations of a quantised product: x[j] ~ d * q[j]. `correction` undoes the offset that makes the levels of weights
// unsigned, -offset * sum(q) over a group; instruction sets that multiply signed bytes do not read it. `sum` is what minima are
// multiplied with, d * sum(q). Groups of 32 have one of each, the first; groups of 16 have two.
struct ActivationBlock {
  std::int8_t q[32];
  float d;
  float sum[2];
  std::int32_t correction[2];
};
static_assert(sizeof(ActivationBlock) == 52);

struct ActivationKind {
  int offset;     // of the levels
  bool halves;    // groups of 16
  int step_bits;  // scales have so many bits behind their leading one: 2^step_bits steps from a power of two to the next

  constexpr bool powers() const { return step_bits == 0; }
  // Whether some of these weights have minima that go with the sums of a whole unit (kUnitSteps).
  constexpr bool has_units() const { return powers() && !halves && offset == 0; }
};

inline constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
inline constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

constexpr bool is_quantised(WeightType type) { return type >= WeightType::kQ8_0; }

// Bytes of one row of `in` elements as the caller hands it to Kernels::pack.
inline std::int64_t raw_row_bytes(WeightType type, std::int64_t in) {
  switch (type) {
    case WeightType::kF32: return in * 4;
    case WeightType::kF16:
    case WeightType::kBF16: return in * 2;
    case WeightType::kQ8_0: return in / kBlock * static_cast<std::int64_t>(sizeof(RawQ8));
    case WeightType::kQ4_0: return in / kBlock * static_cast<std::int64_t>(sizeof(RawQ4));
    case WeightType::kGroups8: return in / kBlock * static_cast<std::int64_t>(sizeof(RawGroups8));
    case WeightType::kGroups4: return in / kBlock * static_cast<std::int64_t>(sizeof(RawGroups4));
    case WeightType::kQ4_1: return in / 32 * 20;
    case WeightType::kQ5_0: return in / 32 * 22;
    case WeightType::kQ5_1: return in / 32 * 24;
    case WeightType::kIQ4_NL: return in / 32 * 18;
    case WeightType::kMXFP4: return in / 32 * 17;
    case WeightType::kQ2_K: return in / 256 * 84;
    case WeightType::kQ3_K: return in / 256 * 110;
    case WeightType::kQ4_K: return in / 256 * 144;
    case WeightType::kQ5_K: return in / 256 * 176;
    case WeightType::kQ6_K: return in / 256 * 210;
    case WeightType::kIQ4_XS: return in / 256 * 136;
  }
  return 0;
}

inline float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16, rest = h & 0x7fffu;
  if (rest >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  if (rest >= 0x400u) return std::bit_cast<float>(sign | ((rest << 13) + (112u << 23)));
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(rest) * 0x1p-24f));
}

inline float bfloat_to_float(std::uint16_t h) { return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16); }

// Rounds to nearest even; a NaN stays a (quiet) NaN.
inline std::uint16_t float_to_bfloat(float f) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(u >> 16 | 0x40u);
  return static_cast<std::uint16_t>((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

inline float round_to_bfloat(float f) { return bfloat_to_float(float_to_bfloat(f)); }

// A block counts as zero below this: the reciprocal of its scale could overflow.
inline constexpr float kSmallestActivation = 1e-30f;

// And from here on as not finite: a scale's power of two is multiplied with 2^24 (anchor_of).
inline constexpr float kEndlessActivation = 1e30f;

// What a float's bits lose to be a scale of a kind, once they are rounded up.
constexpr std::uint32_t below_step(ActivationKind kind) { return (1u << (23 - kind.step_bits)) - 1; }

// The scale of a block whose largest magnitude is `amax`: the next one that is not too small.
inline float activation_scale(ActivationKind kind, float amax) {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(amax / 127.0f) + below_step(kind)) & ~below_step(kind));
}

// A block of zeros; or, where a value is not finite, one that shows the damage in the output instead of losing it.
inline ActivationBlock empty_block(bool finite) {
  ActivationBlock block{};
  block.d = finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  if (!finite) block.sum[0] = block.sum[1] = block.d;
  return block;
}

// Fills in what goes with the quants of a block, whose halves sum to `low` and `high`.
inline void set_sums(ActivationKind kind, std::int32_t low, std::int32_t high, ActivationBlock& out) {
  const std::int32_t first = kind.halves ? low : low + high, second = kind.halves ? high : 0;
  out.sum[0] = out.d * static_cast<float>(first);
  out.sum[1] = out.d * static_cast<float>(second);
  out.correction[0] = -kind.offset * first;
  out.correction[1] = -kind.offset * second;
}

// Quantises 32 activations as GGML's Q8_0 does, but with a float32 scale of few bits, and rounding half to even (what the
// vector instructions do, so that every instruction set makes the same bytes).
inline void quantise_activations(const float* x, ActivationKind kind, ActivationBlock& out) {
  float amax = 0;
  bool finite = true;
  for (int j = 0; j < 32; ++j) {
    const float a = std::fabs(x[j]);
    finite = finite && a < kEndlessActivation;
    amax = a > amax ? a : amax;
  }
  if (!finite || amax < kSmallestActivation) {
    out = empty_block(finite);
    return;
  }
  out.d = activation_scale(kind, amax);
  const float inverse = 1.0f / out.d;
  std::int32_t sum[2] = {};
  for (int j = 0; j < 32; ++j) {
    out.q[j] = static_cast<std::int8_t>(std::lrint(x[j] * inverse));
    sum[j / 16] += out.q[j];
  }
  set_sums(kind, sum[0], sum[1], out);
}

// ---- how AVX-512 keeps blocks ---------------------------------------------------------------------------------------

// Integer sums begin at the bits of this float, whose last place is worth a power of two. Read as a float they are it
// and that times the sum, exactly while |sum| < 2^22; so one subtraction converts and scales them. Zen 4 subtracts by
// two pipes, and multiplies by two others, which VPDPBUSD needs.
inline float anchor_of(float power) { return 0x1.8p23f * power; }

// Where in an anchor's last places the step of its scale stands, which is subtracted with it: alone in the lowest byte,
// and so that a byte times eight is the way to a step's 32 floats.
inline constexpr int kStepBit = 4;

// d becomes the anchor of its power of two with its step, and the correction what sums begin with.
inline void anchor(ActivationKind kind, ActivationBlock& block) {
  const std::uint32_t d = std::bit_cast<std::uint32_t>(block.d);
  const std::uint32_t step = d >> (23 - kind.step_bits) & ((1u << kind.step_bits) - 1);
  const float power = block.d == block.d ? std::bit_cast<float>(d & 0x7f800000u) : block.d;
  block.d = std::bit_cast<float>(std::bit_cast<std::uint32_t>(anchor_of(power)) + (step << kStepBit));
  for (std::int32_t& correction : block.correction)
    correction =
        static_cast<std::int32_t>(static_cast<std::uint32_t>(correction) + std::bit_cast<std::uint32_t>(block.d));
}

// The sums of the eight blocks of a unit as small integers with one scale, for minima that are small integers with one
// scale too: what is subtracted is then one product of pairs of integers, which begins at an anchor of the scale. That
// is half of the largest d, so blocks whose d is the largest or half of it have their sums exactly, and of others less
// is lost than the largest has lost by rounding. Of anchored blocks, sum[1] is the two integers of 2i and 2i + 1 in
// block 2i, and the anchor in block 2i + 1, NaN if one of the blocks has a value that is not finite.
inline constexpr int kUnitBlocks = 8;
inline constexpr float kUnitSteps = 2;  // 8 * 63 * 32 * 127 * 2 < 2^22

}  // namespace qw::kernels
