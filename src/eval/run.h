// Runs a task: words its items, asks the subject, counts.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "eval/statistics.h"
#include "eval/subject.h"
#include "eval/task.h"
#include "json/value.h"

namespace qw::eval {

struct RunOptions {
  std::filesystem::path data;         // where the files of items are
  std::int64_t limit = 0;             // the first items of each file; 0: all
  std::optional<std::int64_t> shots;  // absent: as the task says
  bool chat = false;                  // prompts are conversations
  bool run_code = false;              // programs the model wrote may be run (sandbox.h); else such tasks are refused
  const std::atomic<bool>* interrupted = nullptr;
  std::function<void(std::string_view what, std::size_t done, std::size_t total)> progress;
};

struct Measured {
  std::string name;
  Estimate estimate;                 // over all items
  std::optional<double> group_mean;  // mean of the groups' values, where there are several groups
};

// What one item gave.
struct Sample {
  std::string id;              // "group/number" or "number", from 0
  std::string digest;          // of prompt and choices: the same question has the same one
  json::Object record;         // all there is to know (docs/evaluation.md)
  std::vector<double> values;  // by measure; of perplexities the log-likelihood
};

struct GroupResult {
  std::string name;
  std::int64_t items = 0;
  std::vector<double> values;  // by measure
};

struct TaskResult {
  std::string task;
  std::int64_t items = 0, shots = 0;
  std::string prompt_template;  // the task's wording of an item
  std::vector<Measured> measures;
  std::vector<GroupResult> groups;  // more than one
  std::vector<Sample> samples;      // by item
};

// kBadInput (the items), kRefused (programs without run_code), and what the subject says.
Result<TaskResult> run_task(const Task& task, Subject& subject, const RunOptions& options);
// The prompts of the first items, and nothing is computed: what the model would read, with the answer.
Result<std::vector<json::Object>> show_prompts(const Task& task, Subject& subject, const RunOptions& options);

}  // namespace qw::eval
