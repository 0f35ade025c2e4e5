// How likely a prompt's own tokens were: the same whatever runs beside it, however it is cut and whatever is cached.
#include <gtest/gtest.h>

#include <memory>

#include "engine/internal/fake_executor.h"
#include "engine/internal/tiny_model.h"
#include "engine/loaded_model.h"

namespace qw::engine {
namespace {

struct Log final : Sink {
  std::vector<TokenId> tokens, told;
  std::vector<float> logprobs;  // of the prompt: the token's, then those of the others
  std::optional<Finished> end;
  Verdict on_token(const TokenEvent& e) noexcept override {
    tokens.push_back(e.id);
    return Verdict::kContinue;
  }
  void on_prompt_token(const TokenEvent& e) noexcept override {
    EXPECT_TRUE(tokens.empty() && !end);
    EXPECT_EQ(e.index, static_cast<std::int64_t>(told.size()) + 1);
    told.push_back(e.id);
    logprobs.push_back(e.logprob);
    for (const auto& other : e.top) logprobs.push_back(other.logprob);
  }
  void on_finished(const Finished& f) noexcept override { end = f; }
};

std::vector<TokenId> some_text(std::size_t n) {
  std::vector<TokenId> out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(static_cast<TokenId>(i * 7 % 31));
  return out;
}
Request telling(std::vector<TokenId> prompt, std::shared_ptr<Sink> sink, Wanted wanted = Wanted::kPrompt) {
  Request r;
  r.prompt = std::move(prompt);
  r.wanted = wanted;
  r.params.temperature = 0;
  r.params.logprobs = true;
  r.params.top_logprobs = 2;
  r.prompt_logprobs = true;
  r.max_tokens = 5;
  r.sink = std::move(sink);
  return r;
}

struct FakeHouse {
  kvcache::BlockPool pool = *kvcache::BlockPool::create({1, 1, 1, 4, tensor::DType::kF32}, 64);
  FakeExecutor executor;
  std::unique_ptr<Engine> engine;
  // Room for as few rows of logits as an engine may have: for one of each sequence.
  explicit FakeHouse(std::int64_t max_sequences) : executor(pool, 40, 32, max_sequences) {
    EngineConfig c;
    c.context = 100;
    c.max_rows = 32;
    c.max_sequences = max_sequences;
    engine = *Engine::create(executor, pool, std::move(c));
  }
  ~FakeHouse() { engine.reset(); }
  void run() {
    while (engine->step()) ASSERT_EQ(engine->violation(), "");
  }
};

TEST(PromptRows, AreToldWithRoomForFewRowsOfLogits) {
  const auto text = some_text(70);
  FakeHouse house(3);
  const auto log = std::make_shared<Log>(), alone = std::make_shared<Log>(), short_one = std::make_shared<Log>();
  ASSERT_TRUE(house.engine->submit(telling(text, alone)));
  ASSERT_TRUE(house.engine->submit(telling({5}, short_one)));
  house.run();
  EXPECT_EQ(alone->told, std::vector<TokenId>(text.begin() + 1, text.end()));
  EXPECT_EQ(alone->logprobs.size(), 69u * 3);
  EXPECT_TRUE(alone->tokens.empty());
  EXPECT_EQ(alone->end->reason, FinishReason::kLength);
  EXPECT_EQ(alone->end->usage.prompt_tokens, 70);
  EXPECT_EQ(alone->end->usage.computed_tokens, 70);
  EXPECT_EQ(alone->end->usage.completion_tokens, 0);
  EXPECT_TRUE(short_one->told.empty()) << "nothing is known of a first token";
  EXPECT_EQ(short_one->end->reason, FinishReason::kLength);
  EXPECT_EQ(house.executor.rows_of_runs.front(), 32u) << "steps are as large as others'";
  ASSERT_TRUE(house.engine->submit(telling(text, log, Wanted::kTokens)));
  house.run();
  EXPECT_EQ(log->logprobs, alone->logprobs);
  EXPECT_EQ(log->tokens.size(), 5u);
}

TEST(PromptRows, TakeFewOfAStepInWhichOthersAnswer) {
  FakeHouse house(3);
  const auto answer = std::make_shared<Log>(), log = std::make_shared<Log>();
  Request r = telling({1, 2, 3}, answer, Wanted::kTokens);
  r.prompt_logprobs = false;
  r.max_tokens = 80;
  ASSERT_TRUE(house.engine->submit(std::move(r)));
  house.engine->step();
  house.executor.rows_of_runs.clear();
  ASSERT_TRUE(house.engine->submit(telling(some_text(70), log)));
  while (!log->end) house.engine->step();
  for (const std::size_t rows : house.executor.rows_of_runs) EXPECT_LE(rows, 1u + 3);
  EXPECT_EQ(log->told.size(), 69u);
  house.run();
  EXPECT_EQ(answer->tokens.size(), 80u);
}

TEST(PromptRows, EndWithTheStepThatFails) {
  FakeHouse house(3);
  const auto log = std::make_shared<Log>();
  ASSERT_TRUE(house.engine->submit(telling(some_text(70), log)));
  house.engine->step();
  EXPECT_EQ(log->told.size(), 32u);
  house.executor.fail_next = true;
  house.run();
  EXPECT_EQ(log->end->reason, FinishReason::kError);
  EXPECT_EQ(log->told.size(), 32u);
  const auto gone = std::make_shared<Log>();
  const auto id = house.engine->submit(telling(some_text(70), gone));
  house.engine->step();
  house.engine->cancel(*id);
  house.run();
  EXPECT_EQ(gone->end->reason, FinishReason::kCancelled);
}

TEST(PromptRows, GoWithLogprobsOfTokensOnly) {
  FakeHouse house(3);
  Request r = telling(some_text(4), std::make_shared<Log>());
  r.params.logprobs = false, r.params.top_logprobs = 0;
  EXPECT_EQ(house.engine->submit(std::move(r)).error().kind, ErrorKind::kUsage);
  r = telling(some_text(4), std::make_shared<Log>(), Wanted::kLastRow);
  EXPECT_EQ(house.engine->submit(std::move(r)).error().kind, ErrorKind::kUsage);
  r = telling(some_text(4), std::make_shared<Log>());
  r.prompt_logprobs = false;
  EXPECT_TRUE(house.engine->submit(std::move(r))) << "a prompt may be read for the cache's sake";
}

class PromptRowsOfModels : public testing::TestWithParam<std::string> {};

TEST_P(PromptRowsOfModels, AreTheSameBytesCachedCutAndBesideOthers) {
  const auto text = some_text(60);
  std::vector<float> wanted;
  std::vector<TokenId> answer;
  for (const std::int64_t rows : {64, 7}) {
    LoadOptions options = small_options();
    options.threads = rows == 7 ? 2 : 1;
    options.engine.max_rows = rows;
    options.engine.max_sequences = 3;
    options.prefix_cache = true;
    const auto loaded = load(GetParam(), tensor::DType::kBF16, options);
    for (int round = 0; round < 2; ++round) {  // the second time all of it is in the cache
      const auto log = std::make_shared<Log>(), other = std::make_shared<Log>();
      Request beside = telling(some_text(33), other, Wanted::kTokens);
      beside.prompt_logprobs = false;
      beside.max_tokens = 20;
      if (round == 1) {
        ASSERT_TRUE(loaded->engine().submit(std::move(beside)));
      }
      ASSERT_TRUE(loaded->engine().submit(telling(text, log, Wanted::kTokens)));
      while (loaded->engine().step()) {
      }
      if (wanted.empty()) wanted = log->logprobs, answer = log->tokens;
      EXPECT_EQ(log->logprobs, wanted) << rows << " " << round;
      EXPECT_EQ(log->tokens, answer);
      EXPECT_EQ(log->end->usage.cached_tokens, 0);
      EXPECT_EQ(log->end->usage.computed_tokens, 60 + 5 - 1);
    }
    // The rows themselves, by the other path.
    options.logit_rows = options.engine.max_rows;
    const auto reader = load(GetParam(), tensor::DType::kBF16, options);
    Request every;
    every.prompt = text;
    every.wanted = Wanted::kEveryRow;
    std::vector<Request> requests;
    requests.push_back(std::move(every));
    const auto readings = read(reader->engine(), std::move(requests));
    ASSERT_TRUE(readings) << readings.error().message;
    sampling::SamplingParams params;
    params.logprobs = true;
    params.top_logprobs = 2;
    const sampling::Sampler sampler(params, text);
    sampling::SamplerScratch scratch;
    for (std::size_t p = 0; p + 1 < text.size(); ++p) {
      const auto row = (*readings)[0].row(static_cast<std::int64_t>(p));
      std::vector<float> logits(row.begin(), row.end());
      sampling::Sampled told;
      ASSERT_TRUE(sampler.report(logits, text[p + 1], scratch, told));
      EXPECT_EQ(told.logprob, wanted[3 * p]) << p;
      EXPECT_EQ(told.top[0].logprob, wanted[3 * p + 1]) << p;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, PromptRowsOfModels, testing::Values("qwen3", "qwen3_next"),
                         [](const auto& of) { return of.param; });

}  // namespace
}  // namespace qw::engine
