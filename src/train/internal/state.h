// What a Trainer is made of; shared by the files that implement it.
#pragma once

#include <chrono>
#include <limits>
#include <optional>

#include "ops/training_graph.h"
#include "tokenizer/tokenizer.h"
#include "train/internal/compute_record.h"
#include "train/internal/gradient_sum.h"
#include "train/internal/lora.h"
#include "train/internal/method.h"
#include "train/internal/moments.h"
#include "train/internal/tensor_group.h"
#include "train/optimizer.h"
#include "train/trainer.h"

namespace qw::train {

struct Trainer::State {
  State(TrainConfig c, const data::Dataset& d, const kernels::Kernels& k, base::ThreadPool& p, tokenizer::Tokenizer t,
        Communicator* r)
      : config(std::move(c)), dataset(d), kernels(k), pool(p), tokenizer(std::move(t)), ranks(r) {}

  TrainConfig config;
  const data::Dataset& dataset;
  const kernels::Kernels& kernels;
  base::ThreadPool& pool;
  tokenizer::Tokenizer tokenizer;
  Communicator* ranks;                         // null: this process is alone
  std::unique_ptr<Lora> lora;                  // with config.lora: has the model, and outlives the graph
  std::unique_ptr<models::Model> whole_model;  // without
  std::unique_ptr<TensorGroup> group;          // with parallel.tensor > 1: of all parameters this process holds slices
  std::unique_ptr<ops::TrainingGraph> graph;
  ops::ParameterBuffer weights, average;  // average: empty tensors without ema
  std::unique_ptr<GradientSum> share;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Method> method;

  std::int64_t step = 0, tokens = 0;
  double best_loss = std::numeric_limits<double>::infinity();
  std::int64_t since_best = 0;  // evaluations
  std::optional<double> mean_loss;  // running, of the steps that were learnt from
  std::int64_t rollbacks = 0;       // to the newest checkpoint; not part of checkpoints
  double peak_flops = 0;
  // Operations that led to the weights as they are, by phase (part of checkpoints), and all that this object did.
  double learning_flops = 0, evaluation_flops = 0, spent_flops = 0, last_evaluation_flops = 0;
  std::int64_t uncounted_steps = 0;  // done before operations were counted
  std::unique_ptr<ComputeRecord> record;

  // What was done since the last call, by all processes.
  Result<double> take_flops() {
    double flops = graph->take_flops() + method->take_other_flops();
    QW_TRY(add_up(std::span(&flops, 1)));
    spent_flops += flops;
    return flops;
  }
  ComputeProgress compute() const {
    return {step, tokens, learning_flops, evaluation_flops, spent_flops, uncounted_steps};
  }
  double seconds_a_step = 0;  // smoothed, for the time left; not part of checkpoints

  Result<double> gradient_norm();
  // A whole tensor at rank 0, of slices and of shares; elsewhere `whole` stays empty. Called by all processes.
  Status join(std::span<const float> own, std::size_t parameter, std::vector<std::byte>& whole);
  Status whole_moment(Moment moment, std::size_t parameter, std::vector<std::byte>& whole);

  kernels::GemmPrecision gemm_precision() const {
    return config.precision == Precision::kBf16 ? kernels::GemmPrecision::kBF16 : kernels::GemmPrecision::kF32;
  }
  const models::Model& model() const { return lora != nullptr ? lora->model() : *whole_model; }
  // Names a parameter of the graph's table in checkpoints.
  std::string name(std::size_t parameter) const {
    const std::size_t n = model().parameters().size();
    return parameter < n ? model().parameters()[parameter].own_name() : lora->names()[parameter - n];
  }
  MethodContext context() const {
    return {config, dataset, tokenizer, *graph, weights, served_weights(), step, kernels, pool, model(), lora.get(), *share};
  }
  // Whether this process writes files; the others follow what it says of them.
  bool leads() const { return ranks == nullptr || ranks->rank() == 0; }
  bool alone() const { return ranks == nullptr || ranks->size() == 1; }
  int processes() const { return alone() ? 1 : ranks->size(); }
  Status add_up(std::span<double> values) { return alone() ? Status{} : ranks->add_up(values); }  // over all of them
  // Of the whole model, of which this process may have a slice.
  const tensor::Shape& whole_shape(std::size_t parameter) const {
    return group != nullptr ? group->whole(parameter) : weights.shape(parameter);
  }
  bool cut(std::size_t parameter) const { return group != nullptr && group->cuts(parameter); }
  bool has_average() const { return config.ema > 0; }
  // What evaluation and export use.
  const ops::ParameterBuffer& served_weights() const { return has_average() ? average : weights; }
};

// Floating-point operations of forward and backward over a batch (2 a multiply-add; causal attention counted once). Of
// frozen weights there is no gradient to compute, and what adapters need is not counted.
double training_flops(const models::Model& model, bool frozen, const data::PackedBatch& batch);
// Best rate of a square matrix product over a few tries, in operations a second.
double measure_peak_flops(kernels::GemmPrecision precision, const kernels::Kernels& kernels, base::ThreadPool& pool);
std::vector<UpdateRule> update_rules(const models::Model& model, OptimizerKind kind);

}  // namespace qw::train
