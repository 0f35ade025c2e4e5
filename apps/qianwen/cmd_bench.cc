// qianwen bench: tokens per second of prompt processing and of generation, at chosen depths and batch sizes.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>

#include "base/cpu.h"
#include "base/rng.h"
#include "base/thread_pool.h"
#include "commands.h"
#include "json/value.h"
#include "kernels/limits.h"
#include "open_model.h"
#include "signature.h"
#include "text_source.h"

namespace qw::app {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchOptions {
  std::string model, cache_type = "auto";
  std::vector<int> batches{1};
  std::int64_t prompt = 512, predict = 128, depth = 0;
  int threads = 0, repeats = 5;
  bool json = false, signature = false, limits = false;
  std::size_t limit_bytes = std::size_t{512} << 20;
  DraftChoice drafts;
  std::vector<std::string> replay;   // prompt, answer
};

struct Measured {
  std::string test;
  int batch = 1;
  std::vector<double> tps;
};

// When each token came.
class TimingSink final : public engine::Sink {
 public:
  explicit TimingSink(std::int64_t tokens) { times.reserve(static_cast<std::size_t>(tokens)); }
  engine::Verdict on_token(const engine::TokenEvent&) noexcept override {
    times.push_back(Clock::now());
    return engine::Verdict::kContinue;
  }
  void on_finished(const engine::Finished& f) noexcept override { finished = f; }
  std::vector<Clock::time_point> times;
  engine::Finished finished;
};

// Lets a model say a given text, at the model's own cost: what drafts are worth depends on the text, which a model of
// random weights would not write.
class Replay final : public sampling::LogitsProcessor {
 public:
  explicit Replay(std::vector<engine::TokenId> answer) : answer_(std::move(answer)) {}
  Status prepare(const sampling::History&, std::int64_t) override { return {}; }
  Status apply(std::span<float> logits, const sampling::History&) override {
    std::fill(logits.begin(), logits.end(), -std::numeric_limits<float>::infinity());
    logits[static_cast<std::size_t>(answer_[next_])] = 0;
    return {};
  }
  Status accept(engine::TokenId) override {
    ++next_;
    return {};
  }

