#include "train/distill.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "base/file.h"
#include "train/internal/test_run.h"

namespace qw::train {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::array<float, 6> kStudent{0.5f, -1.25f, 3.0f, 0.0f, -4.5f, 2.25f},
    kTeacher{1.5f, -0.5f, 0.25f, 2.0f, -6.0f, 2.5f};
struct Golden {
  Divergence divergence;
  double temperature, beta, hard, loss;
  std::array<double, 6> gradient;
};
// By tools/reference/make_distill_golden.py: TRL's formulas, PyTorch's gradients.
const Golden kGolden[] = {
    {Divergence::kForward,
     1.0,
     0.5,
     0.0,
     0.9667899947,
     {-0.122030285, -0.0145661901, 0.568156031, -0.254032259, 0.000246075147, -0.177773373}},
    {Divergence::kForward,
     2.0,
     0.5,
     0.25,
     1.096978941,
     {-0.0185784283, -0.00704575735, 0.273369856, -0.305640541, 0.00203961028, 0.055855261}},
    {Divergence::kReverse,
     1.0,
     0.5,
     0.0,
     1.281470992,
     {-0.127117649, -0.0198871809, 0.767554578, -0.10785143, -2.4890339e-06, -0.512695829}},
    {Divergence::kReverse,
     0.5,
     0.5,
     0.1,
     3.552247319,
     {-0.0574392068, -0.000858019474, 1.73748285, -0.12716063, 3.35566852e-05, -1.55205855}},
    {Divergence::kJsd,
     1.0,
     0.5,
     0.0,
     0.2318281554,
     {-0.0252853355, -0.00356778875, 0.126197821, -0.0283311384, 4.0843583e-05, -0.0690544023}},
};

TEST(DistillLoss, IsTrlsWithPyTorchsGradients) {
  for (const Golden& g : kGolden) {
    DistillConfig config;
    config.divergence = g.divergence;
    config.temperature = g.temperature;
    config.beta = g.beta;
    config.hard = g.hard;
    auto student = kStudent, teacher = kTeacher;
    EXPECT_NEAR(distill_loss(config, student, teacher, 3), g.loss, 1e-6 * g.loss);
    for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(student[i], g.gradient[i], 3e-7);
  }
}

TEST(DistillLoss, StaysFiniteWhereNothingIsLikely) {
  for (const auto divergence : {Divergence::kForward, Divergence::kReverse, Divergence::kJsd}) {
    DistillConfig config;
    config.divergence = divergence;
    std::array<float, 3> student{3000, 0, -3000}, teacher{-3000, 0, 3000};
    EXPECT_TRUE(std::isfinite(distill_loss(config, student, teacher, 0)));
    for (const float d : student) EXPECT_TRUE(std::isfinite(d));
    std::array<float, 3> same{1, 2, 3}, again = same;
    EXPECT_NEAR(distill_loss(config, same, again, 0), 0, 1e-7);
    for (const float d : same) EXPECT_NEAR(d, 0, 1e-7);
  }
}

// A teacher that has learnt the corpus, and a student that has not.
class DistillTest : public TestRun {
 protected:
  static void SetUpTestSuite() {
    TestRun::SetUpTestSuite();
    base::ThreadPool pool(2);
    auto t = trainer(config_with({output("teacher"), "steps=60", "export_type=f32"}), pool);
    ASSERT_TRUE(t->run({}));
  }
  static TrainConfig learning(std::vector<std::string> more) {
    more.insert(more.begin(), {"distill.teacher='" + (folder_ / "teacher/model").string() + "'", output("student")});
    return config_with(more);
  }
};

TEST_F(DistillTest, AStudentComesNearItsTeacher) {
  base::ThreadPool pool(2);
  const double teacher = [&] {
    auto config = learning({"steps=1"});
    config.distill.reset();
    config.model = {};
    config.init_from = (folder_ / "teacher/model").string();
    return trainer(config, pool)->evaluate()->eval_loss;
  }();
  // The reverse divergence is content with being right about part of what the teacher says, so likelihood follows late.
  struct Case {
    const char* divergence;
    double left, near;
  };
  for (const auto& [divergence, left, near] :
       {Case{"forward", 0.2, 0.15}, Case{"reverse", 0.5, 2.5}, Case{"jsd", 0.2, 0.4}}) {
    auto t = trainer(learning({std::string("distill.divergence=") + divergence, "steps=60", "schedule.kind=constant"}),
                     pool);
    const auto before = t->evaluate()->eval_loss;
    EXPECT_GT(before, teacher + 4);
    const auto first = t->step();
    ASSERT_TRUE(first) << first.error().message;
    Result<StepRecord> last = first;
    for (int i = 1; i < 60; ++i) ASSERT_TRUE(last = t->step());
    EXPECT_LT(last->loss, left * first->loss) << divergence;
    EXPECT_NEAR(t->evaluate()->eval_loss, teacher, near) << divergence;
  }
}

TEST_F(DistillTest, ATeacherHasNothingToTellItself) {
  base::ThreadPool pool(2);
  auto config = learning({"steps=2"});
  config.model = {};
  config.init_from = (folder_ / "teacher/model").string();
  const auto step = trainer(config, pool)->step();
  ASSERT_TRUE(step) << step.error().message;
  EXPECT_NEAR(step->loss, 0, 1e-6);
  EXPECT_LT(step->grad_norm, 1e-5);
}

// All of it the text's own token: then it is the likelihood, to the byte of what is learnt from it.
TEST_F(DistillTest, HardDistillationIsTheLikelihood) {
  base::ThreadPool pool(2);
  auto hard = trainer(learning({"distill.hard=1.0"}), pool);
  auto texts = trainer(config_with({output("texts")}), pool);
  for (int i = 0; i < 3; ++i) {
    const auto a = hard->step(), b = texts->step();
    ASSERT_TRUE(a && b);
    EXPECT_NEAR(a->loss, b->loss, 1e-5);
    EXPECT_NEAR(a->grad_norm, b->grad_norm, 1e-4 * b->grad_norm);
  }
}

TEST_F(DistillTest, ResumedTrainingGivesTheSameBytes) {
  const auto config = learning({output("distill-resume"), "steps=5", "precision=bf16", "distill.divergence=jsd"});
  std::vector<std::string> files;
  for (const auto& [threads, stop] : {std::pair{1, 0}, {2, 1}, {2, 3}})
    files.push_back(bytes_of_run(config, *dataset_, threads, stop));
  for (const auto& file : files) EXPECT_TRUE(file == files.front());
  // Without the teacher it would be another run on the same texts.
  base::ThreadPool pool(1);
  const auto alone = trainer(config_with({output("distill-resume"), "steps=5", "precision=bf16"}), pool)->resume();
  ASSERT_FALSE(alone);
  EXPECT_THAT(alone.error().message, HasSubstr("distill differs"));
}

TEST_F(DistillTest, WhatDoesNotFitIsNamed) {
  base::ThreadPool pool(1);
  auto config = learning({});
  config.distill->teacher = (folder_ / "nobody").string();
  EXPECT_THAT(Trainer::create(config, *dataset_, kernels_here(), pool).error().message, HasSubstr("nobody"));
  auto object = recipe();
  ASSERT_TRUE(data::apply_override(object, "distill.temperature=2.0"));
  EXPECT_THAT(train_config(object).error().message, HasSubstr("distill.teacher is missing"));
  ASSERT_TRUE(data::apply_override(object, "distill.teacher=x"));
  ASSERT_TRUE(data::apply_override(object, "distill.beta=0.3"));
  EXPECT_THAT(train_config(object).error().message, HasSubstr("distill.beta"));
}

}  // namespace
}  // namespace qw::train
