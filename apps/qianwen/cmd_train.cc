// qianwen train CONFIG.toml [--resume] [--set a.b=c]; train --estimate CONFIG.toml; train report RUN_DIR (train_tools.h)
//
// One command from raw text to a model: when the shards that the recipe names are not there yet, they are built first.
#include <cstdio>
#include <memory>
#include <optional>

#include "base/cpu.h"
#include "commands.h"
#include "data/config_table.h"
#include "data_setup.h"
#include "licences.h"
#include "ranks.h"
#include "train/trainer.h"
#include "train_tools.h"

namespace qw::app {
namespace {

struct TrainOptions {
  std::string config, corpus, policy;
  std::vector<std::string> overrides;
  std::int64_t threads = 0;
  bool resume = false, json = false;
};

struct FileCloser {
  void operator()(std::FILE* f) const { std::fclose(f); }
};

// Where progress goes: JSON lines into <output>/log.jsonl always, to standard output with --json, else a line for a
// person to standard error.
class Printer {
 public:
  Printer(const std::filesystem::path& log, bool json) : file_(std::fopen(log.c_str(), "a")), json_(json) {}
  void machine(const json::Object& record) {
    const std::string line = json::dump(json::Value(record)) + "\n";
    if (file_) {
      std::fputs(line.c_str(), file_.get());
      std::fflush(file_.get());
    }
    if (json_) {
      std::fputs(line.c_str(), stdout);
      std::fflush(stdout);
    }
  }
  bool for_person() const { return !json_; }

