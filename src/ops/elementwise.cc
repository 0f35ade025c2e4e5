#include "ops/elementwise.h"

#include <algorithm>
#include <cstring>

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
