// Elementwise ops over n values: swiglu (Shazeer, "GLU variants", 2020) and addition, with their gradients.
#pragma once

#include <cstdint>

#include "ops/machine.h"

namespace qw::ops {

// y = silu(gate) up.
void swiglu_forward(const Machine& m, const float* gate, const float* up, std::int64_t n, float* y);
// dgate = dy up silu'(gate), dup = dy silu(gate); overwrites both.
void swiglu_backward(const Machine& m, const float* gate, const float* up, const float* dy, std::int64_t n,
                     float* dgate, float* dup);

// y = a + b; y may be either. The gradient of a sum goes to both sides as it is: `accumulate` adds it where a value
// has other readers, and where it has none the graph lets both names share one buffer.
void add_forward(const Machine& m, const float* a, const float* b, std::int64_t n, float* y);
void accumulate(const Machine& m, const float* dy, std::int64_t n, float* dx);
void copy(const Machine& m, const float* from, std::int64_t n, float* to);
// y [rows, width] = columns [begin, begin + width) of x [rows, from]; and the gradient, which overwrites dx, with zeros
// in the other columns.
void columns_forward(const Machine& m, const float* x, std::int64_t rows, std::int64_t from, std::int64_t begin,
                     std::int64_t width, float* y);
void columns_backward(const Machine& m, const float* dy, std::int64_t rows, std::int64_t from, std::int64_t begin,
                      std::int64_t width, float* dx);
// y = x factor; y may be x.
void scale_forward(const Machine& m, const float* x, float factor, std::int64_t n, float* y);
// y = silu(x); and the gradient, which overwrites dx.
void silu_forward(const Machine& m, const float* x, std::int64_t n, float* y);
void silu_backward(const Machine& m, const float* x, const float* dy, std::int64_t n, float* dx);
// y[r] = sign(p) sqrt(max(|p|, 1e-6)) of p = scale (a_r . b_r); and the gradient, which overwrites both and is 0 where the bound holds.
void match_rows_forward(const Machine& m, const float* a, const float* b, float scale, std::int64_t rows, std::int64_t n, float* y);
void match_rows_backward(const Machine& m, const float* a, const float* b, float scale, const float* dy, std::int64_t rows,
                         std::int64_t n, float* da, float* db);
// y = max(x, 0); and the gradient, which overwrites dx: dy where x > 0, else 0 (at 0 too, as PyTorch has it).
void relu_forward(const Machine& m, const float* x, std::int64_t n, float* y);
void relu_backward(const Machine& m, const float* x, const float* dy, std::int64_t n, float* dx);
// y [rows, a_width + b_width] = a beside b; its gradients are columns_forward of dy.
void concat_forward(const Machine& m, const float* a, std::int64_t a_width, const float* b, std::int64_t b_width,
                    std::int64_t rows, float* y);
// Rounded to nearest even; a NaN stays one.
void to_bf16(const Machine& m, const float* from, std::int64_t n, std::uint16_t* to);
void from_bf16(const Machine& m, const std::uint16_t* from, std::int64_t n, float* to);
void fill_zero(const Machine& m, std::int64_t n, float* x);

}  // namespace qw::ops
