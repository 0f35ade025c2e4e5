#include "train_tools.h"

#include <csignal>
#include <cstdio>
#include <memory>

#include "base/cpu.h"
#include "base/file.h"
#include "data/config_table.h"
#include "train/estimate.h"
#include "train/report.h"

namespace qw::app {
namespace {

struct ReportOptions {
  std::string run, html;
  std::int64_t width = 100, height = 18;
};

std::string clock_text(double seconds) {
  const auto s = static_cast<long long>(seconds);
  char text[40];
  std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  return text;
}

Result<train::TrainConfig> read_recipe(const EstimateOptions& o) {
  QW_ASSIGN(auto object, data::load_toml(o.config));
  for (const auto& assignment : o.overrides) QW_TRY(data::apply_override(object, assignment));
  if (o.threads > 0) object.set("threads", o.threads);
  auto config = train::train_config(object);
  if (!config) return in_context(o.config, std::move(config).error());
  return config;
}

std::string mib(std::int64_t bytes) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

void print_estimate(const train::Estimate& e) {
  std::printf("%lld steps of %lld tokens, %lld in all\n", static_cast<long long>(e.steps),
              static_cast<long long>(e.rows_a_step), static_cast<long long>(e.rows));
  std::printf("memory      %12s  of %s that there are%s\n", mib(e.bytes()).c_str(), mib(e.available).c_str(),
              e.memory.total() > e.available ? ": it does not fit" : "");
  for (const auto& [name, bytes] : train::memory_parts(e))
    if (bytes > 0) std::printf("  %-11s %10s\n", name.c_str(), mib(bytes).c_str());
  for (const std::string& name : e.left_out) std::printf("  %-11s not counted\n", name.c_str());
  std::printf("disk        %12s  a checkpoint\n", mib(e.checkpoint).c_str());
  if (!e.seconds) {
    std::puts("time        not measured");
    return;
  }
  std::printf("time        %12s  %.3f s a step, measured over %lld\n", clock_text(*e.seconds).c_str(),
              *e.seconds_a_step, static_cast<long long>(e.calibrated));
  std::printf("            peak so far %s\n", mib(e.measured_peak).c_str());
}

Status report_run(const ReportOptions& o) {
  const auto file =
      std::filesystem::is_directory(o.run) ? std::filesystem::path(o.run) / "log.jsonl" : std::filesystem::path(o.run);
  QW_ASSIGN(const std::string text, base::read_file(file));
  QW_ASSIGN(const auto log, train::parse_run_log(text, file.string()));
  if (o.html.empty()) {
    std::fputs(train::report_text(log, o.width, o.height).c_str(), stdout);
    return {};
  }
  return base::write_file_atomically(o.html, train::report_html(log, o.run));
}

}  // namespace

Status estimate_run(const EstimateOptions& o) {
  std::signal(SIGTERM, SIG_DFL);  // nothing is to be saved, and a step may take long
  QW_ASSIGN(const auto config, read_recipe(o));
  QW_ASSIGN(const auto folder, o.shards(config));
  QW_ASSIGN(const auto dataset, data::open_dataset(folder));
  QW_ASSIGN(const auto isa, base::chosen_isa());
  base::ThreadPool pool(static_cast<int>(config.threads));
  QW_ASSIGN(const auto estimate, train::estimate(config, dataset, kernels::kernels_for(isa), pool, o.calibrate));
  if (o.json)
    std::puts(json::dump(json::Value(train::to_json(estimate))).c_str());
  else
    print_estimate(estimate);
  return {};
}

CLI::App* add_train_report(CLI::App& train, Outcome& outcome) {
  auto* command = train.add_subcommand("report", "Curves of a run: a plot in the terminal, or a page of its own");
  auto about = std::make_shared<ReportOptions>();
  command->add_option("run", about->run, "the run's output folder, or its log.jsonl")->required();
  command->add_option("--html", about->html, "write a page here that needs nothing else");
  command->add_option("--width", about->width, "columns of the plot")->check(CLI::Range(30, 400));
  command->add_option("--height", about->height, "lines of each plot")->check(CLI::Range(5, 100));
  command->callback([about, &outcome] {
    if (const auto status = report_run(*about); !status) outcome.code = report(status.error());
  });
  return command;
}

}  // namespace qw::app
