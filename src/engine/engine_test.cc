#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "base/put_off.h"
#include "engine/internal/fake_executor.h"

namespace qw::engine {
namespace {

constexpr std::int64_t kVocab = 50;

kvcache::BlockPool make_pool(std::int32_t blocks, std::int32_t block_tokens = 4) {
  return *kvcache::BlockPool::create({1, 1, 1, block_tokens, tensor::DType::kF32}, blocks);
}

struct Log final : Sink {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  std::vector<Finished> finished;
  std::function<Verdict(const TokenEvent&)> verdict;
  Verdict on_token(const TokenEvent& e) noexcept override {
    EXPECT_TRUE(finished.empty());
    EXPECT_EQ(e.index, static_cast<std::int64_t>(tokens.size()));
    tokens.push_back(e.id);
    logprobs.push_back(e.logprob);
    return verdict ? verdict(e) : Verdict::kContinue;
  }
  void on_finished(const Finished& f) noexcept override { finished.push_back(f); }
  FinishReason reason() const {
    EXPECT_EQ(finished.size(), 1u);
    return finished.at(0).reason;
  }
};

// A pool, a fake model and an engine over them.
struct House {
  kvcache::BlockPool pool;
  FakeExecutor executor;
  std::unique_ptr<Engine> engine;
  explicit House(std::int32_t blocks = 64, EngineConfig config = small(), std::int64_t logit_rows = 0)
      : pool(make_pool(blocks)),
        executor(pool, kVocab, config.max_rows, std::max(config.max_sequences, logit_rows)),
        engine(*Engine::create(executor, pool, std::move(config))) {}
  ~House() { engine.reset(); }
  static EngineConfig small() {
    EngineConfig c;
    c.context = 100;
    c.max_rows = 16;
    c.max_sequences = 4;
    c.growth_tokens = 4;
    return c;
  }
  void run() {
    for (int i = 0; engine->step(); ++i) {
      ASSERT_EQ(engine->violation(), "");
      ASSERT_LT(i, 100000);
    }
    EXPECT_EQ(pool.free_blocks(), pool.total_blocks());
  }
};

struct Wish {
  std::vector<TokenId> prompt;
  sampling::SamplingParams params;
  std::int64_t max_tokens = 10;
  std::int32_t priority = 0;
};
Request request_of(const Wish& w, std::shared_ptr<Sink> sink) {
  Request r;
  r.prompt = w.prompt;
  r.params = w.params;
  r.max_tokens = w.max_tokens;
  r.priority = w.priority;
  r.sink = std::move(sink);
  return r;
}
Wish simple_wish(std::vector<TokenId> prompt, std::int64_t max_tokens = 10) {
  Wish w;
  w.prompt = std::move(prompt);
  w.params.temperature = 0;
  w.max_tokens = max_tokens;
  return w;
}
std::vector<Wish> random_wishes(std::uint64_t seed, int n, std::uint64_t longest_prompt) {
  base::Rng rng(seed);
  std::vector<Wish> wishes;
  for (int i = 0; i < n; ++i) {
    Wish w;
    for (std::uint64_t t = 1 + rng.below(longest_prompt); t > 0; --t)
      w.prompt.push_back(static_cast<TokenId>(rng.below(kVocab)));
    w.max_tokens = static_cast<std::int64_t>(1 + rng.below(30));
    w.priority = static_cast<std::int32_t>(rng.below(3));
    w.params.temperature = rng.below(3) == 0 ? 0.0f : 1.0f;
    w.params.seed = rng.next_u64();
    w.params.logprobs = true;
    if (rng.below(2)) w.params.top_k = 5;
    if (rng.below(2)) w.params.repetition_penalty = 1.3f;
    if (rng.below(2)) w.params.frequency_penalty = 0.5f;
    if (rng.below(2)) w.params.stop_ids = {7, 8};
    wishes.push_back(std::move(w));
  }
  return wishes;
}

struct Rows final : Sink {
  std::vector<std::int64_t> positions;
  std::vector<float> values;
  std::vector<Finished> finished;
  Verdict on_token(const TokenEvent&) noexcept override {
    ADD_FAILURE() << "a token of a request that wants rows";
    return Verdict::kContinue;
  }
  void on_row(const RowEvent& e) noexcept override {
    EXPECT_TRUE(finished.empty());
    positions.push_back(e.position);
    values.insert(values.end(), e.row.begin(), e.row.end());
  }
  void on_finished(const Finished& f) noexcept override { finished.push_back(f); }
};

// Generation of a better rank takes the readers' blocks again and again.
TEST(Engine, RowsComeOnceAndInOrderEvenUnderPreemption) {
  std::int64_t preempted_readers = 0;
  for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6}) {
    const auto wishes = random_wishes(seed, 24, 40);
    const auto run = [&](House& house, std::size_t first, std::size_t count) {
      std::vector<std::shared_ptr<Rows>> out;
      for (std::size_t i = first; i < first + count; ++i) {
        const bool reads = i % 2 == 0;
        out.push_back(std::make_shared<Rows>());
        Request r = request_of(wishes[i], reads ? std::shared_ptr<Sink>(out.back()) : std::make_shared<Log>());
        r.wanted = !reads ? Wanted::kTokens : i % 4 == 0 ? Wanted::kEveryRow : Wanted::kLastRow;
        if (reads) r.priority = -1;
        EXPECT_TRUE(house.engine->submit(std::move(r)));
      }
      house.run();
      return out;
    };
    EngineConfig config = House::small();
    config.max_rows = 5;
    House together(18, config, 5);
    const auto got = run(together, 0, wishes.size());
    for (std::size_t i = 0; i < wishes.size(); i += 2) {
      House alone(64, House::small(), 16);
      const auto wanted = run(alone, i, 1)[0];
      ASSERT_EQ(got[i]->positions, wanted->positions) << i;
      ASSERT_EQ(got[i]->values, wanted->values) << i;
      ASSERT_EQ(got[i]->finished.size(), 1u);
      EXPECT_EQ(got[i]->finished[0].reason, FinishReason::kStop);
      preempted_readers += got[i]->finished[0].preemptions;
      const auto n = static_cast<std::int64_t>(wishes[i].prompt.size());
      if (i % 4 != 0) {
        EXPECT_EQ(got[i]->positions, std::vector<std::int64_t>{n - 1});
        continue;
      }
      ASSERT_EQ(static_cast<std::int64_t>(got[i]->positions.size()), n);
      for (std::int64_t p = 0; p < n; ++p) ASSERT_EQ(got[i]->positions[static_cast<std::size_t>(p)], p);
    }
  }
  EXPECT_GT(preempted_readers, 0);
}

