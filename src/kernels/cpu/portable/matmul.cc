// The truth the other instruction sets are held to: packed weights are the caller's rows as they are, and each product is
// written the plain way.
#include <algorithm>
#include <cstring>

#include "kernels/internal/blocks.h"
#include "kernels/internal/fill.h"
#include "kernels/internal/scalar.h"

namespace qw::kernels::portable {
namespace {

// Elements decoded at a time: small enough for the stack and L1, and a multiple of the block size.
constexpr std::int64_t kChunk = 256;
constexpr std::int64_t kGroupsAtOnce = kChunk / kBlock;
// Partial sums of a dot product: independent, so that a compiler can keep them in vector registers.
constexpr int kLanes = 8;

std::size_t packed_bytes(WeightType type, std::int64_t out, std::int64_t in) {
  return static_cast<std::size_t>(raw_row_bytes(type, in) * out);
}

void pack(WeightType type, const void* rows, std::int64_t out, std::int64_t in, void* packed) {
  std::memcpy(packed, rows, packed_bytes(type, out, in));
}

std::size_t prepared_bytes(WeightType type, std::int64_t rows, std::int64_t in) {
  if (is_quantised(type)) return static_cast<std::size_t>(rows * (in / kBlock)) * sizeof(ActivationBlock);
  return static_cast<std::size_t>(rows * in) * sizeof(float);
}

void prepare(WeightType type, const float* x, std::int64_t ldx, std::int64_t, std::int64_t in, void* prepared,
             std::int64_t row_begin, std::int64_t row_end) {
  for (std::int64_t r = row_begin; r < row_end; ++r) {
    const float* row = x + r * ldx;
    if (is_quantised(type)) {
      auto* blocks = static_cast<ActivationBlock*>(prepared) + r * (in / kBlock);
      for (std::int64_t b = 0; b < in / kBlock; ++b) {
        quantise_activations(row + b * kBlock, weight_offset(type), blocks[b]);
        if (is_grouped(type)) blocks[b].correction = half_sums(blocks[b].q);
      }
      continue;
    }
    float* y = static_cast<float*>(prepared) + r * in;
    for (std::int64_t i = 0; i < in; ++i) y[i] = type == WeightType::kBF16 ? round_to_bfloat(row[i]) : row[i];
  }
}

// kGroups4 as kGroups8.
RawGroups8 widen(const RawGroups4& raw) {
  RawGroups8 g{{raw.scale, raw.scale}, {raw.min, raw.min}, {}};
  for (int j = 0; j < 16; ++j) {
    g.q[j] = static_cast<std::int8_t>(raw.q[j] & 15);
    g.q[j + 16] = static_cast<std::int8_t>(raw.q[j] >> 4);
  }
  return g;
}

// Groups [first, first + n) of 32 elements of a row, at most eight, on borders of the format's blocks.
void groups_at(WeightType type, const void* row, std::int64_t first, std::int64_t n, RawGroups8* to) {
  const BlockFormat f = block_format(type);
  if (f.elements > 0) {
    const auto* block = static_cast<const std::uint8_t*>(row) + first * 32 / f.elements * f.bytes;
    return open_groups(type, block, static_cast<int>(n * 32), to);
  }
  for (std::int64_t i = 0; i < n; ++i) {
    to[i] = type == WeightType::kGroups8 ? static_cast<const RawGroups8*>(row)[first + i]
                                         : widen(static_cast<const RawGroups4*>(row)[first + i]);
  }
}

// Elements [begin, begin + n) of one row of weights as float.
void decode(WeightType type, const void* row, std::int64_t begin, std::int64_t n, float* y) {
  switch (type) {
    case WeightType::kF32: std::memcpy(y, static_cast<const float*>(row) + begin, static_cast<std::size_t>(n) * 4); return;
    case WeightType::kF16:
      for (std::int64_t i = 0; i < n; ++i) y[i] = half_to_float(static_cast<const std::uint16_t*>(row)[begin + i]);
      return;
    case WeightType::kBF16:
      for (std::int64_t i = 0; i < n; ++i) y[i] = bfloat_to_float(static_cast<const std::uint16_t*>(row)[begin + i]);
      return;
    case WeightType::kQ8_0:
      for (std::int64_t i = begin; i < begin + n; ++i) {
        const RawQ8& b = static_cast<const RawQ8*>(row)[i / kBlock];
        *y++ = half_to_float(b.d) * b.q[i % kBlock];
      }
      return;
    case WeightType::kQ4_0:
      for (std::int64_t i = begin; i < begin + n; ++i) {
        const RawQ4& b = static_cast<const RawQ4*>(row)[i / kBlock];
        const int j = static_cast<int>(i % kBlock);
        *y++ = half_to_float(b.d) * ((j < 16 ? b.q[j] & 15 : b.q[j - 16] >> 4) - 8);
      }
      return;
    default:
      for (std::int64_t b = begin / kBlock, end = (begin + n) / kBlock; b < end; b += kGroupsAtOnce) {
        RawGroups8 groups[kGroupsAtOnce];
        const std::int64_t count = std::min(kGroupsAtOnce, end - b);
        groups_at(type, row, b, count, groups);
        for (std::int64_t i = 0; i < count * kBlock; ++i) {
          const RawGroups8& g = groups[i / kBlock];
          const std::int64_t j = i % kBlock;
          *y++ = g.scale[j / 16] * static_cast<float>(g.q[j]) - g.min[j / 16];
        }
      }
      return;
  }
}

float dot(const float* a, const float* b, std::int64_t n) {
  float lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lanes[j] += a[i + j] * b[i + j];
  }
  for (int j = 0; i < n; ++i, ++j) lanes[j] += a[i] * b[i];
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

// y is the running sum, so a chunk of weights is decoded once for all rows.
void float_output(const MatmulArgs& a, std::int64_t o, const void* w) {
  float chunk[kChunk];
  for (std::int64_t begin = 0; begin < a.in; begin += kChunk) {
    const std::int64_t n = std::min(kChunk, a.in - begin);
    decode(a.type, w, begin, n, chunk);
    for (std::int64_t r = 0; r < a.rows; ++r) {
      a.y[r * a.ldy + o] += dot(static_cast<const float*>(a.prepared) + r * a.in + begin, chunk, n);
    }
  }
}

void grouped_output(const MatmulArgs& a, std::int64_t o, const void* w) {
  const std::int64_t blocks = a.in / kBlock;
  RawGroups8 groups[kGroupsAtOnce];
  for (std::int64_t b = 0; b < blocks; ++b) {
    if (b % kGroupsAtOnce == 0) groups_at(a.type, w, b, std::min(kGroupsAtOnce, blocks - b), groups);
    const RawGroups8& g = groups[b % kGroupsAtOnce];
    for (std::int64_t r = 0; r < a.rows; ++r) {
      const ActivationBlock& x = static_cast<const ActivationBlock*>(a.prepared)[r * blocks + b];
      float& y = a.y[r * a.ldy + o];
      for (int h = 0; h < 2; ++h) {
        std::int32_t sum = 0;
        for (int j = 16 * h; j < 16 * h + 16; ++j) sum += g.q[j] * x.q[j];
        const std::int32_t x_sum = h == 0 ? low_sum(x.correction) : high_sum(x.correction);
        y += static_cast<float>(sum) * (g.scale[h] * x.d);
        y -= g.min[h] * (x.d * static_cast<float>(x_sum));
      }
    }
  }
}

void quantised_output(const MatmulArgs& a, std::int64_t o, const void* w) {
  const std::int64_t blocks = a.in / kBlock;
  for (std::int64_t b = 0; b < blocks; ++b) {
    std::int8_t q[kBlock];
    float d;
    if (a.type == WeightType::kQ8_0) {
      const RawQ8& raw = static_cast<const RawQ8*>(w)[b];
      d = half_to_float(raw.d);
      std::memcpy(q, raw.q, sizeof(q));
    } else {
      const RawQ4& raw = static_cast<const RawQ4*>(w)[b];
      d = half_to_float(raw.d);
      for (int j = 0; j < 16; ++j) q[j] = static_cast<std::int8_t>((raw.q[j] & 15) - 8);
      for (int j = 0; j < 16; ++j) q[j + 16] = static_cast<std::int8_t>((raw.q[j] >> 4) - 8);
    }
    for (std::int64_t r = 0; r < a.rows; ++r) {
      const ActivationBlock& x = static_cast<const ActivationBlock*>(a.prepared)[r * blocks + b];
      std::int32_t sum = 0;
      for (int j = 0; j < kBlock; ++j) sum += q[j] * x.q[j];
      a.y[r * a.ldy + o] += static_cast<float>(sum) * (d * x.d);
    }
  }
}

void matmul(const MatmulArgs& a) {
  for (std::int64_t o = a.out_begin; o < a.out_end; ++o) {
    for (std::int64_t r = 0; r < a.rows; ++r) a.y[r * a.ldy + o] = 0;
    const void* w = static_cast<const char*>(a.packed) + o * raw_row_bytes(a.type, a.in);
    if (is_grouped(a.type)) {
      grouped_output(a, o, w);
    } else if (is_quantised(a.type)) {
      quantised_output(a, o, w);
    } else {
      float_output(a, o, w);
    }
    if (a.bias == nullptr) continue;
    for (std::int64_t r = 0; r < a.rows; ++r) a.y[r * a.ldy + o] += a.bias[o];
  }
}

void unpack_row(WeightType type, const void* packed, std::int64_t, std::int64_t in, std::int64_t row, float* y) {
  decode(type, static_cast<const char*>(packed) + row * raw_row_bytes(type, in), 0, in, y);
}

}  // namespace

void fill_matmul(Kernels& k) {
  k.out_granule = 1;
  k.packed_bytes = packed_bytes;
  k.pack = pack;
  k.prepared_bytes = prepared_bytes;
  k.prepare = prepare;
  k.prepared_as = prepared_as;
  k.matmul = matmul;
  k.unpack_row = unpack_row;
}

}  // namespace qw::kernels::portable
