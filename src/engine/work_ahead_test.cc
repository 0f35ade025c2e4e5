// Requests whose processors need long before each token: the others' tokens come at every step, and the answers are the
// same. Counted in steps of work, so that nothing here depends on a clock.
#include <gtest/gtest.h>

#include <memory>

#include "engine/engine.h"
#include "engine/internal/fake_executor.h"

namespace qw::engine {
namespace {

// Works so long before each token; counts what it was given at once.
class Slow final : public sampling::LogitsProcessor {
 public:
  struct Seen {
    std::size_t most = 0;  // steps at once
    int late = 0;          // tokens drawn before it was done
  };
  Slow(std::size_t steps, Seen& seen) : steps_(steps), left_(steps), seen_(seen) {}
  Status prepare(const sampling::History&, std::int64_t) override { return {}; }
  bool works_ahead() const override { return true; }
  bool work_ahead(std::size_t steps) override {
    if (left_ > 0) seen_.most = std::max(seen_.most, std::min(left_, steps));
    left_ -= std::min(left_, steps);
    return left_ == 0;
  }
  Status apply(std::span<float>, const sampling::History&) override {
    seen_.late += left_ > 0;
    return {};
  }
  Status accept(TokenId) override {
    left_ = steps_;
    return {};
  }

 private:
  std::size_t steps_, left_;
  Seen& seen_;
};

struct Log final : Sink {
  std::vector<TokenId> tokens;
  std::vector<std::int64_t> at;  // the run that gave each
  const std::int64_t* clock = nullptr;
  std::optional<Finished> end;
  Verdict on_token(const TokenEvent& e) noexcept override {
    tokens.push_back(e.id);
    if (clock != nullptr) at.push_back(*clock);
    return Verdict::kContinue;
  }
  void on_finished(const Finished& f) noexcept override { end = f; }
};

struct House {
  kvcache::BlockPool pool = *kvcache::BlockPool::create({1, 1, 1, 4, tensor::DType::kF32}, 64);
  FakeExecutor executor{pool, 40, 16, 8};
  std::unique_ptr<Engine> engine;
  explicit House(bool drafts = false) {
    EngineConfig c;
    c.context = 100;
    c.max_rows = 16;
    c.max_sequences = 4;
    c.drafts.lookup = drafts;
    c.drafts.most = 3;
    c.drafts.adaptive = false;
    executor.habits = drafts;
    engine = *Engine::create(executor, pool, std::move(c));
  }
  ~House() { engine.reset(); }
  std::shared_ptr<Log> submit(std::int64_t max_tokens, std::size_t works, Slow::Seen& seen) {
    auto log = std::make_shared<Log>();
    log->clock = &executor.runs;
    Request r;
    r.prompt = {1, 2, 3, 1, 2, 3};
    r.params.temperature = 0;
    r.max_tokens = max_tokens;
    if (works > 0) r.processors.push_back(std::make_unique<Slow>(works, seen));
    r.sink = log;
    EXPECT_TRUE(engine->submit(std::move(r)));
    return log;
  }
  void run() {
    for (int i = 0; engine->step(); ++i) {
      ASSERT_EQ(engine->violation(), "");
      ASSERT_LT(i, 100000);
    }
  }
};

constexpr std::size_t kMuch = std::size_t{1} << 26;  // the most that a grammar may take

TEST(WorkAhead, WhoIsNotReadySitsOutAndOthersGoOnAtEveryStep) {
  Slow::Seen seen;
  House alone, house;
  const auto wanted = alone.submit(40, 0, seen);
  alone.run();
  const auto slow = house.submit(40, kMuch, seen), other = house.submit(40, 0, seen);
  house.run();
  EXPECT_EQ(slow->tokens, wanted->tokens);
  EXPECT_EQ(other->tokens, wanted->tokens);
  for (std::size_t i = 1; i < other->at.size(); ++i) EXPECT_EQ(other->at[i], other->at[i - 1] + 1) << i;
  EXPECT_EQ(seen.late, 0);
  EXPECT_LE(seen.most, kMuch / 8) << "of its work, at most so much lies between two steps";
  EXPECT_LT(slow->at.front() + 7, slow->at.back());
  EXPECT_EQ(slow->end->usage.computed_tokens, other->end->usage.computed_tokens)
      << "nothing is computed for it in vain";
}

TEST(WorkAhead, SeveralShareWhatLiesBetweenTwoSteps) {
  Slow::Seen seen;
  House house;
  std::vector<std::shared_ptr<Log>> logs;
  for (int i = 0; i < 3; ++i) logs.push_back(house.submit(5, kMuch, seen));
  const auto other = house.submit(60, 0, seen);
  house.run();
  EXPECT_LE(seen.most, kMuch / 8 / 3 + 1);
  for (const auto& log : logs) EXPECT_EQ(log->tokens, logs[0]->tokens);
  EXPECT_EQ(seen.late, 0);
  for (std::size_t i = 1; i < other->at.size(); ++i) EXPECT_EQ(other->at[i], other->at[i - 1] + 1) << i;
}

TEST(WorkAhead, AnEngineOfItsOwnThreadGoesOnWhileNobodyIsReady) {
  Slow::Seen seen;
  House house;
  const auto slow = house.submit(20, kMuch, seen);
  house.engine->start();
  house.engine->drain();
  EXPECT_EQ(slow->tokens.size(), 20u);
  EXPECT_EQ(house.executor.runs, 1 + 20) << "the prompt but its last token, then one for each; none with nothing to compute";
  EXPECT_EQ(seen.late, 0);
}

TEST(WorkAhead, GuessesThatCannotBeLookedAtYetAreLetGo) {
  Slow::Seen seen;
  House alone(true), house(true);
  const auto wanted = alone.submit(60, 0, seen);
  alone.run();
  const auto slow = house.submit(60, kMuch, seen), quick = house.submit(60, 1000, seen);
  house.run();
  EXPECT_GT(wanted->end->usage.accepted_tokens, 0);
  EXPECT_GT(quick->end->usage.accepted_tokens, 0) << "what takes little stands in nobody's way";
  EXPECT_EQ(slow->end->usage.accepted_tokens, 0);
  EXPECT_EQ(slow->tokens, wanted->tokens);
  EXPECT_EQ(quick->tokens, wanted->tokens);
  EXPECT_EQ(seen.late, 0);
}

}  // namespace
}  // namespace qw::engine
