// What belongs to `qianwen train` beside training: what a run would take, and the curves of one.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "commands.h"
#include "train/config.h"

namespace qw::app {

struct EstimateOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::int64_t threads = 0;
  double calibrate = 3;  // seconds that steps are timed for; 0: not at all
  bool wanted = false, json = false;
  std::function<Result<std::filesystem::path>(const train::TrainConfig& config)>
      shards;  // where they are, built if need be
};
Status estimate_run(const EstimateOptions& options);

// Adds `train report`.
CLI::App* add_train_report(CLI::App& train, Outcome& outcome);

}  // namespace qw::app
