// The loss over answers that the model drew itself, by how much better each is rewarded than others to its prompt.
//
//   advantage  A = (r - mean) / (std + 1e-4) within the group of answers to a prompt, std with n - 1
//   ratio      p = exp(log pi - log pi_old), of a token
//   token      l = -min(p A, clip(p, 1 - low, 1 + high) A) + beta (e^d - d - 1),  d = log pi_before - log pi
//
//   grpo       the mean over answers of the means over their tokens               (Shao et al., 2024)
//   dapo       the mean over all tokens of a step                                 (Yu et al., 2025; low and high apart)
//   dr_grpo    the sum over tokens / (answers * max_tokens), A without std        (Liu et al., 2025)
//   gspo       as grpo, p of a token being that of its answer, exp(mean(log pi - log pi_old))       (Zheng et al.,
//   2025)
//
// pi_old drew the answers, pi_before is the model before training. As TRL's GRPOTrainer.
#pragma once

#include <cstdint>
#include <span>

#include "train/config.h"

namespace qw::train {

// Of one group, from its rewards, two or more.
void grpo_advantages(GrpoAverage average, std::span<const double> rewards, std::span<double> advantages);

// By log-probabilities of an answer's tokens.
struct DrawnAnswer {
  double advantage = 0;
  std::span<const float> old, before;  // as many as there are tokens; before: only with beta
};

struct GrpoLoss {
  double loss = 0;           // with its tokens' weights
  double divergence = 0;     // sum over tokens, without beta
  std::int64_t clipped = 0;  // tokens that are not learnt from because their ratio has moved far enough
};

// What a token of an answer of `tokens` counts in a step of `answers` with `all_tokens` together.
double grpo_token_weight(const GrpoConfig& config, std::int64_t tokens, std::int64_t answers, std::int64_t all_tokens);

// `d_logprobs` is overwritten with the gradient by `logprobs`.
GrpoLoss grpo_loss(const GrpoConfig& config, const DrawnAnswer& answer, double token_weight,
                   std::span<const float> logprobs, std::span<double> d_logprobs);

// What a recipe says, for checkpoints.
json::Object to_json(const GrpoConfig& config);

}  // namespace qw::train
