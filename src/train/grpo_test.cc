#include "train/grpo.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/file.h"
#include "eval/sandbox.h"
#include "train/answer_rewards.h"
#include "train/internal/test_run.h"

namespace qw::train {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// By tools/reference/make_grpo_golden.py: TRL's formulas, PyTorch's gradients. Four answers to one prompt, one after
// the other.
constexpr std::size_t kLengths[] = {3, 5, 1, 4};
constexpr std::int64_t kTokens = 13, kMaxTokens = 6;
constexpr double kRewards[] = {1, 0, 0.25, 1};
const std::vector<float> kNow = {-0.078125, -0.25,     -0.765625, -0.1875,   -0.359375, -0.875, -0.21875,
                                 -1.421875, -0.296875, -0.40625,  -0.578125, -1.09375,  -0.4375};
const std::vector<float> kOld = {-0.046875, -0.125,    -0.359375, -0.15625,  -0.234375, -0.46875, -0.859375,
                                 -1.40625,  -0.265625, -0.375,    -0.453125, -0.6875,   -1.078125};
const std::vector<float> kBefore = {-0.484375, -0.53125,  -0.671875, -0.59375,  -0.640625, -0.78125, -1.015625,
                                    -1.34375,  -0.703125, -0.8125,   -0.859375, -1,        -1.234375};
struct Golden {
  GrpoAverage average;
  double clip_low, clip_high, beta;
  double loss, clipped_share, divergence;
  std::vector<double> gradient;
};
const Golden kGolden[] = {
    {GrpoAverage::kGrpo,
     0.2,
     0.2,
     0.0,
     0.073530295464,
     0.153846153846,
     0.0699847772282,
     {-0.06854982931, -0.06241532986, -0.04711356275, 0.0528812969, 0.04814896875, 0, 0.1035365531, 0.05371405615,
      0.1468924914, -0.05141237198, -0.04681149739, -0.03533517206, 0}},
    {GrpoAverage::kGrpo,
     0.2,
     0.2,
     0.04,
     0.0762600540281,
     0.153846153846,
     0.0699847772282,
     {-0.06743697468, -0.06159812853, -0.04744117988, 0.05354900967, 0.04863928954, -0.0001965702806, 0.1046350825,
      0.05355154053, 0.1502310553, -0.05057773101, -0.0461985964, -0.03558088491, 0.001373161716}},
    {GrpoAverage::kDapo,
     0.2,
     0.28,
     0.0,
     0.0973775531777,
     0.153846153846,
     0.0699847772282,
     {-0.06327676552, -0.05761415064, -0.04348944254, 0.08135584138, 0.07407533653, 0, 0.1592870048, 0.08263700946,
      0.04519768965, -0.06327676552, -0.05761415064, -0.04348944254, 0}},
    {GrpoAverage::kDrGrpo,
     0.2,
     0.2,
     0.01,
     0.0290274483332,
     0.153846153846,
     0.0699847772282,
     {-0.01752920734, -0.01598503295, -0.01218419505, 0.02285551076, 0.02078567132, -4.095214179e-05, 0.04470542006,
      0.02304027782, 0.01275933124, -0.01752920734, -0.01598503295, -0.01218419505, 0.0002288602861}},
    {GrpoAverage::kGspo,
     0.05,
     0.05,
     0.0,
     0.0308598775171,
     0,
     0.0699847772282,
     {-0.05863377619, -0.05863377619, -0.05863377619, 0.05524620888, 0.05524620888, 0.05524620888, 0.05524620888,
      0.05524620888, 0.1468924914, -0.05409058243, -0.05409058243, -0.05409058243, -0.05409058243}},
    {GrpoAverage::kGspo,
     0.0003,
     0.0004,
     0.02,
     0.0409421136789,
     0.384615384615,
     0.0699847772282,
     {-0.05807734887, -0.05822517552, -0.05879758475, 0.05558006527, 0.05549136928, 0.05514792374, 0.05579547357,
      0.05516495107, 0.001669281946, 0.0004173204866, 0.0003064504975, -0.0001228564254, 0.0006865808582}},
};

TEST(GrpoLoss, IsTrlsWithPyTorchsGradients) {
  for (const Golden& g : kGolden) {
    GrpoConfig config;
    config.average = g.average;
    config.clip_low = g.clip_low;
    config.clip_high = g.clip_high;
    config.beta = g.beta;
    config.max_tokens = kMaxTokens;
    std::vector<double> advantages(4), gradient(static_cast<std::size_t>(kTokens));
    grpo_advantages(g.average, kRewards, advantages);
    GrpoLoss sum;
    std::size_t at = 0;
    for (std::size_t i = 0; i < 4; at += kLengths[i++]) {
      const std::size_t n = kLengths[i];
      const double weight = grpo_token_weight(config, static_cast<std::int64_t>(n), 4, kTokens);
      const DrawnAnswer answer{advantages[i], std::span(kOld).subspan(at, n), std::span(kBefore).subspan(at, n)};
      const GrpoLoss one =
          grpo_loss(config, answer, weight, std::span(kNow).subspan(at, n), std::span(gradient).subspan(at, n));
      sum.loss += one.loss;
      sum.clipped += one.clipped;
      sum.divergence += one.divergence;
    }
    EXPECT_NEAR(sum.loss, g.loss, 1e-10 * std::abs(g.loss));
    EXPECT_NEAR(static_cast<double>(sum.clipped) / kTokens, g.clipped_share, 1e-9);
    if (g.beta > 0) {
      EXPECT_NEAR(sum.divergence / kTokens, g.divergence, 1e-9);
    }
    for (std::size_t i = 0; i < gradient.size(); ++i) EXPECT_NEAR(gradient[i], g.gradient[i], 1e-9) << i;
  }
}

TEST(GrpoLoss, EqualRewardsTeachNothing) {
  std::vector<double> out(3, 1.0);
  grpo_advantages(GrpoAverage::kGrpo, std::vector<double>{0.1, 0.1, 0.1}, out);
  for (const double a : out) EXPECT_NEAR(a, 0, 1e-10);
}

double judged(const AnswerReward& reward, std::string_view text, std::string_view expected) {
  const auto made = AnswerRewards::create({reward});
  EXPECT_TRUE(made) << made.error().message;
  const auto values = made->judge({text, expected, std::ssize(text), 20});
  EXPECT_TRUE(values) << values.error().message;
  return values ? values->front() : -9;
}

TEST(AnswerRewards, TheLastNumberCounts) {
  const AnswerReward number{.check = AnswerCheck::kNumber};
  EXPECT_EQ(judged(number, "3 and 4 make 7.", "so #### 7"), 1);
  EXPECT_EQ(judged(number, "3 and 4 make 7. No: 8", "7"), 0);
  EXPECT_EQ(judged(number, "$1,234,567.50!", "1234567.5"), 1);
  EXPECT_EQ(judged(number, "it is -5", "-5.0"), 1);
  EXPECT_EQ(judged(number, "9-5", "5"), 1);
  EXPECT_EQ(judged(number, "version 1.2.3", "2.3"), 1);
  EXPECT_EQ(judged(number, "1,23", "23"), 1);
  EXPECT_EQ(judged(number, "none", "0"), 0);
  EXPECT_EQ(judged(number, "<think>8</think>7", "7"), 1);
  EXPECT_EQ(judged(number, "<think>7</think>so", "7"), 0);
  EXPECT_FALSE(AnswerRewards::create({number})->judge({"7", "seven", 1, 20}));
}

TEST(AnswerRewards, TextsPatternsAndForms) {
  EXPECT_EQ(judged({.check = AnswerCheck::kExact}, " moon\n", "moon"), 1);
  EXPECT_EQ(judged({.check = AnswerCheck::kExact}, "moons", "moon"), 0);
  const AnswerReward boxed{.check = AnswerCheck::kExact, .pattern = R"(\\boxed\{(.*?)\})"};
  EXPECT_EQ(judged(boxed, R"(\boxed{1}, no: \boxed{x+1})", "x+1"), 1);
  EXPECT_EQ(judged(boxed, "x+1", "x+1"), 0);
  const AnswerReward format{.check = AnswerCheck::kRegex, .pattern = "^<think>.*</think>[^<]+$"};
  EXPECT_EQ(judged(format, "<think>so</think>yes", ""), 1);
  EXPECT_EQ(judged(format, "yes", ""), 0);
  EXPECT_EQ(judged({.check = AnswerCheck::kRegex}, "the moon", "^the (moon|sun)$"), 1);
  // One that needs too many steps is none that matches.
  EXPECT_EQ(judged({.check = AnswerCheck::kRegex, .pattern = "(a*)*(a*)*b"}, std::string(60, 'a'), ""), 0);
  const AnswerReward schema{
      .check = AnswerCheck::kJsonSchema,
      .schema =
          R"({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false})"};
  EXPECT_EQ(judged(schema, "{ \"a\" :  3 }\n", ""), 1);
  EXPECT_EQ(judged(schema, R"({"a":"3"})", ""), 0);
  EXPECT_EQ(judged(schema, "{\"a\":3", ""), 0);
  EXPECT_EQ(judged({.check = AnswerCheck::kJsonSchema}, "true", R"({"type":"boolean"})"), 1);
  EXPECT_THAT(AnswerRewards::create({{.check = AnswerCheck::kRegex, .pattern = "("}}).error().message,
              HasSubstr("grpo.reward regex"));
}

TEST(AnswerRewards, LongAnswersCostAndWeightsAdd) {
  const auto made = *AnswerRewards::create({{.check = AnswerCheck::kOverlong, .weight = 0.5, .tokens = 4},
                                            {.check = AnswerCheck::kExact, .weight = 2},
                                            {.check = AnswerCheck::kExact, .pattern = "x"}});
  EXPECT_THAT(made.names(), ElementsAre("overlong", "exact", "exact2"));
  for (const auto& [tokens, value] : {std::pair{16, 0.0}, {17, -0.25}, {20, -1.0}}) {
    const auto values = *made.judge({"moon", "moon", tokens, 20});
    EXPECT_THAT(values, ElementsAre(value, 1.0, 0.0));
    EXPECT_EQ(made.weighted(values), 0.5 * value + 2);
  }
}

TEST(AnswerRewards, ProgramsAreRun) {
  if (const auto there = eval::run_python("pass"); !there) GTEST_SKIP() << there.error().message;
  const AnswerReward program{.check = AnswerCheck::kProgram};
  EXPECT_EQ(judged(program, "Here:\n```python\ndef f(x):\n  return x + 1\n```\n", "assert f(1) == 2"), 1);
  EXPECT_EQ(judged(program, "def f(x):\n  return x", "assert f(1) == 2"), 0);
}

// Twelve prompts that ask for a letter of the first or of the second half of the alphabet; they are held out too.
class GrpoTest : public TestRun {
 protected:
  static void SetUpTestSuite() {
    TestRun::SetUpTestSuite();
    static const char* kWords[] = {"moon", "river", "crane", "autumn", "mountain", "wind"};
    std::ofstream file(folder_ / "letters.jsonl");
    for (int i = 0; i < 12; ++i)
      file << R"({"prompt":")" << (i % 2 == 0 ? "old " : "friend ") << kWords[i / 2] << R"(","answer":")"
           << (i % 2 == 0 ? "^[a-m]" : "^[n-z]") << "\"}\n";
    file.close();
    letters_ = examples("letters", "prompts");
    train_base();
  }
  static void TearDownTestSuite() {
    delete letters_;
    TestRun::TearDownTestSuite();
  }
  static TrainConfig drawing(std::vector<std::string> more) {
    auto object = recipe();
    object.erase("model");
    more.insert(more.begin(),
                {"init_from='" + (folder_ / "base/model").string() + "'", output("grpo"), "batch_sequences=16",
                 "sequence_length=48", "accumulation=2", "optimizer.weight_decay=0.0", "schedule.warmup=0",
                 "schedule.kind=constant", "grpo.group=8", "grpo.max_tokens=3"});
    if (std::none_of(more.begin(), more.end(), [](const std::string& o) { return o.starts_with("grpo.reward"); }))
      more.push_back("grpo.reward=[{kind='regex'}]");
    return config_with(more, object);
  }
  static std::unique_ptr<Trainer> made(const TrainConfig& config, base::ThreadPool& pool) {
    return trainer(config, pool, *letters_);
  }
  static inline const data::Dataset* letters_ = nullptr;
};

