// What the tests and benchmarks of the matrix products share: noise, and weights in every format.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/internal/blocks.h"
#include "kernels/kernels.h"

namespace qw::kernels {

// Those this CPU can run, or that which QW_ISA names alone.
inline std::vector<Isa> supported_isas() {
  const auto forced = base::forced_isa();
  if (!forced) {
    std::fprintf(stderr, "%s\n", forced.error().message.c_str());
    std::exit(2);
  }
  if (forced->has_value()) return {**forced};
  std::vector<Isa> all;
  for (Isa isa : base::kAllIsas) {
    if (isa <= base::best_isa()) all.push_back(isa);
  }
  return all;
}

// A small generator of its own: test data that no other room can change.
struct Noise {
  std::uint64_t state;
  std::uint32_t bits() {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<std::uint32_t>(state >> 32);
  }
  float next() { return static_cast<float>(static_cast<std::int32_t>(bits())) * 0x1p-31f; }  // [-1, 1)
};

inline std::vector<float> noise(std::int64_t n, std::uint64_t seed) {
  Noise source{seed * 77 + 5};
  std::vector<float> v(static_cast<std::size_t>(n));
  for (float& x : v) x = source.next();
  return v;
}

inline const char* weight_name(WeightType type) {
  constexpr const char* kNames[] = {"f32",  "f16",  "bf16", "q8_0", "q4_0", "groups8", "groups4", "q4_1",  "q5_0",
                                    "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k",    "iq4_nl",  "iq4_xs", "mxfp4"};
  return kNames[static_cast<int>(type)];
}

inline constexpr WeightType kAllWeightTypes[] = {WeightType::kF32, WeightType::kF16, WeightType::kBF16,
                                                 WeightType::kQ8_0, WeightType::kQ4_0,
                                                 WeightType::kGroups8, WeightType::kGroups4,
                                                 WeightType::kQ4_1, WeightType::kQ5_0, WeightType::kQ5_1,
                                                 WeightType::kQ2_K, WeightType::kQ3_K, WeightType::kQ4_K,
                                                 WeightType::kQ5_K, WeightType::kQ6_K, WeightType::kIQ4_NL,
                                                 WeightType::kIQ4_XS, WeightType::kMXFP4};
// What `in` must be a multiple of.
inline std::int64_t block_elements(WeightType type) {
  const std::int64_t n = block_format(type).elements;
  return n > 0 ? n : is_quantised(type) ? kBlock : 1;
}

// A half of either sign below 2 in size, subnormals included.
inline std::uint16_t random_half(Noise& source) { return static_cast<std::uint16_t>(source.bits() & 0xbfffu); }

// Where the halves of a block lie.
inline std::vector<std::size_t> half_places(WeightType type) {
  switch (type) {
    case WeightType::kQ4_1:
    case WeightType::kQ5_1:
    case WeightType::kQ4_K:
    case WeightType::kQ5_K: return {0, 2};
    case WeightType::kQ2_K: return {80, 82};
    case WeightType::kQ3_K: return {108};
    case WeightType::kQ6_K: return {208};
    case WeightType::kMXFP4: return {};
    default: return {0};
  }
}

// `out` rows of `in` elements in the raw layout of `type`; every quant of a block can occur.
inline std::vector<std::uint8_t> random_weights(WeightType type, std::int64_t out, std::int64_t in,
                                                std::uint64_t seed) {
  Noise source{seed * 1009 + 3};
  std::vector<std::uint8_t> raw(static_cast<std::size_t>(raw_row_bytes(type, in) * out));
  if (type == WeightType::kF32) {
    for (std::size_t i = 0; i < raw.size(); i += 4) {
      const float v = source.next();
      std::memcpy(&raw[i], &v, 4);
    }
  } else if (!is_quantised(type)) {
    for (std::size_t i = 0; i < raw.size(); i += 2) {
      const std::uint16_t v = type == WeightType::kF16 ? random_half(source) : float_to_bfloat(source.next());
      std::memcpy(&raw[i], &v, 2);
    }
  } else if (type == WeightType::kGroups8 || type == WeightType::kGroups4) {
    for (std::uint8_t& b : raw) b = static_cast<std::uint8_t>(source.bits() >> 24);
    const std::size_t floats = type == WeightType::kGroups8 ? 4 : 2;
    for (std::size_t i = 0; i < raw.size(); i += type == WeightType::kGroups8 ? 48 : 24) {
      for (std::size_t f = 0; f < floats; ++f) {
        const float v = source.next();
        std::memcpy(&raw[i + 4 * f], &v, 4);
      }
    }
  } else {
    for (std::uint8_t& b : raw) b = static_cast<std::uint8_t>(source.bits() >> 24);
    const auto block = static_cast<std::size_t>(block_format(type).bytes);
    for (std::size_t i = 0; i < raw.size(); i += block) {
      for (const std::size_t place : half_places(type)) {
        const std::uint16_t d = random_half(source);
        std::memcpy(&raw[i + place], &d, 2);
      }
      if (type == WeightType::kMXFP4) raw[i] = static_cast<std::uint8_t>(110 + raw[i] % 20);
    }
  }
  return raw;
}

// Scale, quant and min of element i of row o of a grouped format, read the plain way.
struct RawGroup {
  float scale, q, min;
};
inline RawGroup raw_group(WeightType type, const std::vector<std::uint8_t>& raw, std::int64_t in, std::int64_t o,
                          std::int64_t i) {
  const BlockFormat f = block_format(type);
  OpenedBlock b;
  open_block(type, raw.data() + o * raw_row_bytes(type, in) + i / f.elements * f.bytes, f.elements, b);
  const auto j = static_cast<int>(i % f.elements);
  return {group_scale(f, b, j), static_cast<float>(level_of(f, b.q[j])), group_min(f, b, j)};
}

// Element i of row o, read from the raw bytes the plain way.
inline double raw_weight(WeightType type, const std::vector<std::uint8_t>& raw, std::int64_t in, std::int64_t o,
                         std::int64_t i) {
  const std::uint8_t* row = raw.data() + o * raw_row_bytes(type, in);
  const auto half = [](const std::uint8_t* p) { return static_cast<std::uint16_t>(p[0] | p[1] << 8); };
  switch (type) {
    case WeightType::kF32: {
      float v;
      std::memcpy(&v, row + i * 4, 4);
      return v;
    }
    case WeightType::kF16: return half_to_float(half(row + i * 2));
    case WeightType::kBF16: return bfloat_to_float(half(row + i * 2));
    case WeightType::kQ8_0: {
      const std::uint8_t* b = row + i / 32 * 34;
      return static_cast<double>(half_to_float(half(b))) * static_cast<std::int8_t>(b[2 + i % 32]);
    }
    case WeightType::kQ4_0: {
      const std::uint8_t* b = row + i / 32 * 18;
      const auto j = i % 32;
      return static_cast<double>(half_to_float(half(b))) * ((j < 16 ? b[2 + j] & 15 : b[2 + j - 16] >> 4) - 8);
    }
    default: {
      const RawGroup g = raw_group(type, raw, in, o, i);
      const float product = g.scale * g.q;  // rounded before the min comes off, as the formats' decoders do
      return product - g.min;
    }
  }
  return 0;
}

}  // namespace qw::kernels
