// Answers that the model under training gives: drawn by the engine that serves, from the weights as they are now.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/loaded_model.h"
#include "train/internal/method.h"

namespace qw::train {

struct Question {
  std::vector<tokenizer::TokenId> prompt;
  std::uint64_t seed = 0;
};

struct Rollout {
  std::vector<tokenizer::TokenId> tokens;  // with the token that ended it
  std::vector<float> logprobs;             // of the model's own distribution, by the engine
  bool ended = false;                      // by itself
};

class Rollouts {
 public:
  // What is drawn from is the whole distribution at `temperature` 1, or the likeliest token at 0.
  Rollouts(const MethodContext& context, std::int64_t max_tokens) : c_(context), max_tokens_(max_tokens) {}

  // Makes the engine run `weights` (the table of the training graph) as the exported model will: whole weights are
  // packed anew, in the precision of training; adapters are put on their base, which stays loaded.
  Status begin(const ops::ParameterBuffer& weights);
  // Between begin and end. The same for any number of threads, whatever else is asked.
  Result<std::vector<Rollout>> answers(std::span<const Question> questions, float temperature);
  Status end();
  // Operations since the last call, as if each prompt had been read anew (the engine reads what prompts share once).
  double take_flops() { return std::exchange(flops_, 0); }

 private:
  Status load(std::span<const tensor::ConstView> weights);
  Status complete(std::vector<Rollout>& rollouts);
  Status adapt(const ops::ParameterBuffer& weights);

  MethodContext c_;
  std::int64_t max_tokens_;
  std::unique_ptr<engine::LoadedModel> loaded_;
  std::int32_t adapter_ = -1;
  double flops_ = 0;
};

}  // namespace qw::train
