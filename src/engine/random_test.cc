// Everything at once, at random: requests of all kinds come and go under tenants, priorities, deadlines, adapters and
// salts, in a cache that is too small, with failing passes; every step is checked, and whatever a request got is what
// it gets alone. QW_SLOW=1: 100,000 steps of each, else a few thousand.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <thread>

#include "engine/engine.h"
#include "engine/internal/fake_executor.h"

namespace qw::engine {
namespace {

constexpr std::int64_t kVocab = 40;
constexpr std::int32_t kBlockTokens = 4, kBlocks = 40, kAdapters = 2, kSnapshots = 5;

std::int64_t steps_wanted() { return std::getenv("QW_SLOW") != nullptr ? 100000 : 4000; }

// A request, and what came of it.
struct Life final : Sink {
  Request request;            // without the sink
  std::vector<TokenId> text;  // prompt, and what was added
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  std::vector<std::int64_t> positions;
  std::vector<float> rows;
  std::optional<Finished> finished;
  std::atomic<bool> done{false};
  RequestId id = 0;
  std::int64_t closes_after = 0;  // tokens still to be added, of an open one

  Verdict on_token(const TokenEvent& e) noexcept override {
    tokens.push_back(e.id);
    logprobs.push_back(e.logprob);
    return Verdict::kContinue;
  }
  void on_row(const RowEvent& e) noexcept override {
    positions.push_back(e.position);
    rows.insert(rows.end(), e.row.begin(), e.row.end());
  }
  void on_finished(const Finished& f) noexcept override {
    finished = f;
    done = true;
  }
};

Request copy_of(const Request& r) {
  Request c;
  c.prompt = r.prompt, c.wanted = r.wanted, c.params = r.params, c.max_tokens = r.max_tokens, c.priority = r.priority;
  c.deadline = r.deadline, c.tenant = r.tenant, c.tenant_weight = r.tenant_weight, c.cache_salt = r.cache_salt;
  c.tenant_group = r.tenant_group, c.group_weight = r.group_weight;
  c.open = r.open, c.adapter = r.adapter;
  return c;
}

struct House {
  kvcache::BlockPool pool;
  std::optional<kvcache::StatePool> states;
  std::optional<kvcache::PrefixCache> prefixes;
  std::optional<FakeExecutor> executor;
  std::unique_ptr<Engine> engine;
  Clock::time_point now{};

