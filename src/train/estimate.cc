#include "train/estimate.h"

#include <stdlib.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <utility>

#include "base/cpu.h"
#include "tokenizer/tokenizer.h"

namespace qw::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr std::int64_t kMostTimed = 50;  // steps
// Of a forward and backward pass the forward half of the products: of frozen weights backward has one product where it
// else has two.
constexpr double kForwardShare = 1.0 / 3, kForwardShareFrozen = 0.5;

// Bytes of this process that are in memory now.
std::int64_t resident_bytes() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("VmRSS:")) return std::atoll(line.c_str() + 6) * 1024;
  return 0;
}

std::int64_t peak_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024L;
}

// A folder that goes with its owner.
class TemporaryFolder {
 public:
  static Result<TemporaryFolder> make() {
    std::string name = (std::filesystem::temp_directory_path() / "qianwen-estimate-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) return fail(ErrorKind::kFailed, name + ": no temporary folder");
    return TemporaryFolder(name);
  }
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

// Rows that one evaluation reads, at most.
std::int64_t rows_of_evaluation(const TrainConfig& config, const data::Dataset& dataset) {
  std::int64_t rows = 0;
  for (const auto& source : dataset.heldout) {
    const auto all = static_cast<std::int64_t>(source.shard.tokens());
    rows += config.eval.max_tokens > 0 ? std::min(all, config.eval.max_tokens) : all;
  }
  return rows;
}

Status calibrate(const TrainConfig& config, const data::Dataset& dataset, const kernels::Kernels& kernels,
                 base::ThreadPool& pool, double seconds, Estimate& out) {
  QW_ASSIGN(const auto trainer, Trainer::create(config, dataset, kernels, pool));
  out.parameters = trainer->parameter_count();
  out.trained_parameters = trainer->trained_parameter_count();
  out.rows_in_epoch = trainer->rows_in_epoch();
  QW_ASSIGN(const auto first, trainer->step());  // pages, packed weights
  std::int64_t before = first.tokens;
  const auto start = Clock::now();
  double rows = 0;
  do {
    QW_ASSIGN(const auto record, trainer->step());
    rows += static_cast<double>(record.tokens - before);
    before = record.tokens;
    ++out.calibrated;
  } while (seconds_since(start) < seconds && out.calibrated < kMostTimed && trainer->steps_done() < config.steps);
  const double took = seconds_since(start);
  out.seconds_a_step = took / static_cast<double>(out.calibrated);
  const std::int64_t evaluations =
      config.eval.every > 0 ? (config.steps + config.eval.every - 1) / config.eval.every : 1;
  const double a_row = took / std::max(1.0, rows);
  const double share = config.lora ? kForwardShareFrozen : kForwardShare;
  out.seconds = *out.seconds_a_step * static_cast<double>(config.steps) +
                static_cast<double>(evaluations * rows_of_evaluation(config, dataset)) * a_row * share;
  out.measured_peak = peak_bytes();
  return {};
}

}  // namespace

Result<Estimate> estimate(TrainConfig config, const data::Dataset& dataset, const kernels::Kernels& kernels,
                          base::ThreadPool& pool, double seconds) {
  Estimate out;
  out.steps = config.steps;
  out.rows_a_step = config.sequence_length * config.batch_sequences * config.accumulation;
  out.rows = out.rows_a_step * config.steps;
  if (config.distill) out.left_out.emplace_back("teacher");
  if (config.grpo) out.left_out.emplace_back("answers");
  QW_ASSIGN(out.memory, memory_need(config, dataset, kernels, pool));
  {  // part of the program: of a large vocabulary it weighs more than a small model
    QW_ASSIGN(auto spec, tokenizer::load_tokenizer_folder(dataset.tokenizer_folder));
    QW_ASSIGN(const auto tokenizer, tokenizer::Tokenizer::create(std::move(spec)));
    out.program = resident_bytes();
  }
  out.available = static_cast<std::int64_t>(base::available_memory_bytes());
  out.checkpoint = out.memory.weights + out.memory.moments;
  if (config.parallel.tensor > 1) {  // files hold whole models
    TrainConfig whole = config;
    whole.parallel.tensor = 1;
    QW_ASSIGN(const MemoryNeed need, memory_need(whole, dataset, kernels, pool));
    out.checkpoint = need.weights + need.moments;
  }
  if (seconds <= 0 || config.parallel.tensor > 1 || out.memory.total() > out.available) return out;
  QW_ASSIGN(const auto folder, TemporaryFolder::make());
  config.output = folder.path();
  QW_TRY(calibrate(config, dataset, kernels, pool, seconds, out));
  return out;
}

std::vector<std::pair<std::string, std::int64_t>> memory_parts(const Estimate& e) {
  return {{"base", e.memory.base},
          {"weights", e.memory.weights},
          {"gradients", e.memory.gradients},
          {"moments", e.memory.moments},
          {"activations", e.memory.activations},
          {"head", e.memory.head},
          {"workspaces", e.memory.workspaces},
          {"scratch", e.memory.scratch},
          {"program", e.program}};
}

json::Object to_json(const Estimate& e) {
  json::Object memory;
  for (const auto& [name, bytes] : memory_parts(e)) memory.set(name, bytes);
  json::Object out{{"steps", e.steps},
                   {"rows_a_step", e.rows_a_step},
                   {"rows", e.rows},
                   {"memory_bytes", e.bytes()},
                   {"memory", std::move(memory)},
                   {"available_bytes", e.available},
                   {"fits", e.memory.total() <= e.available},
                   {"checkpoint_bytes", e.checkpoint}};
  if (e.calibrated > 0) {
    out.set("parameters", e.parameters);
    out.set("trained_parameters", e.trained_parameters);
    out.set("rows_in_epoch", e.rows_in_epoch);
    out.set("measured_peak_bytes", e.measured_peak);
    out.set("calibrated_steps", e.calibrated);
  }
  out.set("seconds_a_step", e.seconds_a_step ? json::Value(*e.seconds_a_step) : json::Value());
  out.set("seconds", e.seconds ? json::Value(*e.seconds) : json::Value());
  json::Array left_out(e.left_out.begin(), e.left_out.end());
  out.set("left_out", std::move(left_out));
  return out;
}

}  // namespace qw::train
