// The loss over answers of which it is known that they were liked, or that they were not, and its gradient.
//
//   KTO (Ethayarajh et al., 2024)   liked: d (1 - s(b (r - z))),  not liked: u (1 - s(b (z - r)))
//
// r = log p(answer) - log p0(answer), sums over its tokens, p0 the model before training; z = max(0, the mean of r over
// answers behind prompts they do not belong to), which has no gradient; b beta, d and u the weights, s the logistic
// function. With z = 0 it is APO-zero (D'Oosterlinck et al., 2024).
#pragma once

#include "train/config.h"

namespace qw::train {

struct KtoLoss {
  double loss = 0;
  double d_logprob = 0;  // by log p(answer)
};

// `ratio` is r and `drift` the mean that z is made of.
KtoLoss kto_loss(const KtoConfig& config, double ratio, double drift, bool liked);

// What a recipe says, for checkpoints.
json::Object to_json(const KtoConfig& config);

}  // namespace qw::train