TEST_F(GrpoTest, RewardRisesFromChanceToNearlyAll) {
  base::ThreadPool pool(2);
  constexpr int kSteps = 200, kLast = 5;  // it takes some fifty; what is drawn depends on the instruction set
  auto t = made(drawing({"steps=200", "batch_sequences=32", "grpo.max_tokens=1"}), pool);
  double recent = 0;
  std::vector<double> rewards;
  while (std::ssize(rewards) < kSteps && recent < 0.95) {
    const auto step = t->step();
    ASSERT_TRUE(step) << step.error().message;
    EXPECT_EQ(step->rollouts->answers, 64);
    // The engine that draws computes what the trainer does.
    EXPECT_LT(step->rollouts->sampler_gap, 1e-4);
    rewards.push_back(step->rollouts->reward);
    recent = 0;
    if (std::ssize(rewards) >= kLast) recent = std::accumulate(rewards.end() - kLast, rewards.end(), 0.0) / kLast;
  }
  EXPECT_LT(rewards.front(), 0.5);
  EXPECT_GE(recent, 0.95);
  const auto eval = t->evaluate();
  ASSERT_TRUE(eval) << eval.error().message;
  EXPECT_GT(*eval->reward, 0.8);
  EXPECT_EQ(eval->eval_loss, -*eval->reward);
}

