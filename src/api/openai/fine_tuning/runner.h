// Who trains for /v1/fine_tuning/jobs: an interface that the composition root fills.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "store/files.h"

namespace qw::api::openai {

// What is to be trained. Everything that is not said is the runner's choice.
struct FineTuneAsk {
  std::string job_id, project_id;
  std::string base;                            // id of the served model that training starts from
  std::string name;                            // what the new model will be called
  std::string training_file, validation_file;  // of the store; lines {"messages": [...], "tools": [...]}; "": none
  std::optional<std::int64_t> epochs, batch_size;
  std::optional<double> learning_rate_multiplier;
  std::optional<std::int64_t> lora_rank;  // train adapters of this rank beside the base; absent: all weights
  std::int64_t seed = 0;
};

struct FineTuneStep {
  std::int64_t step = 0, total_steps = 0;
  std::optional<double> train_loss, valid_loss;  // nats a token
  std::int64_t trained_tokens = 0;               // so far; 0: not told
};

enum class FineTuneOrder : std::uint8_t { kGoOn, kCancel, kLeave };  // kLeave: the service stops; the job goes on later
enum class FineTuneEnd : std::uint8_t { kDone, kCancelled, kLeft };

// What a runner tells while it trains. On the thread of run().
class FineTuneWatch {
 public:
  virtual ~FineTuneWatch() = default;
  // A step that was told before (training goes on from a checkpoint) is passed over.
  virtual void step(const FineTuneStep& step) = 0;
  virtual void say(const std::string& message) = 0;
  // Before training, once: the most that trained_tokens can come to, from the job's beginning. It is reserved in the
  // budgets. An error is the job's, in one line for its owner.
  virtual Result<FineTuneOrder> plan(std::int64_t trained_tokens) = 0;
  // Writes what was told and says what is to be done; to be called a few times a second. An error: end at once and give
  // it back.
  virtual Result<FineTuneOrder> go_on() = 0;
};

class FineTuneRunner {
 public:
  virtual ~FineTuneRunner() = default;
  // Quick. kUsage: this model is not trained here, with the reason.
  virtual Status check(const FineTuneAsk& ask) const = 0;
  // Returns when the model `ask.name` can be asked for, or was given up. Called again for a job whose service ended:
  // goes on from what is left of it. Errors are the job's, in one line for its owner.
  virtual Result<FineTuneEnd> run(const FineTuneAsk& ask, store::Files& files, FineTuneWatch& watch) = 0;
};

}  // namespace qw::api::openai
