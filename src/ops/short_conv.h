// A causal convolution of a few taps over each column, with silu (the short convolution of linear-attention layers; Fu et
// al., "Hungry hungry hippos", 2022), and its gradient.
//
//   s[t, c] = sum over j of w[c, j] x[t - (taps - 1 - j) dilation, c],  y = silu(s);  inputs before the sequence's first are 0
#pragma once

#include <cstdint>
#include <span>

#include "ops/machine.h"

namespace qw::ops {

struct ShortConvArgs {
  std::int64_t rows = 0, width = 0, taps = 0;  // of one sequence; C = width
  std::int64_t dilation = 1;                   // rows between two taps
  const float* x = nullptr;                    // [rows, C]
  const float* w = nullptr;                    // [C, taps]
  float* y = nullptr;                          // [rows, C]
  const float* dy = nullptr;                   // backward
  float* dx = nullptr;                         // backward, overwritten
  float* dw = nullptr;                         // backward, adds; null: a frozen weight
};

// w [C, taps] as `by_tap` [taps, C], which the forward pass reads along rows.
void short_conv_taps(const float* w, std::int64_t taps, std::int64_t width, float* by_tap);
// Rows in the order of the sequence. `window` [(taps - 1) dilation, C]: the inputs before the first row, oldest first; null: zeros.
void short_conv_forward(const Machine& m, const ShortConvArgs& args, const float* by_tap, const float* window);
// Puts the last (taps - 1) dilation inputs into `window`; `fresh`: what it holds belongs to another sequence.
void short_conv_advance(const ShortConvArgs& args, bool fresh, float* window);
// Documents are rows [cu_seqlens[d], cu_seqlens[d + 1]); they do not see each other.
void short_conv_backward(const Machine& m, const ShortConvArgs& args, std::span<const std::int32_t> cu_seqlens);

}  // namespace qw::ops
