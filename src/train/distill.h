// The loss of a student's logits beside a teacher's, and its gradient.
//
//   t = softmax(teacher / T), s = softmax(student / T)
//   forward   KL(t || s)        reverse   KL(s || t)
//   jsd       b KL(t || m) + (1 - b) KL(s || m),  m = b t + (1 - b) s       (Agarwal et al., 2024, as TRL's GKDTrainer)
//
// T temperature, b beta; there is no factor T^2. Beside it, `hard` of the likelihood of the text's own token.
#pragma once

#include <cstdint>
#include <span>

#include "train/config.h"

namespace qw::train {

// Of one row, both [n]: returns the loss and overwrites `student` with its gradient by the student's logits; `teacher`
// is overwritten. `label` is the text's own token.
double distill_loss(const DistillConfig& config, std::span<float> student, std::span<float> teacher,
                    std::int64_t label);

// What a recipe says, for checkpoints.
json::Object to_json(const DistillConfig& config);

}  // namespace qw::train
