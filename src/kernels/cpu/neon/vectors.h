// What the NEON matrix products share. Included once by each file, after the standard headers; internal linkage.
#pragma once

#include <cstdint>

#include "kernels/internal/target.h"

namespace qw::kernels::neon {
namespace {

// A tile of 8 rows by two registers of 4: sixteen sums; two registers of columns and eight of rows fit beside them.
constexpr int kTileRows = 8;
constexpr int kTileVectors = 2;
constexpr int kTileColumns = 4 * kTileVectors;

// The first `count` lanes; the others load as zero and are not stored.
QW_INLINE float32x4_t load_first(const float* p, std::int64_t count) {
  if (count >= 4) return vld1q_f32(p);
  float part[4] = {};
  for (std::int64_t i = 0; i < count; ++i) part[i] = p[i];
  return vld1q_f32(part);
}
QW_INLINE void store_first(float* p, std::int64_t count, float32x4_t v) {
  if (count >= 4) return vst1q_f32(p, v);
  float part[4];
  vst1q_f32(part, v);
  for (std::int64_t i = 0; i < count; ++i) p[i] = part[i];
}

QW_INLINE float32x4_t load_halves(const char* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(p))));
}

// One step of the inner loop takes kElements elements of k for 8 columns, kStepBytes bytes of a panel.
struct FloatOp {
  static constexpr int kElements = 1, kStepBytes = 32;
  static QW_INLINE void columns(const char* p, float32x4_t (&w)[1][kTileVectors]) {
    w[0][0] = vld1q_f32(reinterpret_cast<const float*>(p));
    w[0][1] = vld1q_f32(reinterpret_cast<const float*>(p + 16));
  }
};

struct HalfOp {
  static constexpr int kElements = 1, kStepBytes = 16;
  static QW_INLINE void columns(const char* p, float32x4_t (&w)[1][kTileVectors]) {
    w[0][0] = load_halves(p);
    w[0][1] = load_halves(p + 8);
  }
};

struct BfloatOp {  // a word holds (k, k + 1); either half becomes a float by itself
  static constexpr int kElements = 2, kStepBytes = 32;
  static QW_INLINE void columns(const char* p, float32x4_t (&w)[2][kTileVectors]) {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      const uint32x4_t pair = vld1q_u32(reinterpret_cast<const std::uint32_t*>(p + 16 * v));
      w[0][v] = vreinterpretq_f32_u32(vshlq_n_u32(pair, 16));
      w[1][v] = vreinterpretq_f32_u32(vandq_u32(pair, vdupq_n_u32(0xffff0000u)));
    }
  }
};

// Elements kLane .. 3 of four elements of k: x holds the four of every row, multiplied by lane.
template <class Op, int kRows, int kLane = 0>
QW_INLINE void sum_four(const float32x4_t (&x)[kRows], const char* b, float32x4_t (&sums)[kRows][kTileVectors]) {
  if constexpr (kLane < 4) {
    float32x4_t w[Op::kElements][kTileVectors];
    Op::columns(b, w);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      sums[r][0] = vfmaq_laneq_f32(sums[r][0], w[0][0], x[r], kLane);
      sums[r][1] = vfmaq_laneq_f32(sums[r][1], w[0][1], x[r], kLane);
      if constexpr (Op::kElements == 2) {
        sums[r][0] = vfmaq_laneq_f32(sums[r][0], w[1][0], x[r], kLane + 1);
        sums[r][1] = vfmaq_laneq_f32(sums[r][1], w[1][1], x[r], kLane + 1);
      }
    }
    sum_four<Op, kRows, kLane + Op::kElements>(x, b + Op::kStepBytes, sums);
  }
}

// sums[r][v] += rows of a tile (strips of 16 floats) times columns of a panel.
template <class Op, int kRows>
QW_INLINE void sum_strips(const float* a, const char* b, std::int64_t strips,
                          float32x4_t (&sums)[kRows][kTileVectors]) {
  for (; strips > 0; --strips, a += kRows * 16) {
    for (int k = 0; k < 16; k += 4, b += 4 / Op::kElements * Op::kStepBytes) {
      float32x4_t x[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) x[r] = vld1q_f32(a + r * 16 + k);
      sum_four<Op, kRows>(x, b, sums);
    }
  }
}

}  // namespace
}  // namespace qw::kernels::neon
