// Losses over the scores that a head gives of whole documents, and their gradients.
//
//   reward (Bradley & Terry, 1952)   -log s(w - l - m) + c (w + l)^2, w and l the rewards of the preferred answer and
//   the
//                                    other, m the margin that is asked for, c `center`, s the logistic function
//   classes                          -log softmax(scores)[class]
#pragma once

#include <cstdint>
#include <span>

#include "train/config.h"

namespace qw::train {

struct ScoreLoss {
  double loss = 0;
  bool right = false;  // the preferred answer has the higher reward; the class has the highest score
  double margin = 0;   // reward: w - l; classes: the score of the class less the best of the others
};

// `d_scores` is overwritten with the gradient by `scores`: of a reward the preferred answer's and the other's.
ScoreLoss reward_loss(const RewardConfig& config, std::span<const float, 2> scores, double asked_margin,
                      std::span<double, 2> d_scores);
ScoreLoss class_loss(std::span<const float> scores, std::int64_t wanted, std::span<double> d_scores);

}  // namespace qw::train
