// Adapters trained on a base that this test makes. Their gradients are checked in ops (central differences) and in
// models (PEFT); here is what a run promises.
#include "train/internal/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "base/rng.h"
#include "tensor/blocks.h"
#include "data/config_table.h"
#include "formats/adapter.h"
#include "models/adapter.h"
#include "models/load.h"
#include "train/internal/svd.h"
#include "train/internal/test_run.h"

namespace qw::train {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class LoraTest : public TestRun {
 protected:
  // A base in a folder, trained for a few steps so that it is no fresh model.
  static std::string base(const std::string& type = "bf16") {
    const fs::path folder = folder_ / ("base-" + type);
    if (!fs::exists(folder / "model")) {
      base::ThreadPool pool(2);
      auto t = trainer(config_with({"output='" + folder.string() + "'", "steps=4", "export_type=" + type}), pool);
      EXPECT_TRUE(t->run({}));
    }
    return "init_from='" + (folder / "model").string() + "'";
  }
  static TrainConfig lora(std::vector<std::string> more, const std::string& type = "bf16") {
    auto object = recipe();
    object.erase("model");
    more.insert(more.begin(), {base(type), "lora.rank=4", "optimizer.weight_decay=0.0"});
    return config_with(more, object);
  }
};

TEST_F(LoraTest, BeginsAtTheBaseAndLearns) {
  base::ThreadPool pool(2);
  for (const char* dora : {"lora.dora=false", "lora.dora=true", "lora.pissa=true"}) {
    auto plain = trainer(config_with({base(), "model={}"}), pool);
    auto t = trainer(lora({dora, "steps=40", "schedule.kind=constant", "lora.rslora=true"}), pool);
    // Seven matrices in each of two layers; nothing else has moments or gradients.
    EXPECT_LT(t->trained_parameter_count(), t->parameter_count() / 2);
    const auto before = t->evaluate(), base_eval = plain->evaluate();
    ASSERT_TRUE(before && base_eval);
    // B is zero. A DoRA row is divided by its own length and multiplied with it again, which rounds.
    EXPECT_NEAR(before->eval_loss, base_eval->eval_loss, 1e-5);
    for (int i = 0; i < 40; ++i) ASSERT_TRUE(t->step());
    EXPECT_LT(t->evaluate()->eval_loss, before->eval_loss - 0.04) << dora;
  }
}

// Ten steps = five, a stop, and five more; one thread = two; the folder as well as the checkpoint.
TEST_F(LoraTest, ResumedTrainingGivesTheSameBytes) {
  for (const char* precision : {"f32", "bf16"}) {
    const auto config = lora({output("lora-resume"), "ema=0.9", "lora.dora=true", "lora.b_lr_ratio=8.0",
                              std::string("precision=") + precision});
    std::vector<std::string> files;
    for (const auto& [threads, stop] : {std::pair{1, 0}, {1, 5}, {2, 0}, {2, 5}})
      files.push_back(bytes_of_run(config, *dataset_, threads, stop,
                                   {"adapter/adapter_model.safetensors", "adapter/adapter_config.json"}));
    for (const auto& file : files) EXPECT_TRUE(file == files.front()) << precision;
  }
}

TEST_F(LoraTest, GoesOnOnlyWithTheSameBaseAndAdapter) {
  base::ThreadPool pool(1);
  auto t = trainer(lora({output("lora-same")}), pool);
  ASSERT_TRUE(t->step());
  const fs::path checkpoint = folder_ / "lora-same/checkpoints/step-0000000001.safetensors";
  ASSERT_TRUE(t->save_checkpoint(checkpoint));
  EXPECT_TRUE(trainer(lora({}), pool)->load_checkpoint(checkpoint));
  const std::pair<std::string, const char*> others[] = {{"lora.alpha=7.0", "lora"},
                                                        {"lora.targets=['q_proj']", "lora"}};
  for (const auto& [change, key] : others)
    EXPECT_THAT(trainer(lora({change}), pool)->load_checkpoint(checkpoint).error().message,
                HasSubstr(std::string(key) + " differs"));
  EXPECT_THAT(trainer(lora({}, "f32"), pool)->load_checkpoint(checkpoint).error().message,
              HasSubstr("base_sha256 differs"));
}

// Of a matrix of known singular values, turned by two rotations, the components are found to what an exact decomposition
// leaves out, for any number of threads.
TEST(Svd, FindsTheLargestComponents) {
  constexpr std::int64_t kRows = 96, kColumns = 70, kRank = 6;
  std::vector<double> s(kColumns);
  for (std::size_t i = 0; i < s.size(); ++i) s[i] = 10 * std::pow(0.9, static_cast<double>(i));
  // Householder reflections I - 2 u u^T / u^T u on both sides of diag(s).
  base::Rng rng(3);
  const auto reflect = [&](std::vector<double>& m, bool left) {
    const std::int64_t n = left ? kRows : kColumns;
    std::vector<double> u(static_cast<std::size_t>(n));
    double squares = 0;
    for (double& x : u) x = rng.next_normal(), squares += x * x;
    for (std::int64_t other = 0; other < (left ? kColumns : kRows); ++other) {
      const auto at = [&](std::int64_t i) -> double& {
        return m[static_cast<std::size_t>(left ? i * kColumns + other : other * kColumns + i)];
      };
      double along = 0;
      for (std::int64_t i = 0; i < n; ++i) along += u[static_cast<std::size_t>(i)] * at(i);
      for (std::int64_t i = 0; i < n; ++i) at(i) -= 2 * along / squares * u[static_cast<std::size_t>(i)];
    }
  };
  std::vector<double> m(kRows * kColumns);
  for (std::int64_t i = 0; i < kColumns; ++i) m[static_cast<std::size_t>(i * kColumns + i)] = s[static_cast<std::size_t>(i)];
  for (int i = 0; i < 3; ++i) reflect(m, true), reflect(m, false);
  const std::vector<float> w(m.begin(), m.end());
  std::vector<float> first;
  for (const int threads : {1, 3}) {
    base::ThreadPool pool(threads);
    std::vector<float> a(kRank * kColumns), b(kRows * kRank);
    largest_components(w.data(), kRows, kColumns, kRank, 5, kernels::kernels_for(base::best_isa()), pool, a, b);
    double left = 0, least = 0;
    for (std::size_t i = kRank; i < s.size(); ++i) least += s[i] * s[i];
    for (std::int64_t r = 0; r < kRows; ++r)
      for (std::int64_t c = 0; c < kColumns; ++c) {
        double x = m[static_cast<std::size_t>(r * kColumns + c)];
        for (std::int64_t i = 0; i < kRank; ++i)
          x -= static_cast<double>(b[static_cast<std::size_t>(r * kRank + i)]) * static_cast<double>(a[static_cast<std::size_t>(i * kColumns + c)]);
        left += x * x;
      }
    EXPECT_NEAR(left, least, 0.002 * least);
    for (std::int64_t i = 0; i < kRank; ++i) {
      double squares = 0;
      for (std::int64_t c = 0; c < kColumns; ++c) squares += std::pow(static_cast<double>(a[static_cast<std::size_t>(i * kColumns + c)]), 2);
      EXPECT_NEAR(squares, s[static_cast<std::size_t>(i)], 0.005 * s[static_cast<std::size_t>(i)]);
    }
    a.insert(a.end(), b.begin(), b.end());
    if (threads == 1) first = a;
    else EXPECT_TRUE(a == first);
  }
}

TEST_F(LoraTest, TheComponentsThatPissaTakesOutStay) {
  base::ThreadPool pool(2);
  auto t = trainer(lora({"lora.pissa=true", "lora.rank=3", "steps=4"}), pool);
  const std::size_t p = t->model().parameters().size();  // A and B of the first adapter
  const auto halves = [&] {
    std::vector<float> learnt, stays;
    const auto a = t->weights().tensor(p), b = t->weights().tensor(p + 1);
    for (std::size_t i = 0; i < a.size(); ++i) (i < a.size() / 2 ? learnt : stays).push_back(a[i]);
    for (std::size_t i = 0; i < b.size(); ++i) (i % 6 < 3 ? learnt : stays).push_back(b[i]);
    return std::pair(learnt, stays);
  };
  const auto before = halves();
  EXPECT_NE(before.first[0], 0.0f);
  ASSERT_TRUE(t->step());
  ASSERT_TRUE(t->step());
  const auto after = halves();
  EXPECT_TRUE(before.second == after.second);
  for (std::size_t i = 0; i < before.first.size(); ++i) EXPECT_NE(before.first[i], after.first[i]);
}

// What is written is read by the reader that `--adapter` uses; put into the weights it says what the trainer says.
TEST_F(LoraTest, MergedIsTheAdapter) {
  for (const char* kind : {"lora.rslora=false", "lora.rslora=true", "lora.dora=true", "lora.pissa=true"}) {
    base::ThreadPool pool(2);
    const auto config = lora({output("lora-merge"), kind, "steps=5"}, "f32");
    fs::remove_all(config.output);
    auto t = trainer(config, pool);
    ASSERT_TRUE(t->run({}));
    const auto adapter = formats::Adapter::open(config.output / "adapter");
    ASSERT_TRUE(adapter) << adapter.error().message;
    EXPECT_EQ(adapter->pairs().size(), 14u);
    const auto source = *formats::ModelSource::open(config.init_from);
    const auto model = *models::model_from_source(source);
    const auto views = *models::load_weights(*model, source);
    const auto fitted = models::FittedAdapter::fit(*model, *adapter);
    ASSERT_TRUE(fitted) << fitted.error().message;
    EXPECT_TRUE(fitted->applies_while_running(*model));
    const auto merged = models::MergedWeights::create(*model, views, *fitted);
    ASSERT_TRUE(merged);

    std::vector<tensor::Shape> shapes;
    for (const auto& p : model->parameters()) shapes.push_back(p.shape);
    ops::RecordingExecutor recorder(shapes);
    model->forward(recorder);
    ops::TrainingOptions options;
    options.max_tokens = 256;
    options.forward_only = true;
    options.stored = merged->views();
    ops::TrainingGraph graph(recorder.finish(), shapes, options, kernels_here(), pool);
    auto stream = *data::BatchStream::create(dataset_->train, 48, 1, {});
    std::vector<data::PackedBatch> batch(1);
    stream.next(4, batch[0]);
    const ops::ParameterBuffer none(graph.parameter_shapes());
    ASSERT_TRUE(graph.forward(none, {batch[0].tokens, batch[0].positions, batch[0].cu_seqlens, batch[0].labels}));
    std::vector<float> scores(batch[0].tokens.size());
    graph.token_logprobs(scores);
    double nll = 0;
    for (const float s : scores) nll -= static_cast<double>(s);
    const auto record = t->step_on(batch);  // the loss before this step's update
    ASSERT_TRUE(record);
    EXPECT_NEAR(nll / static_cast<double>(batch[0].kept), record->loss, 1e-5) << kind;
  }
}

struct Nf4Place {
  std::int64_t at;
  int two;  // codes
  float value;
};
// By tools/reference/make_nf4_golden.py, of bitsandbytes.
const Nf4Place kNf4Once[] = {
    {0, 88, -0.0795253515f},
    {991, 199, 0.0f},
    {1982, 168, 0.0958671421f},
    {2973, 197, -0.0789306238f},
    {3964, 183, 0.138189718f},
    {4955, 196, -0.121855542f},
    {5946, 198, 0.180578291f},
    {6937, 182, -0.0390393287f},
    {7928, 197, 0.189137697f},
    {8919, 117, -0.0793720558f},
    {9910, 180, 0.145290852f},
    {10901, 132, -0.122412354f},
    {11892, 182, 0.145559952f},
    {12883, 115, -0.170271397f},
    {13874, 117, 0.0f},
    {14865, 97, -0.295479029f},
    {15856, 116, 0.0f},
    {16847, 80, -0.423624903f},
    {17838, 115, 0.0f},
    {18829, 79, 0.404203057f},
};
const Nf4Place kNf4Twice[] = {
    {0, 88, -0.0796181634f},
    {991, 199, 0.0f},
    {1982, 168, 0.0958555862f},
    {2973, 197, -0.0790107995f},
    {3964, 183, 0.138201371f},
    {4955, 196, -0.121941388f},
    {5946, 198, 0.180725411f},
    {6937, 182, -0.039033588f},
    {7928, 197, 0.188934416f},
    {8919, 117, -0.0794157088f},
    {9910, 180, 0.145236135f},
    {10901, 132, -0.122564703f},
    {11892, 182, 0.145606384f},
    {12883, 115, -0.17016843f},
    {13874, 117, 0.0f},
    {14865, 97, -0.295409918f},
    {15856, 116, 0.0f},
    {16847, 80, -0.424049824f},
    {17838, 115, 0.0f},
    {18829, 79, 0.404454261f},
};
constexpr std::int64_t kNf4Rows = 33, kNf4Columns = 600;

TEST(Nf4, IsBitsandbytes) {
  std::vector<float> w(kNf4Rows * kNf4Columns);
  for (std::size_t i = 0; i < w.size(); ++i) {
    const auto noise = static_cast<std::uint32_t>(i * 2654435761u + 40503u);
    w[i] = static_cast<float>((noise / 4294967296.0 - 0.5) * static_cast<double>(1 + i % 7) / 8);
  }
  tensor::ConstView view{tensor::DType::kF32, tensor::Shape{kNf4Rows, kNf4Columns}, reinterpret_cast<const std::byte*>(w.data())};
  base::ThreadPool one(1), three(3);
  for (const bool twice : {false, true}) {
    const auto nf4 = *Nf4::of(view, twice, tensor::DType::kF32, one);
    std::vector<float> opened(w.size());
    tensor::decode(nf4->view(), opened.data());
    std::int64_t codes = 0;
    double sum = 0, squares = 0;
    for (const std::uint8_t two : nf4->codes()) codes += two;
    for (const float x : opened) sum += static_cast<double>(x), squares += static_cast<double>(x) * static_cast<double>(x);
    EXPECT_EQ(codes, 1215219);
    EXPECT_NEAR(sum, twice ? 8.77479029 : 8.78376668, 1e-4);
    EXPECT_NEAR(squares, twice ? 526.040898 : 525.996851, 1e-3);
    for (const Nf4Place& place : twice ? kNf4Twice : kNf4Once) {
      EXPECT_EQ(nf4->codes()[static_cast<std::size_t>(place.at / 2)], place.two);
      EXPECT_NEAR(opened[static_cast<std::size_t>(place.at)], place.value, 1e-6f * std::abs(place.value));
    }
    // 310 blocks: a float32 each, or a byte each with a float32 for 256 of them.
    EXPECT_EQ(nf4->bytes(), static_cast<std::int64_t>(w.size()) / 2 + (twice ? 310 + 2 * 4 : 310 * 4));
    EXPECT_TRUE((*Nf4::of(view, twice, tensor::DType::kF32, three))->codes() == nf4->codes());
    // Some rows are those of all, and in bfloat16 they are rounded.
    const auto halves = *Nf4::of(view, twice, tensor::DType::kBF16, three);
    std::vector<float> some(2 * kNf4Columns);
    tensor::decode(tensor::rows_of(halves->view(), 7, 2), some.data());
    for (std::size_t i = 0; i < some.size(); ++i)
      EXPECT_EQ(some[i], tensor::bf16_to_f32(tensor::f32_to_bf16(opened[7 * kNf4Columns + i])));
  }
  w[1234] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(Nf4::of(view, true, tensor::DType::kF32, one).error().message, HasSubstr("not finite"));
}

// The model with each matrix inside its layers replaced by what the definition gives: the level that is nearest.
TEST_F(LoraTest, ABaseOfFourBitsIsTheNearestLevels) {
  base::ThreadPool pool(2);
  auto plain = trainer(config_with({base(), "model={}"}), pool);
  const double whole = plain->evaluate()->eval_loss;
  for (std::size_t p = 0; p < plain->model().parameters().size(); ++p) {
    const auto& spec = plain->model().parameters()[p];
    if (spec.shape.rank() != 2 || static_cast<std::int32_t>(p) == plain->model().embedding().id) continue;
    const std::span<float> w = plain->weights().tensor(p);
    for (std::size_t b = 0; b < w.size(); b += 64) {
      const std::span<float> block = w.subspan(b, std::min<std::size_t>(64, w.size() - b));
      float scale = 0;
      for (const float x : block) scale = std::max(scale, std::abs(x));
      for (float& x : block) {
        float nearest = Nf4::kLevels[0];
        for (const float level : Nf4::kLevels)
          if (std::abs(level - x / scale) < std::abs(nearest - x / scale)) nearest = level;
        x = nearest * scale;
      }
    }
  }
  auto four = trainer(lora({"lora.base='nf4'", "lora.double_quantise=false"}), pool);
  const double expected = plain->evaluate()->eval_loss;
  EXPECT_NEAR(four->evaluate()->eval_loss, expected, 1e-6);
  EXPECT_GT(std::abs(expected - whole), 1e-5);
  // It learns from there, as often as it is stopped, and the two kinds of scales are two bases.
  const auto config = lora({output("nf4"), "steps=12", "lora.base='nf4'", "precision=bf16", "schedule.kind=constant"});
  const std::vector<std::string> files{"adapter/adapter_model.safetensors"};
  EXPECT_TRUE(bytes_of_run(config, *dataset_, 1, 0, files) == bytes_of_run(config, *dataset_, 2, 5, files));
  EXPECT_THAT(four->load_checkpoint(list_checkpoints(config.output).back()).error().message, HasSubstr("differs"));
  auto learnt = trainer(config, pool);
  ASSERT_TRUE(learnt->resume());
  EXPECT_LT(learnt->evaluate()->eval_loss, expected - 0.01);
}

TEST_F(LoraTest, BLearnsFasterByItsRatio) {
  base::ThreadPool pool(1);
  // The first AdamW step moves each number by its rate, whatever the gradient: B starts at zero and ends at rate *
  // ratio.
  auto t = trainer(lora({"lora.b_lr_ratio=16.0", "lora.targets=['v_proj']", "schedule.warmup=0", "optimizer.clip=0.0"}),
                   pool);
  ASSERT_TRUE(t->step());
  auto& weights = t->weights();
  const auto b = weights.tensor(weights.size() - 1);
  for (const float x : b) EXPECT_NEAR(std::abs(x), 0.16, 0.16 * 1e-2);
}

TEST_F(LoraTest, WhatCannotBeTrainedIsNamed) {
  base::ThreadPool pool(1);
  const auto error = [&](const std::string& change) {
    const auto made = Trainer::create(lora({change}), *dataset_, kernels_here(), pool);
    return made ? std::string() : made.error().message;
  };
  EXPECT_THAT(error("lora.targets=['c_attn']"), HasSubstr("the model has no c_attn; it has q_proj, "));
  EXPECT_THAT(error("lora.targets=['lm_head']"), HasSubstr("the model has no lm_head"));
  auto wide = Trainer::create(lora({"lora.pissa=true", "lora.rank=17"}), *dataset_, kernels_here(), pool);
  EXPECT_THAT(wide.error().message, HasSubstr("has no more than 16 components"));
  auto object = recipe();
  ASSERT_TRUE(data::apply_override(object, "lora.rank=4"));
  EXPECT_THAT(train_config(object).error().message, HasSubstr("needs init_from"));
  object.erase("model");
  for (const char* change : {"init_from='x'", "optimizer.kind='muon'"})
    ASSERT_TRUE(data::apply_override(object, change));
  EXPECT_THAT(train_config(object).error().message, HasSubstr("muon"));
}

}  // namespace
}  // namespace qw::train