TEST(Engine, BatchedEqualsAloneEvenUnderPreemption) {
  for (const std::uint64_t seed : {1, 2, 3, 4}) {
    const std::vector<Wish> wishes = random_wishes(seed, 24, 30);
    std::vector<std::shared_ptr<Log>> alone;
    for (const Wish& w : wishes) {
      House house;
      alone.push_back(std::make_shared<Log>());
      ASSERT_TRUE(house.engine->submit(request_of(w, alone.back())));
      house.run();
    }
    House house(16);  // 64 tokens of cache for 24 requests of up to 60
    std::vector<std::shared_ptr<Log>> together;
    base::Rng rng(seed);
    for (const Wish& w : wishes) {
      together.push_back(std::make_shared<Log>());
      ASSERT_TRUE(house.engine->submit(request_of(w, together.back())));
      for (std::uint64_t n = rng.below(4); n > 0; --n) house.engine->step();
    }
    house.run();
    for (std::size_t i = 0; i < wishes.size(); ++i) {
      EXPECT_EQ(together[i]->tokens, alone[i]->tokens) << i;
      EXPECT_EQ(together[i]->logprobs, alone[i]->logprobs) << i;
      EXPECT_EQ(together[i]->reason(), alone[i]->reason()) << i;
    }
    EXPECT_GT(house.engine->stats().preemptions, 0);
  }
}

