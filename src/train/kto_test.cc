#include "train/kto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "formats/safetensors.h"
#include "tensor/blocks.h"
#include "train/internal/test_run.h"

namespace qw::train {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

struct Golden {
  KtoConfig config;
  double ratio, drift;
  bool liked;
  double loss, d_logprob;
};
// By tools/reference/make_kto_golden.py: TRL's formulas, PyTorch's gradients.
const Golden kGolden[] = {
    {{0.1, 1.0, 1.0, true}, -0.75, 0.5, true, 0.531209373374, -0.0249025975014},
    {{0.1, 1.0, 1.0, true}, -0.75, 0.5, false, 0.468790626626, 0.0249025975014},
    {{0.1, 1.0, 1.0, true}, 0.25, -0.75, true, 0.4937503255, -0.0249960941569},
    {{0.1, 1.0, 1.0, true}, 0.25, -0.75, false, 0.5062496745, 0.0249960941569},
    {{0.1, 1.0, 1.0, true}, -11.0, 6.0, true, 0.845534734916, -0.0130605746966},
    {{0.1, 1.0, 1.0, true}, -11.0, 6.0, false, 0.154465265084, 0.0130605746966},
    {{0.1, 1.0, 1.0, true}, 24.97, 2.0, true, 0.0913717246705, -0.00830229326012},
    {{0.1, 1.0, 1.0, true}, 24.97, 2.0, false, 0.90862827533, 0.00830229326012},
    {{0.5, 1.0, 1.33, true}, -0.75, 0.5, true, 0.651354864666, -0.113545852471},
    {{0.5, 1.0, 1.33, true}, -0.75, 0.5, false, 0.463698029994, 0.151015983786},
    {{0.5, 1.0, 1.33, true}, 0.25, -0.75, true, 0.468790626626, -0.124512987507},
    {{0.5, 1.0, 1.33, true}, 0.25, -0.75, false, 0.706508466587, 0.165602273384},
    {{0.5, 1.0, 1.33, true}, -11.0, 6.0, true, 0.999796573022, -0.00010169279776},
    {{0.5, 1.0, 1.33, true}, -11.0, 6.0, false, 0.000270557880813, 0.000135251421021},
    {{0.5, 1.0, 1.33, true}, 24.97, 2.0, true, 1.02830846147e-05, -5.14148943644e-06},
    {{0.5, 1.0, 1.33, true}, 24.97, 2.0, false, 1.3299863235, 6.83818095055e-06},
    {{0.5, 0.75, 2.0, false}, -0.75, 0.5, true, 0.444499949966, -0.0905298379699},
    {{0.5, 0.75, 2.0, false}, -0.75, 0.5, false, 0.814666800092, 0.241412901253},
    {{0.5, 0.75, 2.0, false}, 0.25, -0.75, true, 0.35159296997, -0.0933847406301},
    {{0.5, 0.75, 2.0, false}, 0.25, -0.75, false, 1.06241874675, 0.249025975014},
    {{0.5, 0.75, 2.0, false}, -11.0, 6.0, true, 0.746947396713, -0.00152008938558},
    {{0.5, 0.75, 2.0, false}, -11.0, 6.0, false, 0.00814027543179, 0.00405357169487},
    {{0.5, 0.75, 2.0, false}, 24.97, 2.0, true, 2.83722000852e-06, -1.41860463771e-06},
    {{0.5, 0.75, 2.0, false}, 24.97, 2.0, false, 1.99999243408, 3.78294570057e-06},
};

TEST(KtoLoss, IsTrlsWithPyTorchsGradients) {
  for (const Golden& g : kGolden) {
    const KtoLoss loss = kto_loss(g.config, g.ratio, g.drift, g.liked);
    EXPECT_NEAR(loss.loss, g.loss, 1e-10 * std::abs(g.loss));
    EXPECT_NEAR(loss.d_logprob, g.d_logprob, 1e-9 * std::abs(g.d_logprob));
  }
}

TEST(KtoLoss, StaysFiniteAtTheEnds) {
  for (const double ratio : {-1e6, 0.0, 1e6})
    for (const double drift : {-1e6, 0.0, 1e6})
      for (const bool liked : {false, true}) {
        const KtoLoss loss = kto_loss({}, ratio, drift, liked);
        EXPECT_TRUE(std::isfinite(loss.loss) && std::isfinite(loss.d_logprob)) << ratio << " " << drift;
      }
}

// Twelve answers, half of them liked; the same ones are held out, so that evaluate() is the loss of a step over all of
// them.
class KtoTest : public TestRun {
 protected:
  static void SetUpTestSuite() {
    TestRun::SetUpTestSuite();
    std::ofstream file(folder_ / "rated.jsonl");
    static const char* kWords[] = {"moon", "river", "crane", "autumn", "mountain", "wind"};
    for (int i = 0; i < 12; ++i)
      file << R"({"prompt":"say )" << kWords[i / 2] << R"(","completion":")" << (i % 2 == 0 ? "old " : "friend ")
           << kWords[(i / 2 + i % 2) % 6] << R"(","label":)" << (i % 2 == 0 ? "true" : "false") << "}\n";
    file.close();
    rated_ = examples("rated", "rating");
    train_base();
  }
  static void TearDownTestSuite() {
    delete rated_;
    TestRun::TearDownTestSuite();
  }
  static TrainConfig rating(std::vector<std::string> more) {
    auto object = recipe();
    object.erase("model");
    more.insert(more.begin(),
                {"init_from='" + (folder_ / "base/model").string() + "'", output("kto"), "batch_sequences=6",
                 "sequence_length=48", "accumulation=2", "optimizer.weight_decay=0.0", "schedule.warmup=0",
                 "schedule.kind=constant", "kto.beta=0.5"});
    return config_with(more, object);
  }
  static std::unique_ptr<Trainer> made(const TrainConfig& config, base::ThreadPool& pool) {
    return trainer(config, pool, *rated_);
  }
  static inline const data::Dataset* rated_ = nullptr;
};

