// Requests of all kinds at random, an engine in a cache too small for them, and what each request must come to: shared
// by the tests that play everything at once.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/internal/fake_executor.h"

namespace qw::engine::lives {

inline constexpr std::int64_t kWords = 40;
inline constexpr std::int32_t kBlockTokens = 4, kBlocks = 40, kSnapshots = 5;
inline constexpr std::int32_t kFirstAdapters = 2;  // there from the beginning; their ids are their voices

inline std::int64_t steps_wanted() { return std::getenv("QW_SLOW") != nullptr ? 100000 : 4000; }

// An adapter that requests may name, and how it sounds.
struct Voice {
  std::int32_t id = -1, voice = -1;
};
inline std::vector<Voice> first_voices() {
  std::vector<Voice> out{{}};  // none
  for (std::int32_t a = 0; a < kFirstAdapters; ++a) out.push_back({a, a});
  return out;
}

// A request, and what came of it.
struct Life final : Sink {
  Request request;            // without the sink
  std::int32_t voice = -1;    // of its adapter
  std::vector<TokenId> text;  // prompt, and what was added
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  std::vector<sampling::Sampled> told;  // of the prompt
  std::vector<std::int64_t> positions;
  std::vector<float> rows;
  std::optional<Finished> finished;
  std::atomic<bool> done{false};
  RequestId id = 0;
  std::int64_t closes_after = 0;  // tokens still to be added, of an open one
  std::size_t works = 0;          // steps that its processor needs before each token; 0: it has none

  Verdict on_token(const TokenEvent& e) noexcept override {
    tokens.push_back(e.id);
    logprobs.push_back(e.logprob);
    return Verdict::kContinue;
  }
  void on_prompt_token(const TokenEvent& e) noexcept override {
    EXPECT_TRUE(tokens.empty());
    EXPECT_EQ(e.index, static_cast<std::int64_t>(told.size()) + 1);
    told.push_back({e.id, e.logprob, {e.top.begin(), e.top.end()}});
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

inline Request copy_of(const Request& r) {
  Request c;
  c.prompt = r.prompt, c.wanted = r.wanted, c.params = r.params, c.max_tokens = r.max_tokens, c.priority = r.priority;
  c.deadline = r.deadline, c.tenant = r.tenant, c.tenant_weight = r.tenant_weight, c.cache_salt = r.cache_salt;
  c.tenant_group = r.tenant_group, c.group_weight = r.group_weight;
  c.prompt_logprobs = r.prompt_logprobs, c.open = r.open, c.first_row = r.first_row, c.adapter = r.adapter;
  return c;
}

// Changes nothing, and takes its time for it.
class Slow final : public sampling::LogitsProcessor {
 public:
  explicit Slow(std::size_t steps) : steps_(steps), left_(steps) {}
  Status prepare(const sampling::History&, std::int64_t) override { return {}; }
  bool works_ahead() const override { return true; }
  bool work_ahead(std::size_t steps) override {
    left_ -= std::min(left_, steps);
    return left_ == 0;
  }
  Status apply(std::span<float>, const sampling::History&) override { return {}; }
  Status accept(TokenId) override {
    left_ = steps_;
    return {};
  }

 private:
  std::size_t steps_, left_;
};

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
    c.gather_ms = 20;
    c.sampling_pool = threads;
    c.drafts.lookup = true;
    c.drafts.most = 3;
    c.drafts.adaptive = false;  // what pays depends on the machine's time, and runs are to be the same each time
    if (own_clock) c.now = [this] { return now; };
    if (with_states)  // two more than sequences and snapshots may hold: drafts return to those
      states.emplace(*kvcache::StatePool::create(2, static_cast<std::int32_t>(c.max_sequences) + kSnapshots + 2));
    prefixes.emplace(pool, kvcache::PrefixCacheOptions{states ? &*states : nullptr, states ? kSnapshots : 0, 50, 11});
    executor.emplace(pool, kWords, c.max_rows, c.max_rows, states ? &*states : nullptr, kFirstAdapters);
    executor->keep_rows_of_runs = false;
    executor->habits = true;
    c.states = states ? &*states : nullptr;
    c.prefixes = &*prefixes;
    engine = *Engine::create(*executor, pool, std::move(c));
  }
  ~House() { engine.reset(); }
};

inline std::shared_ptr<Life> random_life(base::Rng& rng, Clock::time_point now, const std::vector<Voice>& voices) {
  auto life = std::make_shared<Life>();
  Request& r = life->request;
  for (std::uint64_t pieces = 1 + rng.below(8); pieces > 0; --pieces) {  // texts often begin alike
    const std::uint64_t kind = rng.below(2);
    for (std::uint64_t t = 0; t < 5; ++t) r.prompt.push_back(static_cast<TokenId>(kind * 20 + t));
  }
  for (std::uint64_t t = rng.below(6); t > 0; --t) r.prompt.push_back(static_cast<TokenId>(rng.below(kWords)));
  r.max_tokens = static_cast<std::int64_t>(1 + rng.below(30));
  r.priority = rng.below(8) == 0 ? 1 : rng.below(8) == 0 ? -1 : 0;
  r.tenant = std::string(1, static_cast<char>('a' + rng.below(3)));
  r.tenant_weight = r.tenant == "a" ? 2 : 1;
  if (r.tenant != "a") r.tenant_group = "others", r.group_weight = 3;
  if (rng.below(4) == 0) r.cache_salt = r.tenant;
  const Voice chosen = voices[rng.below(voices.size())];
  r.adapter = chosen.id;
  life->voice = chosen.voice;
  r.params.temperature = rng.below(3) == 0 ? 0.0f : 1.0f;
  r.params.seed = rng.next_u64();
  r.params.logprobs = rng.below(2) == 0;
  if (rng.below(2)) r.params.top_k = 5;
  if (rng.below(2)) r.params.repetition_penalty = 1.3f;
  if (rng.below(2)) r.params.stop_ids = {7, 8, 31};
  if (rng.below(20) == 0) r.deadline = now + std::chrono::milliseconds(rng.below(60));
  if (rng.below(5) == 0) r.wanted = rng.below(2) ? Wanted::kLastRow : Wanted::kEveryRow;
  if (r.wanted == Wanted::kTokens && rng.below(6) == 0) r.wanted = Wanted::kPrompt;
  r.prompt_logprobs = r.params.logprobs && (r.wanted == Wanted::kTokens || r.wanted == Wanted::kPrompt) && rng.below(2) == 0;
  if (r.prompt_logprobs) r.params.top_logprobs = static_cast<std::int32_t>(rng.below(3));
  if (r.wanted == Wanted::kEveryRow && rng.below(2) && !r.prompt.empty())
    r.first_row = static_cast<std::int64_t>(rng.below(r.prompt.size()));
  if (r.wanted == Wanted::kEveryRow && rng.below(2)) {
    r.open = true;
    r.max_tokens = 0;
    life->closes_after = static_cast<std::int64_t>(rng.below(12));
  }
  life->text = r.prompt;
  if (rng.below(4) == 0) life->works = std::size_t{1} << (10 + 5 * rng.below(4));
  return life;
}

// The model's own word, token by token, with no engine between.
class Reader {
 public:
  Reader(std::int32_t voice, bool with_states) : voice_(voice), with_states_(with_states) {}
  void read(TokenId token) {
    hash_ = FakeExecutor::after(hash_, FakeExecutor::seen(token, voice_));
    last_ = token;
  }
  std::span<float> speak() {
    FakeExecutor::speak(with_states_ ? hash_ ^ hash_ * 3 : hash_, logits_);
    FakeExecutor::lean(last_, logits_);
    return logits_;
  }

