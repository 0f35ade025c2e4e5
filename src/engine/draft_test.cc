// Drafts change nothing but time: every result with drafts, right and wrong ones, is compared with that without.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/rng.h"
#include "engine/engine.h"
#include "engine/internal/fake_executor.h"

namespace qw::engine {
namespace {

constexpr std::int64_t kVocab = 50;

// Knows what some requests will answer, and guesses it, wrongly now and then; other tokens it makes up.
class Oracle final : public Drafter {
 public:
  double expected_acceptance(std::int32_t) const override { return 0.7; }
  Status propose(std::span<DraftJob> jobs) override {
    if (fail_after-- == 0) return fail(ErrorKind::kFailed, "the oracle is gone");
    for (DraftJob& job : jobs) {
      const auto tokens = job.sampler->tokens();
      const auto known =
          answers.find(std::vector<TokenId>(tokens.begin(), tokens.begin() + job.sampler->prompt_tokens()));
      for (std::int64_t i = 0; i < job.most; ++i) {
        const auto at = static_cast<std::size_t>(job.sampler->output_tokens() + i);
        const bool right = known != answers.end() && at < known->second.size() && rng.below(4) != 0;
        job.tokens->push_back(right ? known->second[at]
                                    : static_cast<TokenId>(rng.below(kVocab + 5)));  // some are no tokens
      }
      if (rng.below(8) == 0) job.tokens->clear();
    }
    return {};
  }
  void forget(RequestId) override { ++forgotten; }
  std::map<std::vector<TokenId>, std::vector<TokenId>> answers;
  base::Rng rng{11};
  int fail_after = -1, forgotten = 0;
};

struct Log final : Sink {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  std::optional<Finished> finished;
  std::int64_t stop_at = -1;  // as a stop string would
  Verdict on_token(const TokenEvent& e) noexcept override {
    EXPECT_FALSE(finished);
    EXPECT_EQ(e.index, static_cast<std::int64_t>(tokens.size()));
    tokens.push_back(e.id);
    logprobs.push_back(e.logprob);
    for (const auto& t : e.top) logprobs.push_back(t.logprob);
    return e.index == stop_at ? Verdict::kStop : Verdict::kContinue;
  }
  void on_finished(const Finished& f) noexcept override { finished = f; }
};

// A grammar in small: no token may be below the one before it by more than `step`, and every call must come in order.
class Rising final : public sampling::LogitsProcessor {
 public:
  Status prepare(const sampling::History&, std::int64_t) override { return {}; }
  Status apply(std::span<float> logits, const sampling::History& history) override {
    EXPECT_EQ(static_cast<std::int64_t>(history.output().size()), accepted_);
    EXPECT_FALSE(applied_);
    applied_ = true;
    for (TokenId id = 0; id < last_ - 10; ++id) logits[static_cast<std::size_t>(id)] = -INFINITY;
    return {};
  }
  Status accept(TokenId id) override {
    EXPECT_TRUE(applied_);
    applied_ = false;
    ++accepted_;
    last_ = id;
    return {};
  }

