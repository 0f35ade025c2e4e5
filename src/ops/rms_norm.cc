#include "ops/rms_norm.h"

#include <algorithm>

namespace qw::ops {
namespace {
// Groups of one partial sum of dw. A function of nothing but this constant, so the order of the sum is fixed.
constexpr std::int64_t kPartialGroups = 512;

std::int64_t partial_stride(std::int64_t n) { return round_up(n, 16); }  // 64 bytes: no shared cache lines
}  // namespace

void rms_norm_forward(const Machine& m, const float* x, const float* w, float eps, std::int64_t groups, std::int64_t n,
                      float* y, float* inverse, std::int64_t sets) {
  for_rows(m.pool, groups, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t step = sets == 1 ? end - begin : 1;
    for (std::int64_t g = begin; g < end; g += step)
      m.kernels.rms_norm(x + g * n, w + g % sets * n, eps, step, n, y + g * n, inverse == nullptr ? nullptr : inverse + g);
  });
}

std::size_t rms_norm_partial_bytes(std::int64_t groups, std::int64_t n, std::int64_t sets) {
  return static_cast<std::size_t>(ceil_div(groups, kPartialGroups) * partial_stride(n * sets)) * sizeof(float);
}

void rms_norm_backward(const Machine& m, const float* x, const float* w, const float* inverse, const float* dy,
                       std::int64_t groups, std::int64_t n, float* dx, float* dw, float* partials, std::int64_t sets) {
  const std::int64_t stride = partial_stride(n * sets), pieces = ceil_div(groups, kPartialGroups);
  for_pieces(m.pool, pieces, [&](int, std::int64_t piece) {
    const std::int64_t begin = piece * kPartialGroups, end = std::min(groups, begin + kPartialGroups);
    float* partial = partials + piece * stride;
    std::fill_n(partial, n * sets, 0.0f);
    const std::int64_t step = sets == 1 ? end - begin : 1;
    for (std::int64_t g = begin; g < end; g += step)
      m.kernels.rms_norm_backward(x + g * n, w + g % sets * n, inverse + g, dy + g * n, step, n, dx + g * n, partial + g % sets * n);
  });
  if (dw == nullptr) return;
  for (std::int64_t i = 0; i < n * sets; ++i) {
    double sum = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) sum += static_cast<double>(partials[piece * stride + i]);
    dw[i] += static_cast<float>(sum);
  }
}

}  // namespace qw::ops
