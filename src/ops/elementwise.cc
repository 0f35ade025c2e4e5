#include "ops/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tensor/dtype.h"

namespace qw::ops {
namespace {
// 64 KiB of each operand: fits the first two cache levels and is worth handing out.
constexpr std::int64_t kPiece = 16384;
}  // namespace

void swiglu_forward(const Machine& m, const float* gate, const float* up, std::int64_t n, float* y) {
  m.pool.parallel_for(n, kPiece,
                      [&](std::int64_t b, std::int64_t e) { m.kernels.swiglu(gate + b, up + b, e - b, y + b); });
}

void swiglu_backward(const Machine& m, const float* gate, const float* up, const float* dy, std::int64_t n,
                     float* dgate, float* dup) {
  m.pool.parallel_for(n, kPiece, [&](std::int64_t b, std::int64_t e) {
    m.kernels.swiglu_backward(gate + b, up + b, dy + b, e - b, dgate + b, dup + b);
  });
}

void add_forward(const Machine& m, const float* a, const float* b, std::int64_t n, float* y) {
  m.pool.parallel_for(n, kPiece,
                      [&](std::int64_t lo, std::int64_t hi) { m.kernels.add(a + lo, b + lo, hi - lo, y + lo); });
}

void accumulate(const Machine& m, const float* dy, std::int64_t n, float* dx) { add_forward(m, dx, dy, n, dx); }

void copy(const Machine& m, const float* from, std::int64_t n, float* to) {
  m.pool.parallel_for(n, kPiece, [&](std::int64_t b, std::int64_t e) {
    std::memcpy(to + b, from + b, static_cast<std::size_t>(e - b) * sizeof(float));
  });
}

void to_bf16(const Machine& m, const float* from, std::int64_t n, std::uint16_t* to) {
  m.pool.parallel_for(n, kPiece, [&](std::int64_t b, std::int64_t e) {
    for (std::int64_t i = b; i < e; ++i) to[i] = tensor::f32_to_bf16(from[i]);
  });
}

void from_bf16(const Machine& m, const std::uint16_t* from, std::int64_t n, float* to) {
  m.pool.parallel_for(n, kPiece, [&](std::int64_t b, std::int64_t e) {
    for (std::int64_t i = b; i < e; ++i) to[i] = tensor::bf16_to_f32(from[i]);
  });
}

void fill_zero(const Machine& m, std::int64_t n, float* x) {
  m.pool.parallel_for(n, kPiece, [&](std::int64_t b, std::int64_t e) { std::fill(x + b, x + e, 0.0f); });
}

void columns_forward(const Machine& m, const float* x, std::int64_t rows, std::int64_t from, std::int64_t begin,
                     std::int64_t width, float* y) {
  for_rows(m.pool, rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r)
      std::memcpy(y + r * width, x + r * from + begin, static_cast<std::size_t>(width) * sizeof(float));
  });
}

void columns_backward(const Machine& m, const float* dy, std::int64_t rows, std::int64_t from, std::int64_t begin,
                      std::int64_t width, float* dx) {
  for_rows(m.pool, rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r) {
      std::fill(dx + r * from, dx + (r + 1) * from, 0.0f);
      std::memcpy(dx + r * from + begin, dy + r * width, static_cast<std::size_t>(width) * sizeof(float));
    }
  });
}

void scale_forward(const Machine& m, const float* x, float factor, std::int64_t n, float* y) {
  m.pool.parallel_for(n, kPiece, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first; i < end; ++i) y[i] = x[i] * factor;
  });
}

void silu_forward(const Machine& m, const float* x, std::int64_t n, float* y) {
  m.pool.parallel_for(n, kPiece, [&](std::int64_t first, std::int64_t end) {
    static const std::vector<float> kOnes(kPiece, 1.0f);
    m.kernels.swiglu(x + first, kOnes.data(), end - first, y + first);
  });
}

void silu_backward(const Machine& m, const float* x, const float* dy, std::int64_t n, float* dx) {
  m.pool.parallel_for(n, kPiece, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first; i < end; ++i) {
      const float p = 1.0f / (1.0f + std::exp(-x[i]));
      dx[i] = dy[i] * p * (1.0f + x[i] * (1.0f - p));
    }
  });
}

namespace {

// In double and in one order: a row's result depends on the row alone.
double scaled_dot(const float* a, const float* b, float scale, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum * static_cast<double>(scale);
}
constexpr double kLeastMatch = 1e-6;  // the reference's bound under the root

}  // namespace

void match_rows_forward(const Machine& m, const float* a, const float* b, float scale, std::int64_t rows, std::int64_t n, float* y) {
  for_rows(m.pool, rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r) {
      const double p = scaled_dot(a + r * n, b + r * n, scale, n), root = std::sqrt(std::max(std::abs(p), kLeastMatch));
      y[r] = static_cast<float>(p > 0 ? root : p < 0 ? -root : 0.0);
    }
  });
}

void match_rows_backward(const Machine& m, const float* a, const float* b, float scale, const float* dy, std::int64_t rows,
                         std::int64_t n, float* da, float* db) {
  for_rows(m.pool, rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r) {
      const double p = std::abs(scaled_dot(a + r * n, b + r * n, scale, n));
      const double slope = p > kLeastMatch ? static_cast<double>(dy[r]) * static_cast<double>(scale) * 0.5 / std::sqrt(p) : 0.0;
      for (std::int64_t i = 0; i < n; ++i) {
        da[r * n + i] = static_cast<float>(slope * static_cast<double>(b[r * n + i]));
        db[r * n + i] = static_cast<float>(slope * static_cast<double>(a[r * n + i]));
      }
    }
  });
}

void relu_forward(const Machine& m, const float* x, std::int64_t n, float* y) {
  m.pool.parallel_for(n, kPiece, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first; i < end; ++i) y[i] = x[i] < 0 ? 0.0f : x[i];  // NaN stays
  });
}

void relu_backward(const Machine& m, const float* x, const float* dy, std::int64_t n, float* dx) {
  m.pool.parallel_for(n, kPiece, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first; i < end; ++i) dx[i] = x[i] > 0 ? dy[i] : 0.0f;
  });
}

void concat_forward(const Machine& m, const float* a, std::int64_t a_width, const float* b, std::int64_t b_width,
                    std::int64_t rows, float* y) {
  const auto bytes = [](std::int64_t width) { return static_cast<std::size_t>(width) * sizeof(float); };
  for_rows(m.pool, rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r) {
      std::memcpy(y + r * (a_width + b_width), a + r * a_width, bytes(a_width));
      std::memcpy(y + r * (a_width + b_width) + a_width, b + r * b_width, bytes(b_width));
    }
  });
}

}  // namespace qw::ops
