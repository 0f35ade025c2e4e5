// Elements of the key/value cache: F32, F16 (IEEE binary16) and BF16, converted with round-to-nearest-even, and rows of 32
// with one scale (CacheType::kQ8, kQ4). Rows lie one after the other here, as portable keeps them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/internal/scalar.h"
#include "kernels/kernels.h"

namespace qw::kernels {

inline constexpr std::int64_t kCacheGroup = 32;  // elements of one scale

// Most slots of a block that a table keeps transposed together: a line of memory of 16-bit elements.
inline constexpr std::int64_t kCacheStrip = 32;

constexpr bool has_cache_scales(CacheType type) { return type == CacheType::kQ8 || type == CacheType::kQ4; }
// Bytes of `elements` elements, a multiple of kCacheGroup where they have scales.
inline std::int64_t cache_bytes(CacheType type, std::int64_t elements) {
  switch (type) {
    case CacheType::kF32: return elements * 4;
    case CacheType::kQ8: return elements / kCacheGroup * 34;
    case CacheType::kQ4: return elements / kCacheGroup * 18;
    default: return elements * 2;
  }
}

inline std::uint16_t float_to_half(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U | ((magnitude >> 13) & 0x3FFU));
  if (magnitude >= 0x477FF000U) return static_cast<std::uint16_t>(sign | 0x7C00U);  // 65520 and above round to inf
  if (magnitude < 0x38800000U) {  // below 2^-14: adding 0.5 leaves the denormal's bits, rounded, at the bottom
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U));
  }
  const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

// Integers of 32 elements and their scale. kQ8: x ~ scale * q, q in [-127, 127]; kQ4: x ~ scale * (q - 8), q in [0, 15],
// with the element of largest size at q = 0. All in float32 and the same on every instruction set.
struct CacheGroup {
  std::uint16_t scale;  // binary16
  std::int8_t q[kCacheGroup];
};
inline CacheGroup quantise_group(CacheType type, const float* x) {
  CacheGroup g{};
  float largest = 0.0F, size = 0.0F, probe = 0.0F;
  for (std::int64_t i = 0; i < kCacheGroup; ++i) {
    const float magnitude = x[i] < 0 ? -x[i] : x[i];
    if (magnitude > size) size = magnitude, largest = x[i];
    probe += x[i] * 0.0F;  // NaN where anything is not finite
  }
  g.scale = float_to_half(type == CacheType::kQ8 ? size / 127.0F : largest / -8.0F);
  const float scale = half_to_float(g.scale);
  if (probe != probe || scale * 0.0F != 0.0F) g.scale = 0x7E00;
  if (g.scale == 0x7E00 || scale == 0.0F) {
    for (std::int8_t& q : g.q) q = type == CacheType::kQ8 ? 0 : 8;
    return g;
  }
  const float inverse = 1.0F / scale;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding and taking it away rounds to the nearest integer
  for (std::int64_t i = 0; i < kCacheGroup; ++i) {
    const float q = (x[i] * inverse + kRound) - kRound;
    const float low = type == CacheType::kQ8 ? -127.0F : -8.0F, high = type == CacheType::kQ8 ? 127.0F : 7.0F;
    g.q[i] = static_cast<std::int8_t>((q < low ? low : q > high ? high : q) + (type == CacheType::kQ8 ? 0.0F : 8.0F));
  }
  return g;
}

// As Q8_0 and Q4_0 lie in memory: the scale, then bytes, or nibbles with elements 0..15 below 16..31.
inline void store_group(CacheType type, const CacheGroup& g, std::uint8_t* to) {
  __builtin_memcpy(to, &g.scale, 2);
  if (type == CacheType::kQ8) {
    __builtin_memcpy(to + 2, g.q, kCacheGroup);
  } else {
    for (int i = 0; i < 16; ++i) to[2 + i] = static_cast<std::uint8_t>(g.q[i] | g.q[i + 16] << 4);
  }
}
inline float load_group(CacheType type, const std::uint8_t* from, std::int64_t i) {
  std::uint16_t scale = 0;
  __builtin_memcpy(&scale, from, 2);
  const int q = type == CacheType::kQ8 ? static_cast<std::int8_t>(from[2 + i])
                                       : (i < 16 ? from[2 + i] & 15 : from[2 + i - 16] >> 4) - 8;
  return half_to_float(scale) * static_cast<float>(q);
}

inline float cache_load(CacheType type, const void* pool, std::int64_t index) {
  switch (type) {
    case CacheType::kQ8:
    case CacheType::kQ4:
      return load_group(type, static_cast<const std::uint8_t*>(pool) + cache_bytes(type, index / kCacheGroup * kCacheGroup),
                        index % kCacheGroup);
    case CacheType::kF32: return static_cast<const float*>(pool)[index];
    case CacheType::kF16: return half_to_float(static_cast<const std::uint16_t*>(pool)[index]);
    case CacheType::kBF16: return bfloat_to_float(static_cast<const std::uint16_t*>(pool)[index]);
  }
  return 0.0F;
}

// n elements from `index` on.
inline void cache_store(CacheType type, void* pool, std::int64_t index, const float* x, std::int64_t n) {
  if (has_cache_scales(type)) {
    for (std::int64_t i = 0; i < n; i += kCacheGroup)
      store_group(type, quantise_group(type, x + i), static_cast<std::uint8_t*>(pool) + cache_bytes(type, index + i));
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    if (type == CacheType::kF32) static_cast<float*>(pool)[index + i] = x[i];
    if (type == CacheType::kF16) static_cast<std::uint16_t*>(pool)[index + i] = float_to_half(x[i]);
    if (type == CacheType::kBF16) static_cast<std::uint16_t*>(pool)[index + i] = float_to_bfloat(x[i]);
  }
}

// First element of (block, kv head, slot) in a pool: see AttentionDecodeArgs.
inline std::int64_t cache_index(std::int64_t kv_heads, std::int64_t head_dim, std::int64_t block_tokens,
                                std::int64_t block, std::int64_t head, std::int64_t slot) {
  return ((block * kv_heads + head) * block_tokens + slot) * head_dim;
}

}  // namespace qw::kernels
