// Number formats of tensors, stored as GGUF/ggml stores them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace qw::tensor {

enum class DType : std::uint8_t {
  kF32, kF16, kBF16, kQ8_0, kQ4_0, kF64, kI8, kI16, kI32, kI64, kU8, kBool,
  // Block formats that GGUF files bring along; groups.h opens them.
  kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4,
  // As checkpoints of Hugging Face store weights: sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinities.
  kF8_E4M3,
  // Four bits with a zero point, for GPTQ and AWQ weights as they are made (blocks.h). No file has it.
  kQ4_Z
};
inline constexpr int kDTypeCount = static_cast<int>(DType::kQ4_Z) + 1;

struct DTypeInfo {
  std::string_view name;       // "f32", "q8_0", ...
  std::int32_t block_elements; // elements per block (1 for plain types)
  std::int32_t block_bytes;    // bytes per block
};

const DTypeInfo& info(DType type);
inline std::string_view name(DType type) { return info(type).name; }
std::optional<DType> dtype_from_name(std::string_view name);  // case-insensitive
bool is_quantised(DType type);

// Bytes of a row of `n` elements; n must be a multiple of block_elements.
inline std::int64_t row_bytes(DType type, std::int64_t n) {
  return n / info(type).block_elements * info(type).block_bytes;
}

// IEEE binary16 and bfloat16 bit patterns. Conversion to bf16 rounds to nearest even and keeps NaN quiet.
float f16_to_f32(std::uint16_t h);
std::uint16_t f32_to_f16(float f);
inline float bf16_to_f32(std::uint16_t h) {
  const std::uint32_t bits = std::uint32_t{h} << 16;
  return __builtin_bit_cast(float, bits);
}
inline std::uint16_t f32_to_bf16(float f) {  // without a branch: loops of it become vectors
  const auto bits = __builtin_bit_cast(std::uint32_t, f);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return static_cast<std::uint16_t>((nan ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
// 0x7f and 0xff are NaN, everything else is finite (at most 448).
float f8_e4m3_to_f32(std::uint8_t b);

}  // namespace qw::tensor