TEST(Engine, SamplingInParallelChangesNothing) {
  const std::vector<Wish> wishes = random_wishes(9, 12, 10);
  std::vector<std::vector<TokenId>> results[2];
  base::ThreadPool threads(3);
  for (const bool parallel : {false, true}) {
    EngineConfig config = House::small();
    if (parallel) config.sampling_pool = &threads;
    House house(64, config);
    std::vector<std::shared_ptr<Log>> logs;
    for (const Wish& w : wishes) {
      logs.push_back(std::make_shared<Log>());
      ASSERT_TRUE(house.engine->submit(request_of(w, logs.back())));
    }
    house.run();
    for (const auto& log : logs) results[parallel].push_back(log->tokens);
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(Engine, UsageTimingsAndReasons) {
  House house;
  const auto log = std::make_shared<Log>();
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish({1, 2, 3}, 5), log)));
  house.run();
  EXPECT_EQ(log->reason(), FinishReason::kLength);
  const Finished& f = log->finished[0];
  EXPECT_EQ(f.usage.prompt_tokens, 3);
  EXPECT_EQ(f.usage.completion_tokens, 5);
  EXPECT_EQ(f.usage.cached_tokens, 0);
  EXPECT_FALSE(f.error);
  EXPECT_GE(f.timings.total_ms, f.timings.first_token_ms);
  EXPECT_GE(f.timings.first_token_ms, f.timings.prompt_ms);
  EXPECT_EQ(house.executor.runs, 5);  // prompt and first token, then four decode steps

  // The third token as stop id ends the same request there.
  Wish w = simple_wish({1, 2, 3}, 5);
  w.params.stop_ids = {log->tokens[2]};
  const auto stopped = std::make_shared<Log>();
  bool last_was_stop = false;
  stopped->verdict = [&](const TokenEvent& e) {
    last_was_stop = e.stop;
    return Verdict::kContinue;
  };
  ASSERT_TRUE(house.engine->submit(request_of(w, stopped)));
  house.run();
  EXPECT_EQ(stopped->reason(), FinishReason::kStop);
  EXPECT_TRUE(last_was_stop);
  EXPECT_EQ(stopped->finished[0].usage.completion_tokens, static_cast<std::int64_t>(stopped->tokens.size()));
  EXPECT_LE(stopped->tokens.size(), 3u);
}

TEST(Engine, SinkMayStop) {
  House house;
  const auto log = std::make_shared<Log>();
  log->verdict = [](const TokenEvent& e) { return e.index == 1 ? Verdict::kStop : Verdict::kContinue; };
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish({1}, 20), log)));
  house.run();
  EXPECT_EQ(log->reason(), FinishReason::kStop);
  EXPECT_EQ(log->tokens.size(), 2u);
}

TEST(Engine, CancelFreesWithinAStep) {
  House house;
  const auto log = std::make_shared<Log>();
  const RequestId id = *house.engine->submit(request_of(simple_wish({1, 2, 3, 4, 5}, 50), log));
  house.engine->step();
  house.engine->step();
  EXPECT_LT(house.pool.free_blocks(), house.pool.total_blocks());
  const std::size_t tokens = log->tokens.size();
  house.engine->cancel(id);
  EXPECT_FALSE(house.engine->step());
  EXPECT_EQ(log->reason(), FinishReason::kCancelled);
  EXPECT_EQ(log->tokens.size(), tokens);
  EXPECT_EQ(house.pool.free_blocks(), house.pool.total_blocks());
}

TEST(Engine, CancelDuringThePassSuppressesItsToken) {
  House house;
  const auto log = std::make_shared<Log>(), other = std::make_shared<Log>();
  const RequestId id = *house.engine->submit(request_of(simple_wish({1, 2, 3}, 50), log));
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish({4, 5}, 6), other)));
  house.engine->step();
  house.executor.before_run = [&] { house.engine->cancel(id); };
  house.engine->step();
  EXPECT_EQ(log->reason(), FinishReason::kCancelled);
  EXPECT_EQ(log->tokens.size(), 1u);
  house.run();
  EXPECT_EQ(other->tokens.size(), 6u);
}