 private:
  TokenId last_ = 0;
  std::int64_t accepted_ = 0;
  bool applied_ = false;
};

struct Wish {
  std::vector<TokenId> prompt;
  sampling::SamplingParams params;
  std::int64_t max_tokens = 10, stop_at = -1;
  std::int32_t priority = 0;
  bool grammar = false;
};
std::vector<Wish> random_wishes(std::uint64_t seed, int n) {
  base::Rng rng(seed);
  std::vector<Wish> wishes;
  for (int i = 0; i < n; ++i) {
    Wish w;
    for (std::uint64_t t = 2 + rng.below(25); t > 0; --t) w.prompt.push_back(static_cast<TokenId>(rng.below(kVocab)));
    w.max_tokens = static_cast<std::int64_t>(1 + rng.below(30));
    w.priority = static_cast<std::int32_t>(rng.below(3));
    w.params.temperature = rng.below(3) == 0 ? 0.0f : 1.0f;
    w.params.seed = rng.next_u64();
    w.params.logprobs = true;
    if (rng.below(2)) w.params.top_logprobs = 3;
    if (rng.below(2)) w.params.top_k = 5;
    if (rng.below(2)) w.params.repetition_penalty = 1.3f;
    if (rng.below(2)) w.params.frequency_penalty = 0.5f;
    if (rng.below(2)) w.params.stop_ids = {7, 8};
    if (rng.below(3) == 0) w.params.min_tokens = 4;
    if (rng.below(3) == 0) w.stop_at = static_cast<std::int64_t>(rng.below(12));
    w.grammar = rng.below(3) == 0;
    wishes.push_back(std::move(w));
  }
  return wishes;
}
Request request_of(const Wish& w, const std::shared_ptr<Log>& log) {
  Request r;
  r.prompt = w.prompt;
  r.params = w.params;
  r.max_tokens = w.max_tokens;
  r.priority = w.priority;
  log->stop_at = w.stop_at;
  if (w.grammar) r.processors.push_back(std::make_unique<Rising>());
  r.sink = log;
  return r;
}

EngineConfig small(std::vector<Drafter*> drafters, bool lookup = false) {
  EngineConfig c;
  c.context = 100;
  c.max_rows = 16;
  c.max_sequences = 4;
  c.growth_tokens = 4;
  c.drafts.models = std::move(drafters);
  c.drafts.lookup = lookup;
  c.drafts.adaptive = false;
  c.drafts.most = 5;
  return c;
}

struct House {
  kvcache::BlockPool pool;
  FakeExecutor executor;
  std::unique_ptr<Engine> engine;
  House(std::int32_t blocks, EngineConfig config)
      : pool(*kvcache::BlockPool::create({1, 1, 1, 4, tensor::DType::kF32}, blocks)),
        executor(pool, kVocab, config.max_rows, config.max_sequences + 7),
        engine(*Engine::create(executor, pool, std::move(config))) {}
  ~House() { engine.reset(); }
  void run() {
    for (int i = 0; engine->step(); ++i) {
      ASSERT_EQ(engine->violation(), "");
      ASSERT_LT(i, 100000);
    }
    EXPECT_EQ(pool.free_blocks(), pool.total_blocks());
  }
};

std::vector<std::shared_ptr<Log>> answers(const std::vector<Wish>& wishes) {
  std::vector<std::shared_ptr<Log>> logs;
  for (const Wish& w : wishes) {
    House house(64, small({}));
    logs.push_back(std::make_shared<Log>());
    EXPECT_TRUE(house.engine->submit(request_of(w, logs.back())));
    house.run();
  }
  return logs;
}

void expect_same(const Log& got, const Log& wanted) {
  EXPECT_EQ(got.tokens, wanted.tokens);
  EXPECT_EQ(got.logprobs, wanted.logprobs);
  ASSERT_TRUE(got.finished && wanted.finished);
  EXPECT_EQ(got.finished->reason, wanted.finished->reason);
  EXPECT_EQ(got.finished->usage.completion_tokens, wanted.finished->usage.completion_tokens);
}

TEST(Drafts, ResultsAreThoseWithoutThemEvenUnderPreemption) {
  std::int64_t preempted = 0;
  for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6}) {
    const auto wishes = random_wishes(seed, 24);
    const auto alone = answers(wishes);
    Oracle oracle;
    for (std::size_t i = 0; i < wishes.size(); ++i) oracle.answers[wishes[i].prompt] = alone[i]->tokens;
    House house(16, small({&oracle}, true));
    std::vector<std::shared_ptr<Log>> together;
    base::Rng rng(seed);
    for (const Wish& w : wishes) {
      together.push_back(std::make_shared<Log>());
      ASSERT_TRUE(house.engine->submit(request_of(w, together.back())));
      for (std::uint64_t n = rng.below(4); n > 0; --n) house.engine->step();
    }
    house.run();
    std::int64_t drafted = 0, accepted = 0;
    for (std::size_t i = 0; i < wishes.size(); ++i) {
      SCOPED_TRACE(i);
      expect_same(*together[i], *alone[i]);
      drafted += together[i]->finished->usage.drafted_tokens;
      accepted += together[i]->finished->usage.accepted_tokens;
    }
    const EngineStats stats = house.engine->stats();
    EXPECT_EQ(stats.drafted_tokens, drafted);
    EXPECT_EQ(stats.accepted_tokens, accepted);
    EXPECT_GT(accepted, 20);
    EXPECT_GT(drafted, accepted + 20);
    EXPECT_EQ(oracle.forgotten, 24);
    preempted += stats.preemptions;
  }
  EXPECT_GT(preempted, 0);
}

TEST(Drafts, SaveSteps) {
  Wish w;
  w.prompt = {1, 2, 3};
  w.params.temperature = 0;
  w.max_tokens = 30;
  const auto alone = answers({w});
  Oracle oracle;
  oracle.answers[w.prompt] = alone[0]->tokens;
  House house(64, small({&oracle}));
  const auto log = std::make_shared<Log>();
  ASSERT_TRUE(house.engine->submit(request_of(w, log)));
  house.run();
  expect_same(*log, *alone[0]);
  EXPECT_LT(house.executor.runs, 20);
  EXPECT_EQ(house.executor.runs + log->finished->usage.accepted_tokens, 30);

  Request without = request_of(w, std::make_shared<Log>());
  without.drafts = false;
  house.executor.runs = 0;
  ASSERT_TRUE(house.engine->submit(std::move(without)));
  house.run();
  EXPECT_EQ(house.executor.runs, 30);
}

