// Answers of a crowd begin together; see internal/gathering.h.
#include "engine/internal/gathering.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/engine.h"
#include "engine/internal/fake_executor.h"

namespace qw::engine {
namespace {

using std::chrono::milliseconds;

constexpr std::int64_t kVocab = 50, kPromptTokens = 12;

TEST(Gathering, WaitsForACrowdOnly) {
  const Clock::time_point now{};
  Gathering gathering(milliseconds(1000), 16);
  const auto looks = [&](std::int64_t answering, std::int64_t beginning, std::int64_t unread, bool alike = true) {
    gathering.look({answering, beginning, unread, alike}, milliseconds(10), now);
    return gathering.on();
  };
  EXPECT_TRUE(looks(0, 8, 100));
  EXPECT_FALSE(looks(0, 7, 100));
  EXPECT_FALSE(looks(1, 15, 100));  // somebody answers
  EXPECT_FALSE(looks(0, 8, 0));     // all is read
  EXPECT_FALSE(looks(0, 8, 100, false));
}

TEST(Gathering, NoLongerThanTheLimit) {
  Clock::time_point now{};
  Gathering gathering(milliseconds(1000), 8);
  const auto looks = [&](int reading) {
    gathering.look({0, 6, 100, true}, milliseconds(reading), now);
    return gathering.on();
  };
  EXPECT_FALSE(looks(1001));  // it would be in vain
  EXPECT_TRUE(looks(900));
  now += milliseconds(300);
  EXPECT_TRUE(looks(700));
  EXPECT_FALSE(looks(701));
  now += milliseconds(5000);
  EXPECT_TRUE(looks(10));  // another crowd
}

struct Log final : Sink {
  std::vector<TokenId> tokens;
  std::vector<Clock::time_point> times;
  const Clock::time_point* now = nullptr;
  bool finished = false;
  Verdict on_token(const TokenEvent& e) noexcept override {
    tokens.push_back(e.id);
    times.push_back(*now);
    return Verdict::kContinue;
  }
  void on_finished(const Finished& f) noexcept override {
    finished = true;
    EXPECT_EQ(f.reason, FinishReason::kLength);
  }
};

// A pass takes 10 ms, and 1 ms a row.
struct House {
  Clock::time_point now{};
  kvcache::BlockPool pool;
  FakeExecutor executor;
  std::unique_ptr<Engine> engine;
  std::vector<std::shared_ptr<Log>> logs;
  std::function<void()> during_a_pass;

