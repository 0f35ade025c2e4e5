#include "ops/short_conv.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

namespace qw::ops {
namespace {

// Columns and rows of one piece of the forward pass: its weights stay in a first-level cache.
constexpr std::int64_t kBlock = 512, kRows = 16;
constexpr std::int64_t kMostTaps = 64;
constexpr std::int64_t kColumns = 64;  // of one piece of the backward pass: a few cache lines of each row

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// The convolution of row t before silu, by column, at the sequence's beginning.
float tap_sum(const ShortConvArgs& a, std::int64_t t, std::int64_t c) {
  float s = 0;
  for (std::int64_t j = std::max<std::int64_t>(0, a.taps - 1 - t / a.dilation); j < a.taps; ++j)
    s += a.w[c * a.taps + j] * a.x[(t - (a.taps - 1 - j) * a.dilation) * a.width + c];
  return s;
}

}  // namespace

void short_conv_taps(const float* w, std::int64_t taps, std::int64_t width, float* by_tap) {
  for (std::int64_t c = 0; c < width; ++c)
    for (std::int64_t j = 0; j < taps; ++j) by_tap[j * width + c] = w[c * taps + j];
}

void short_conv_forward(const Machine& m, const ShortConvArgs& a, const float* by_tap, const float* window) {
  const std::int64_t blocks = ceil_div(a.width, kBlock);
  for_pieces(m.pool, ceil_div(a.rows, kRows) * blocks, [&](int, std::int64_t piece) {
    const std::int64_t first = piece / blocks * kRows, begin = piece % blocks * kBlock, n = std::min(kBlock, a.width - begin);
    std::array<const float*, kMostTaps> x{};
    QW_CHECK(a.taps <= kMostTaps);
    for (std::int64_t t = first; t < std::min(a.rows, first + kRows); ++t) {
      for (std::int64_t j = 0; j < a.taps; ++j) {
        const std::int64_t from = t - (a.taps - 1 - j) * a.dilation;
        const float* row = from >= 0          ? a.x + from * a.width
                           : window != nullptr ? window + (from + (a.taps - 1) * a.dilation) * a.width
                                               : nullptr;
        x[static_cast<std::size_t>(j)] = row == nullptr ? nullptr : row + begin;
      }
      m.kernels.short_conv(x.data(), by_tap + begin, a.width, a.taps, n, a.y + t * a.width + begin);
    }
  });
}

void short_conv_advance(const ShortConvArgs& a, bool fresh, float* window) {
  const std::int64_t keep = (a.taps - 1) * a.dilation, n = std::min(keep, a.rows);
  const auto bytes = [&](std::int64_t rows) { return static_cast<std::size_t>(rows * a.width) * sizeof(float); };
  if (fresh) std::memset(window, 0, bytes(keep));
  std::memmove(window, window + n * a.width, bytes(keep - n));
  std::memcpy(window + (keep - n) * a.width, a.x + (a.rows - n) * a.width, bytes(n));
}

void short_conv_backward(const Machine& m, const ShortConvArgs& a, std::span<const std::int32_t> cu_seqlens) {
  for_pieces(m.pool, ceil_div(a.width, kColumns), [&](int, std::int64_t piece) {
    const std::int64_t begin = piece * kColumns, end = std::min(a.width, begin + kColumns);
    std::vector<double> ds, dw(static_cast<std::size_t>(a.taps));
    for (std::int64_t c = begin; c < end; ++c) {
      std::fill(dw.begin(), dw.end(), 0.0);
      for (std::size_t d = 0; d + 1 < cu_seqlens.size(); ++d) {
        const std::int64_t at = cu_seqlens[d], rows = cu_seqlens[d + 1] - at;
        ShortConvArgs doc = a;
        doc.x = a.x + at * a.width;
        ds.resize(static_cast<std::size_t>(rows));
        for (std::int64_t t = 0; t < rows; ++t) {
          const double s = static_cast<double>(tap_sum(doc, t, c)), p = sigmoid(s);
          ds[static_cast<std::size_t>(t)] = static_cast<double>(a.dy[(at + t) * a.width + c]) * p * (1 + s * (1 - p));
        }
        for (std::int64_t t = 0; t < rows; ++t) {
          double dx = 0;
          for (std::int64_t j = 0; j < a.taps; ++j) {
            const std::int64_t to = t + (a.taps - 1 - j) * a.dilation;  // the row that this input enters with tap j
            if (to >= rows) continue;
            dx += static_cast<double>(a.w[c * a.taps + j]) * ds[static_cast<std::size_t>(to)];
            dw[static_cast<std::size_t>(j)] +=
                static_cast<double>(doc.x[t * a.width + c]) * ds[static_cast<std::size_t>(to)];
          }
          a.dx[(at + t) * a.width + c] = static_cast<float>(dx);
        }
      }
      for (std::int64_t j = 0; j < a.taps && a.dw != nullptr; ++j)
        a.dw[c * a.taps + j] += static_cast<float>(dw[static_cast<std::size_t>(j)]);
    }
  });
}

}  // namespace qw::ops