TEST_F(GrpoTest, AnswersLongerThanTheModelAreRefusedBeforeAnyWork) {
  base::ThreadPool pool(1);
  const auto refused = Trainer::create(drawing({"sequence_length=64"}), *letters_, kernels_here(), pool);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("sequence_length = 64, which must be less than the model's max_position_embeddings, 64"),
            std::string::npos)
      << refused.error().message;
}

// Adapters reach the engine as they are now: the model moves away from what it was, and the engine with it.
TEST_F(GrpoTest, AdaptersAreDrawnWith) {
  base::ThreadPool pool(2);
  auto t = made(drawing({"lora.rank=8", "lora.dora=true", "grpo.beta=1e-6", "optimizer.lr=0.05"}), pool);
  Result<StepRecord> last;
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(last = t->step()) << last.error().message;
    EXPECT_LT(last->rollouts->sampler_gap, 1e-4);
  }
  EXPECT_GT(*last->rollouts->kl, 1e-3);
}

TEST_F(GrpoTest, AccumulationIsTheBigBatch) {
  base::ThreadPool pool(2);
  for (const std::string average : {"grpo", "dr_grpo"}) {
    auto whole = made(drawing({"batch_sequences=32", "accumulation=1", "grpo.average=" + average}), pool);
    auto parts = made(drawing({"batch_sequences=8", "accumulation=4", "grpo.average=" + average}), pool);
    const auto a = whole->step(), b = parts->step();
    ASSERT_TRUE(a && b);
    EXPECT_EQ(a->rollouts->reward, b->rollouts->reward);
    EXPECT_NEAR(a->loss, b->loss, 1e-6);
    EXPECT_NEAR(a->grad_norm, b->grad_norm, 1e-4 * a->grad_norm);
    EXPECT_GT(a->grad_norm, 1e-3);
  }
}

