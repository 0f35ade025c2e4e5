#include "ops/linear.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "ops/elementwise.h"

namespace qw::ops {
namespace {

// c (+)= x w^T, x [rows, k], w [n, k].
kernels::GemmArgs times_transposed(std::int64_t rows, std::int64_t n, std::int64_t k, const float* x, const float* w,
                                   float* c, bool accumulate) {
  return {.precision = {},
          .trans_a = false,
          .trans_b = true,
          .m = rows,
          .n = n,
          .k = k,
          .a = x,
          .lda = k,
          .b = w,
          .ldb = k,
          .c = c,
          .ldc = n,
          .accumulate = accumulate};
}

// c (+)= y w, y [rows, k], w [k, n].
kernels::GemmArgs times(std::int64_t rows, std::int64_t n, std::int64_t k, const float* y, const float* w, float* c,
                        bool accumulate) {
  return {.precision = {},
          .trans_a = false,
          .trans_b = false,
          .m = rows,
          .n = n,
          .k = k,
          .a = y,
          .lda = k,
          .b = w,
          .ldb = n,
          .c = c,
          .ldc = n,
          .accumulate = accumulate};
}

// c += y^T x, y [rows, m], x [rows, n].
kernels::GemmArgs outer(std::int64_t rows, std::int64_t m, std::int64_t n, const float* y, const float* x, float* c) {
  return {.precision = {},
          .trans_a = true,
          .trans_b = false,
          .m = m,
          .n = n,
          .k = rows,
          .a = y,
          .lda = m,
          .b = x,
          .ldb = n,
          .c = c,
          .ldc = n,
          .accumulate = true};
}

// db [out, rank] += dy^T u, as rank rows of many columns: dy is packed in the order in which it lies. `room`: [rank,
// out].
void outer_transposed(const Machine& m, GemmWorkspace& workspace, const LinearArgs& g, float* room) {
  const auto each = [&](auto&& body) {
    m.pool.parallel_for(g.out, 256, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t o = begin; o < end; ++o)
        for (std::int64_t k = 0; k < g.rank; ++k) body(room[k * g.out + o], g.db[o * g.rank + k]);
    });
  };
  each([](float& there, float& here) { there = here; });
  gemm(m, workspace, outer(g.rows, g.rank, g.out, g.u, g.dy, room));
  each([](float& there, float& here) { here = there; });
}

// dbias[o] += sum over rows of dy[r, o], rows in order, in double.
void column_sums(const Machine& m, const float* dy, std::int64_t rows, std::int64_t out, float* dbias) {
  constexpr std::int64_t kColumns = 64;
  m.pool.parallel_for(out, kColumns, [&](std::int64_t begin, std::int64_t end) {
    std::array<double, kColumns> sum{};
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t o = begin; o < end; ++o)
        sum[static_cast<std::size_t>(o - begin)] += static_cast<double>(dy[r * out + o]);
    for (std::int64_t o = begin; o < end; ++o) dbias[o] += static_cast<float>(sum[static_cast<std::size_t>(o - begin)]);
  });
}

// Lengths of the rows of W + scale B A, each in double.
void row_lengths(const Machine& m, const LinearArgs& g, const float* w) {
  constexpr std::int64_t kRows = 16;
  m.pool.parallel_for(g.out, kRows, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> row(static_cast<std::size_t>(g.in));
    for (std::int64_t o = begin; o < end; ++o) {
      std::memcpy(row.data(), w + o * g.in, row.size() * sizeof(float));
      for (std::int64_t k = 0; k < g.rank; ++k) {
        const float factor = g.scale * g.b[o * g.rank + k];
        const float* a = g.a + k * g.in;
        for (std::int64_t i = 0; i < g.in; ++i) row[static_cast<std::size_t>(i)] += factor * a[i];
      }
      g.lengths[o] = static_cast<float>(std::sqrt(m.kernels.sum_squares(row.data(), g.in)));
    }
  });
}

float gain(const LinearArgs& g, std::int64_t o) { return g.lengths[o] > 0 ? g.magnitude[o] / g.lengths[o] : 1; }

