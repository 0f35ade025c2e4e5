// What a run will take, before it is begun: memory from its plan, time from a few steps on this machine.
//
// Memory is that of the trainer's own tables, the program itself, and pages of the shards; what a teacher or an engine
// for [grpo] takes is not in it, and `left_out` says so. Time: steps of the recipe are done on its own first batches,
// with weights that are thrown away; nothing is written into its output folder.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "json/value.h"
#include "train/trainer.h"

namespace qw::train {

// Bytes of memory that a run takes, by what takes them. Known before any of it is taken.
struct MemoryNeed {
  std::int64_t base = 0;         // of frozen weights, as their file has them
  std::int64_t weights = 0;      // that are trained, float32, and their average if one is kept
  std::int64_t gradients = 0;
  std::int64_t moments = 0;      // of the optimizer
  std::int64_t activations = 0;  // with their gradients
  std::int64_t head = 0;         // a piece of the logits, and the packed weights of the head
  std::int64_t workspaces = 0;   // of products, attention and the like
  std::int64_t scratch = 0;      // of the optimizer: Muon, Adafactor
  std::int64_t total() const { return base + weights + gradients + moments + activations + head + workspaces + scratch; }
};

// What a trainer takes beside the program and its data; of a teacher, and of an engine that answers for [grpo], nothing is
// counted, and of several processes this is what one alone would take (with parallel.tensor, with its slices). Errors as Trainer::create's.
Result<MemoryNeed> memory_need(const TrainConfig& config, const data::Dataset& dataset, const kernels::Kernels& kernels,
                               base::ThreadPool& pool);

struct Estimate {
  std::int64_t parameters = 0, trained_parameters = 0;  // the first with adapters; 0: was not calibrated
  std::int64_t steps = 0, rows_a_step = 0, rows = 0;    // rows: tokens that the run learns from, at most
  std::int64_t rows_in_epoch = 0;                       // 0: was not calibrated
  MemoryNeed memory;
  std::int64_t program = 0;                       // bytes of the program with its tokenizer and data, measured now
  std::int64_t available = 0;                     // bytes that there are now
  std::int64_t checkpoint = 0;                    // bytes of one on the disk
  std::optional<double> seconds_a_step, seconds;  // absent: there is not the memory to try, it was not asked for, or parallel.tensor needs others for it
  std::int64_t calibrated = 0;                    // steps that were timed
  std::int64_t measured_peak = 0;  // bytes of this process at its largest, after these steps; 0: not calibrated
  std::vector<std::string> left_out;

  std::int64_t bytes() const { return memory.total() + program; }
};

// `seconds`: how long steps are timed at least, one step apart, which warms up; 0: not at all. Errors: as
// Trainer::create's.
Result<Estimate> estimate(TrainConfig config, const data::Dataset& dataset, const kernels::Kernels& kernels,
                          base::ThreadPool& pool, double seconds);

// What the memory is for: names as in to_json, and bytes.
std::vector<std::pair<std::string, std::int64_t>> memory_parts(const Estimate& estimate);
json::Object to_json(const Estimate& estimate);

}  // namespace qw::train
