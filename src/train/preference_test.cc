#include "train/preference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "base/file.h"
#include "formats/safetensors.h"
#include "tensor/blocks.h"
#include "train/internal/test_run.h"

namespace qw::train {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

struct Golden {
  PreferenceMethod method;
  double beta, gamma, smoothing;
  AnswerScore chosen, rejected;
  double loss, d_chosen, d_rejected;
};
// By tools/reference/make_preference_golden.py: TRL's formulas, PyTorch's gradients.
const Golden kGolden[] = {
    {PreferenceMethod::kDpo,
     0.1,
     0.0,
     0.0,
     {-12.5, -11.75, 7},
     {-9.25, -9.5, 5},
     0.744396660074,
     -0.0524979187479,
     0.0524979187479},
    {PreferenceMethod::kDpo,
     0.1,
     0.0,
     0.0,
     {-0.03, -2.0, 3},
     {-41.0, -30.0, 12},
     0.241651706659,
     -0.0214670344987,
     0.0214670344987},
    {PreferenceMethod::kDpo,
     0.1,
     0.0,
     0.0,
     {-80.0, -75.0, 4},
     {-0.5, -1.0, 9},
     1.00549248146,
     -0.0634135591011,
     0.0634135591011},
    {PreferenceMethod::kDpo,
     0.5,
     0.0,
     0.1,
     {-12.5, -11.75, 7},
     {-9.25, -9.5, 5},
     0.92407698418,
     -0.261229665601,
     0.261229665601},
    {PreferenceMethod::kDpo,
     0.5,
     0.0,
     0.1,
     {-0.03, -2.0, 3},
     {-41.0, -30.0, 12},
     0.650024997367,
     0.0492380824254,
     -0.0492380824254},
    {PreferenceMethod::kDpo,
     0.5,
     0.0,
     0.1,
     {-80.0, -75.0, 4},
     {-0.5, -1.0, 9},
     2.536967589,
     -0.419956674913,
     0.419956674913},
    {PreferenceMethod::kIpo,
     0.1,
     0.0,
     0.0,
     {-12.5, -11.75, 7},
     {-9.25, -9.5, 5},
     26.596122449,
     -1.47346938776,
     2.06285714286},
    {PreferenceMethod::kIpo,
     0.1,
     0.0,
     0.0,
     {-0.03, -2.0, 3},
     {-41.0, -30.0, 12},
     11.7420444444,
     -2.28444444444,
     0.571111111111},
    {PreferenceMethod::kIpo,
     0.1,
     0.0,
     0.0,
     {-80.0, -75.0, 4},
     {-0.5, -1.0, 9},
     39.7600308642,
     -3.15277777778,
     1.4012345679},
    {PreferenceMethod::kSimpo,
     2.0,
     1.0,
     0.0,
     {-12.5, -11.75, 7},
     {-9.25, -9.5, 5},
     1.22092524515,
     -0.20144081915,
     0.28201714681},
    {PreferenceMethod::kSimpo,
     2.0,
     1.0,
     0.0,
     {-0.03, -2.0, 3},
     {-41.0, -30.0, 12},
     0.00298300169585,
     -0.00198570464463,
     0.000496426161156},
    {PreferenceMethod::kSimpo, 2.0, 1.0, 0.0, {-80.0, -75.0, 4}, {-0.5, -1.0, 9}, 40.8888888889, -0.5, 0.222222222222},
    {PreferenceMethod::kSimpo,
     2.5,
     0.5,
     0.2,
     {-12.5, -11.75, 7},
     {-9.25, -9.5, 5},
     0.809253751623,
     -0.137148929989,
     0.192008501984},
    {PreferenceMethod::kSimpo,
     2.5,
     0.5,
     0.2,
     {-0.03, -2.0, 3},
     {-41.0, -30.0, 12},
     1.60366319684,
     0.166391825743,
     -0.0415979564357},
    {PreferenceMethod::kSimpo, 2.5, 0.5, 0.2, {-80.0, -75.0, 4}, {-0.5, -1.0, 9}, 40.2888888889, -0.5, 0.222222222222},
    {PreferenceMethod::kOrpo,
     0.1,
     0.0,
     0.0,
     {-12.5, -11.75, 7},
     {-9.25, -9.5, 5},
     1.85126506923,
     -0.151109807904,
     0.0114106043161},
    {PreferenceMethod::kOrpo,
     0.1,
     0.0,
     0.0,
     {-0.03, -2.0, 3},
     {-41.0, -30.0, 12},
     0.0100340999067,
     -0.33447549493,
     2.93759105257e-06},
    {PreferenceMethod::kOrpo,
     0.1,
     0.0,
     0.0,
     {-80.0, -75.0, 4},
     {-0.5, -1.0, 9},
     22.2862465381,
     -0.275000000049,
     0.205606993215},
};

TEST(PairLoss, IsTrlsWithPyTorchsGradients) {
  for (const Golden& g : kGolden) {
    const PairLoss loss = pair_loss({g.method, g.beta, g.gamma, g.smoothing}, g.chosen, g.rejected);
    EXPECT_NEAR(loss.loss, g.loss, 1e-10 * std::abs(g.loss));
    EXPECT_NEAR(loss.d_chosen, g.d_chosen, 1e-9 * std::abs(g.d_chosen));
    EXPECT_NEAR(loss.d_rejected, g.d_rejected, 1e-9 * std::abs(g.d_rejected));
  }
}

TEST(PairLoss, StaysFiniteAtTheEnds) {
  for (const auto method :
       {PreferenceMethod::kDpo, PreferenceMethod::kIpo, PreferenceMethod::kSimpo, PreferenceMethod::kOrpo})
    for (const double w : {0.0, -1e-12, -1e6})
      for (const double l : {0.0, -1e-12, -1e6}) {
        const PairLoss loss = pair_loss({method, 0.5, 1, 0}, {w, -3, 4}, {l, -3, 4});
        for (const double x : {loss.loss, loss.d_chosen, loss.d_rejected, loss.margin})
          EXPECT_TRUE(std::isfinite(x)) << w << " " << l;
      }
}

// Twelve pairs; the same ones are held out, so that evaluate() is the loss of a step as a function of the weights.
class PreferenceTest : public TestRun {
 protected:
  static void SetUpTestSuite() {
    TestRun::SetUpTestSuite();
    std::ofstream file(folder_ / "pairs.jsonl");
    static const char* kWords[] = {"moon", "river", "crane", "autumn", "mountain", "wind"};
    for (int i = 0; i < 12; ++i)
      file << R"({"prompt":"say )" << kWords[i % 6] << " " << kWords[i / 6] << R"(","chosen":"old )" << kWords[i % 6]
           << R"(","rejected":"friend )" << kWords[(i + 1) % 6] << " " << kWords[i % 5] << R"("})"
           << "\n";
    file.close();
    pairs_ = examples("pairs", "preference");
    train_base();
  }
  static void TearDownTestSuite() {
    delete pairs_;
    TestRun::TearDownTestSuite();
  }
  static TrainConfig preferring(std::vector<std::string> more) {
    auto object = recipe();
    object.erase("model");
    more.insert(more.begin(),
                {"init_from='" + (folder_ / "base/model").string() + "'", output("pref"), "batch_sequences=6",
                 "sequence_length=96", "accumulation=2", "optimizer.weight_decay=0.0", "schedule.warmup=0"});
    return config_with(more, object);
  }
  static std::unique_ptr<Trainer> made(const TrainConfig& config, base::ThreadPool& pool) {
    return trainer(config, pool, *pairs_);
  }
  static inline const data::Dataset* pairs_ = nullptr;
};

