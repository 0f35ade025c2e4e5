// The truth the other instruction sets are held to: packed weights are the caller's rows as they are, and each product
// is written the plain way.
#include <algorithm>
#include <cstring>

#include "kernels/internal/blocks.h"
#include "kernels/internal/fill.h"
#include "kernels/internal/scalar.h"

namespace qw::kernels::portable {
namespace {

// Elements decoded at a time: small enough for the stack and L1, and a multiple of the block size.
constexpr std::int64_t kChunk = 256;
constexpr std::int64_t kBlocksAtOnce = kChunk / kBlock;
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
        quantise_activations(row + b * kBlock, activation_kind(type), blocks[b]);
      }
      continue;
    }
    float* y = static_cast<float*>(prepared) + r * in;
    for (std::int64_t i = 0; i < in; ++i) y[i] = type == WeightType::kBF16 ? round_to_bfloat(row[i]) : row[i];
  }
}

// Blocks [first, first + n) of 32 elements of a row, at most eight, on borders of the format's blocks.
void groups_at(WeightType type, const void* row, std::int64_t first, std::int64_t n, Group16* to) {
  const BlockFormat f = block_format(type);
  open_groups(type, static_cast<const std::uint8_t*>(row) + first * kBlock / f.elements * f.bytes,
              static_cast<int>(n * kBlock), to);
}

// Elements [begin, begin + n) of one row of weights as float.
void decode(WeightType type, const void* row, std::int64_t begin, std::int64_t n, float* y) {
  switch (type) {
    case WeightType::kF32:
      std::memcpy(y, static_cast<const float*>(row) + begin, static_cast<std::size_t>(n) * 4);
      return;
    case WeightType::kF16:
      for (std::int64_t i = 0; i < n; ++i) y[i] = half_to_float(static_cast<const std::uint16_t*>(row)[begin + i]);
      return;
    case WeightType::kBF16:
      for (std::int64_t i = 0; i < n; ++i) y[i] = bfloat_to_float(static_cast<const std::uint16_t*>(row)[begin + i]);
      return;
    default:
      for (std::int64_t b = begin / kBlock, end = (begin + n) / kBlock; b < end; b += kBlocksAtOnce) {
        Group16 groups[2 * kBlocksAtOnce];
        const std::int64_t count = std::min(kBlocksAtOnce, end - b);
        groups_at(type, row, b, count, groups);
        for (std::int64_t i = 0; i < count * kBlock; ++i) {
          const Group16& g = groups[i / 16];
          *y++ = g.scale * static_cast<float>(g.q[i % 16]) - g.min;
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

// Integer sums over the inputs that share a scale, and what the minima take away.
void quantised_output(const MatmulArgs& a, std::int64_t o, const void* w) {
  const BlockFormat f = block_format(a.type);
  const std::int64_t blocks = a.in / kBlock;
  Group16 groups[2 * kBlocksAtOnce];
  for (std::int64_t b = 0; b < blocks; ++b) {
    if (b % kBlocksAtOnce == 0) groups_at(a.type, w, b, std::min(kBlocksAtOnce, blocks - b), groups);
    for (std::int64_t r = 0; r < a.rows; ++r) {
      const ActivationBlock& x = static_cast<const ActivationBlock*>(a.prepared)[r * blocks + b];
      float& y = a.y[r * a.ldy + o];
      for (int i = 0; i < kBlock; i += f.group) {
        const Group16* const g = groups + 2 * (b % kBlocksAtOnce) + i / 16;
        std::int32_t sum = 0;
        for (int j = 0; j < f.group; ++j) sum += g[j / 16].q[j % 16] * x.q[i + j];
        y += static_cast<float>(sum) * (g->scale * x.d);
        if (f.has_min) y -= g->min * x.sum[i / f.group];
      }
    }
  }
}

void matmul(const MatmulArgs& a) {
  for (std::int64_t o = a.out_begin; o < a.out_end; ++o) {
    for (std::int64_t r = 0; r < a.rows; ++r) a.y[r * a.ldy + o] = 0;
    const void* w = static_cast<const char*>(a.packed) + o * raw_row_bytes(a.type, a.in);
    if (is_quantised(a.type)) {
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