TEST(Engine, DeadlineCountsWhileWaitingToo) {
  Clock::time_point now{};
  EngineConfig config = House::small();
  config.max_sequences = 1;
  config.now = [&] { return now; };
  House house(64, config);
  const auto first = std::make_shared<Log>(), second = std::make_shared<Log>();
  Request a = request_of(simple_wish({1}, 50), first), b = request_of(simple_wish({2}, 50), second);
  a.deadline = now + std::chrono::seconds(10);
  b.deadline = now + std::chrono::seconds(5);
  ASSERT_TRUE(house.engine->submit(std::move(a)));
  ASSERT_TRUE(house.engine->submit(std::move(b)));
  house.engine->step();
  now += std::chrono::seconds(5);
  house.engine->step();
  EXPECT_EQ(second->reason(), FinishReason::kDeadline);
  EXPECT_TRUE(second->tokens.empty());
  EXPECT_EQ(first->tokens.size(), 2u);
  now += std::chrono::seconds(5);
  EXPECT_FALSE(house.engine->step());
  EXPECT_EQ(first->reason(), FinishReason::kDeadline);
}

// A long prompt is given up between two of its chunks, or after the one during which the deadline passed, though that
// was its last; so is one that is cancelled.
TEST(Engine, APromptThatIsBeingReadIsGivenUpWithinAStep) {
  for (const bool cancelled : {false, true}) {
    for (const int passes : {1, 2, 4}) {  // of four, of sixteen tokens each
      SCOPED_TRACE(passes);
      Clock::time_point now{};
      EngineConfig config = House::small();
      config.now = [&] { return now; };
      House house(64, config);
      const auto log = std::make_shared<Log>(), other = std::make_shared<Log>();
      Request r = request_of(simple_wish(std::vector<TokenId>(64, 1), 10), log);
      if (!cancelled) r.deadline = now + std::chrono::seconds(passes);
      const RequestId id = *house.engine->submit(std::move(r));
      house.executor.before_run = [&] {
        now += std::chrono::seconds(1);
        if (cancelled && house.executor.runs == passes) house.engine->cancel(id);
      };
      for (int i = 1; i < passes; ++i) {
        ASSERT_TRUE(house.engine->step());
        ASSERT_TRUE(log->finished.empty());
      }
      EXPECT_FALSE(house.engine->step());
      EXPECT_EQ(log->reason(), cancelled ? FinishReason::kCancelled : FinishReason::kDeadline);
      EXPECT_TRUE(log->tokens.empty());
      EXPECT_EQ(log->finished[0].usage.computed_tokens, 16 * passes);
      EXPECT_EQ(house.pool.free_blocks(), house.pool.total_blocks());
      house.executor.before_run = nullptr;
      ASSERT_TRUE(house.engine->submit(request_of(simple_wish({2, 3}), other)));
      house.run();
      EXPECT_EQ(other->tokens.size(), 10u);
    }
  }
}

TEST(Engine, RefusesWhatCannotRun) {
  House house(8);  // 32 tokens of cache: the longest sequence is 33
  EXPECT_EQ(house.engine->max_sequence_tokens(), 33);
  const auto refuse = [&](auto change) {
    const auto log = std::make_shared<Log>();
    Request r = request_of(simple_wish({1, 2}), log);
    change(r);
    const auto id = house.engine->submit(std::move(r));
    EXPECT_FALSE(id);
    EXPECT_TRUE(log->finished.empty());
    return id.error().kind;
  };
  EXPECT_EQ(refuse([](Request& r) { r.prompt.clear(); }), ErrorKind::kUsage);
  EXPECT_EQ(refuse([](Request& r) { r.prompt = {static_cast<TokenId>(kVocab)}; }), ErrorKind::kBadInput);
  EXPECT_EQ(refuse([](Request& r) { r.prompt = {-1}; }), ErrorKind::kBadInput);
  EXPECT_EQ(refuse([](Request& r) { r.prompt.assign(33, 1); }), ErrorKind::kResource);
  EXPECT_EQ(refuse([](Request& r) { r.params.top_p = 2; }), ErrorKind::kUsage);
  EXPECT_EQ(refuse([](Request& r) { r.max_tokens = -1; }), ErrorKind::kUsage);

  // The longest prompt that fits gives exactly one token; with max_tokens 0 a sequence fills the cache.
  const auto one = std::make_shared<Log>(), fill = std::make_shared<Log>();
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish(std::vector<TokenId>(32, 1), 5), one)));
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish({1}, 0), fill)));
  house.run();
  EXPECT_EQ(one->tokens.size(), 1u);
  EXPECT_EQ(one->reason(), FinishReason::kLength);
  EXPECT_EQ(fill->tokens.size(), 32u);
}

