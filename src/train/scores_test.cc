#include "train/scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "base/file.h"
#include "formats/safetensors.h"
#include "models/load.h"
#include "ops/training_graph.h"
#include "tensor/blocks.h"
#include "train/internal/test_run.h"

namespace qw::train {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// A golden model with a head, its two documents, and the graph that trains it.
class HeadGolden {
 public:
  explicit HeadGolden(const std::string& name)
      : folder_(fs::path(QW_SOURCE_DIR) / "tests/golden" / name),
        source_(*formats::ModelSource::open(folder_)),
        model_(*models::model_from_source(source_)),
        expected_(*formats::Safetensors::open(folder_ / "expected.safetensors")),
        training_(*formats::Safetensors::open(folder_ / "training.safetensors")),
        pool_(2) {
    std::vector<tensor::Shape> shapes;
    for (const auto& p : model_->parameters()) shapes.push_back(p.shape);
    ops::RecordingExecutor recorder(shapes);
    model_->forward(recorder);
    ops::TrainingOptions options;
    options.max_tokens = 32;
    graph_ = std::make_unique<ops::TrainingGraph>(recorder.finish(), shapes, options,
                                                  kernels::kernels_for(base::best_isa()), pool_);
    weights_ = ops::ParameterBuffer(graph_->parameter_shapes());
    const auto views = *models::load_weights(*model_, source_);
    for (std::size_t i = 0; i < views.size(); ++i) tensor::decode(views[i], weights_.data(i));
    for (const char* ids : {"ids.0", "ids.1"}) {
      const auto view = *expected_.tensor(ids);
      const auto* all = reinterpret_cast<const std::int64_t*>(view.data);
      for (std::int64_t i = 0; i < view.shape.elements(); ++i) {
        batch_.tokens.push_back(static_cast<std::int32_t>(all[i]));
        batch_.positions.push_back(static_cast<std::int32_t>(i));
        batch_.labels.push_back(-1);
      }
      batch_.cu_seqlens.push_back(static_cast<std::int32_t>(batch_.tokens.size()));
    }
  }
  // What the head gives at the ends of both documents.
  std::vector<float> scores() {
    graph_->gradients().zero();
    EXPECT_TRUE(graph_->forward(weights_, {batch_.tokens, batch_.positions, batch_.cu_seqlens, batch_.labels}));
    std::vector<float> out;
    for (const std::size_t d : {1u, 2u}) {
      const float* row = graph_->final_hidden() + (batch_.cu_seqlens[d] - 1) * graph_->final_width();
      out.insert(out.end(), row, row + graph_->final_width());
    }
    return out;
  }
  // d_scores: those of both documents. Every gradient must be PyTorch's.
  void check(double loss, const std::vector<double>& d_scores) {
    EXPECT_NEAR(loss, static_cast<double>(training_.tensor("loss")->f32()[0]), 2e-6 * std::abs(loss));
    const auto width = static_cast<std::size_t>(graph_->final_width());
    std::vector<float> d_rows(batch_.tokens.size() * width);
    for (std::size_t i = 0; i < 2 * width; ++i)
      d_rows[static_cast<std::size_t>(batch_.cu_seqlens[i / width + 1] - 1) * width + i % width] =
          static_cast<float>(d_scores[i]);
    graph_->backward_rows(d_rows);
    for (std::size_t p = 0; p < weights_.size(); ++p) {
      const std::string name = model_->parameters()[p].hf_name;
      const auto view = *training_.tensor("grad." + name);
      ASSERT_EQ(view.shape, weights_.shape(p)) << name;
      double most = 0, off = 0;
      for (std::int64_t i = 0; i < view.shape.elements(); ++i) {
        most = std::max(most, std::abs(static_cast<double>(view.f32()[i])));
        off = std::max(
            off, std::abs(static_cast<double>(view.f32()[i]) - static_cast<double>(graph_->gradients().data(p)[i])));
      }
      EXPECT_LT(off, 3e-6 * most + 1e-9) << name;
    }
  }

