// The subcommands: each add_<command> registers itself with the command line and runs when it was chosen.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>

#include "base/result.h"

namespace qw::app {

// What main returns. A command's callback sets it.
struct Outcome {
  int code = 0;
};

// Prints "qianwen: message" to standard error and gives the exit code of the error's kind.
int report(const Error& error);

// Set by SIGINT and SIGTERM; long work looks at it and ends with exit code 130 (serve: drains and ends with 0).
std::atomic<bool>& interrupted();

// -t, --threads; 0: one per processor. `what` they are.
void add_threads_option(CLI::App& cmd, int& threads, const char* what = "threads");

void add_admin(CLI::App& app, Outcome& outcome);
void add_bench(CLI::App& app, Outcome& outcome);
void add_chat(CLI::App& app, Outcome& outcome);
void add_complete(CLI::App& app, Outcome& outcome);
void add_convert(CLI::App& app, Outcome& outcome);
void add_data(CLI::App& app, Outcome& outcome);
void add_embed(CLI::App& app, Outcome& outcome);
void add_eval(CLI::App& app, Outcome& outcome);
void add_govern(CLI::App& app, Outcome& outcome);
void add_govern_approve(CLI::App& govern, Outcome& outcome);
void add_govern_assess(CLI::App& govern, Outcome& outcome);
void add_govern_review(CLI::App& assess, Outcome& outcome);
void add_govern_content(CLI::App& govern, Outcome& outcome);
void add_govern_scan(CLI::App& govern, Outcome& outcome);
void add_govern_profile(CLI::App& govern, Outcome& outcome);
void add_govern_label(CLI::App& govern, Outcome& outcome);
void add_govern_watermark(CLI::App& govern, Outcome& outcome);
void add_guard(CLI::App& app, Outcome& outcome);
void add_rerank(CLI::App& app, Outcome& outcome);
void add_reward(CLI::App& app, Outcome& outcome);
void add_doctor(CLI::App& app, Outcome& outcome);
void add_imatrix(CLI::App& app, Outcome& outcome);
void add_models(CLI::App& app, Outcome& outcome);
void add_quantize(CLI::App& app, Outcome& outcome);
void add_render(CLI::App& app, Outcome& outcome);
void add_score(CLI::App& app, Outcome& outcome);
void add_serve(CLI::App& app, Outcome& outcome);
void add_show(CLI::App& app, Outcome& outcome);
void add_tokenize(CLI::App& app, Outcome& outcome);
void add_tokenizer(CLI::App& app, Outcome& outcome);
void add_train(CLI::App& app, Outcome& outcome);

}  // namespace qw::app
