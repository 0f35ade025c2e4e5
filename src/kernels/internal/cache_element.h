// Elements of the key/value cache: F32, F16 (IEEE binary16) and BF16, converted with round-to-nearest-even.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/internal/scalar.h"
#include "kernels/kernels.h"

namespace qw::kernels {

inline std::size_t cache_element_bytes(CacheType type) { return type == CacheType::kF32 ? 4 : 2; }

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

inline float cache_load(CacheType type, const void* pool, std::int64_t index) {
  switch (type) {
    case CacheType::kF32: return static_cast<const float*>(pool)[index];
    case CacheType::kF16: return half_to_float(static_cast<const std::uint16_t*>(pool)[index]);
    case CacheType::kBF16: return bfloat_to_float(static_cast<const std::uint16_t*>(pool)[index]);
  }
  return 0.0F;
}

inline void cache_store(CacheType type, void* pool, std::int64_t index, float x) {
  switch (type) {
    case CacheType::kF32: static_cast<float*>(pool)[index] = x; break;
    case CacheType::kF16: static_cast<std::uint16_t*>(pool)[index] = float_to_half(x); break;
    case CacheType::kBF16: static_cast<std::uint16_t*>(pool)[index] = float_to_bfloat(x); break;
  }
}

// First element of (block, kv head, slot) in a pool: see AttentionDecodeArgs.
inline std::int64_t cache_index(std::int64_t kv_heads, std::int64_t head_dim, std::int64_t block_tokens,
                                std::int64_t block, std::int64_t head, std::int64_t slot) {
  return ((block * kv_heads + head) * block_tokens + slot) * head_dim;
}

}  // namespace qw::kernels
