// The training loop: packed batches, forward, backward, optimizer, evaluation on held-out shards, checkpoints, export.
//
//   QW_ASSIGN(auto trainer, Trainer::create(config, dataset, kernels, pool));
//   if (resume) QW_TRY(trainer->resume());
//   QW_TRY(trainer->run(callbacks));
//
// Weights after a step are a function of configuration, data and instruction set: thread count, interruption and resume
// do not change a byte, nor does the number of processes where config.parallel.parts is given. The room prints nothing; progress comes through callbacks on the thread that called run().
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "data/packing.h"
#include "json/value.h"
#include "kernels/kernels.h"
#include "models/model.h"
#include "ops/parameter_buffer.h"
#include "train/communicator.h"
#include "train/config.h"

namespace qw::train {

// Of the answers that a step with config.grpo learns from.
struct RolloutRecord {
  // Of those drawn for this step (none when it learns again from the last one's):
  std::int64_t answers = 0;
  double reward = 0, reward_deviation = 0;              // mean; mean over the groups that stayed of their deviation
  std::vector<std::pair<std::string, double>> rewards;  // the mean of each, without its weight
  double tokens = 0;                                    // mean of an answer
  double cut_share = 0;      // of answers that did not end by themselves
  double equal_share = 0;    // of groups that teach nothing, as their rewards are all equal
  double redrawn_share = 0;  // of groups drawn that gave way to others
  double sampler_gap = 0;    // mean |log p by the engine that drew - log p by the trainer| of a token
  double draw_seconds = 0;
  // Of the step:
  double clipped_share = 0;  // of tokens
  std::optional<double> kl;  // with beta: mean divergence from the model before training, of a token
};

struct StepRecord {
  std::int64_t step = 0;         // counts from 1
  double loss = 0;               // mean nats over the labels that count in this optimizer step
  double lr = 0, grad_norm = 0;  // norm before clipping
  std::int64_t tokens = 0;       // training rows seen so far, all steps
  double tps = 0;                // rows a second in this step, of all processes together
  double mfu = 0;                // achieved / measured peak of matrix products at this precision, of all processes
  double seconds_left = 0;       // estimate for the rest of the run
  // With config.preference: how many of the pairs the model has the right way round, and by how much on average. With
  // config.kto `margin` is by how much more liked answers have gained than others (none if a step has but one kind), and
  // `drift` the mean gain of answers behind foreign prompts.
  std::optional<double> accuracy, margin, drift;
  std::optional<RolloutRecord> rollouts;
  std::optional<double> waited;  // of several processes: seconds in which this one only waited for gradients of others
  bool skipped = false;          // not finite, and skip_non_finite is set: weights stayed as they were
  bool broken = false;           // with rollback: not finite, or risen too far. Nothing was learnt, the step does not count
};

struct SourceEval {
  std::string name;
  std::int64_t tokens = 0, bytes = 0;  // labels predicted; bytes of text they stand for (special tokens out)
  double loss = 0;                     // mean nats over all labels
  double bits_per_byte = 0;            // of the text, special tokens out
  std::optional<double> accuracy, margin, mrr, reward;  // as in EvalRecord; `loss` is then the method's, and there are no bytes
};
struct EvalRecord {
  std::int64_t step = 0;
  double eval_loss = 0, bits_per_byte = 0;  // over all sources together
  std::optional<double> accuracy, margin;   // as in StepRecord
  std::optional<double> mrr;                // of embeddings: the mean of 1 / the place at which the right document is found
  std::optional<double> reward;             // of the likeliest answers; eval_loss is then the reward less than 0
  std::vector<SourceEval> sources;
  bool best = false;                        // lowest eval_loss so far
};

// Training broke and went back to a checkpoint. What it had read meanwhile is not read again.
struct RollbackRecord {
  std::int64_t step = 0, to = 0;  // the one that broke, and the checkpoint's
  double loss = 0, grad_norm = 0;
};

// As `qianwen train` prints them.
json::Object to_json(const StepRecord& record);
json::Object to_json(const EvalRecord& record);
json::Object to_json(const RollbackRecord& record);

struct Callbacks {
  std::function<void(const StepRecord&)> on_step;
  std::function<void(const EvalRecord&)> on_eval;
  std::function<void(const std::filesystem::path&)> on_checkpoint;
  std::function<void(const RollbackRecord&)> on_rollback;
  std::function<bool()> stop;  // asked between steps; true = save a checkpoint and return kInterrupted
};

class Trainer {
 public:
  // `dataset`, `kernels`, `pool` and `ranks` must outlive the trainer. With `ranks` every process of the run makes one and
  // calls the same of its methods in the same order; rank 0 alone reads and writes what is in config.output. kUsage when the
  // processes do not have the same recipe, data, initial weights or instruction set.
  static Result<std::unique_ptr<Trainer>> create(TrainConfig config, const data::Dataset& dataset,
                                                 const kernels::Kernels& kernels, base::ThreadPool& pool,
                                                 Communicator* ranks = nullptr);
  ~Trainer();

  // Continues from the newest checkpoint in <output>/checkpoints. kUsage when there is none, or when it was made with
  // another model, tokenizer, data or batch shape; the message names what differs.
  Status resume();
  // Trains up to config.steps, evaluates, saves, and exports to <output>/model, or an adapter to <output>/adapter. What it
  // cost and comes from is <output>/compute.json, also beside what is exported (docs/formats/compute_record.md).
  Status run(const Callbacks& callbacks);

  // The parts of run(), for tests and for other loops.
  Result<StepRecord> step();
  // One optimizer step on these micro-batches as texts; the loss is divided by the kept labels of all of them.
  Result<StepRecord> step_on(std::span<const data::PackedBatch> batches);
  Result<EvalRecord> evaluate();  // no held-out data: zero tokens, no sources
  Status save_checkpoint(const std::filesystem::path& path);
  Status load_checkpoint(const std::filesystem::path& path);
  // Of a run that trains all weights. With parallel.tensor > 1 all processes call it, rank 0 writes.
  Status export_model(const std::filesystem::path& folder);
  Status export_adapter(const std::filesystem::path& folder);  // of one with config.lora: as PEFT has it

  std::int64_t examples_left_out() const;  // of pairs and rated answers: longer than sequence_length
  std::int64_t steps_done() const;
  const models::Model& model() const;
  ops::ParameterBuffer& weights();  // those that are trained, in the table of the training graph
  std::int64_t parameter_count() const;          // of the model, adapters included
  std::int64_t trained_parameter_count() const;
  std::int64_t graph_bytes() const;   // of activations, head and workspaces
  std::int64_t moment_bytes() const;  // of the optimizer
  std::int64_t sequences_in_epoch() const;
  std::int64_t rows_in_epoch() const;
  double peak_flops() const;  // measured when the trainer was made

 private:
  struct State;
  explicit Trainer(std::unique_ptr<State>);
  // `learn` adds the gradients of the batches and sets the record's loss; `drawn_in`: seconds that drawing them took.
  Result<StepRecord> update_on(std::span<const data::PackedBatch> batches, const std::function<Status(StepRecord&)>& learn,
                               double drawn_in = 0);
  // Saves <output>/checkpoints/step-NNNNNNNN.safetensors and removes those beyond checkpoint.keep.
  Status save_numbered(const Callbacks& callbacks);
  Status begin_record();
  Status run_steps(const Callbacks& callbacks);
  Status roll_back(const StepRecord& broken, const Callbacks& callbacks);
  std::unique_ptr<State> state_;
};

// Checkpoints of a run, oldest first.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& output);

}  // namespace qw::train
