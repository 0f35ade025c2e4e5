#include "tensor/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/result.h"
#include "tensor/groups.h"
#include "tensor/search_encode.h"

namespace qw::tensor {
namespace {

// 1/d, or 0 where that is infinite: such a block is far below the smallest f16 scale and decodes to zeros anyway.
float inverse_scale(float d) {
  const float inverse = 1.0f / d;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

void encode_q8_0(const float* x, std::int64_t n, BlockQ8_0* out) {
  for (std::int64_t b = 0; b < n / 32; ++b, x += 32) {
    float amax = 0;
    for (int j = 0; j < 32; ++j) amax = std::max(amax, std::fabs(x[j]));
    const float d = amax / 127.0f, inverse = inverse_scale(d);
    out[b].d = f32_to_f16(d);
    for (int j = 0; j < 32; ++j) out[b].q[j] = static_cast<std::int8_t>(std::round(x[j] * inverse));
  }
}

void encode_q4_0(const float* x, std::int64_t n, BlockQ4_0* out) {
  for (std::int64_t b = 0; b < n / 32; ++b, x += 32) {
    float extreme = 0;  // the signed element of greatest magnitude maps to -8 exactly
    for (int j = 0; j < 32; ++j) extreme = std::fabs(x[j]) > std::fabs(extreme) ? x[j] : extreme;
    const float d = extreme / -8.0f, inverse = inverse_scale(d);
    out[b].d = f32_to_f16(d);
    const auto level = [&](float v) { return std::min(15, static_cast<int>(v * inverse + 8.5f)); };
    for (int j = 0; j < 16; ++j) out[b].q[j] = static_cast<std::uint8_t>(level(x[j]) | level(x[j + 16]) << 4);
  }
}

}  // namespace

void decode_row(DType type, const void* row, std::int64_t n, float* out) {
  switch (type) {
    case DType::kF32: std::memcpy(out, row, static_cast<std::size_t>(n) * 4); return;
    case DType::kF64:
      for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(static_cast<const double*>(row)[i]);
      return;
    case DType::kF16:
      for (std::int64_t i = 0; i < n; ++i) out[i] = f16_to_f32(static_cast<const std::uint16_t*>(row)[i]);
      return;
    case DType::kBF16:
      for (std::int64_t i = 0; i < n; ++i) out[i] = bf16_to_f32(static_cast<const std::uint16_t*>(row)[i]);
      return;
    case DType::kF8_E4M3:
      for (std::int64_t i = 0; i < n; ++i) out[i] = f8_e4m3_to_f32(static_cast<const std::uint8_t*>(row)[i]);
      return;
    case DType::kQ8_0: {
      const auto* blocks = static_cast<const BlockQ8_0*>(row);
      for (std::int64_t i = 0; i < n; ++i) out[i] = f16_to_f32(blocks[i / 32].d) * blocks[i / 32].q[i % 32];
      return;
    }
    case DType::kQ4_0: {
      const auto* blocks = static_cast<const BlockQ4_0*>(row);
      for (std::int64_t b = 0; b < n / 32; ++b) {
        const float d = f16_to_f32(blocks[b].d);
        for (int j = 0; j < 16; ++j) {
          out[b * 32 + j] = d * ((blocks[b].q[j] & 15) - 8);
          out[b * 32 + j + 16] = d * ((blocks[b].q[j] >> 4) - 8);
        }
      }
      return;
    }
    default: {
      QW_CHECK(has_groups(type));  // an integer format is a bug of the caller
      const DTypeInfo& format = info(type);
      const auto* block = static_cast<const std::uint8_t*>(row);
      Groups8 groups[8];
      for (std::int64_t i = 0; i < n; i += format.block_elements, block += format.block_bytes) {
        open_groups(type, block, format.block_elements, groups);
        for (int j = 0; j < format.block_elements; ++j) {
          const Groups8& g = groups[j / 32];
          out[i + j] = g.scale[j % 32 / 16] * static_cast<float>(g.q[j % 32]) - g.min[j % 32 / 16];
        }
      }
    }
  }
}

bool can_encode(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ8_0:
    case DType::kQ4_0: return true;
    case DType::kQ4_Z: return false;  // its values come with their scales
    default: return has_groups(type);
  }
}

void encode_row(DType type, const float* row, std::int64_t n, void* out, const float* importance) {
  switch (type) {
    case DType::kF32: std::memcpy(out, row, static_cast<std::size_t>(n) * 4); return;
    case DType::kF16:
      for (std::int64_t i = 0; i < n; ++i) static_cast<std::uint16_t*>(out)[i] = f32_to_f16(row[i]);
      return;
    case DType::kBF16:
      for (std::int64_t i = 0; i < n; ++i) static_cast<std::uint16_t*>(out)[i] = f32_to_bf16(row[i]);
      return;
    case DType::kQ8_0: return encode_q8_0(row, n, static_cast<BlockQ8_0*>(out));
    case DType::kQ4_0: return encode_q4_0(row, n, static_cast<BlockQ4_0*>(out));
    default: return encode_groups(type, row, n, importance, out);
  }
}

void q4_z_to_q8_0(const void* row, std::int64_t n, void* out) {
  const auto* from = static_cast<const BlockQ4_Z*>(row);
  auto* to = static_cast<BlockQ8_0*>(out);
  for (std::int64_t b = 0; b < n / 32; ++b) {
    to[b].d = from[b].d;
    for (int j = 0; j < 16; ++j) {
      to[b].q[j] = static_cast<std::int8_t>((from[b].q[j] & 15) - from[b].zero);
      to[b].q[j + 16] = static_cast<std::int8_t>((from[b].q[j] >> 4) - from[b].zero);
    }
  }
}

void decode(const ConstView& view, float* out) {
  Buffer own;
  const ConstView here = in_memory(view, own);
  const std::int64_t n = here.shape.back(), bytes = row_bytes(here.dtype, n);
  for (std::int64_t r = 0; r < here.shape.rows(); ++r) decode_row(here.dtype, here.data + r * bytes, n, out + r * n);
}

}  // namespace qw::tensor
