// Everything about a training pass that depends on the program alone: which values share memory, which gradients are
// wanted, who writes a gradient first and who adds to it, and where every buffer lies.
//
// Of n ops, op i runs forward at the time i; backward they run from the last to the first, and between them those that run
// forward again (recompute_plan.h).
#pragma once

#include <cstdint>
#include <vector>

#include "ops/internal/arena.h"
#include "ops/program.h"
#include "ops/training_graph.h"

namespace qw::ops {

struct TrainingPlan {
  struct OpPlan {
    bool backward = false;  // this op has something to do backward
    bool train_weight = false, train_bias = false;
    int adapter = -1;  // index into TrainingOptions::adapters
    // By input: the gradient is wanted; this op writes it first (others add); it is the same memory as d(out).
    bool wanted[5] = {}, first[5] = {}, shared[5] = {};
    int temporary[5] = {-1, -1, -1, -1, -1};  // arena buffer for a gradient that an overwriting kernel makes and that is added
    int inverse = -1;                 // rms_norm: 1/rms of each group
    int lse = -1;                     // attention: log-sum-exp
    int u = -1, t = -1;               // adapter: x A^T scaled, and its gradient
    int lengths = -1, z = -1;         // adapter with a magnitude: row lengths, and outputs before it
    int partials = -1;                // rms_norm: partial sums of dw
    // experts: softmax [N, E], gate and up [A, F] and outputs [A, D] of the assignments; and scratch of one direction
    int probabilities = -1, gate = -1, up = -1, outputs = -1, inputs = -1, hidden = -1;
    int back_inputs = -1, back_hidden = -1, doutputs = -1, dhidden = -1, dgate = -1, dup = -1;
    // delta_rule: states between stretches of rows; unit vectors, gates and (backward) outputs, scratch of one direction
    int states = -1, keys = -1, gates = -1, back_keys = -1, back_gates = -1, back_y = -1;
    int angles = -1;                  // rope: index into rope_specs
  };
  std::vector<OpPlan> ops, forward_ops;  // in the backward pass; in the forward pass, where buffers may be others
  // Arena buffer of each value in either pass, and of its gradient (-1: none)
  std::vector<int> value, forward_value, gradient;
  std::vector<std::vector<std::int32_t>> before;  // by op: those that run forward again just before it runs backward
  std::vector<int> half;  // of each value: where it lies in bfloat16 between the passes (-1: it does not)
  std::vector<std::vector<Value>> opened;  // by op: those that become float32 again before it, and what runs for it, runs
  std::vector<RopeSpec> rope_specs;  // distinct
  Arena arena;
  std::int32_t hidden = -1;  // the value that enters the head
};

TrainingPlan make_training_plan(const Program& program, const TrainingOptions& options);

}  // namespace qw::ops