// What the sampler promises by construction, seen from outside: with drafts the first tokens come as often as the model
// says. Every seed is another draw; a chi-square test over the tokens of two places.
TEST(Drafts, KeepTheDistribution) {
  const std::vector<TokenId> prompt{3, 1, 4, 1, 5, 3, 1, 4};
  constexpr int kDraws = 4000;
  Oracle oracle;
  oracle.answers[prompt] = {9, 9, 9};
  House house(64, small({&oracle}));
  const auto distribution = [&](std::vector<TokenId> tokens) {  // by reading the model's row
    struct Row final : Sink {
      std::vector<double> p;
      Verdict on_token(const TokenEvent&) noexcept override { return Verdict::kStop; }
      void on_row(const RowEvent& e) noexcept override { p.assign(e.row.begin(), e.row.end()); }
      void on_finished(const Finished&) noexcept override {}
    };
    const auto row = std::make_shared<Row>();
    Request r;
    r.prompt = std::move(tokens);
    r.wanted = Wanted::kLastRow;
    r.sink = row;
    EXPECT_TRUE(house.engine->submit(std::move(r)));
    house.run();
    double sum = 0;
    for (double& p : row->p) sum += p = std::exp(p);
    for (double& p : row->p) p /= sum;
    return row->p;
  };
  const std::vector<double> first = distribution(prompt);
  std::vector<double> second(kVocab);
  for (TokenId a = 0; a < kVocab; ++a) {
    auto longer = prompt;
    longer.push_back(a);
    const auto p = distribution(longer);
    for (std::size_t b = 0; b < p.size(); ++b) second[b] += first[static_cast<std::size_t>(a)] * p[b];
  }
  std::vector<double> seen[2] = {std::vector<double>(kVocab), std::vector<double>(kVocab)};
  std::vector<std::shared_ptr<Log>> logs;
  for (int i = 0; i < kDraws; ++i) {
    Wish w;
    w.prompt = prompt;
    w.params.seed = static_cast<std::uint64_t>(i);
    w.max_tokens = 3;
    logs.push_back(std::make_shared<Log>());
    ASSERT_TRUE(house.engine->submit(request_of(w, logs.back())));
    if (i % 200 == 199) house.run();
  }
  std::int64_t accepted = 0;
  for (const auto& log : logs) {
    ++seen[0][static_cast<std::size_t>(log->tokens[0])];
    ++seen[1][static_cast<std::size_t>(log->tokens[1])];
    accepted += log->finished->usage.accepted_tokens;
  }
  EXPECT_GT(accepted, 30);
  for (int place = 0; place < 2; ++place) {
    double chi = 0;
    for (std::size_t t = 0; t < kVocab; ++t) {
      const double expected = kDraws * (place == 0 ? first[t] : second[t]);
      chi += (seen[place][t] - expected) * (seen[place][t] - expected) / expected;
    }
    EXPECT_LT(chi, 93) << place;  // 49 degrees of freedom: above in 1 of 6000 tests
    EXPECT_GT(chi, 18) << place;  // and it is a draw, not a table
  }
}

TEST(Drafts, AFailingDrafterIsNotAskedAgain) {
  const auto wishes = random_wishes(8, 6);
  const auto alone = answers(wishes);
  Oracle oracle;
  oracle.fail_after = 3;
  House house(64, small({&oracle}));
  std::vector<std::shared_ptr<Log>> logs;
  for (const Wish& w : wishes) {
    logs.push_back(std::make_shared<Log>());
    ASSERT_TRUE(house.engine->submit(request_of(w, logs.back())));
  }
  house.run();
  for (std::size_t i = 0; i < wishes.size(); ++i) expect_same(*logs[i], *alone[i]);
  EXPECT_EQ(house.engine->stats().failed_drafters, 1);
}

TEST(Drafts, CancelMidAnswerFreesAll) {
  Wish w = random_wishes(9, 1)[0];
  w.max_tokens = 60;
  w.params = {};
  w.stop_at = -1;
  Oracle oracle;
  House house(64, small({&oracle}));
  const auto log = std::make_shared<Log>();
  const auto id = house.engine->submit(request_of(w, log));
  ASSERT_TRUE(id);
  for (int i = 0; i < 5; ++i) house.engine->step();
  house.engine->cancel(*id);
  house.run();
  ASSERT_TRUE(log->finished);
  EXPECT_EQ(log->finished->reason, FinishReason::kCancelled);
}

TEST(Drafts, BadConfigurationIsRefused) {
  EngineConfig config = small({}, true);
  config.drafts.most = -1;
  kvcache::BlockPool pool = *kvcache::BlockPool::create({1, 1, 1, 4, tensor::DType::kF32}, 8);
  FakeExecutor executor(pool, kVocab, 16, 6);
  EXPECT_EQ(Engine::create(executor, pool, config).error().kind, ErrorKind::kUsage);
  config.drafts.most = 5;  // 4 sequences and 5 drafts do not fit into 6 rows of logits
  EXPECT_EQ(Engine::create(executor, pool, config).error().kind, ErrorKind::kUsage);
}

}  // namespace
}  // namespace qw::engine
