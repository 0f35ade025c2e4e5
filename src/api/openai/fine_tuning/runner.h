// Who trains for /v1/fine_tuning/jobs: an interface that the composition root fills.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "json/value.h"
#include "store/files.h"

namespace qw::api::openai {

// What is to be trained. Everything that is not said is the runner's choice.
struct FineTuneAsk {
  std::string job_id, project_id;
  std::string base;                            // id of the served model that training starts from
  std::string name;                            // what the new model will be called
  // Of the store; lines {"messages": [...], "tools": [...]}, or, with `pairs`, OpenAI's {"input": {"messages", "tools"},
  // "preferred_output": [...], "non_preferred_output": [...]}. "": none
  std::string training_file, validation_file;
  bool pairs = false;          // learn what is preferred (DPO) in place of what is said
  std::optional<double> beta;  // DPO's: how near to stay to the model before
  std::optional<std::int64_t> epochs, batch_size;
  std::optional<double> learning_rate_multiplier;
  std::optional<std::int64_t> lora_rank;  // train adapters of this rank beside the base; absent: all weights
  std::int64_t seed = 0;
};

struct FineTuneStep {
  std::int64_t step = 0, total_steps = 0;
  std::optional<double> train_loss, valid_loss;  // nats a token
  std::int64_t trained_tokens = 0;               // so far; 0: not told
  std::optional<double> learning_rate, gradient_norm, tokens_per_second, seconds_left;
};

// kLeave: the service stops; the job goes on later. kPause: it is laid aside until somebody wants it to go on.
enum class FineTuneOrder : std::uint8_t { kGoOn, kCancel, kLeave, kPause };
enum class FineTuneEnd : std::uint8_t { kDone, kCancelled, kLeft, kPaused };

// What an example is once it is tokens.
struct ExampleSize {
  std::int64_t tokens = 0, learnt = 0;  // learnt: those that count in the loss
};

// Examples as training will have them, one after the other. One thread.
class ExampleMeasure {
 public:
  virtual ~ExampleMeasure() = default;
  // `line`: one of the training file's (FineTuneAsk). kBadInput: it cannot be written as a conversation.
  virtual Result<ExampleSize> add(const json::Object& line) = 0;
  virtual std::int64_t sequence_length() const = 0;  // what is longer is cut; a pair, both answers together, left out
};

// What a job will take.
struct FineTuneEstimate {
  std::int64_t epochs = 0, batch_size = 0, steps = 0, sequences = 0;  // sequences: of an epoch, packed
  std::int64_t trained_tokens = 0, most_trained_tokens = 0;           // expected; and what is reserved for it
  std::int64_t memory_bytes = 0, available_bytes = 0, checkpoint_bytes = 0;
  std::optional<double> seconds_a_step, seconds;  // absent: there was not the memory to try
  std::int64_t calibrated_steps = 0, measured_peak_bytes = 0;
  bool busy = false;    // something else was trained meanwhile: alone it is quicker
  json::Object memory;  // bytes, by what takes them
  bool fits() const { return memory_bytes <= available_bytes; }
};

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
  // Counts the examples of a job as training does. Errors: as check()'s, or the model's files cannot be read.
  virtual Result<std::unique_ptr<ExampleMeasure>> measure(const FineTuneAsk& ask) const = 0;
  // What a job over the examples of `measure` would take: a few steps are done and thrown away. Takes seconds, and the
  // memory of the job. `go_on`: false ends it (kInterrupted).
  virtual Result<FineTuneEstimate> estimate(const FineTuneAsk& ask, const ExampleMeasure& measure, store::Files& files,
                                            const std::function<bool()>& go_on) = 0;
  // What is left on the disk of a job that was cancelled while nobody ran it.
  virtual void forget(const std::string& job_id) = 0;
  // SHA-256 over what the model `ask.name` was made into, once it is done; "" where it is not known.
  virtual Result<std::string> digest(const FineTuneAsk& ask) const = 0;
  // Returns when the model `ask.name` can be asked for, or was given up. Called again for a job whose service ended:
  // goes on from what is left of it. Errors are the job's, in one line for its owner.
  virtual Result<FineTuneEnd> run(const FineTuneAsk& ask, store::Files& files, FineTuneWatch& watch) = 0;
};

}  // namespace qw::api::openai
