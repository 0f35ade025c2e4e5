#include "ops/rms_norm.h"

#include <algorithm>

namespace qw::ops {
namespace {
// Groups of one partial sum of dw. A function of nothing but this constant, so the order of the sum is fixed.
constexpr std::int64_t kPartialGroups = 512;

std::int64_t partial_stride(std::int64_t n) { return round_up(n, 16); }  // 64 bytes: no shared cache lines
}  // namespace

void rms_norm_forward(const Machine& m, const float* x, const float* w, float eps, std::int64_t groups, std::int64_t n,
                      float* y, float* inverse) {
  for_rows(m.pool, groups, [&](std::int64_t begin, std::int64_t end) {
    m.kernels.rms_norm(x + begin * n, w, eps, end - begin, n, y + begin * n,
                       inverse == nullptr ? nullptr : inverse + begin);
  });
}

std::size_t rms_norm_partial_bytes(std::int64_t groups, std::int64_t n) {
  return static_cast<std::size_t>(ceil_div(groups, kPartialGroups) * partial_stride(n)) * sizeof(float);
}

void rms_norm_backward(const Machine& m, const float* x, const float* w, const float* inverse, const float* dy,
                       std::int64_t groups, std::int64_t n, float* dx, float* dw, float* partials) {
  const std::int64_t stride = partial_stride(n), pieces = ceil_div(groups, kPartialGroups);
  for_pieces(m.pool, pieces, [&](int, std::int64_t piece) {
    const std::int64_t begin = piece * kPartialGroups, end = std::min(groups, begin + kPartialGroups);
    float* partial = partials + piece * stride;
    std::fill_n(partial, n, 0.0f);
    m.kernels.rms_norm_backward(x + begin * n, w, inverse + begin, dy + begin * n, end - begin, n, dx + begin * n,
                                partial);
  });
  if (dw == nullptr) return;
  for (std::int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) sum += static_cast<double>(partials[piece * stride + i]);
    dw[i] += static_cast<float>(sum);
  }
}

}  // namespace qw::ops