  House(bool with_states, base::ThreadPool* threads, bool own_clock)
      : pool(*kvcache::BlockPool::create({1, 1, 1, kBlockTokens, tensor::DType::kF32}, kBlocks)) {
    EngineConfig c;
    c.context = 90;
    c.max_rows = 14;
    c.max_sequences = 6;
    c.growth_tokens = 5;
    c.max_running_per_tenant = 4;
    c.tenant_quantum = 60;
    c.target_gap_ms = 3;
    c.sampling_pool = threads;
    if (own_clock) c.now = [this] { return now; };
    if (with_states)
      states.emplace(*kvcache::StatePool::create(2, static_cast<std::int32_t>(c.max_sequences) + kSnapshots));
    prefixes.emplace(pool, kvcache::PrefixCacheOptions{states ? &*states : nullptr, states ? kSnapshots : 0, 50, 11});
    executor.emplace(pool, kVocab, c.max_rows, c.max_rows, states ? &*states : nullptr, kAdapters);
    executor->keep_rows_of_runs = false;
    c.states = states ? &*states : nullptr;
    c.prefixes = &*prefixes;
    engine = *Engine::create(*executor, pool, std::move(c));
  }
  ~House() { engine.reset(); }
};

std::shared_ptr<Life> random_life(base::Rng& rng, Clock::time_point now) {
  auto life = std::make_shared<Life>();
  Request& r = life->request;
  for (std::uint64_t pieces = 1 + rng.below(8); pieces > 0; --pieces) {  // texts often begin alike
    const std::uint64_t kind = rng.below(2);
    for (std::uint64_t t = 0; t < 5; ++t) r.prompt.push_back(static_cast<TokenId>(kind * 20 + t));
  }
  for (std::uint64_t t = rng.below(6); t > 0; --t) r.prompt.push_back(static_cast<TokenId>(rng.below(kVocab)));
  r.max_tokens = static_cast<std::int64_t>(1 + rng.below(30));
  r.priority = rng.below(8) == 0 ? 1 : rng.below(8) == 0 ? -1 : 0;
  r.tenant = std::string(1, static_cast<char>('a' + rng.below(3)));
  r.tenant_weight = r.tenant == "a" ? 2 : 1;
  if (r.tenant != "a") r.tenant_group = "others", r.group_weight = 3;
  if (rng.below(4) == 0) r.cache_salt = r.tenant;
  r.adapter = static_cast<std::int32_t>(rng.below(kAdapters + 1)) - 1;
  r.params.temperature = rng.below(3) == 0 ? 0.0f : 1.0f;
  r.params.seed = rng.next_u64();
  r.params.logprobs = rng.below(2) == 0;
  if (rng.below(2)) r.params.top_k = 5;
  if (rng.below(2)) r.params.repetition_penalty = 1.3f;
  if (rng.below(2)) r.params.stop_ids = {7, 8};
  if (rng.below(20) == 0) r.deadline = now + std::chrono::milliseconds(rng.below(60));
  if (rng.below(5) == 0) r.wanted = rng.below(2) ? Wanted::kLastRow : Wanted::kEveryRow;
  if (r.wanted == Wanted::kEveryRow && rng.below(2)) {
    r.open = true;
    r.max_tokens = 0;
    life->closes_after = static_cast<std::int64_t>(rng.below(12));
  }
  life->text = r.prompt;
  return life;
}

// What the request gets alone: the same model and sampler, with no engine between them.
void expect_as_alone(const Life& life, bool with_states) {
  const Request& r = life.request;
  const Finished& f = *life.finished;
  const bool whole = f.reason == FinishReason::kStop || f.reason == FinishReason::kLength;
  std::vector<float> logits(kVocab);
  std::uint64_t hash = FakeExecutor::begin();
  const auto read = [&](TokenId token) { hash = FakeExecutor::after(hash, FakeExecutor::seen(token, r.adapter)); };
  const auto speak = [&] { FakeExecutor::speak(with_states ? hash ^ hash * 3 : hash, logits); };
  ASSERT_GE(f.usage.cached_tokens, 0);
  ASSERT_LE(f.usage.cached_tokens, f.usage.prompt_tokens);
  if (r.wanted != Wanted::kTokens) {
    const std::size_t first = r.wanted == Wanted::kEveryRow ? 0 : life.text.size() - 1;
    const std::size_t expected = life.text.size() - first;
    if (whole) {
      ASSERT_EQ(life.positions.size(), expected) << life.id;
    }
    ASSERT_LE(life.positions.size(), expected);
    for (std::size_t p = 0, k = 0; k < life.positions.size(); ++p) {
      read(life.text[p]);
      if (p < first) continue;
      speak();
      ASSERT_EQ(life.positions[k], static_cast<std::int64_t>(p)) << life.id;
      ASSERT_TRUE(std::equal(logits.begin(), logits.end(), life.rows.begin() + static_cast<std::ptrdiff_t>(k) * kVocab))
          << life.id;
      ++k;
    }
    return;
  }
  ASSERT_EQ(f.usage.completion_tokens, static_cast<std::int64_t>(life.tokens.size()));
  for (const TokenId t : r.prompt) read(t);
  sampling::Sampler sampler(r.params, r.prompt);
  sampling::SamplerScratch scratch;
  for (std::size_t k = 0; k < life.tokens.size(); ++k) {
    speak();
    const auto sampled = sampler.sample(logits, scratch);
    ASSERT_TRUE(sampled);
    ASSERT_EQ(life.tokens[k], sampled->id) << life.id << ", token " << k;
    ASSERT_EQ(life.logprobs[k], sampled->logprob);
    ASSERT_TRUE(sampler.accept(sampled->id));
    read(sampled->id);
    if (k + 1 == life.tokens.size() && whole) {
      ASSERT_EQ(f.reason == FinishReason::kStop, sampler.is_stop(sampled->id));
    }
  }
  if (whole) {
    ASSERT_FALSE(life.tokens.empty());
  }
  if (f.reason == FinishReason::kLength) {
    ASSERT_EQ(life.tokens.size(), static_cast<std::size_t>(r.max_tokens));
  }
}

struct Tally {
  std::int64_t computed = 0, output = 0, cached = 0, preempted = 0;
  std::map<FinishReason, std::int64_t> reasons;
  void add(const Finished& f) {
    computed += f.usage.computed_tokens;
    output += f.usage.completion_tokens;
    cached += f.usage.cached_tokens;
    preempted += f.preemptions;
    ++reasons[f.reason];
  }
  void expect(const EngineStats& stats) {
    EXPECT_EQ(stats.computed_tokens, computed);
    EXPECT_EQ(stats.output_tokens, output);
    EXPECT_EQ(stats.cached_tokens, cached);
    EXPECT_EQ(stats.preemptions, preempted);
    EXPECT_EQ(stats.free_blocks, kBlocks);
    for (const auto& [reason, count] : reasons) EXPECT_EQ(stats.finished[static_cast<int>(reason)], count);
  }
  // That everything happened often: of runs that are the same each time. Between threads it depends on who is quick.
  void expect_variety(bool with_states) {
    EXPECT_GT(preempted, 20);
    EXPECT_GT(cached, output / (with_states ? 40 : 4));
    EXPECT_GT(reasons[FinishReason::kCancelled], 3);
    EXPECT_GT(reasons[FinishReason::kStop], 100);
    EXPECT_GT(reasons[FinishReason::kLength], 50);
  }
};

void submit(Engine& engine, const std::shared_ptr<Life>& life) {
  Request r = copy_of(life->request);
  r.sink = life;
  const auto id = engine.submit(std::move(r));
  ASSERT_TRUE(id) << id.error().message;
  life->id = *id;
}

class RandomLives : public testing::TestWithParam<bool> {};

TEST_P(RandomLives, EveryStepIsSoundAndEveryAnswerAsAlone) {
  base::ThreadPool threads(2);
  House house(GetParam(), &threads, true);
  base::Rng rng(17);
  std::vector<std::shared_ptr<Life>> lives;
  Tally tally;
  const auto some = [&]() -> Life& { return *lives[rng.below(lives.size())]; };
  for (std::int64_t step = 0; step < steps_wanted() || !lives.empty(); ++step) {
    ASSERT_LT(step, steps_wanted() + 5000) << "no progress";
    const bool ending = step >= steps_wanted();
    if (!ending && lives.size() < 24 && rng.below(3) == 0) {
      lives.push_back(random_life(rng, house.now));
      ASSERT_NO_FATAL_FAILURE(submit(*house.engine, lives.back()));
    }
    if (!lives.empty() && rng.below(60) == 0) house.engine->cancel(some().id);
    for (const auto& life : lives) {
      if (!life->request.open || rng.below(6) != 0) continue;
      if (life->closes_after-- > 0) {
        const auto token = static_cast<TokenId>(rng.below(kVocab));
        life->text.push_back(token);
        ASSERT_TRUE(house.engine->extend(life->id, {token}));
      } else {
        house.engine->close(life->id);
      }
    }
    if (rng.below(400) == 0) house.executor->fail_next = true;
    house.now += std::chrono::microseconds(200 + rng.below(800));  // a pass takes time, never the same
    house.executor->before_run = [&] { house.now += std::chrono::microseconds(100 + rng.below(900)); };
    const Snapshot before = house.engine->snapshot();
    ASSERT_EQ(violation(before, plan_step(before)), "") << "step " << step;
    house.engine->step();
    ASSERT_EQ(house.engine->violation(), "") << "step " << step;
    std::erase_if(lives, [&](const std::shared_ptr<Life>& life) {
      if (!life->done) return false;
      tally.add(*life->finished);
      expect_as_alone(*life, GetParam());
      return true;
    });
    ASSERT_FALSE(HasFatalFailure());
  }
  tally.expect(house.engine->stats());
  tally.expect_variety(GetParam());
  EXPECT_GT(tally.reasons[FinishReason::kDeadline], 0);
  EXPECT_GT(tally.reasons[FinishReason::kError], 0);
}

// The same with a thread for the engine and several that ask of it: for ThreadSanitizer.
TEST_P(RandomLives, ManyThreads) {
  base::ThreadPool threads(2);
  House house(GetParam(), &threads, false);
  house.engine->start();
  std::mutex mutex;
  Tally tally;
  const auto client = [&](std::uint64_t seed) {
    base::Rng rng(seed);
    std::vector<std::shared_ptr<Life>> lives;
    Tally mine;
    std::int64_t last_steps = 0;
    for (;;) {
      const EngineStats stats = house.engine->stats();
      EXPECT_GE(stats.steps, last_steps);
      EXPECT_LE(stats.free_blocks, kBlocks);
      last_steps = stats.steps;
      const bool ending = stats.steps >= steps_wanted();
      if (ending && lives.empty()) break;
      if (!ending && lives.size() < 8) {
        lives.push_back(random_life(rng, Clock::now()));
        ASSERT_NO_FATAL_FAILURE(submit(*house.engine, lives.back()));
      } else {
        std::this_thread::yield();
      }
      if (!lives.empty() && rng.below(100) == 0) house.engine->cancel(lives[rng.below(lives.size())]->id);
      for (const auto& life : lives)
        if (life->request.open && life->closes_after > 0 && rng.below(4) == 0) {
          const auto token = static_cast<TokenId>(rng.below(kVocab));
          life->text.push_back(token);
          ASSERT_TRUE(house.engine->extend(life->id, {token}));
          if (--life->closes_after == 0) house.engine->close(life->id);
        } else if (life->request.open && life->closes_after == 0) {
          house.engine->close(life->id);
        }
      std::erase_if(lives, [&](const std::shared_ptr<Life>& life) {
        if (!life->done) return false;
        mine.add(*life->finished);
        expect_as_alone(*life, GetParam());
        return true;
      });
    }
    const std::lock_guard lock(mutex);
    tally.computed += mine.computed, tally.output += mine.output, tally.cached += mine.cached,
        tally.preempted += mine.preempted;
    for (const auto& [reason, count] : mine.reasons) tally.reasons[reason] += count;
  };
  std::vector<std::thread> clients;
  for (std::uint64_t c = 0; c < 4; ++c) clients.emplace_back(client, 100 + c);
  for (auto& t : clients) t.join();
  house.engine->drain();
  tally.expect(house.engine->stats());
  EXPECT_GT(tally.reasons[FinishReason::kStop], 0);
  house.engine->stop();
  EXPECT_EQ(house.engine->violation(), "");
}

INSTANTIATE_TEST_SUITE_P(Models, RandomLives, testing::Values(false, true),
                         [](const auto& param) { return param.param ? "WithStates" : "WithoutStates"; });

}  // namespace
}  // namespace qw::engine