// Answers are learnt from twice, the reference is in the loss, groups are drawn anew: all of it goes on as it was.
TEST_F(GrpoTest, ResumedTrainingGivesTheSameBytes) {
  for (const auto& [more, stop] : {std::pair{"ema=0.5", 3}, {"lora.rank=2", 2}}) {
    const auto config = drawing({output("grpo-resume"), more, "steps=4", "precision=bf16", "grpo.updates=2",
                                 "grpo.beta=0.02", "grpo.redraws=2", "eval.every=2"});
    const std::string whole = bytes_of_run(config, *letters_, 1, 0), parts = bytes_of_run(config, *letters_, 2, stop);
    EXPECT_TRUE(whole == parts) << more;
  }
}

TEST_F(GrpoTest, EqualGroupsGiveWayAndLaterUpdatesMoveRatios) {
  base::ThreadPool pool(2);
  auto t =
      made(drawing({"grpo.redraws=3", "grpo.updates=2", "grpo.clip_low=0.01", "grpo.clip_high=0.01", "grpo.beta=0.1",
                    "grpo.reward=[{kind='regex',pattern='^[ab]'},{kind='overlong',tokens=1,weight=0.0}]"}),
           pool);
  const auto first = t->step(), second = t->step(), third = t->step();
  ASSERT_TRUE(first && second && third) << first.error().message;
  EXPECT_EQ(first->rollouts->clipped_share, 0);
  EXPECT_NEAR(*first->rollouts->kl, 0, 1e-9);
  EXPECT_EQ(second->rollouts->answers, 0);
  EXPECT_GT(second->rollouts->clipped_share, 0.05);
  EXPECT_GT(*second->rollouts->kl, 0);
  EXPECT_EQ(third->rollouts->answers, 32);
  EXPECT_GT(first->rollouts->redrawn_share, 0);
  EXPECT_EQ(first->rollouts->rewards[1].first, "overlong");
}

TEST_F(GrpoTest, WhatDoesNotFitIsNamed) {
  base::ThreadPool pool(1);
  EXPECT_THAT(Trainer::create(drawing({}), *dataset_, kernels_here(), pool).error().message,
              HasSubstr("text: holds texts, and prompts are asked for"));
  EXPECT_THAT(Trainer::create(config_with({}), *letters_, kernels_here(), pool).error().message, HasSubstr("[grpo]"));
  EXPECT_THAT(Trainer::create(drawing({"grpo.max_tokens=47"}), *letters_, kernels_here(), pool).error().message,
              HasSubstr("no prompts of at most 2 rows"));
  const auto refused = [](std::vector<std::string> more) {
    auto object = recipe();
    object.erase("model");
    more.insert(more.begin(), {"init_from=x", "grpo.group=8"});
    for (const auto& o : more) EXPECT_TRUE(data::apply_override(object, o));
    return train_config(object).error().message;
  };
  EXPECT_THAT(refused({}), HasSubstr("no [[grpo.reward]]"));
  EXPECT_THAT(refused({"grpo.reward=[{weight=1}]"}), HasSubstr("kind is missing"));
  EXPECT_THAT(refused({"grpo.reward=[{kind='number',pattern='x'}]"}), HasSubstr("pattern"));
  EXPECT_THAT(refused({"grpo.reward=[{kind='number'}]", "grpo.group=3"}), HasSubstr("grpo.group must divide"));
  EXPECT_THAT(refused({"grpo.reward=[{kind='number'}]", "kto.beta=1"}), HasSubstr("not by both"));
}

}  // namespace
}  // namespace qw::train