 private:
  std::vector<engine::TokenId> answer_;
  std::size_t next_ = 0;
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

// Tokens per second of the answer after the prompt, both given as texts.
Result<double> run_replay(ReadyModel& model, const std::vector<engine::TokenId>& prompt,
                          const std::vector<engine::TokenId>& answer) {
  engine::Request request;
  request.prompt = prompt;
  request.params.temperature = 0;
  request.max_tokens = static_cast<std::int64_t>(answer.size());
  request.processors.push_back(std::make_unique<Replay>(answer));
  QW_ASSIGN(const auto done, engine::generate(model.loaded->engine(), std::move(request), {}, &interrupted()));
  if (done.tokens != answer) return fail(ErrorKind::kFailed, "bench: the answer was cut off");
  return 1000.0 * static_cast<double>(answer.size() - 1) / done.finished.timings.predict_ms;
}

// Runs `batch` requests together; gives tokens per second of the prompt pass, or of generation after it. Each prompt is
// like none before it, so that nothing of it is in the cache.
Result<double> run_once(ReadyModel& model, std::int64_t prompt, std::int64_t predict, int batch, std::uint64_t& stream) {
  auto& engine = model.loaded->engine();
  std::vector<std::shared_ptr<TimingSink>> sinks;
  const auto started = Clock::now();
  for (int b = 0; b < batch; ++b) {
    auto request = request_of(model, prompt, predict, stream++);
    sinks.push_back(std::make_shared<TimingSink>(predict));
    request.sink = sinks.back();
    QW_ASSIGN(const auto id, engine.submit(std::move(request)));
    (void)id;
  }
  while (engine.step()) {
    if (interrupted().load()) return fail(ErrorKind::kInterrupted, "interrupted");
  }
  // Generation counts from when the last request has begun: what the others made before that had no full company.
  Clock::time_point first = started, last = started;
  for (const auto& s : sinks) {
    if (s->finished.error) return tl::unexpected(*s->finished.error);
    first = std::max(first, s->times.front());
    last = std::max(last, s->times.back());
  }
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  if (predict == 1) return static_cast<double>(prompt * batch) / seconds(first - started);
  std::int64_t tokens = 0;
  for (const auto& s : sinks) tokens += std::count_if(s->times.begin(), s->times.end(), [&](auto t) { return t > first; });
  return static_cast<double>(tokens) / seconds(last - first);
}

struct Texts {
  std::vector<engine::TokenId> prompt, answer;
};
Result<Texts> replay_texts(const BenchOptions& o, const tokenizer::Tokenizer& tokenizer) {
  QW_ASSIGN(const std::string prompt, read_text(o.replay[0], kMaxPromptBytes));
  QW_ASSIGN(const std::string answer, read_text(o.replay[1], kMaxPromptBytes));
  Texts out{tokenizer.encode(prompt, false), tokenizer.encode(answer, false)};
  if (out.prompt.empty() || out.answer.size() < 2) return fail(ErrorKind::kUsage, "bench: --replay needs a prompt and an answer of several tokens");
  return out;
}

Result<std::vector<Measured>> measure(ReadyModel& model, const BenchOptions& o) {
  std::vector<Measured> results;
  if (!o.replay.empty()) {
    QW_ASSIGN(const Texts texts, replay_texts(o, *model.tokenizer));
    Measured m{"replay" + std::to_string(texts.answer.size()) + "@d" + std::to_string(texts.prompt.size()), 1, {}};
    for (int r = 0; r < o.repeats; ++r) {
      QW_ASSIGN(const double tps, run_replay(model, texts.prompt, texts.answer));
      m.tps.push_back(tps);
    }
    std::sort(m.tps.begin(), m.tps.end());
    results.push_back(std::move(m));
    return results;
  }
  std::uint64_t stream = 0;
  for (const int batch : o.batches) {
    const auto add = [&](std::string name, std::int64_t prompt, std::int64_t predict) -> Status {
      Measured m{std::move(name), batch, {}};
      if (predict == 1 || prompt == 1) QW_TRY(run_once(model, prompt, predict, batch, stream));  // warm-up; a deep prompt is one
      for (int r = 0; r < o.repeats; ++r) {
        QW_ASSIGN(const double tps, run_once(model, prompt, predict, batch, stream));
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

// With one thread, and with as many as asked for.
Status print_limits(const BenchOptions& o) {
  const int most = o.threads > 0 ? o.threads : base::hardware_threads();
  json::Array list;
  for (const int threads : most > 1 ? std::vector<int>{1, most} : std::vector<int>{1}) {
    base::ThreadPool pool(threads);
    const kernels::MachineLimits m = kernels::measured_limits(pool, o.limit_bytes);
    list.push_back(json::Object{{"threads", threads},
                                {"read_bytes", m.read_bytes},
                                {"float_ops", m.float_ops},
                                {"bfloat_ops", m.bfloat_ops},
                                {"byte_ops", m.byte_ops},
                                {"bfloat_tile_ops", m.bfloat_tile_ops},
                                {"byte_tile_ops", m.byte_tile_ops}});
    if (o.json) continue;
    std::printf("%d thread%s: reads %.1f GB/s; GFLOP/s float %.0f, bfloat16 %.0f, 8-bit %.0f, tiles of bfloat16 %.0f, of 8-bit %.0f\n",
                threads, threads == 1 ? "" : "s", m.read_bytes / 1e9, m.float_ops / 1e9, m.bfloat_ops / 1e9, m.byte_ops / 1e9,
                m.bfloat_tile_ops / 1e9, m.byte_tile_ops / 1e9);
  }
  if (o.json) std::puts(json::dump(json::Object{{"cpu", base::cpu_name()}, {"bytes", static_cast<std::int64_t>(o.limit_bytes)}, {"limits", std::move(list)}}).c_str());
  return {};
}

Status bench(const BenchOptions& o) {
  if (o.signature) return print_signature(o);
  if (o.limits) return print_limits(o);
  if (o.model.empty()) return fail(ErrorKind::kUsage, "bench: give --model, --signature or --limits");
  engine::LoadOptions load;
  load.threads = o.threads;
  load.prefix_cache = false;  // the same prompt again and again
  const std::int64_t longest = std::max(o.prompt + 1, std::max<std::int64_t>(1, o.depth) + o.predict + 1);
  const int widest = *std::max_element(o.batches.begin(), o.batches.end());
  load.cache_dtype = cache_dtype(o.cache_type);
  if (o.replay.empty()) {
    load.context = longest;
    load.cache_tokens = (longest + 64) * widest;
  } else {
    load.cache_tokens = 8192;  // of the texts; longer ones are refused
  }
  load.engine.max_sequences = std::max<std::int64_t>(load.engine.max_sequences, widest);
  load.engine.max_rows = std::max<std::int64_t>(load.engine.max_rows, widest);
  QW_ASSIGN(ReadyModel model, load_model(o.model, load, {}, o.drafts));
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
                                      {"drafted_tokens", model.loaded->engine().stats().drafted_tokens},
                                      {"accepted_tokens", model.loaded->engine().stats().accepted_tokens},
                                      {"results", std::move(list)}}).c_str());
  } else {
    if (const auto stats = model.loaded->engine().stats(); stats.drafted_tokens > 0)
      std::printf("drafts: %lld of %lld tokens accepted\n", static_cast<long long>(stats.accepted_tokens), static_cast<long long>(stats.drafted_tokens));
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
  cmd->add_flag("--limits", o->limits, "measure what the machine can do at most: reading memory and arithmetic, with one thread and with all");
  cmd->add_option("--limit-bytes", o->limit_bytes, "bytes that --limits reads over and over")->check(CLI::PositiveNumber);
  cmd->add_option("-p,--prompt", o->prompt, "prompt tokens (0: leave out)")->check(CLI::NonNegativeNumber);
  cmd->add_option("-n,--predict", o->predict, "generated tokens (0: leave out)")->check(CLI::NonNegativeNumber);
  cmd->add_option("-d,--depth", o->depth, "tokens in the cache before generating")->check(CLI::NonNegativeNumber);
  cmd->add_option("--batch", o->batches, "requests at once, e.g. 1,4,16")->delimiter(',')->check(CLI::PositiveNumber);
  cmd->add_option("--replay", o->replay, "PROMPT ANSWER: files; measure generating this answer after this prompt, whatever the model would say")
      ->expected(2);
  cmd->add_option("-r,--repeats", o->repeats, "runs of each test")->check(CLI::PositiveNumber);
  add_cache_type_option(*cmd, o->cache_type);
  add_draft_options(*cmd, o->drafts);
  add_threads_option(*cmd, o->threads);
  cmd->add_flag("--json", o->json, "print one JSON object");
  cmd->callback([o, &outcome] {
    if (auto status = bench(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