 private:
  std::unique_ptr<std::FILE, FileCloser> file_;
  bool json_;
};

std::string clock_text(double seconds) {
  const auto s = static_cast<long long>(seconds);
  char text[40];
  std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  return text;
}

std::optional<double> reward_of(const train::EvalRecord& r) { return r.reward; }
std::optional<double> reward_of(const train::StepRecord& r) {
  return r.rollouts && r.rollouts->answers > 0 ? std::optional(r.rollouts->reward) : std::nullopt;
}

// ", 87% right, margin 0.41"; "" where there are none.
template <class Record>
std::string measures_text(const Record& r) {
  char text[80];
  std::string out;
  if (r.accuracy) {
    std::snprintf(text, sizeof(text), ", %.0f%% right", 100 * *r.accuracy);
    out += text;
  }
  if (r.margin) {
    std::snprintf(text, sizeof(text), ", margin %.3f", *r.margin);
    out += text;
  }
  const std::optional<double> reward = reward_of(r);
  if (reward) {
    std::snprintf(text, sizeof(text), ", reward %.3f", *reward);
    out += text;
  }
  return out;
}

train::Callbacks callbacks(Printer& printer, std::int64_t steps) {
  train::Callbacks c;
  c.on_step = [&printer, steps](const train::StepRecord& r) {
    printer.machine(train::to_json(r));
    if (!printer.for_person()) return;
    std::fprintf(stderr, "step %lld/%lld  loss %.4f%s  lr %.2e  grad %.3f  %.0f tok/s  mfu %.0f%%  left %s%s\n",
                 static_cast<long long>(r.step), static_cast<long long>(steps), r.loss, measures_text(r).c_str(), r.lr, r.grad_norm, r.tps,
                 100 * r.mfu, clock_text(r.seconds_left).c_str(), r.skipped ? "  SKIPPED (not finite)" : "");
  };
  c.on_eval = [&printer](const train::EvalRecord& r) {
    printer.machine(train::to_json(r));
    if (!printer.for_person()) return;
    if (r.accuracy || r.margin || r.reward) {
      std::fprintf(stderr, "eval at step %lld: loss %.4f%s%s\n", static_cast<long long>(r.step), r.eval_loss,
                   measures_text(r).c_str(), r.best ? " (best so far)" : "");
      return;
    }
    std::fprintf(stderr, "eval at step %lld: loss %.4f, %.4f bits a byte%s\n", static_cast<long long>(r.step),
                 r.eval_loss, r.bits_per_byte, r.best ? " (best so far)" : "");
    for (const auto& source : r.sources)
      std::fprintf(stderr, "  %-28s loss %.4f  %.4f bits a byte  (%lld tokens, %lld bytes)\n", source.name.c_str(),
                   source.loss, source.bits_per_byte, static_cast<long long>(source.tokens),
                   static_cast<long long>(source.bytes));
  };
  c.on_rollback = [&printer](const train::RollbackRecord& r) {
    printer.machine(train::to_json(r));
    if (printer.for_person())
      std::fprintf(stderr, "step %lld broke: loss %g, gradient norm %g; back to step %lld, past the data since\n",
                   static_cast<long long>(r.step), r.loss, r.grad_norm, static_cast<long long>(r.to));
  };
  c.on_checkpoint = [&printer](const std::filesystem::path& path) {
    if (printer.for_person()) std::fprintf(stderr, "saved %s\n", path.c_str());
  };
  c.stop = [] { return interrupted().load(); };
  return c;
}

// Of a process that tells nothing.
train::Callbacks quiet_callbacks() {
  train::Callbacks c;
  c.stop = [] { return interrupted().load(); };
  return c;
}

// The folder of shards, built first when the recipe names a data configuration whose output is not there.
Result<std::filesystem::path> shards_folder(const train::TrainConfig& config, const TrainOptions& o) {
  if (!config.shards.empty()) return std::filesystem::path(config.shards);
  QW_ASSIGN(const auto data, load_data_config(config.data, {}, o.corpus));
  std::error_code code;
  if (std::filesystem::exists(data.output / "ledger.json", code)) {
    QW_TRY(data::check_ledger_config(data));
    return data.output;
  }
  std::fprintf(stderr, "building %s from %s\n", data.output.c_str(), config.data.c_str());
  QW_ASSIGN(const auto ledger, data::build_data(data, person_progress()));
  return data.output;
}

// Rank 0 builds data that are not there; on other hosts the folder has to be seen as well.
Result<data::Dataset> open_data(const train::TrainConfig& config, const TrainOptions& o, LaunchedRanks* ranks) {
  std::optional<std::filesystem::path> folder;
  double turn = 0;
  if (ranks != nullptr && ranks->rank() != 0) QW_TRY(ranks->add_up(std::span(&turn, 1)));
  QW_ASSIGN(folder, shards_folder(config, o));
  if (ranks != nullptr && ranks->rank() == 0) QW_TRY(ranks->add_up(std::span(&turn, 1)));
  return data::open_dataset(*folder);
}

// What the model is made of may be given on, as far as that is known: before hours go by, not after.
Status check_parts(const train::TrainConfig& config, const data::Dataset& dataset, const std::string& policy) {
  std::vector<governance::LicensedPart> parts;
  if (!config.init_from.empty()) parts = licensed_parts(config.init_from, "");
  for (auto& data : data_parts(dataset.ledger)) parts.push_back(std::move(data));
  return check_licences(parts, policy);
}

Status train_model(const TrainOptions& o, LaunchedRanks* ranks) {
  const bool leads = ranks == nullptr || ranks->rank() == 0;
  QW_ASSIGN(auto object, data::load_toml(o.config));
  for (const auto& assignment : o.overrides) QW_TRY(data::apply_override(object, assignment));
  if (o.threads > 0) object.set("threads", o.threads);
  auto config = train::train_config(object);
  if (!config) return in_context(o.config, std::move(config).error());
  if (leads && !o.resume && !train::list_checkpoints(config->output).empty())
    return fail(ErrorKind::kUsage, config->output.string() +
                                       ": has checkpoints of an earlier run; use --resume, or --set output=ANOTHER");
  QW_ASSIGN(const auto dataset, open_data(*config, o, ranks));
  if (leads) QW_TRY(check_parts(*config, dataset, o.policy));
  QW_ASSIGN(const auto isa, base::chosen_isa());
  const auto& kernels = kernels::kernels_for(isa);
  base::ThreadPool pool(config->threads == 0 && ranks != nullptr ? threads_each(*ranks) : static_cast<int>(config->threads));
  QW_ASSIGN(auto trainer, train::Trainer::create(*config, dataset, kernels, pool, ranks));
  if (o.resume) QW_TRY(trainer->resume());
  if (!leads) return trainer->run(quiet_callbacks());
  std::error_code code;
  std::filesystem::create_directories(config->output, code);
  Printer printer(config->output / "log.jsonl", o.json);
  if (printer.for_person())
    std::fprintf(stderr, "%.2f M parameters, %.2f M of them trained, %lld steps, %lld rows an epoch, %s%d threads, %s, peak %.0f GFLOP/s%s\n",
                 static_cast<double>(trainer->parameter_count()) / 1e6,
                 static_cast<double>(trainer->trained_parameter_count()) / 1e6, static_cast<long long>(config->steps),
                 static_cast<long long>(trainer->rows_in_epoch()),
                 ranks != nullptr ? (std::to_string(ranks->size()) + " processes, of each " ).c_str() : "", pool.size(), kernels.name,
                 trainer->peak_flops() / 1e9,
                 trainer->steps_done() > 0 ? (", resumed at step " + std::to_string(trainer->steps_done())).c_str() : "");
  if (printer.for_person() && trainer->examples_left_out() > 0)
    std::fprintf(stderr, "%lld examples do not fit %lld rows and are left out\n",
                 static_cast<long long>(trainer->examples_left_out()), static_cast<long long>(config->sequence_length));
  QW_TRY(trainer->run(callbacks(printer, config->steps)));
  const std::filesystem::path made = config->output / (config->lora ? "adapter" : "model");
  if (!config->init_from.empty()) QW_TRY(hand_on_licence(config->init_from, made.string()));
  if (printer.for_person()) std::fprintf(stderr, config->lora ? "adapter: %s\n" : "model: %s\n", made.c_str());
  return {};
}

int run_train(const TrainOptions& o) {
  auto ranks = open_ranks();
  if (!ranks) return report_for_all(nullptr, ranks.error());
  const auto status = train_model(o, ranks->get());
  if (status) return 0;
  // A stop is agreed upon, and its checkpoint is written: everyone leaves.
  if (status.error().kind != ErrorKind::kInterrupted) return report_for_all(ranks->get(), status.error());
  return *ranks == nullptr || (*ranks)->rank() == 0 ? report(status.error()) : exit_code(status.error().kind);
}

}  // namespace

void add_train(CLI::App& app, Outcome& outcome) {
  auto* command = app.add_subcommand("train", "Trains a model by a recipe; builds its data first when needed");
  auto options = std::make_shared<TrainOptions>();
  command->add_option("config", options->config, "training recipe (TOML)");
  command->add_flag("--resume", options->resume, "go on from the newest checkpoint");
  command->add_option("--set", options->overrides, "override a key: a.b=c");
  command->add_option("--corpus", options->corpus, "folder of the corpora (also: QW_CORPUS)");
  command->add_option("--threads", options->threads, "0 = one per CPU");
  command->add_option("--policy", options->policy, "a profile that says what becomes of missing or clashing licences (default: a warning)");
  command->add_flag("--json", options->json, "JSON lines on standard output");
  auto estimate = std::make_shared<EstimateOptions>();
  command->add_flag("--estimate", estimate->wanted, "say what memory and time it would take, and train nothing");
  command->add_option("--calibrate", estimate->calibrate, "with --estimate: seconds that steps are timed for (0: not at all)")
      ->check(CLI::Range(0.0, 3600.0));
  auto* reports = add_train_report(*command, outcome);
  command->callback([&outcome, options, estimate, reports] {
    if (reports->parsed()) return;
    if (options->config.empty()) {
      outcome.code = report({ErrorKind::kUsage, "train: give a recipe (TOML), or: train report RUN_DIR"});
      return;
    }
    if (!estimate->wanted) {
      outcome.code = run_train(*options);
      return;
    }
    estimate->config = options->config;
    estimate->overrides = options->overrides;
    estimate->threads = options->threads;
    estimate->json = options->json;
    estimate->shards = [options](const train::TrainConfig& config) { return shards_folder(config, *options); };
    if (const auto told = estimate_run(*estimate); !told) outcome.code = report(told.error());
  });
}

}  // namespace qw::app