TEST(Engine, TooManyRequestsAreRefused) {
  EngineConfig config = House::small();
  config.max_requests = 2;
  House house(64, config);
  const auto log = std::make_shared<Log>(), second = std::make_shared<Log>();
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish({1}), log)));
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish({1}), second)));
  const auto refused = house.engine->submit(request_of(simple_wish({1}), std::make_shared<Log>()));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kResource);
  house.run();
  EXPECT_TRUE(house.engine->submit(request_of(simple_wish({1}), std::make_shared<Log>())));
}

TEST(Engine, OneTenantDoesNotFillTheQueueForOthers) {
  EngineConfig config = House::small();
  config.max_requests = 8;
  House house(64, config);
  std::int64_t finished = 0;
  struct Count final : Sink {
    std::int64_t& finished;
    explicit Count(std::int64_t& n) : finished(n) {}
    Verdict on_token(const TokenEvent&) noexcept override { return Verdict::kContinue; }
    void on_finished(const Finished&) noexcept override { ++finished; }
  };
  const auto ask = [&](const char* tenant) {
    Request r = request_of(simple_wish({1}), std::make_shared<Count>(finished));
    r.tenant = tenant;
    return house.engine->submit(std::move(r));
  };
  for (const char* many : {"a", "b"}) {
    for (int i = 0; i < 6; ++i) ASSERT_TRUE(ask(many)) << i;
    const auto refused = ask(many);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kResource);
    EXPECT_EQ(refused.error().message, "too many requests: 6 of the same tenant are waiting or running");
    ASSERT_TRUE(ask("c"));
    ASSERT_TRUE(ask("d"));
    EXPECT_FALSE(ask("e"));  // all places are taken
    house.run();             // and free again
  }
  EXPECT_EQ(finished, 16);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(ask(""));  // who has no name is everybody
  house.run();
}

TEST(Engine, FailedPassEndsItsRequestsAndNoOthers) {
  EngineConfig config = House::small();
  config.max_sequences = 1;
  House house(64, config);
  const auto hit = std::make_shared<Log>(), spared = std::make_shared<Log>();
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish({1, 2}), hit)));
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish({3}), spared)));
  house.engine->step();
  house.executor.fail_next = true;
  house.run();
  EXPECT_EQ(hit->reason(), FinishReason::kError);
  EXPECT_EQ(hit->finished[0].error->message, "the device is gone");
  EXPECT_EQ(spared->reason(), FinishReason::kLength);
}

struct Broken : sampling::LogitsProcessor {
  int fails_at;
  explicit Broken(int at) : fails_at(at) {}
  Status prepare(const sampling::History&, std::int64_t) override { return result(0); }
  Status apply(std::span<float>, const sampling::History&) override { return result(1); }
  Status accept(TokenId) override { return result(2); }
  Status result(int where) const {
    if (where == fails_at) return fail(ErrorKind::kFailed, "grammar is stuck");
    return {};
  }
};

TEST(Engine, FailingProcessorEndsOnlyItsRequest) {
  for (const int where : {0, 1, 2}) {
    House house;
    const auto bad = std::make_shared<Log>(), good = std::make_shared<Log>();
    Request r = request_of(simple_wish({1}), bad);
    r.processors.push_back(std::make_unique<Broken>(where));
    ASSERT_TRUE(house.engine->submit(std::move(r)));
    ASSERT_TRUE(house.engine->submit(request_of(simple_wish({2}), good)));
    house.run();
    EXPECT_EQ(bad->reason(), FinishReason::kError);
    EXPECT_EQ(bad->finished[0].error->message, "grammar is stuck");
    EXPECT_EQ(good->tokens.size(), 10u);
  }
}

