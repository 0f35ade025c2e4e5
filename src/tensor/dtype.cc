#include "tensor/dtype.h"

#include <array>
#include <string>

namespace qw::tensor {
namespace {
constexpr std::array<DTypeInfo, kDTypeCount> kInfos = {{{"f32", 1, 4},
                                               {"f16", 1, 2},
                                               {"bf16", 1, 2},
                                               {"q8_0", 32, 34},
                                               {"q4_0", 32, 18},
                                               {"f64", 1, 8},
                                               {"i8", 1, 1},
                                               {"i16", 1, 2},
                                               {"i32", 1, 4},
                                               {"i64", 1, 8},
                                               {"u8", 1, 1},
                                               {"bool", 1, 1},
                                               {"q4_1", 32, 20},
                                               {"q5_0", 32, 22},
                                               {"q5_1", 32, 24},
                                               {"q2_k", 256, 84},
                                               {"q3_k", 256, 110},
                                               {"q4_k", 256, 144},
                                               {"q5_k", 256, 176},
                                               {"q6_k", 256, 210},
                                               {"iq4_nl", 32, 18},
                                               {"iq4_xs", 256, 136},
                                               {"mxfp4", 32, 17},
                                               {"f8_e4m3", 1, 1},
                                               {"q4_z", 32, 20}}};
}  // namespace

const DTypeInfo& info(DType type) { return kInfos[static_cast<std::size_t>(type)]; }

std::optional<DType> dtype_from_name(std::string_view wanted) {
  std::string lower(wanted);
  for (char& c : lower) c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c + 32) : c;
  for (std::size_t i = 0; i < kInfos.size(); ++i) {
    if (kInfos[i].name == lower) return static_cast<DType>(i);
  }
  return std::nullopt;
}

bool is_quantised(DType type) { return info(type).block_elements > 1; }

float f16_to_f32(std::uint16_t h) {
  // Shift the 15 magnitude bits into place and let one multiplication rescale the exponent (handles subnormals).
  const std::uint32_t sign = std::uint32_t{h & 0x8000u} << 16;
  const std::uint32_t magnitude = h & 0x7fffu;
  std::uint32_t bits;
  if (magnitude >= 0x7c00u) {
    bits = 0x7f800000u | (magnitude & 0x3ffu) << 13;
  } else {
    const float scaled = __builtin_bit_cast(float, magnitude << 13) * 0x1.0p112f;
    bits = __builtin_bit_cast(std::uint32_t, scaled);
  }
  return __builtin_bit_cast(float, sign | bits);
}

std::uint16_t f32_to_f16(float f) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, f);
  const std::uint16_t sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (magnitude < 0x38800000u) {  // subnormal half: adding 0.5 aligns the mantissa so that the FPU rounds to even
    const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (__builtin_bit_cast(std::uint32_t, shifted) - 0x3f000000u));
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

float f8_e4m3_to_f32(std::uint8_t b) {
  const std::uint32_t sign = std::uint32_t{b & 0x80u} << 24, magnitude = b & 0x7fu;
  if (magnitude == 0x7fu) return __builtin_bit_cast(float, sign | 0x7fc00000u);
  // Shifted into place the exponent is 120 too small; the multiplication handles subnormals too.
  const float scaled = __builtin_bit_cast(float, magnitude << 20) * 0x1.0p120f;
  return __builtin_bit_cast(float, sign | __builtin_bit_cast(std::uint32_t, scaled));
}

}  // namespace qw::tensor
