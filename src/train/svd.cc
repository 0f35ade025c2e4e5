#include "train/internal/svd.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/result.h"
#include "base/rng.h"
#include "ops/gemm.h"

namespace qw::train {
namespace {

constexpr std::int64_t kMore = 8;      // columns beyond the rank: the authors' advice is 5 to 10
constexpr int kIterations = 4;         // spectra of weights fall slowly; each one raises the ratio of two values by its square
constexpr int kSweeps = 30;            // of Jacobi's method, which needs about ten
constexpr double kNegligible = 1e-24;  // a squared length, in terms of the largest, that is rounding and no direction

// Columns of q [rows, k] made orthonormal in order, twice over, in double. One that depends on those before becomes 0.
void orthonormalise(std::vector<float>& q, std::int64_t rows, std::int64_t k) {
  std::vector<std::vector<double>> column(static_cast<std::size_t>(k),
                                          std::vector<double>(static_cast<std::size_t>(rows)));
  double largest = 0;
  for (std::int64_t j = 0; j < k; ++j) {
    auto& mine = column[static_cast<std::size_t>(j)];
    for (std::int64_t r = 0; r < rows; ++r)
      mine[static_cast<std::size_t>(r)] = static_cast<double>(q[static_cast<std::size_t>(r * k + j)]);
    for (int pass = 0; pass < 2; ++pass)
      for (std::int64_t before = 0; before < j; ++before) {
        const auto& other = column[static_cast<std::size_t>(before)];
        const double along = std::inner_product(mine.begin(), mine.end(), other.begin(), 0.0);
        for (std::size_t r = 0; r < mine.size(); ++r) mine[r] -= along * other[r];
      }
    const double squares = std::inner_product(mine.begin(), mine.end(), mine.begin(), 0.0);
    largest = std::max(largest, squares);
    const double scale = squares > kNegligible * largest && squares > 0 ? 1 / std::sqrt(squares) : 0;
    for (double& x : mine) x *= scale;
    for (std::int64_t r = 0; r < rows; ++r)
      q[static_cast<std::size_t>(r * k + j)] = static_cast<float>(mine[static_cast<std::size_t>(r)]);
  }
}

// Eigenvalues (on the diagonal of g) and eigenvectors (columns of v) of a symmetric matrix [k, k], by Jacobi's
// rotations.
void diagonalise(std::vector<double>& g, std::vector<double>& v, std::size_t k) {
  v.assign(k * k, 0);
  for (std::size_t i = 0; i < k; ++i) v[i * k + i] = 1;
  for (int sweep = 0; sweep < kSweeps; ++sweep)
    for (std::size_t p = 0; p < k; ++p)
      for (std::size_t q = p + 1; q < k; ++q) {
        if (g[p * k + q] == 0) continue;
        const double theta = (g[q * k + q] - g[p * k + p]) / (2 * g[p * k + q]);
        const double t = (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        const auto turn = [&](double& x, double& y) {
          const double old = x;
          x = c * old - s * y;
          y = s * old + c * y;
        };
        for (std::size_t i = 0; i < k; ++i) turn(g[i * k + p], g[i * k + q]);
        for (std::size_t i = 0; i < k; ++i) turn(g[p * k + i], g[q * k + i]);
        for (std::size_t i = 0; i < k; ++i) turn(v[i * k + p], v[i * k + q]);
        g[p * k + q] = g[q * k + p] = 0;
      }
}

}  // namespace

void largest_components(const float* w, std::int64_t rows, std::int64_t columns, std::int64_t rank, std::uint64_t seed,
                        const kernels::Kernels& kernels, base::ThreadPool& pool, std::span<float> a,
                        std::span<float> b) {
  QW_CHECK(rank >= 1 && rank <= std::min(rows, columns));
  const std::int64_t k = std::min(rank + kMore, std::min(rows, columns));
  const ops::Machine machine{kernels, pool};
  ops::GemmWorkspace workspace(machine, kernels::GemmPrecision::kF32);
  workspace.plan(rows, k, columns);
  workspace.plan(columns, k, rows);
  workspace.allocate();
  // out = op(W) x, x and out with k columns.
  const auto times = [&](bool transposed, const std::vector<float>& x, std::vector<float>& out) {
    kernels::GemmArgs args{};
    args.trans_a = transposed;
    args.m = transposed ? columns : rows, args.n = k, args.k = transposed ? rows : columns;
    args.a = w, args.lda = columns;
    args.b = x.data(), args.ldb = k;
    args.c = out.data(), args.ldc = k;
    ops::gemm(machine, workspace, args);
  };
  std::vector<float> q(static_cast<std::size_t>(rows * k)), z(static_cast<std::size_t>(columns * k));
  base::Rng rng(seed, 0);
  for (float& x : z) x = static_cast<float>(rng.next_normal());
  times(false, z, q);
  for (int i = 0; i < kIterations; ++i) {
    orthonormalise(q, rows, k);
    times(true, q, z);
    orthonormalise(z, columns, k);
    times(false, z, q);
  }
  orthonormalise(q, rows, k);
  times(true, q, z);  // W is about Q Z^T
  const auto n = static_cast<std::size_t>(k);
  std::vector<double> gram(n * n), turned;
  for (std::size_t c = 0; c < static_cast<std::size_t>(columns); ++c)
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j)
        gram[i * n + j] += static_cast<double>(z[c * n + i]) * static_cast<double>(z[c * n + j]);
  diagonalise(gram, turned, n);
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto x, auto y) { return gram[x * n + x] > gram[y * n + y]; });
  const auto along = [&](const std::vector<float>& from, std::size_t row, std::size_t component) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(from[row * n + i]) * turned[i * n + component];
    return sum;
  };
  for (std::size_t r = 0; r < static_cast<std::size_t>(rank); ++r) {
    const std::size_t component = order[r];
    const double root = std::pow(std::max(0.0, gram[component * n + component]), 0.25);  // of the singular value
    for (std::size_t c = 0; c < static_cast<std::size_t>(columns); ++c)
      a[r * static_cast<std::size_t>(columns) + c] =
          root > 0 ? static_cast<float>(along(z, c, component) / root) : 0.0f;
    for (std::size_t i = 0; i < static_cast<std::size_t>(rows); ++i)
      b[i * static_cast<std::size_t>(rank) + r] = static_cast<float>(along(q, i, component) * root);
  }
}

}  // namespace qw::train