TEST_F(KtoTest, BeginsAtOneHalfAndLearns) {
  base::ThreadPool pool(2);
  for (const char* lora : {"seed=9", "lora.rank=8"}) {
    auto t = made(rating({"steps=25", lora}), pool);
    const auto first = t->step();
    ASSERT_TRUE(first) << first.error().message;
    EXPECT_NEAR(first->loss, 0.5, 1e-6);
    EXPECT_NEAR(*first->drift, 0, 1e-5);
    EXPECT_EQ(t->examples_left_out(), 0);
    Result<StepRecord> last = first;
    for (int i = 1; i < 25; ++i) ASSERT_TRUE(last = t->step());
    EXPECT_LT(last->loss, 0.35);
    EXPECT_GT(*last->margin, 2);
    const auto eval = t->evaluate();
    ASSERT_TRUE(eval) << eval.error().message;
    EXPECT_LT(eval->eval_loss, last->loss + 0.05);
    EXPECT_GT(*eval->margin, 2);
  }
}

// A step over all answers in two batches has the loss that evaluation has over all at once: one drift for all batches.
TEST_F(KtoTest, TheDriftIsOfTheWholeStep) {
  base::ThreadPool pool(2);
  for (const std::string batches : {"2", "4"}) {
    auto t = made(rating({"batch_sequences=" + std::to_string(12 / std::stoi(batches)), "accumulation=" + batches,
                          "optimizer.lr=0.003", "kto.desirable_weight=1.3"}),
                  pool);
    double most = 0;
    for (int i = 0; i < 6; ++i) {
      const auto eval = t->evaluate();
      ASSERT_TRUE(eval) << eval.error().message;
      const auto step = t->step();
      ASSERT_TRUE(step) << step.error().message;
      EXPECT_NEAR(step->loss, eval->eval_loss, 1e-5);
      EXPECT_NEAR(*step->margin, *eval->margin, 1e-4);
      most = std::max(most, *step->drift);
    }
    EXPECT_GT(most, 0.05);  // else there was nothing to see
  }
}

// The derivative along the gradient is the square of its length, of the whole path from weights to loss. Without drift,
// which a loss that is differentiated through and through would contain. AdamW's first moment is 0.9 m + 0.1 g.
TEST_F(KtoTest, GradientsAreThoseOfTheLoss) {
  base::ThreadPool pool(2);
  auto t = made(rating({"optimizer.clip=0.0", "optimizer.lr=0.003", "kto.loss=apo_zero", "kto.undesirable_weight=1.5"}),
                pool);
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
  ASSERT_TRUE(t->step());
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
  const double h = 0.0005 / std::sqrt(squares);
  EXPECT_NEAR((loss(h) - loss(-h)) / (2 * h) / squares, 1, 0.01);
}

TEST_F(KtoTest, ResumedTrainingGivesTheSameBytes) {
  const auto config = rating({output("kto-resume"), "lora.rank=2", "batch_sequences=3", "steps=6", "precision=bf16"});
  std::vector<std::string> files;
  for (const auto& [threads, stop] : {std::pair{1, 0}, {2, 1}, {2, 4}})
    files.push_back(bytes_of_run(config, *rated_, threads, stop, {"references.safetensors"}));
  for (const auto& file : files) EXPECT_TRUE(file == files.front());
}

TEST_F(KtoTest, WhatDoesNotFitIsNamed) {
  base::ThreadPool pool(1);
  auto texts = Trainer::create(rating({}), *dataset_, kernels_here(), pool);
  EXPECT_THAT(texts.error().message, HasSubstr("text: holds texts, and ratings are asked for"));
  auto object = recipe();
  ASSERT_TRUE(data::apply_override(object, "kto.beta=0.1"));
  EXPECT_THAT(train_config(object).error().message, HasSubstr("[kto] needs init_from"));
  object.erase("model");
  ASSERT_TRUE(data::apply_override(object, "init_from=x"));
  ASSERT_TRUE(data::apply_override(object, "preference.method=dpo"));
  EXPECT_THAT(train_config(object).error().message, HasSubstr("not by both"));
  ASSERT_TRUE(data::apply_override(object, "kto.label_smoothing=0.1"));
  EXPECT_THAT(train_config(object).error().message, HasSubstr("kto.label_smoothing"));
}

}  // namespace
}  // namespace qw::train
