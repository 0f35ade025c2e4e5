// Losses over pairs of answers, one of which was preferred, and their gradients by what the model gives the answers.
//
//   DPO (Rafailov et al., 2023)   D = (w - w0) - (l - l0),  -(1 - e) log s(b D) - e log s(-b D)       e > 0: cDPO
//   IPO (Azar et al., 2023)       (D / tokens - 1 / (2 b))^2, each of w, w0, l, l0 divided by its own answer's tokens
//   SimPO (Meng et al., 2024)     -(1 - e) log s(x) - e log s(-x),  x = b (w' - l') - g
//   ORPO (Hong et al., 2024)      -w' - b log s(log odds w' - log odds l'),  odds = p / (1 - p)
//
// w and l are log-probabilities of the preferred answer and the other, summed over their tokens, w0 and l0 those of the
// model before training, ' is the mean over tokens, s the logistic function; b beta, e label_smoothing, g gamma.
#pragma once

#include <cstdint>

#include "train/config.h"

namespace qw::train {

// Of one answer.
struct AnswerScore {
  double logprob = 0, reference = 0;  // sums over its tokens; by the model, and by the model before training
  std::int64_t tokens = 0;            // > 0
};

struct PairLoss {
  double loss = 0;
  double d_chosen = 0, d_rejected = 0;  // by the sums `logprob`
  double margin = 0;                    // how much better the model likes the preferred answer: above 0 is right
};

PairLoss pair_loss(const PreferenceConfig& config, const AnswerScore& chosen, const AnswerScore& rejected);

// What a recipe says, for checkpoints.
json::Object to_json(const PreferenceConfig& config);
// Whether a method compares with the model before training.
bool needs_reference(PreferenceMethod method);

}  // namespace qw::train