 private:
  fs::path folder_;
  formats::ModelSource source_;
  std::unique_ptr<models::Model> model_;
  formats::Safetensors expected_, training_;
  base::ThreadPool pool_;
  std::unique_ptr<ops::TrainingGraph> graph_;
  ops::ParameterBuffer weights_;
  data::PackedBatch batch_;
};

TEST(ScoreLoss, ClassesAndAllTheirGradientsArePyTorchs) {
  HeadGolden golden("head_classes");
  const std::vector<float> scores = golden.scores();
  ASSERT_EQ(scores.size(), 6u);
  std::vector<double> d(6);
  const std::span<const float> of(scores);
  const ScoreLoss a = class_loss(of.first(3), 2, std::span(d).first(3)),
                  b = class_loss(of.last(3), 0, std::span(d).last(3));
  for (double& x : d) x /= 2;
  golden.check((a.loss + b.loss) / 2, d);
}

TEST(ScoreLoss, RewardsAndAllTheirGradientsAreTrlsByPyTorch) {
  HeadGolden golden("head_reward");
  const std::vector<float> scores = golden.scores();
  ASSERT_EQ(scores.size(), 2u);
  std::vector<double> d(2);
  const ScoreLoss lost = reward_loss({.center = 0.05}, std::span<const float, 2>(scores), 0.3, std::span<double, 2>(d));
  golden.check(lost.loss, d);
}

TEST(ScoreLoss, StaysFiniteAtTheEnds) {
  for (const float w : {-1e30f, 0.0f, 1e30f})
    for (const float l : {-1e30f, 0.0f, 1e30f}) {
      std::array<double, 2> d;
      const std::array<float, 2> scores{w, l};
      const ScoreLoss reward = reward_loss({}, scores, 0, d);
      EXPECT_TRUE(std::isfinite(reward.loss) && std::isfinite(d[0]) && std::isfinite(d[1]));
      const ScoreLoss classes = class_loss(scores, 1, d);
      EXPECT_TRUE(std::isfinite(classes.loss) && std::isfinite(d[0]) && std::isfinite(d[1]));
    }
}

// A small language model, and lines of two classes and preference pairs that are held out too.
class ScoreTest : public TestRun {
 protected:
  static void SetUpTestSuite() {
    TestRun::SetUpTestSuite();
    static const char* kWords[] = {"moon", "river", "crane", "autumn", "mountain", "wind"};
    std::ofstream classes(folder_ / "classes.jsonl"), pairs(folder_ / "pairs.jsonl");
    for (int i = 0; i < 12; ++i) {
      classes << R"({"text":")" << kWords[i / 2] << (i % 2 == 0 ? " old" : " friend") << R"(","label":)"
              << (i % 3 == 0 ? (i % 2 == 0 ? "0" : "1") : (i % 2 == 0 ? "\"calm\"" : "\"loud\"")) << "}\n";
      pairs << R"({"prompt":")" << kWords[i / 2] << R"(","chosen":"old )" << kWords[i % 6] << R"(","rejected":"friend )"
            << kWords[i % 6] << R"(","margin":)" << i % 2 << "}\n";
    }
    classes.close();
    pairs.close();
    classes_ = examples("classes", "class", "labels = ['calm', 'loud']\n");
    pairs_ = examples("pairs", "preference");
    train_base();
  }
  static void TearDownTestSuite() {
    delete classes_;
    delete pairs_;
    TestRun::TearDownTestSuite();
  }
  static TrainConfig judging(const std::string& table, std::vector<std::string> more) {
    auto object = recipe();
    object.erase("model");
    if (table == "classes")
      object.set("classes", json::Object());
    else
      more.push_back("reward.center=0.01");
    more.insert(more.begin(),
                {"init_from='" + (folder_ / "base/model").string() + "'", output(table), "batch_sequences=6",
                 "sequence_length=64", "accumulation=2", "optimizer.weight_decay=0.0", "schedule.warmup=0",
                 "schedule.kind=constant", "export_type=f32"});
    return config_with(more, object);
  }
  static std::unique_ptr<Trainer> made(const TrainConfig& config, base::ThreadPool& pool) {
    return trainer(config, pool, config.classes ? *classes_ : *pairs_);
  }
  static inline const data::Dataset *classes_ = nullptr, *pairs_ = nullptr;
};

