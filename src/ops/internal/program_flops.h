// What a recorded program costs over a batch, counted op by op: two operations for each multiply-add of its products,
// attention, experts, short convolutions and delta rules. What works on single values (norms, positions, activations,
// sums) is left out, as is what an implementation computes a second time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/internal/training_plan.h"

namespace qw::ops {

class ProgramFlops {
 public:
  // `shapes`: of all parameters, those of the adapters behind the model's.
  ProgramFlops(const Program& program, const TrainingPlan& plan, const std::vector<tensor::Shape>& shapes,
               const TrainingOptions& options);

  // Of a batch of documents [c[i], c[i+1]), the head included whether or not it is asked for.
  double forward(std::span<const std::int32_t> cu_seqlens) const { return cost(forward_, cu_seqlens); }
  // Of its gradients: only those that the plan computes, so of frozen weights none.
  double backward(std::span<const std::int32_t> cu_seqlens) const { return cost(backward_, cu_seqlens); }

 private:
  struct Window {
    std::int64_t tokens = 0;  // that a row sees at most; 0: all before it
    double a_pair = 0;
  };
  struct Cost {
    double a_row = 0;
    std::vector<Window> pairs;
    void add_pairs(std::int64_t window, double a_pair);
  };
  static double cost(const Cost& of, std::span<const std::int32_t> cu_seqlens);
  Cost forward_, backward_;
};

}  // namespace qw::ops