TEST_F(PreferenceTest, DpoBeginsAtTheLogarithmOfTwoAndLearns) {
  base::ThreadPool pool(2);
  for (const char* lora : {"seed=9", "lora.rank=8"}) {
    auto t = made(preferring({"preference.method=dpo", "steps=25", "schedule.kind=constant", lora}), pool);
    const auto first = t->step();
    ASSERT_TRUE(first) << first.error().message;
    EXPECT_NEAR(first->loss, std::numbers::ln2, 1e-6);
    EXPECT_EQ(t->examples_left_out(), 0);
    Result<StepRecord> last = first;
    for (int i = 1; i < 25; ++i) ASSERT_TRUE(last = t->step());
    EXPECT_LT(last->loss, 0.5);
    EXPECT_EQ(last->accuracy, 1.0);
    const auto eval = t->evaluate();
    ASSERT_TRUE(eval);
    EXPECT_EQ(eval->accuracy, 1.0);
    EXPECT_LT(eval->eval_loss, last->loss + 0.05);
  }
}

// The derivative along the gradient is the square of its length: of the whole path from weights to loss, for each
// method. AdamW's first moment after one step is a tenth of the gradient.
TEST_F(PreferenceTest, GradientsAreThoseOfTheLoss) {
  base::ThreadPool pool(2);
  for (const std::string method : {"dpo", "ipo", "simpo", "orpo"}) {
    const auto config = preferring(
        {"preference.method=" + method, "optimizer.clip=0.0", "optimizer.lr=0.003", output("grad-" + method)});
    auto t = made(config, pool);
    ASSERT_TRUE(t->step());  // away from the point where model and reference agree
    const fs::path file = folder_ / "grad.safetensors";
    const auto moments = [&] {
      EXPECT_TRUE(t->save_checkpoint(file));
      const auto open = *formats::Safetensors::open(file);
      std::vector<std::vector<float>> out;
      for (std::size_t i = 0; i < t->weights().size(); ++i) {
        auto& m = out.emplace_back(static_cast<std::size_t>(t->weights().elements(i)));
        tensor::decode(*open.tensor("m." + t->model().parameters()[i].own_name()), m.data());
      }
      return out;
    };
    const auto before = moments();
    const std::vector<float> at(t->weights().all().begin(), t->weights().all().end());
    ASSERT_TRUE(t->step());  // m = 0.9 m + 0.1 g
    const auto after = moments();
    double squares = 0;
    std::vector<std::vector<double>> g(after.size());
    for (std::size_t i = 0; i < after.size(); ++i)
      for (std::size_t j = 0; j < after[i].size(); ++j) {
        g[i].push_back((double{after[i][j]} - 0.9 * double{before[i][j]}) / 0.1);
        squares += g[i].back() * g[i].back();
      }
    const auto loss = [&](double h) {
      std::copy(at.begin(), at.end(), t->weights().all().begin());
      for (std::size_t i = 0; i < g.size(); ++i)
        for (std::size_t j = 0; j < g[i].size(); ++j) t->weights().data(i)[j] += static_cast<float>(h * g[i][j]);
      return t->evaluate()->eval_loss;
    };
    const double h = 0.0005 / std::sqrt(squares);  // the two that square or saturate bend within a hundredth
    EXPECT_NEAR((loss(h) - loss(-h)) / (2 * h) / squares, 1, 0.01) << method;
  }
}

