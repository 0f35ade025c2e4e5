// qianwen bench: tokens per second of prompt processing and of generation, at chosen depths and batch sizes.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "base/cpu.h"
#include "base/rng.h"
#include "commands.h"
#include "json/value.h"
#include "open_model.h"
#include "signature.h"
#include "text_source.h"

namespace qw::app {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchOptions {
  std::string model;
  std::vector<int> batches{1};
  std::int64_t prompt = 512, predict = 128, depth = 0;
  int threads = 0, repeats = 5;
  bool json = false, signature = false;
};

struct Measured {
  std::string test;
  int batch = 1;
  std::vector<double> tps;
};

// Counts tokens and the time between the first token of the last request to begin and the last token of all.
class CountingSink final : public engine::Sink {
 public:
  engine::Verdict on_token(const engine::TokenEvent& e) noexcept override {
    if (e.index == 0) first = Clock::now();
    last = Clock::now();
    return engine::Verdict::kContinue;
  }
  void on_finished(const engine::Finished& f) noexcept override { finished = f; }
  Clock::time_point first, last;
  engine::Finished finished;
};

engine::Request request_of(const ReadyModel& model, std::int64_t prompt, std::int64_t predict, std::uint64_t stream) {
  engine::Request request;
  base::Rng rng(1, stream);
  const auto usable = static_cast<std::uint64_t>(std::min(model.tokenizer->vocab_size(), model.loaded->engine().vocab()));
  for (std::int64_t i = 0; i < prompt; ++i) request.prompt.push_back(static_cast<engine::TokenId>(rng.below(usable)));
  request.params.temperature = 0;   // no stop ids: exactly `predict` tokens
  request.max_tokens = predict;
  return request;
}

// Runs `batch` requests together; gives tokens per second of the prompt pass, or of generation after it.
Result<double> run_once(ReadyModel& model, std::int64_t prompt, std::int64_t predict, int batch) {
  auto& engine = model.loaded->engine();
  std::vector<std::shared_ptr<CountingSink>> sinks;
  const auto started = Clock::now();
  for (int b = 0; b < batch; ++b) {
    auto request = request_of(model, prompt, predict, static_cast<std::uint64_t>(b));
    sinks.push_back(std::make_shared<CountingSink>());
    request.sink = sinks.back();
    QW_ASSIGN(const auto id, engine.submit(std::move(request)));
    (void)id;
  }
  while (engine.step()) {
    if (interrupted().load()) return fail(ErrorKind::kInterrupted, "interrupted");
  }
  Clock::time_point first = started, last = started;
  for (const auto& s : sinks) {
    if (s->finished.error) return tl::unexpected(*s->finished.error);
    first = std::max(first, s->first);
    last = std::max(last, s->last);
  }
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  if (predict == 1) return static_cast<double>(prompt * batch) / seconds(first - started);
  return static_cast<double>((predict - 1) * batch) / seconds(last - first);
}

Result<std::vector<Measured>> measure(ReadyModel& model, const BenchOptions& o) {
  std::vector<Measured> results;
  for (const int batch : o.batches) {
    const auto add = [&](std::string name, std::int64_t prompt, std::int64_t predict) -> Status {
      Measured m{std::move(name), batch, {}};
      QW_TRY(run_once(model, prompt, predict, batch));   // warm-up
      for (int r = 0; r < o.repeats; ++r) {
        QW_ASSIGN(const double tps, run_once(model, prompt, predict, batch));
        m.tps.push_back(tps);
      }
      std::sort(m.tps.begin(), m.tps.end());
      results.push_back(std::move(m));
      return {};
    };
    if (o.prompt > 0) QW_TRY(add("pp" + std::to_string(o.prompt), o.prompt, 1));
    if (o.predict > 0) {
      const std::string depth = o.depth > 0 ? "@d" + std::to_string(o.depth) : "";
      QW_TRY(add("tg" + std::to_string(o.predict) + depth, std::max<std::int64_t>(1, o.depth), o.predict + 1));
    }
  }
  return results;
}

Status print_signature(const BenchOptions& o) {
  QW_ASSIGN(const std::uint64_t value, signature(o.threads));
  char digits[17];
  std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(value));
  std::puts(o.json ? json::dump(json::Object{{"signature", digits}}).c_str() : digits);
  return {};
}

Status bench(const BenchOptions& o) {
  if (o.signature) return print_signature(o);
  if (o.model.empty()) return fail(ErrorKind::kUsage, "bench: give --model, or --signature");
  engine::LoadOptions load;
  load.threads = o.threads;
  const std::int64_t longest = std::max(o.prompt + 1, std::max<std::int64_t>(1, o.depth) + o.predict + 1);
  const int widest = *std::max_element(o.batches.begin(), o.batches.end());
  load.context = longest;
  load.cache_tokens = (longest + 64) * widest;
  load.engine.max_sequences = std::max<std::int64_t>(load.engine.max_sequences, widest);
  load.engine.max_rows = std::max<std::int64_t>(512, widest);
  QW_ASSIGN(ReadyModel model, load_model(o.model, load));
  QW_ASSIGN(const auto results, measure(model, o));
  json::Array list;
  for (const Measured& m : results) {
    const double median = m.tps[m.tps.size() / 2];
    list.push_back(json::Object{{"test", m.test}, {"batch", m.batch}, {"tps_median", median}, {"tps_min", m.tps.front()}, {"tps_max", m.tps.back()}});
    if (!o.json) {
      std::printf("%-14s batch %-3d %10.1f tokens/s   (%.1f to %.1f)\n", m.test.c_str(), m.batch, median, m.tps.front(), m.tps.back());
    }
  }
  if (o.json) {
    std::puts(json::dump(json::Object{{"build", QW_VERSION},
                                      {"cpu", base::cpu_name()},
                                      {"isa", std::string(base::isa_name(model.loaded->isa()))},
                                      {"threads", model.loaded->threads()},
                                      {"model", model.name},
                                      {"results", std::move(list)}}).c_str());
  } else {
    std::printf("%s, %s, %d threads, %s\n", base::cpu_name().c_str(), std::string(base::isa_name(model.loaded->isa())).c_str(),
                model.loaded->threads(), model.name.c_str());
  }
  return {};
}

}  // namespace

void add_bench(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<BenchOptions>();
  CLI::App* cmd = app.add_subcommand("bench", "Measure tokens per second");
  cmd->add_option("-m,--model", o->model, "MODEL");
  add_models_option(*cmd);
  cmd->add_flag("--signature", o->signature, "print one 64-bit number for the behaviour of tiny models, whatever the processor");
  cmd->add_option("-p,--prompt", o->prompt, "prompt tokens (0: leave out)")->check(CLI::NonNegativeNumber);
  cmd->add_option("-n,--predict", o->predict, "generated tokens (0: leave out)")->check(CLI::NonNegativeNumber);
  cmd->add_option("-d,--depth", o->depth, "tokens in the cache before generating")->check(CLI::NonNegativeNumber);
  cmd->add_option("--batch", o->batches, "requests at once, e.g. 1,4,16")->delimiter(',')->check(CLI::PositiveNumber);
  cmd->add_option("-r,--repeats", o->repeats, "runs of each test")->check(CLI::PositiveNumber);
  cmd->add_option("-t,--threads", o->threads, "threads (default: one per processor)");
  cmd->add_flag("--json", o->json, "print one JSON object");
  cmd->callback([o, &outcome] {
    if (auto status = bench(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
