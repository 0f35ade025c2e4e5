// Which activations are not kept from the forward pass to the backward pass, and which ops run again to make them anew
// (Chen et al., "Training deep nets with sublinear memory cost", 2016).
//
// A program is cut where the fewest values cross, which in a decoder is where only the residual stream does. What
// crosses a cut is kept. Selective: within a piece, outputs of ops that work on single values or rows are made anew;
// those of products, attention and the like are kept. Full: pieces are joined to layers, each with one op that mixes
// tokens, and of a layer nothing is kept but what enters it. The last layer is kept in either case: its backward comes
// first.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/internal/training_plan.h"
#include "ops/program.h"

namespace qw::ops {

struct RecomputePlan {
  std::vector<bool> dropped;                      // by value
  std::vector<std::vector<std::int32_t>> before;  // by op: those that run just before it runs backward, in order
};

// `ops`: which of them run backward is known. Without recomputation nothing is dropped.
RecomputePlan make_recompute_plan(const Program& program, const TrainingOptions& options,
                                  const std::vector<TrainingPlan::OpPlan>& ops);

// The values an op reads when it runs backward.
std::vector<Value> backward_reads(const Op& op, const TrainingPlan::OpPlan& plan);

}  // namespace qw::ops
