// What the model gave answers before training: computed once, before the first step, and kept in the output folder for
// a run that goes on.
#pragma once

#include <functional>
#include <vector>

#include "train/internal/method.h"

namespace qw::train {

class References {
 public:
  // Gives sums of log-probabilities, always as many and in the same order.
  using Score = std::function<Result<std::vector<double>>()>;

  // Once: computes them, or, when steps are done, reads <output>/references.safetensors. kUsage when that is of other
  // data.
  Status find(const MethodContext& context, const Score& train, const Score& heldout);
  // Sum i of those given for training and for what is held out. After find().
  double train(std::int64_t i) const { return train_[static_cast<std::size_t>(i)]; }
  double heldout(std::int64_t i) const { return heldout_[static_cast<std::size_t>(i)]; }

 private:
  bool known_ = false;
  std::vector<double> train_, heldout_;
};

}  // namespace qw::train