TEST(Engine, LongPromptDoesNotStopTheOthers) {
  House house;
  const auto quick = std::make_shared<Log>(), slow = std::make_shared<Log>();
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish({1}, 20), quick)));
  house.engine->step();
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish(std::vector<TokenId>(60, 2), 3), slow)));
  for (int i = 0; i < 4; ++i) house.engine->step();
  EXPECT_EQ(quick->tokens.size(), 5u);  // one token at every step, while the prompt went through 15 at a time
  EXPECT_EQ(slow->tokens.size(), 1u);
  EXPECT_EQ(house.executor.rows_of_runs[1], 16u);
}

TEST(Engine, MaskedRowsNeverAppear) {
  EngineConfig config = House::small();
  config.mask = {10, {3}};
  House house(64, config);
  const auto log = std::make_shared<Log>();
  Wish w = simple_wish({1}, 60);
  w.params.temperature = 5;
  ASSERT_TRUE(house.engine->submit(request_of(w, log)));
  house.run();
  for (const TokenId id : log->tokens) EXPECT_TRUE(id < 10 && id != 3);
}

TEST(Engine, GenerateWithAndWithoutAThread) {
  House house;
  Request r;
  r.prompt = {1, 2, 3};
  r.params.temperature = 0;
  r.params.logprobs = true;
  r.params.top_logprobs = 2;
  r.max_tokens = 7;
  const auto copy = [&] {
    Request c;
    c.prompt = r.prompt;
    c.params = r.params;
    c.max_tokens = r.max_tokens;
    return c;
  };
  const auto here = generate(*house.engine, copy());
  ASSERT_TRUE(here);
  EXPECT_EQ(here->tokens.size(), 7u);
  ASSERT_EQ(here->details.size(), 7u);
  EXPECT_EQ(here->details[0].top[0].id, here->tokens[0]);
  const std::atomic<bool> interrupted{true};
  const auto cut = generate(*house.engine, copy(), {}, &interrupted);
  ASSERT_TRUE(cut);
  EXPECT_EQ(cut->finished.reason, FinishReason::kCancelled);
  EXPECT_TRUE(cut->tokens.empty());
  house.engine->start();
  int seen = 0;
  const auto there = generate(*house.engine, copy(), [&](const TokenEvent&) {
    return ++seen == 3 ? Verdict::kStop : Verdict::kContinue;
  });
  ASSERT_TRUE(there);
  EXPECT_EQ(there->tokens, std::vector<TokenId>(here->tokens.begin(), here->tokens.begin() + 3));
}

TEST(Engine, RejectsConfigurationsThatMakeNoSense) {
  auto pool = make_pool(4);
  FakeExecutor executor(pool, kVocab, 16, 4);
  const auto error = [&](auto change) {
    EngineConfig c = House::small();
    change(c);
    const auto engine = Engine::create(executor, pool, c);
    return engine ? std::string("ok") : engine.error().message;
  };
  EXPECT_EQ(error([](auto&) {}), "ok");
  EXPECT_NE(error([](auto& c) { c.context = 0; }).find("context"), std::string::npos);
  EXPECT_NE(error([](auto& c) { c.max_rows = 3; }).find("max_rows"), std::string::npos);
  EXPECT_NE(error([](auto& c) { c.max_rows = 17; }).find("smaller steps"), std::string::npos);
  EXPECT_NE(error([](auto& c) { c.mask.holes = {50}; }).find("mask"), std::string::npos);
}

// ---- threads: run under TSan -----------------------------------------------------------------------------------------

// Counts under a lock, because several threads look.
struct Counter final : Sink {
  std::mutex mutex;
  std::condition_variable changed;
  int tokens = 0, finished = 0;
  std::map<FinishReason, int> reasons;
  Verdict on_token(const TokenEvent&) noexcept override {
    const std::lock_guard lock(mutex);
    ++tokens;
    return Verdict::kContinue;
  }
  void on_finished(const Finished& f) noexcept override {
    const std::lock_guard lock(mutex);
    ++finished;
    ++reasons[f.reason];
    changed.notify_all();
  }
};