// y = (m / n) z + b, z = what y is.
void stretch(const Machine& m, const LinearArgs& g) {
  for_rows(m.pool, g.rows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      float* y = g.y + r * g.out;
      if (g.z != nullptr) std::memcpy(g.z + r * g.out, y, static_cast<std::size_t>(g.out) * sizeof(float));
      for (std::int64_t o = 0; o < g.out; ++o) y[o] = gain(g, o) * y[o] + (g.bias != nullptr ? g.bias[o] : 0.0f);
    }
  });
}

// dm += sum over rows of dy z / n, rows in order, in double; z = (m / n) dy.
void stretch_backward(const Machine& m, const LinearArgs& g) {
  constexpr std::int64_t kColumns = 64;
  m.pool.parallel_for(g.out, kColumns, [&](std::int64_t begin, std::int64_t end) {
    std::array<double, kColumns> sum{};
    for (std::int64_t r = 0; r < g.rows; ++r)
      for (std::int64_t o = begin; o < end; ++o) {
        const float dy = g.dy[r * g.out + o];
        float& z = g.z[r * g.out + o];
        sum[static_cast<std::size_t>(o - begin)] += static_cast<double>(dy) * static_cast<double>(z);
        z = gain(g, o) * dy;
      }
    for (std::int64_t o = begin; o < end; ++o)
      if (g.lengths[o] > 0)
        g.dmagnitude[o] +=
            static_cast<float>(sum[static_cast<std::size_t>(o - begin)] / static_cast<double>(g.lengths[o]));
  });
}

}  // namespace

void linear_plan(GemmWorkspace& workspace, std::int64_t max_rows, std::int64_t in, std::int64_t out,
                 std::int64_t rank) {
  workspace.plan(max_rows, out, in);
  workspace.plan(max_rows, in, out);
  workspace.plan(out, in, max_rows);
  if (rank == 0) return;
  workspace.plan_low_rank(max_rows, out, in, rank);
  workspace.plan_low_rank(max_rows, in, out, rank);
  workspace.plan(rank, out, max_rows);
  workspace.plan(rank, in, max_rows);
}

void linear_forward(const Machine& m, GemmWorkspace& workspace, const LinearArgs& g) {
  const bool stretches = g.magnitude != nullptr, bias = g.bias != nullptr && !stretches;
  if (bias) {
    for_rows(m.pool, g.rows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r)
        std::memcpy(g.y + r * g.out, g.bias, static_cast<std::size_t>(g.out) * sizeof(float));
    });
  }
  const Matrix w = stretches ? Matrix(open_matrix(workspace, g.w, g.out, g.in)) : g.w;
  const kernels::GemmArgs product = times_transposed(g.rows, g.out, g.in, g.x, nullptr, g.y, bias);
  if (g.rank == 0) return gemm(m, workspace, product, w, g.out);
  gemm_low_rank(m, workspace, product, w, g.out,
                {.rank = g.rank, .scale = g.scale, .down = g.a, .up = g.b, .transposed = true, .u = g.u}, g.same_x);
  if (!stretches) return;
  row_lengths(m, g, w.f32);
  stretch(m, g);
}

void linear_backward(const Machine& m, GemmWorkspace& workspace, const LinearArgs& args) {
  LinearArgs g = args;
  if (g.dbias != nullptr) column_sums(m, g.dy, g.rows, g.out, g.dbias);
  if (g.magnitude != nullptr) {
    stretch_backward(m, g);
    g.dy = g.z;
  }
  if (g.dw != nullptr) gemm(m, workspace, outer(g.rows, g.out, g.in, g.dy, g.x, g.dw));
  const kernels::GemmArgs product = times(g.rows, g.in, g.out, g.dy, nullptr, g.dx, g.dx_accumulates);
  if (g.rank == 0) {
    if (g.dx != nullptr) gemm(m, workspace, product, g.w, g.out);
    return;
  }
  if (g.dx != nullptr) {
    gemm_low_rank(m, workspace, product, g.w, g.out,
                  {.rank = g.rank, .scale = g.scale, .down = g.b, .up = g.a, .transposed = false, .u = g.t}, false);
  } else {
    gemm(m, workspace, times(g.rows, g.rank, g.out, g.dy, g.b, g.t, false));
    scale_forward(m, g.t, g.scale, g.rows * g.rank, g.t);
  }
  gemm(m, workspace, outer(g.rows, g.rank, g.in, g.t, g.x, g.da));
  outer_transposed(m, workspace, g, g.t + g.rows * g.rank);
}

}  // namespace qw::ops