TEST_F(ScoreTest, BeginsUndecidedLearnsAndComesOutAsAFolderWithAHead) {
  base::ThreadPool pool(2);
  for (const std::string table : {"classes", "reward"}) {
    const TrainConfig config = judging(table, {"steps=30", output("learns-" + table)});
    auto t = made(config, pool);
    const auto first = t->evaluate();
    ASSERT_TRUE(first) << first.error().message;
    if (table == "classes") {
      EXPECT_NEAR(first->eval_loss, std::numbers::ln2, 0.1);
    }
    EvalRecord last;
    Callbacks callbacks;
    callbacks.on_eval = [&](const EvalRecord& record) { last = record; };
    const auto status = t->run(callbacks);
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_LT(last.eval_loss, 0.3) << table;
    EXPECT_EQ(last.accuracy, 1.0);
    // What was written is what was trained.
    const auto source = *formats::ModelSource::open(config.output / "model");
    const auto model = *models::model_from_source(source);
    EXPECT_EQ(model->traits().head.kind, models::HeadKind::kClasses);
    EXPECT_EQ(model->traits().head.outputs, table == "classes" ? 2 : 1);
    EXPECT_EQ(model->traits().head.labels,
              table == "classes" ? (std::vector<std::string>{"calm", "loud"}) : std::vector<std::string>());
    const auto views = models::load_weights(*model, source);
    ASSERT_TRUE(views) << views.error().message;
    EXPECT_NE(source.find("score.weight"), nullptr);
    // And such a folder is trained on.
    auto again = judging(table, {"steps=31", output("on-" + table)});
    again.init_from = (config.output / "model").string();
    EXPECT_NEAR(made(again, pool)->evaluate()->eval_loss, last.eval_loss, 1e-6);
  }
}

TEST_F(ScoreTest, AccumulationIsTheBigBatch) {
  base::ThreadPool pool(2);
  for (const std::string table : {"classes", "reward"}) {
    auto whole = made(judging(table, {"batch_sequences=12", "accumulation=1"}), pool);
    auto parts = made(judging(table, {"batch_sequences=3", "accumulation=4"}), pool);
    for (int i = 0; i < 3; ++i) {
      const auto a = whole->step(), b = parts->step();
      ASSERT_TRUE(a && b);
      EXPECT_NEAR(a->loss, b->loss, 1e-5 * (i + 1));
      EXPECT_NEAR(a->grad_norm, b->grad_norm, 1e-3 * a->grad_norm);
    }
  }
}

TEST_F(ScoreTest, ResumedTrainingGivesTheSameBytes) {
  const auto config = judging("classes", {output("score-resume"), "batch_sequences=4", "steps=5", "precision=bf16"});
  std::vector<std::string> files;
  for (const auto& [threads, stop] : {std::pair{1, 0}, {2, 1}, {2, 3}})
    files.push_back(bytes_of_run(config, *classes_, threads, stop));
  for (const auto& file : files) EXPECT_TRUE(file == files.front());
}

TEST_F(ScoreTest, WhatDoesNotFitIsNamed) {
  base::ThreadPool pool(1);
  auto texts = Trainer::create(judging("classes", {}), *pairs_, kernels_here(), pool);
  EXPECT_THAT(texts.error().message, HasSubstr("train: holds pairs, and classes are asked for"));
  auto language = judging("classes", {"steps=1", output("one")});
  {
    auto t = made(language, pool);
    ASSERT_TRUE(t->run({}));
  }
  auto plain = config_with({"steps=1"});
  plain.init_from = (language.output / "model").string();
  EXPECT_THAT(Trainer::create(plain, *dataset_, kernels_here(), pool).error().message,
              HasSubstr("trained by [reward], [classes] or [embedding] only"));
  auto other = judging("reward", {});
  other.init_from = plain.init_from;
  EXPECT_THAT(Trainer::create(other, *pairs_, kernels_here(), pool).error().message, HasSubstr("has another head"));
  auto object = recipe();
  object.set("classes", json::Object());
  EXPECT_THAT(train_config(object).error().message, HasSubstr("[classes] needs init_from"));
  object.erase("model");
  ASSERT_TRUE(data::apply_override(object, "init_from=x"));
  ASSERT_TRUE(data::apply_override(object, "lora.rank=4"));
  EXPECT_THAT(train_config(object).error().message, HasSubstr("which [lora] does not hold"));
  ASSERT_TRUE(data::apply_override(object, "reward.center=0.1"));
  EXPECT_THAT(train_config(object).error().message, HasSubstr("not by both"));
}

}  // namespace
}  // namespace qw::train
