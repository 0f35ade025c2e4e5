// The gated delta rule (Yang et al., "Gated delta networks", 2024): linear attention whose memory S [key_dim, value_dim] of
// each value head forgets by a gate and writes what it does not know yet; and its gradient.
//
//   q, k made unit vectors (x rsqrt(sum x^2 + 1e-6)), q / sqrt(key_dim)
//   g = -exp(a_log) softplus(forget + dt_bias),  beta = sigmoid(write)
//   S <- e^g S,  d = beta (v - S^T k),  S <- S + k d^T,  y = S^T q
//
// Running, the rule is computed in chunks of positions of the sequence (Kernels::delta_rule_chunks): a step may begin and end
// anywhere in a chunk, and what a token gives does not depend on that, not by a bit. Training computes it token by token
// (Kernels::delta_rule; the same function with other roundings), as its backward pass needs the state after each.
#pragma once

#include <cstdint>
#include <span>

#include "ops/executor.h"
#include "ops/machine.h"

namespace qw::ops {

// Rows between the states that the forward pass of training keeps; between them the backward pass computes them again.
inline constexpr std::int64_t kDeltaRuleKept = 64;

struct DeltaRuleArgs {
  DeltaRuleSpec spec;
  std::int64_t rows = 0;
  const float* x = nullptr;        // [rows, input_width]: q | k | v
  const float* forget = nullptr;   // [rows, Hv]
  const float* write = nullptr;    // [rows, Hv]
  const float* a_log = nullptr;    // [Hv]
  const float* dt_bias = nullptr;  // [Hv]
  float* y = nullptr;              // [rows, Hv * value_dim]; backward: scratch
  float* keys = nullptr;           // [2 key_heads, rows, key_dim], scratch: unit queries, then keys
  float* gates = nullptr;          // [rows, 2 Hv], scratch: e^g and beta
};

// Fills keys and gates.
void delta_rule_prepare(const Machine& m, const DeltaRuleArgs& args);
// Rows [first, first + n) of one sequence, from `position` on, through value head h. `state`: spec.head_state_floats() floats,
// read (but at position 0) and written.
void delta_rule_run(const Machine& m, const DeltaRuleArgs& args, std::int64_t first, std::int64_t n, std::int64_t position,
                    std::int32_t h, float* state);

// Training: documents of rows [cu_seqlens[d], cu_seqlens[d + 1]).
struct DeltaRuleTraining {
  DeltaRuleArgs forward;
  std::span<const std::int32_t> cu_seqlens;
  float* states = nullptr;   // [ceil(rows / kDeltaRuleKept), Hv, key_dim, value_dim]: before every so many rows
  float* scratch = nullptr;  // delta_rule_scratch_floats
  const float* dy = nullptr;
  float *dx = nullptr, *dforget = nullptr, *dwrite = nullptr;  // overwritten
  float *da_log = nullptr, *ddt_bias = nullptr;                // add; null: frozen
};
std::int64_t delta_rule_state_floats(const DeltaRuleSpec& spec, std::int64_t rows);  // of `states`
std::int64_t delta_rule_scratch_floats(const Machine& m, const DeltaRuleSpec& spec);
void delta_rule_forward(const Machine& m, const DeltaRuleTraining& args);
void delta_rule_backward(const Machine& m, const DeltaRuleTraining& args);

}  // namespace qw::ops
