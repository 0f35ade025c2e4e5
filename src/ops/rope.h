// Rotary position embedding (Su et al., "RoFormer", 2021), pairs (i, i + rotary/2), and its gradient, which is the
// rotation by the opposite angle.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/executor.h"
#include "ops/machine.h"

namespace qw::ops {

// Turns per token of each pair, [rotary / 2], in float as the reference computes them; with position scaling applied.
std::vector<float> rope_frequencies(const RopeSpec& spec);

// cos and sin of position * frequency, times the spec's attention factor under YaRN: both [rows, rotary / 2].
void rope_angles(const Machine& m, const RopeSpec& spec, const std::vector<float>& frequencies,
                 const std::int32_t* positions, std::int64_t rows, float* cos, float* sin);

// Rotates x [rows, width] in place.
void rope_forward(const Machine& m, const RopeSpec& spec, const float* cos, const float* sin, std::int64_t rows,
                  std::int64_t width, float* x);
// Turns the gradient of the output into the gradient of the input, in place.
void rope_backward(const Machine& m, const RopeSpec& spec, const float* cos, const float* sin, std::int64_t rows,
                   std::int64_t width, float* dy);

}  // namespace qw::ops