  House(double gather_ms, std::int32_t blocks, std::int64_t max_rows = 16, double target_gap_ms = 20)
      : pool(*kvcache::BlockPool::create({1, 1, 1, 4, tensor::DType::kF32}, blocks)),
        executor(pool, kVocab, max_rows, 16) {
    EngineConfig c;
    c.context = 64;
    c.max_rows = max_rows;
    c.max_sequences = 8;
    c.growth_tokens = 4;
    c.target_gap_ms = target_gap_ms;
    c.gather_ms = gather_ms;
    c.now = [this] { return now; };
    engine = *Engine::create(executor, pool, std::move(c));
    executor.before_run = [this] {
      if (during_a_pass) std::exchange(during_a_pass, nullptr)();
      now += milliseconds(10) + milliseconds(executor.rows_of_runs.back());
    };
  }
  ~House() { engine.reset(); }
  void submit(int count, std::int64_t max_tokens = 10, std::int64_t prompt_tokens = kPromptTokens) {
    for (int i = 0; i < count; ++i) {
      Request r;
      for (std::int64_t t = 0; t < prompt_tokens; ++t)
        r.prompt.push_back(static_cast<TokenId>((7 * std::ssize(logs) + t) % kVocab));
      r.max_tokens = max_tokens;
      r.params.seed = logs.size();
      logs.push_back(std::make_shared<Log>());
      logs.back()->now = &now;
      r.sink = logs.back();
      ASSERT_TRUE(engine->submit(std::move(r)));
    }
  }
  void run() {
    for (int i = 0; engine->step(); ++i) {
      ASSERT_LT(i, 10000);
      ASSERT_EQ(engine->violation(), "");
    }
    for (const auto& log : logs) ASSERT_TRUE(log->finished);
  }
  std::vector<double> first_tokens() const {  // ms, in order
    std::vector<double> out;
    for (const auto& log : logs)
      out.push_back(std::chrono::duration<double, std::milli>(log->times.front() - Clock::time_point{}).count());
    std::sort(out.begin(), out.end());
    return out;
  }
  double longest_gap() const {
    double longest = 0;
    for (const auto& log : logs)
      for (std::size_t i = 1; i < log->times.size(); ++i)
        longest =
            std::max(longest, std::chrono::duration<double, std::milli>(log->times[i] - log->times[i - 1]).count());
    return longest;
  }
};

std::vector<std::vector<TokenId>> tokens_of(const House& house) {
  std::vector<std::vector<TokenId>> out;
  for (const auto& log : house.logs) out.push_back(log->tokens);
  return out;
}

TEST(Gathering, TheLatestFirstTokenComesSoonerAndNobodyStandsStill) {
  House apart(0, 64), together(1000, 64);
  for (House* house : {&apart, &together}) {
    ASSERT_NO_FATAL_FAILURE(house->submit(8));
    ASSERT_NO_FATAL_FAILURE(house->run());
  }
  EXPECT_EQ(tokens_of(together), tokens_of(apart));
  const auto before = apart.first_tokens(), after = together.first_tokens();
  EXPECT_EQ(after.front(), after.back());
  EXPECT_LT(after.back(), 0.85 * before.back());
  EXPECT_LT(together.now, apart.now);       // and all of it is done earlier
  EXPECT_EQ(together.longest_gap(), 18.0);  // a step of eight answers
}

// Prompts of others, however long, bring no token of an answer in progress later than twice the usual gap, once it is
// known how long steps take; and they come to an end nearly as soon as steps of that length allow.
TEST(Evenness, LongPromptsDoNotStopAnAnswerInProgress) {
  constexpr double kUsual = 15;  // a step of five answers
  for (const double target_gap_ms : {20, 0}) {
    House house(0, 128, 64, target_gap_ms);
    ASSERT_NO_FATAL_FAILURE(house.submit(1, 50, 8));
    for (int i = 0; i < 8; ++i) house.engine->step();
    ASSERT_NO_FATAL_FAILURE(house.submit(4, 2, 60));
    ASSERT_NO_FATAL_FAILURE(house.run());
    if (target_gap_ms > 0) {
      EXPECT_LE(house.longest_gap(), 2 * kUsual);
      EXPECT_LT(house.first_tokens().back(), 8 * 18 + 4 * 60 / 12 * 2 * kUsual);  // at least 12 rows of prompts a step
    } else {
      EXPECT_GT(house.longest_gap(), 4 * kUsual);  // steps are as large as they may be
    }
  }
}

TEST(Gathering, ACrowdThatComesDuringAPassIsJoined) {
  House alone(0, 64), house(1000, 64);
  ASSERT_NO_FATAL_FAILURE(alone.submit(8));
  ASSERT_NO_FATAL_FAILURE(alone.run());
  ASSERT_NO_FATAL_FAILURE(house.submit(1));
  house.during_a_pass = [&] { house.submit(7); };
  ASSERT_NO_FATAL_FAILURE(house.run());
  EXPECT_EQ(house.first_tokens().front(), house.first_tokens().back());
  EXPECT_EQ(tokens_of(house), tokens_of(alone));
}

TEST(Gathering, NotWhereItTakesLongerThanAllowed) {
  House house(60, 64);
  ASSERT_NO_FATAL_FAILURE(house.submit(1));
  ASSERT_NO_FATAL_FAILURE(house.run());  // so that it is known how long passes take
  house.logs.clear();
  ASSERT_NO_FATAL_FAILURE(house.submit(8));
  ASSERT_NO_FATAL_FAILURE(house.run());
  EXPECT_LT(house.first_tokens().front(), house.first_tokens().back());
}

TEST(Gathering, ThoseWhoFindNoRoomAreNotWaitedFor) {
  House house(100000, 24);  // room for four or five
  ASSERT_NO_FATAL_FAILURE(house.submit(8));
  ASSERT_NO_FATAL_FAILURE(house.run());
  const auto first = house.first_tokens();
  EXPECT_EQ(first[0], first[3]);
  EXPECT_LT(first[3], first.back());
}

}  // namespace
}  // namespace qw::engine
