// What a run costs, and what it comes from: <output>/compute.json, kept up to date while it trains, and a copy beside
// the weights that come out. docs/formats/compute_record.md is its form; whoever keeps a ledger of models reads it.
#pragma once

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>

#include "base/energy.h"
#include "data/packing.h"
#include "json/value.h"
#include "train/config.h"

namespace qw::train {

inline constexpr const char* kComputeFile = "compute.json";
inline constexpr const char* kDataLedgerFile = "data_ledger.json";

// Where a run stands, for its record.
struct ComputeProgress {
  std::int64_t step = 0, tokens = 0;
  double learning = 0, evaluation = 0;  // operations that led to the weights as they are, by phase; of the whole run
  double spent = 0;                     // operations of this session, also of steps that were lost or done again
  std::int64_t uncounted_steps = 0;     // done before operations were counted
};

class ComputeRecord {
 public:
  struct Machine {
    std::string isa;
    int threads = 1;
    double peak_flops = 0;  // of one process
    int processes = 1, on_host = 1;  // of the run; of those on this host
  };
  // Goes on with the record in config.output if it is of the same recipe and data, else begins one. `model`: what the
  // record says of it. kBadInput: there is a file that is no such record.
  static Result<std::unique_ptr<ComputeRecord>> begin(const TrainConfig& config, const data::Dataset& dataset,
                                                      json::Object model, Machine machine, std::int64_t step);

  // Writes the file if half a minute went by since it was written.
  Status tell(const ComputeProgress& progress);
  // Writes it. `state`: "running", "interrupted", "failed".
  Status write(const ComputeProgress& progress, const char* state);
  // Writes it as "finished", with the hashes of the weights in `folder`, and puts copies of it and of the data's ledger
  // there.
  Status finish(const ComputeProgress& progress, const std::filesystem::path& folder);

 private:
  using Clock = std::chrono::steady_clock;
  ComputeRecord(const TrainConfig& config, const data::Dataset& dataset, Machine machine)
      : config_(config), dataset_(dataset), machine_(std::move(machine)) {}
  void begin_session(std::int64_t step);
  void look_at_parent();
  void take_parent(bool wait);
  void update(const ComputeProgress& progress, const char* state);
  json::Object energy_of(double seconds);
  Status save(const std::filesystem::path& folder) const;

  const TrainConfig& config_;
  const data::Dataset& dataset_;
  Machine machine_;
  base::EnergyMeter meter_;
  Clock::time_point begun_, written_;
  json::Object record_;
  json::Array earlier_;  // sessions
  json::Object session_;
  std::future<Result<json::Object>> parent_;
};

}  // namespace qw::train
