// Rotary position embedding (Su et al., "RoFormer", 2021), pairs (i, i + rotary/2), and its gradient, which is the
// rotation by the opposite angle.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/executor.h"
#include "ops/machine.h"

namespace qw::ops {

// Turns per token of each pair in float as the reference computes them, with position scaling applied: [rotary / 2]; of
// kDynamicNtk [levels, rotary / 2], see ntk_level.
std::vector<float> rope_frequencies(const RopeSpec& spec);

// kDynamicNtk: which frequencies a sequence has whose prompt is so long. Level 0 is the trained base; level l > 0
// multiplies it by alpha^(rotary / (rotary - 2)), alpha = 2^(l + 1) - 1, and serves prompts of up to 2^l contexts.
// A sequence keeps its level while it grows, so that the keys in its cache stay valid. Source: modeling_qwen.py of the
// published checkpoints.
int ntk_level(const RopeSpec& spec, std::int64_t prompt_tokens);

// What training sees of a spec: neither dynamic NTK nor log-n nor chunks.
RopeSpec as_trained(RopeSpec spec);

// Does it matter how long a sequence's prompt is?
bool looks_at_prompts(const RopeSpec& spec);
// What a cache's keys depend on beside the tokens before them: equal for two lengths of prompts, so are the keys.
std::int64_t prompt_form(const RopeSpec& spec, std::int64_t prompt_tokens);

// Where a row stands: its position, or under dual chunk attention what is counted there.
std::int64_t rope_place(const RopeSpec& spec, std::int64_t position);

// cos and sin of place * frequency, times the spec's factors: both [rows, rotary / 2]. `prompts` [rows]: tokens of the
// prompt of each row's sequence; null: the spec does not look at them.
void rope_angles(const Machine& m, const RopeSpec& spec, const std::vector<float>& frequencies,
                 const std::int32_t* positions, const std::int32_t* prompts, std::int64_t rows, float* cos, float* sin);

// Rotates x [rows, width] in place.
void rope_forward(const Machine& m, const RopeSpec& spec, const float* cos, const float* sin, std::int64_t rows,
                  std::int64_t width, float* x);
// Turns the gradient of the output into the gradient of the input, in place.
void rope_backward(const Machine& m, const RopeSpec& spec, const float* cos, const float* sin, std::int64_t rows,
                   std::int64_t width, float* dy);

}  // namespace qw::ops