 private:
  std::int32_t voice_;
  bool with_states_;
  std::uint64_t hash_ = FakeExecutor::begin();
  TokenId last_ = 0;
  std::vector<float> logits_ = std::vector<float>(kWords);
};

inline void expect_rows_as_alone(const Life& life, Reader reader, bool whole) {
  const std::size_t first = life.request.wanted == Wanted::kEveryRow ? static_cast<std::size_t>(life.request.first_row)
                                                                     : life.text.size() - 1;
  const std::size_t expected = life.text.size() - first;
  if (whole) {
    ASSERT_EQ(life.positions.size(), expected) << life.id;
  }
  ASSERT_LE(life.positions.size(), expected);
  for (std::size_t p = 0, k = 0; k < life.positions.size(); ++p) {
    reader.read(life.text[p]);
    if (p < first) continue;
    const auto logits = reader.speak();
    ASSERT_EQ(life.positions[k], static_cast<std::int64_t>(p)) << life.id;
    ASSERT_TRUE(std::equal(logits.begin(), logits.end(), life.rows.begin() + static_cast<std::ptrdiff_t>(k) * kWords))
        << life.id;
    ++k;
  }
}

// Of all of the prompt but its first token, once, whatever was cached, preempted or done in one step with others.
inline void expect_prompt_as_alone(const Life& life, Reader reader, bool whole) {
  const Request& r = life.request;
  if (whole) {
    ASSERT_EQ(life.told.size(), r.prompt_logprobs ? r.prompt.size() - 1 : 0) << life.id;
    ASSERT_TRUE(!r.prompt_logprobs || life.finished->usage.cached_tokens == 0) << life.id;
  }
  const sampling::Sampler sampler(r.params, r.prompt);
  sampling::SamplerScratch scratch;
  for (std::size_t k = 0; k < life.told.size(); ++k) {
    reader.read(r.prompt[k]);
    sampling::Sampled wanted;
    ASSERT_TRUE(sampler.report(reader.speak(), r.prompt[k + 1], scratch, wanted));
    ASSERT_EQ(life.told[k].id, wanted.id);
    ASSERT_EQ(life.told[k].logprob, wanted.logprob) << life.id << ", token " << k + 1;
    ASSERT_EQ(life.told[k].top.size(), wanted.top.size());
    for (std::size_t i = 0; i < wanted.top.size(); ++i) ASSERT_EQ(life.told[k].top[i].logprob, wanted.top[i].logprob);
  }
}

inline void expect_tokens_as_alone(const Life& life, Reader reader, bool whole) {
  const Request& r = life.request;
  const Finished& f = *life.finished;
  ASSERT_EQ(f.usage.completion_tokens, static_cast<std::int64_t>(life.tokens.size()));
  for (const TokenId t : r.prompt) reader.read(t);
  sampling::Sampler sampler(r.params, r.prompt);
  sampling::SamplerScratch scratch;
  for (std::size_t k = 0; k < life.tokens.size(); ++k) {
    const auto sampled = sampler.sample(reader.speak(), scratch);
    ASSERT_TRUE(sampled);
    ASSERT_EQ(life.tokens[k], sampled->id) << life.id << ", token " << k;
    ASSERT_EQ(life.logprobs[k], sampled->logprob);
    ASSERT_TRUE(sampler.accept(sampled->id));
    reader.read(sampled->id);
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

// What the request gets alone: the same model and sampler; of one that ended early, the beginning of it.
inline void expect_as_alone(const Life& life, bool with_states) {
  const Finished& f = *life.finished;
  const bool whole = f.reason == FinishReason::kStop || f.reason == FinishReason::kLength;
  ASSERT_GE(f.usage.cached_tokens, 0);
  ASSERT_LE(f.usage.cached_tokens, f.usage.prompt_tokens);
  ASSERT_LE(f.usage.accepted_tokens, f.usage.drafted_tokens);
  const Reader reader(life.voice, with_states);
  expect_prompt_as_alone(life, reader, whole);
  if (life.request.wanted == Wanted::kTokens) {
    expect_tokens_as_alone(life, reader, whole);
  } else if (life.request.wanted == Wanted::kPrompt) {
    ASSERT_TRUE(life.tokens.empty() && life.rows.empty());
    ASSERT_TRUE(f.reason != FinishReason::kStop);
  } else {
    expect_rows_as_alone(life, reader, whole);
  }
}

struct Tally {
  std::int64_t computed = 0, output = 0, cached = 0, preempted = 0, drafted = 0, accepted = 0;
  std::map<FinishReason, std::int64_t> reasons;
  void add(const Finished& f) {
    computed += f.usage.computed_tokens;
    output += f.usage.completion_tokens;
    cached += f.usage.cached_tokens;
    drafted += f.usage.drafted_tokens;
    accepted += f.usage.accepted_tokens;
    preempted += f.preemptions;
    ++reasons[f.reason];
  }
  void add(const Tally& t) {
    computed += t.computed, output += t.output, cached += t.cached, preempted += t.preempted, drafted += t.drafted,
        accepted += t.accepted;
    for (const auto& [reason, count] : t.reasons) reasons[reason] += count;
  }
  void expect(const EngineStats& stats) const {
    EXPECT_EQ(stats.computed_tokens, computed);
    EXPECT_EQ(stats.output_tokens, output);
    EXPECT_EQ(stats.cached_tokens, cached);
    EXPECT_EQ(stats.preemptions, preempted);
    EXPECT_EQ(stats.drafted_tokens, drafted);
    EXPECT_EQ(stats.accepted_tokens, accepted);
    EXPECT_EQ(stats.free_blocks, kBlocks);
    for (const auto& [reason, count] : reasons) EXPECT_EQ(stats.finished[static_cast<int>(reason)], count);
  }
};

inline void submit(Engine& engine, const std::shared_ptr<Life>& life) {
  Request r = copy_of(life->request);
  if (life->works > 0) r.processors.push_back(std::make_unique<Slow>(life->works));
  r.sink = life;
  const auto id = engine.submit(std::move(r));
  ASSERT_TRUE(id) << id.error().message;
  life->id = *id;
}

}  // namespace qw::engine::lives
