// Root-mean-square normalisation (Zhang and Sennrich, 2019) over groups of `n` values, and its gradient.
//
//   r = 1 / sqrt(mean(x^2) + eps),  y = x r w
//   dx += r (dy w) - x r^3 mean(dy w x),  dw += sum over groups of dy x r
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/machine.h"

// `sets`: w holds so many weights of n numbers; group g has those of g % sets.

namespace qw::ops {

// `groups` groups of `n`; inverse[g] = r when not null. y may be x.
void rms_norm_forward(const Machine& m, const float* x, const float* w, float eps, std::int64_t groups, std::int64_t n,
                      float* y, float* inverse, std::int64_t sets = 1);

// Bytes of `partials` below.
std::size_t rms_norm_partial_bytes(std::int64_t groups, std::int64_t n, std::int64_t sets = 1);
// Adds to dx and dw (dw may be null: a frozen weight).
void rms_norm_backward(const Machine& m, const float* x, const float* w, const float* inverse, const float* dy,
                       std::int64_t groups, std::int64_t n, float* dx, float* dw, float* partials, std::int64_t sets = 1);

}  // namespace qw::ops
