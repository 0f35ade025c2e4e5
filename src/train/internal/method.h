// What a run learns from and by which loss: one file each, and the training loop knows none of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "data/packing.h"
#include "ops/training_graph.h"
#include "tokenizer/tokenizer.h"
#include "train/internal/gradient_sum.h"
#include "train/preference.h"
#include "train/trainer.h"

namespace qw::train {

class Lora;

// What of a trainer its method works with; all of it outlives the method.
struct MethodContext {
  const TrainConfig& config;
  const data::Dataset& dataset;
  const tokenizer::Tokenizer& tokenizer;
  ops::TrainingGraph& graph;
  const ops::ParameterBuffer& weights;  // those that are trained, in the table of the graph
  const ops::ParameterBuffer& served;   // what is evaluated: their average, if there is one
  const std::int64_t& step;             // done so far
  const kernels::Kernels& kernels;
  base::ThreadPool& pool;
  const models::Model& model;
  const Lora* lora;  // null: all weights are trained
  GradientSum& share;  // of this process in steps and evaluations

  // log p of the label of every row; the graph is then ready for backward.
  Result<std::vector<float>> logprobs(const ops::ParameterBuffer& by, const data::PackedBatch& batch) const;
};

struct MethodSize {
  std::int64_t sequences = 0, rows = 0;  // of an epoch
  std::int64_t left_out = 0;             // examples that are too long
};

class Method {
 public:
  virtual ~Method() = default;
  // Goes to a place in the data; before all else. Errors: those of the streams in data.
  virtual Status open(const data::Cursor& at) = 0;
  virtual data::Cursor cursor() const = 0;
  // Draws what the next step learns from.
  virtual Status draw() = 0;
  virtual std::span<const data::PackedBatch> batches() const = 0;  // of the step; their rows are what is counted
  // Adds the gradients of what was drawn; sets record.loss and what else it tells.
  virtual Status learn(StepRecord& record) = 0;
  virtual Result<EvalRecord> evaluate() = 0;
  virtual MethodSize size() const = 0;
  // Operations since the last call beside those of the context's graph: a teacher's, an engine's that draws.
  virtual double take_other_flops() { return 0; }
  // What must be equal for a run to go on, by the table's name in the recipe.
  virtual json::Object identity() const { return {}; }
  // What of the data that were drawn steps to come still need; goes into checkpoints. Empty: nothing.
  virtual json::Object state() const { return {}; }
  // After open(). kBadInput: it is not what state() gives.
  virtual Status restore(const json::Value&) { return {}; }
};

// As config says.
std::unique_ptr<Method> make_method(const MethodContext& context);
std::unique_ptr<Method> make_text_method(const MethodContext& context);
std::unique_ptr<Method> make_preference_method(const MethodContext& context);
std::unique_ptr<Method> make_kto_method(const MethodContext& context);
std::unique_ptr<Method> make_distill_method(const MethodContext& context);
std::unique_ptr<Method> make_grpo_method(const MethodContext& context);
std::unique_ptr<Method> make_embedding_method(const MethodContext& context);
std::unique_ptr<Method> make_ranking_method(const MethodContext& context);
std::unique_ptr<Method> make_score_method(const MethodContext& context);  // rewards and classes

// The mean over all labels that count in all these batches: gradients, and record.loss.
Status learn_texts(const MethodContext& context, std::span<const data::PackedBatch> batches, StepRecord& record);

// Of the documents of a batch, in their order; references are 0.
std::vector<AnswerScore> answer_scores(const data::PackedBatch& batch, std::span<const float> logprobs);
// kFailed, naming the step, if the loss is not finite.
Status check_finite(const EvalRecord& record);

}  // namespace qw::train
