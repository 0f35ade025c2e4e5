// Composition root: builds every part, owns it, and hands references down. One file per subcommand beside this one.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "base/thread_pool.h"
#include "commands.h"

namespace qw::app {

void add_threads_option(CLI::App& cmd, int& threads, const char* what) {
  cmd.add_option("-t,--threads", threads, std::string(what) + " (default: one per processor)")->check(CLI::Range(0, 1024));
}

int report(const Error& error) {
  std::fprintf(stderr, "qianwen: %s\n", error.message.c_str());
  return exit_code(error.kind);
}

std::atomic<bool>& interrupted() {
  static std::atomic<bool> flag{false};   // a signal handler can reach nothing but a static
  return flag;
}

namespace {

void on_signal(int) {
  // The second signal ends the process at once.
  if (interrupted().exchange(true)) std::_Exit(130);
}

int run(int argc, char** argv) {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error of the write, as a full disk is
  if (const auto pinning = base::chosen_pinning(); !pinning) return report(pinning.error());
  CLI::App app{"qianwen: train, run and serve Qwen-family language models", "qianwen"};
  app.set_version_flag("--version", QW_VERSION);
  app.require_subcommand(1);
  // One line, as every other error.
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    std::string text = error.what();
    std::replace(text.begin(), text.end(), '\n', ' ');
    return "qianwen: " + text + " (--help says more)\n";
  });
  Outcome outcome;
  for (const auto add : {add_chat, add_complete, add_serve, add_show, add_score, add_eval, add_embed, add_rerank, add_reward, add_guard, add_bench, add_tokenize, add_render,
                         add_convert, add_quantize, add_imatrix, add_tokenizer, add_data, add_train, add_models, add_admin, add_govern, add_doctor}) {
    add(app, outcome);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return outcome.code;
}

}  // namespace
}  // namespace qw::app

// Expected failures are values; what libraries throw all the same is one line too.
int main(int argc, char** argv) {
  try {
    return qw::app::run(argc, argv);
  } catch (const std::bad_alloc&) {
    return qw::app::report({qw::ErrorKind::kResource, "out of memory"});
  } catch (const std::exception& error) {
    return qw::app::report({qw::ErrorKind::kFailed, error.what()});
  }
}