TEST_F(PreferenceTest, ResumedTrainingGivesTheSameBytes) {
  const auto config = preferring({output("pref-resume"), "preference.method=dpo", "lora.rank=2", "batch_sequences=3",
                                  "steps=6", "precision=bf16"});
  std::vector<std::string> files;
  for (const auto& [threads, stop] : {std::pair{1, 0}, {1, 3}, {2, 0}, {2, 3}})
    files.push_back(bytes_of_run(config, *pairs_, threads, stop, {"references.safetensors"}));
  for (const auto& file : files) EXPECT_TRUE(file == files.front());
}

TEST_F(PreferenceTest, WhatDoesNotFitIsNamed) {
  base::ThreadPool pool(1);
  auto texts = Trainer::create(preferring({"preference.method=dpo"}), *dataset_, kernels_here(), pool);
  EXPECT_THAT(texts.error().message, HasSubstr("text: holds texts, and pairs are asked for"));
  auto pairs = Trainer::create(preferring({}), *pairs_, kernels_here(), pool);
  EXPECT_THAT(pairs.error().message, HasSubstr("[preference] or [reward] only"));
  auto shorter =
      Trainer::create(preferring({"preference.method=dpo", "sequence_length=8"}), *pairs_, kernels_here(), pool);
  EXPECT_THAT(shorter.error().message, HasSubstr("no pairs of at most 8 rows"));
  auto object = recipe();
  ASSERT_TRUE(data::apply_override(object, "preference.method=orpo"));
  EXPECT_THAT(train_config(object).error().message, HasSubstr("needs init_from"));
  ASSERT_TRUE(data::apply_override(object, "preference.gamma=1.0"));
  EXPECT_THAT(train_config(object).error().message, HasSubstr("preference.gamma"));
}

}  // namespace
}  // namespace qw::train