TEST(EngineThreads, ManySubmittersAndCancellers) {
  base::ThreadPool threads(2);
  EngineConfig config = House::small();
  config.sampling_pool = &threads;
  House house(24, config);
  house.engine->start();
  const auto counter = std::make_shared<Counter>();
  std::vector<std::thread> clients;
  constexpr int kClients = 4, kEach = 40;
  for (int c = 0; c < kClients; ++c)
    clients.emplace_back([&, c] {
      const std::vector<Wish> wishes = random_wishes(static_cast<std::uint64_t>(100 + c), kEach, 20);
      for (int i = 0; i < kEach; ++i) {
        const auto id = house.engine->submit(request_of(wishes[static_cast<std::size_t>(i)], counter));
        ASSERT_TRUE(id);
        if (i % 5 == 0) house.engine->cancel(*id);
        if (i % 7 == 0) {
          EXPECT_LE(house.engine->stats().free_blocks, 24);
        }
      }
    });
  for (auto& t : clients) t.join();
  house.engine->drain();
  EXPECT_EQ(counter->finished, kClients * kEach);
  EXPECT_GT(counter->reasons[FinishReason::kLength] + counter->reasons[FinishReason::kStop], kClients * kEach / 2);
  EXPECT_EQ(house.engine->stats().free_blocks, 24);
  EXPECT_EQ(house.engine->submit(request_of(simple_wish({1}), counter)).error().kind, ErrorKind::kInterrupted);
  house.engine->stop();
}

TEST(EngineThreads, StopCancelsWhatIsLeft) {
  const auto counter = std::make_shared<Counter>();
  {
    EngineConfig config = House::small();
    config.context = 1000000;
    House house(20000, config);
    house.engine->start();
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(house.engine->submit(request_of(simple_wish({1}, 0), counter)));
  }
  EXPECT_EQ(counter->finished, 10);
  EXPECT_EQ(counter->reasons[FinishReason::kCancelled], 10);
}

TEST(EngineThreads, SinkMaySubmitAndCancel) {
  House house;
  const auto counter = std::make_shared<Counter>();
  struct Chain final : Sink {
    Engine* engine;
    std::shared_ptr<Sink> next;
    RequestId victim;
    Verdict on_token(const TokenEvent&) noexcept override { return Verdict::kContinue; }
    void on_finished(const Finished&) noexcept override {
      engine->cancel(victim);
      EXPECT_TRUE(engine->submit(request_of(simple_wish({4}, 3), next)));
    }
  };
  house.engine->start();
  const auto chain = std::make_shared<Chain>();
  chain->engine = house.engine.get();
  chain->next = counter;
  chain->victim = *house.engine->submit(request_of(simple_wish({1}, 0), counter));
  ASSERT_TRUE(house.engine->submit(request_of(simple_wish({2}, 2), chain)));
  std::unique_lock lock(counter->mutex);
  counter->changed.wait(lock, [&] { return counter->finished == 2; });
  lock.unlock();
  house.engine->stop();
  EXPECT_EQ(counter->finished, 2);
}

// A thread that puts things off wakes the engine once behind what it hands in, also where the work is dropped undone.
TEST(Engine, RequestsHandedInOneAfterTheOtherWakeItOnce) {
  House house;
  house.engine->start();
  std::vector<std::function<void()>> later;
  base::put_off_by([&](std::function<void()> work) { later.push_back(std::move(work)); });
  std::vector<std::shared_ptr<Log>> logs;
  for (const bool dropped : {false, true}) {
    for (int i = 0; i < 3; ++i) {
      logs.push_back(std::make_shared<Log>());
      ASSERT_TRUE(house.engine->submit(request_of({{1, 2, 3}, {}, 5}, logs.back())));
    }
    ASSERT_EQ(later.size(), 1u);
    if (!dropped) later[0]();
    later.clear();
    while (house.engine->stats().finished[static_cast<std::size_t>(FinishReason::kLength)] < static_cast<std::int64_t>(logs.size()))
      std::this_thread::yield();
  }
  base::put_off_by({});
  house.engine->stop();
  for (const auto& log : logs) EXPECT_EQ(log->reason(), FinishReason::kLength);
}

}  // namespace
}  // namespace qw::engine
