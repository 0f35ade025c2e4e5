// Low-rank adapters of a running model (Hu et al., "LoRA", 2021; Liu et al., "DoRA", 2024): beside each product of a
// weight that an adapter changes stands a product through its rank. Rows of one step may use different adapters.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/executor.h"
#include "tensor/tensor.h"

namespace qw::ops {

// y = W x + scale B A x, or with gains y = gain * (W x + scale B A x), then the bias. Of a token table: the row of token t
// gets scale B a_t, a_t = row t of A.
struct LowRankChange {
  Weight weight;
  bool table = false;        // changes look-ups in `weight`; otherwise products with it (a tied table has both uses)
  tensor::Tensor a;          // f32 [rank, in]; of a table [V, rank]
  tensor::Tensor b;          // f32 [out, rank]; of a table [D, rank]
  float scale = 1;
  std::vector<float> gain;   // [out], DoRA: magnitude / length of the row of W + scale B A; empty: none
};

struct LowRankAdapter {
  std::vector<LowRankChange> changes;  // at most one for each weight and use
};

}  // namespace qw::ops
