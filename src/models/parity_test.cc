// The whole model against outside truths: the reference implementation's logits (tests/golden, made by
// tools/make_golden.py), and double-precision gradients and optimiser steps where the shared data is at hand.
#include <cmath>

#include "base/rng.h"
#include "models/internal/test_model.h"
#include "tensor/blocks.h"

namespace qw::models {
namespace {

using models::testing::all_kernels;
using models::testing::Runner;
using models::testing::TensorFile;
namespace fs = std::filesystem;

const char* const kFolders[] = {"qwen2_tied_f32", "qwen2_untied_bf16", "qwen3_untied_f32", "qwen3_tied_bf16",
                                "qwen2_sliding_f32", "qwen3_sliding_f32"};

struct Golden {
  TensorFile weights, expected;
  json::Object config;
  std::unique_ptr<Model> model;
  std::vector<tensor::ConstView> views;
  std::vector<std::int32_t> ids;

  explicit Golden(const std::string& name)
      : weights(models::testing::golden_folder() / name / "model.safetensors"),
        expected(models::testing::golden_folder() / name / "expected.safetensors"),
        config(json::parse(*base::read_file(models::testing::golden_folder() / name / "config.json"))->as_object()) {
    reset(config);
    ids = expected.ids("input_ids");
  }
  void reset(const json::Object& c) {
    auto made = model_from_hf_config(c);
    if (!made) throw std::runtime_error(made.error().message);
    model = std::move(*made);
    views.clear();
    for (const auto& p : model->parameters()) views.push_back(weights.view(p.hf_name));
  }
};

void expect_logits(const std::vector<std::vector<float>>& got, const std::vector<float>& wanted, double relative) {
  const double tolerance = relative * models::testing::max_abs(wanted);
  ASSERT_EQ(got.size() * got[0].size(), wanted.size());
  for (std::size_t r = 0; r < got.size(); ++r)
    for (std::size_t i = 0; i < got[r].size(); ++i)
      ASSERT_NEAR(got[r][i], wanted[r * got[r].size() + i], tolerance) << "row " << r << ", token " << i;
}

TEST(Parity, RunningLogitsAgreeWithTheReference) {
  base::ThreadPool threads(2);
  for (const char* name : kFolders) {
    SCOPED_TRACE(name);
    Golden g(name);
    const bool exact = g.views[0].dtype == tensor::DType::kF32;
    for (const auto* k : all_kernels()) {
      SCOPED_TRACE(k->name);
      Runner runner(*g.model, g.views, threads, *k);
      expect_logits(runner.step(runner.rows_of(g.ids)), g.expected.read<float>("logits"), exact ? 1e-4 : 2e-2);
    }
  }
}

TEST(Parity, HalfPrecisionCacheStaysClose) {
  base::ThreadPool threads(1);
  Golden g("qwen3_untied_f32");
  for (const auto type : {tensor::DType::kF16, tensor::DType::kBF16}) {
    Runner runner(*g.model, g.views, threads, kernels::kernels_for(base::best_isa()), type);
    expect_logits(runner.step(runner.rows_of(g.ids)), g.expected.read<float>("logits"), 2e-2);
  }
}

TEST(Parity, YarnAgreesWithTheReference) {
  base::ThreadPool threads(1);
  Golden g("qwen3_untied_f32");
  g.config.set(
      "rope_parameters",
      json::Object{
          {"rope_type", "yarn"}, {"factor", 4.0}, {"rope_theta", 1000000.0}, {"original_max_position_embeddings", 8}});
  g.reset(g.config);
  Runner runner(*g.model, g.views, threads, kernels::kernels_for(base::best_isa()));
  expect_logits(runner.step(runner.rows_of(g.ids)), g.expected.read<float>("yarn_logits"), 1e-4);
}

// The weights of the golden model in another number format.
struct Converted {
  std::vector<tensor::Tensor> tensors;
  std::vector<tensor::ConstView> views;
  template <class G>
  Converted(const G& g, tensor::DType type) {
    tensors.reserve(g.views.size());
    for (const auto& v : g.views) {
      // Vectors, and taps of convolutions, which are shorter than a block, stay in float.
      const auto to = v.shape.rank() == 1 || v.shape.back() < 8 ? tensor::DType::kF32 : type;
      tensors.emplace_back(to, v.shape);
      std::vector<float> row(static_cast<std::size_t>(v.shape.back()));
      for (std::int64_t r = 0; r < v.shape.rows(); ++r) {
        tensor::decode_row(v.dtype, v.data + r * tensor::row_bytes(v.dtype, v.shape.back()), v.shape.back(),
                           row.data());
        tensor::encode_row(to, row.data(), v.shape.back(),
                           tensors.back().view().data + r * tensor::row_bytes(to, v.shape.back()));
      }
      views.push_back(tensors.back().view());
    }
  }
};

template <class G>
void expect_invariance(const G& g, std::initializer_list<tensor::DType> types) {
  for (const auto* k : all_kernels()) {
    for (const auto type : types) {
      // The slow twin takes all formats the same way.
      if (k->isa == kernels::Isa::kPortable && type != *types.begin() && g.views[0].shape.back() > 64) continue;
      SCOPED_TRACE(std::string(k->name) + " " + std::string(tensor::name(type)));
      const Converted w(g, type);
      base::ThreadPool one(1), three(3);
      Runner whole(*g.model, w.views, one, *k), other(*g.model, w.views, three, *k);
      const auto rows = whole.rows_of(g.ids);
      const auto wanted = whole.step(rows);
      for (const std::size_t chunk : {std::size_t{1}, std::size_t{5}, std::size_t{17}}) {
        std::vector<std::vector<float>> got;
        for (std::size_t i = 0; i < rows.size(); i += chunk) {
          const auto part = other.step({rows.begin() + static_cast<std::ptrdiff_t>(i),
                                        rows.begin() + static_cast<std::ptrdiff_t>(std::min(rows.size(), i + chunk))});
          got.insert(got.end(), part.begin(), part.end());
        }
        ASSERT_EQ(got, wanted) << "chunks of " << chunk;
      }
      // Among strangers: a second sequence's prompt before it and a third's after it.
      std::vector<std::int32_t> reversed(g.ids.rbegin(), g.ids.rend());
      auto batch = other.rows_of(reversed, 2);
      for (const auto& r : other.rows_of(g.ids, 1)) batch.push_back(r);
      for (const auto& r : other.rows_of(reversed, 3)) batch.push_back(r);
      const auto got = other.step(batch);
      ASSERT_EQ(std::vector(got.begin() + static_cast<std::ptrdiff_t>(rows.size()),
                            got.begin() + static_cast<std::ptrdiff_t>(2 * rows.size())),
                wanted)
          << "in a batch";
    }
  }
}

constexpr auto kShortBlocks = {tensor::DType::kF32, tensor::DType::kBF16, tensor::DType::kF16,  tensor::DType::kQ8_0,
                               tensor::DType::kQ4_0, tensor::DType::kQ4_1, tensor::DType::kQ5_0, tensor::DType::kQ5_1,
                               tensor::DType::kIQ4_NL, tensor::DType::kMXFP4};
TEST(Invariance, PrefillEqualsDecodeEqualsChunksEqualsBatched) { expect_invariance(Golden("qwen2_tied_f32"), kShortBlocks); }
TEST(Invariance, PrefillEqualsDecodeInAWindow) { expect_invariance(Golden("qwen3_sliding_f32"), kShortBlocks); }

// A model wide enough for blocks of 256, with random weights.
struct Wide {
  std::unique_ptr<Model> model;
  std::vector<tensor::Tensor> tensors;
  std::vector<tensor::ConstView> views;
  std::vector<std::int32_t> ids;
  Wide(const std::string& type, int layers) {
    const auto config = json::parse(R"({"model_type":")" + type + R"(","vocab_size":61,"hidden_size":256,
      "intermediate_size":256,"num_hidden_layers":)" + std::to_string(layers) + R"(,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":64,
      "max_position_embeddings":128,"rms_norm_eps":1e-6,"rope_theta":10000.0,"tie_word_embeddings":true,
      "hidden_act":"silu","full_attention_interval":2,"linear_num_key_heads":2,"linear_num_value_heads":4,
      "linear_key_head_dim":64,"linear_value_head_dim":64,"num_experts":4,"num_experts_per_tok":2,
      "moe_intermediate_size":256,"shared_expert_intermediate_size":256})");
    model = std::move(*model_from_hf_config(config->as_object()));
    for (std::size_t i = 0; i < model->parameters().size(); ++i) {
      const ParameterSpec& p = model->parameters()[i];
      base::Rng rng(3, i);
      tensors.emplace_back(tensor::DType::kF32, p.shape);
      for (std::int64_t j = 0; j < p.shape.elements(); ++j)
        tensors.back().f32()[j] = p.is_norm ? 1.0f : static_cast<float>(rng.next_normal() * 0.08);
      views.push_back(tensors.back().view());
    }
    for (std::int32_t i = 0; i < 18; ++i) ids.push_back(i * i % 61);
  }
};

TEST(Invariance, OfFormatsWithBlocksOf256) {
  const auto types = {tensor::DType::kQ4_K, tensor::DType::kQ2_K, tensor::DType::kQ3_K,
                      tensor::DType::kQ5_K, tensor::DType::kQ6_K, tensor::DType::kIQ4_XS};
  for (const char* type : {"qwen3", "qwen3_moe"}) {
    SCOPED_TRACE(type);
    expect_invariance(Wide(type, 1), types);
  }
  expect_invariance(Wide("qwen3_next", 2), {tensor::DType::kQ4_K});
}

// Most rows of a step choose the same of four experts, whose outputs are cut, and some others.
TEST(Invariance, OfExpertsThatManyRowsChoose) {
  Wide crowd("qwen3_moe", 1);
  crowd.ids.assign(80, 5);
  for (std::size_t i = 0; i < crowd.ids.size(); i += 9) crowd.ids[i] = static_cast<std::int32_t>(i * i % 61);
  expect_invariance(crowd, {tensor::DType::kQ4_K});
}

TEST(Invariance, WhatIsTrainedIsWhatIsServed) {
  for (const char* name : kFolders) {
    SCOPED_TRACE(name);
    Golden g(name);
    const Converted w(g, tensor::DType::kF32);
    base::ThreadPool threads(2);
    for (const auto* k : all_kernels()) {
      SCOPED_TRACE(k->name);
      Runner runner(*g.model, w.views, threads, *k);
      const auto served = runner.step(runner.rows_of(g.ids));
      const auto n = static_cast<std::int32_t>(g.ids.size());
      ops::TrainingGraph graph(models::testing::record(*g.model), models::testing::shapes_of(*g.model),
                               {.max_tokens = n,
                                .precision = kernels::GemmPrecision::kF32,
                                .adapters = {},
                                .frozen = {},
                                .forward_only = true},
                               *k, threads);
      ops::ParameterBuffer parameters(graph.parameter_shapes());
      for (std::size_t i = 0; i < parameters.size(); ++i)
        std::memcpy(parameters.data(i), w.views[i].data, static_cast<std::size_t>(w.views[i].bytes()));
      std::vector<std::int32_t> positions(g.ids.size()), labels(g.ids.size(), -1);
      std::iota(positions.begin(), positions.end(), 0);
      const std::vector<std::int32_t> cu{0, n};
      ASSERT_TRUE(graph.forward(parameters, {g.ids, positions, cu, labels}));
      std::vector<float> trained(g.ids.size() * static_cast<std::size_t>(g.model->traits().vocab));
      graph.logits(positions, trained.data());
      // Two float paths with different orders of summation over at most 64 inputs and four layers of products.
      expect_logits(served, trained, 2e-5);
    }
  }
}

TEST(Executor, RefusesBadSteps) {
  Golden g("qwen3_untied_f32");
  base::ThreadPool threads(1);
  Runner r(*g.model, g.views, threads, kernels::kernels_for(base::Isa::kPortable));
  std::vector<std::int32_t> token{61}, position{0}, sequence{0}, wanted{0};
  std::vector<std::span<const std::int32_t>> tables{r.tables[0].blocks()};
  auto error = [&] { return r.executor->begin({token, position, sequence, tables, wanted, &r.cache}).error(); };
  EXPECT_EQ(error().kind, ErrorKind::kBadInput);
  token = {-1};
  EXPECT_EQ(error().kind, ErrorKind::kBadInput);
  token = {5};
  position = {128};
  EXPECT_EQ(error().message, "row 0: position 128 in a table with room for 128");
  position = {0};
  sequence = {1};
  EXPECT_EQ(error().kind, ErrorKind::kUsage);
  sequence = {0};
  wanted = {1};
  EXPECT_EQ(error().kind, ErrorKind::kUsage);
  wanted = {0};
  token.assign(129, 0);
  EXPECT_EQ(error().kind, ErrorKind::kUsage);
}

TEST(Executor, RefusesWeightsItCannotUse) {
  Golden g("qwen3_untied_f32");
  base::ThreadPool threads(1);
  auto error = [&] {
    return ops::RunningExecutor::create(models::testing::record(*g.model), g.views,
                                        {.max_rows = 4, .max_logit_rows = 4},
                                        kernels::kernels_for(base::Isa::kPortable), threads)
        .error()
        .message;
  };
  g.views[0].dtype = tensor::DType::kI32;
  EXPECT_EQ(error(), "parameter 0: weights of type i32 cannot be used");
  g.views[0] = {};
  EXPECT_EQ(error(), "parameter 0: missing");
}

// ---- double-precision goldens of the shared data -------------------------------------------------------------------

struct TinyGolden {
  TensorFile file;
  json::Object summary;
  std::unique_ptr<Model> model;
  std::vector<std::int32_t> tokens, positions, labels, cu;

  TinyGolden(const fs::path& folder, const std::string& arch)
      : file(folder / "data/golden" / ("tiny_" + arch + ".safetensors")) {
    summary = json::parse(*base::read_file(folder / "data/golden/summary.json"))->find(arch)->as_object();
    model = std::move(*model_from_hf_config(summary.find("config")->as_object()));
    tokens = file.ids("input_ids");
    const auto unshifted = file.ids("labels");
    const std::size_t width = 13;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      positions.push_back(static_cast<std::int32_t>(i % width));
      const bool last = i % width == width - 1;
      labels.push_back(last || unshifted[i + 1] < 0 ? -1 : unshifted[i + 1]);
    }
    for (std::size_t i = 0; i <= tokens.size(); i += width) cu.push_back(static_cast<std::int32_t>(i));
  }
  ops::TrainingBatch batch() const { return {tokens, positions, cu, labels}; }
  float kept() const {
    return static_cast<float>(std::count_if(labels.begin(), labels.end(), [](int l) { return l >= 0; }));
  }
  void load(ops::ParameterBuffer& p) const {
    for (std::size_t i = 0; i < model->parameters().size(); ++i) {
      const auto values = file.read<float>("param." + model->parameters()[i].hf_name);
      std::copy(values.begin(), values.end(), p.data(i));
    }
  }
};

void expect_tensor(std::span<const float> got, const std::vector<double>& wanted, double relative,
                   const std::string& name) {
  double largest = 0;
  for (const double x : wanted) largest = std::max(largest, std::abs(x));
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i)
    ASSERT_NEAR(got[i], wanted[i], relative * largest) << name << " at " << i;
}

// AdamW as the golden states it: clip to global norm 1, decay only on matrices, before the update.
struct AdamW {
  ops::ParameterBuffer m, v;
  float lr, decay;
  int step = 0;
  AdamW(const std::vector<tensor::Shape>& shapes, float rate, float wd) : m(shapes), v(shapes), lr(rate), decay(wd) {}
  double update(const kernels::Kernels& k, ops::ParameterBuffer& w, ops::ParameterBuffer& g, std::size_t first = 0) {
    ++step;
    const double norm = std::sqrt(k.sum_squares(g.all().data(), static_cast<std::int64_t>(g.all().size())));
    const auto scale = static_cast<float>(std::min(1.0, 1.0 / (norm + 1e-6)));
    for (std::size_t i = first; i < w.size(); ++i)
      k.adamw(w.data(i), g.data(i), m.data(i), v.data(i), w.elements(i), lr, 0.9f, 0.95f, 1e-8f,
              w.shape(i).rank() == 2 ? lr * decay : 0.0f, static_cast<float>(1 - std::pow(0.9, step)),
              static_cast<float>(1 - std::pow(0.95, step)), scale);
    return norm;
  }
};

class SharedGolden : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = models::testing::shared_folder();
    if (folder_.empty()) GTEST_SKIP() << "no shared reference data (set QW_SHARED)";
  }
  fs::path folder_;
};

TEST_P(SharedGolden, LogitsGradientsAndTenSteps) {
  TinyGolden g(folder_, GetParam());
  base::ThreadPool threads(2);
  for (const auto* k : all_kernels()) {
    SCOPED_TRACE(k->name);
    ops::TrainingGraph graph(
        models::testing::record(*g.model), models::testing::shapes_of(*g.model),
        {.max_tokens = 32, .precision = kernels::GemmPrecision::kF32, .adapters = {}, .frozen = {}}, *k, threads);
    ops::ParameterBuffer w(graph.parameter_shapes());
    g.load(w);
    ASSERT_TRUE(graph.forward(w, g.batch()));
    std::vector<std::int32_t> rows(g.tokens.size());
    std::iota(rows.begin(), rows.end(), 0);
    std::vector<float> logits(rows.size() * 61);
    graph.logits(rows, logits.data());
    expect_tensor(logits, g.file.read<double>("logits"), 1e-5, "logits");
    const double loss = graph.backward(1 / g.kept()) / static_cast<double>(g.kept());
    const double wanted = g.summary.find("loss")->as_double();
    EXPECT_NEAR(loss, wanted, 1e-5 * wanted);
    for (std::size_t i = 0; i < w.size(); ++i) {
      const std::string& name = g.model->parameters()[i].hf_name;
      expect_tensor(graph.gradients().tensor(i), g.file.read<double>("grad." + name), 1e-4, name);
    }

    const json::Object& summary = g.summary.find("adamw")->as_object();
    AdamW optimiser(graph.parameter_shapes(), 3e-3f, 0.1f);
    for (std::size_t step = 0; step < 10; ++step) {
      graph.gradients().zero();
      ASSERT_TRUE(graph.forward(w, g.batch()));
      const double before = graph.backward(1 / g.kept()) / static_cast<double>(g.kept());
      EXPECT_NEAR(before, summary.find("loss_before_step")->as_array()[step].as_double(), 1e-4) << step;
      const double norm = optimiser.update(*k, w, graph.gradients());
      const double wanted_norm = summary.find("grad_norm_before_clip")->as_array()[step].as_double();
      EXPECT_NEAR(norm, wanted_norm, 1e-4 * wanted_norm);
    }
    for (std::size_t i = 0; i < w.size(); ++i) {
      const std::string& name = g.model->parameters()[i].hf_name;
      // Adam divides by the gradient's own size, so where a gradient is nearly zero its rounding shows in full: ten
      // steps of 3e-3 leave at most a few per cent of one step there.
      const auto wanted_w = g.file.read<double>("adamw10." + name);
      for (std::size_t j = 0; j < wanted_w.size(); ++j)
        ASSERT_NEAR(w.tensor(i)[j], wanted_w[j], 2e-4) << name << " at " << j;
    }
  }
}

TEST_P(SharedGolden, TenStepsOfAdapters) {
  TinyGolden g(folder_, GetParam());
  base::ThreadPool threads(2);
  const auto& k = kernels::kernels_for(base::best_isa());
  ops::TrainingOptions options{
      .max_tokens = 32, .precision = kernels::GemmPrecision::kF32, .adapters = {}, .frozen = {}};
  std::vector<std::string> names;
  const auto& parameters = g.model->parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::string base = parameters[i].hf_name.substr(0, parameters[i].hf_name.rfind('.'));
    if (!g.file.has("lora0." + base + ".A") || parameters[i].is_bias) continue;
    options.adapters.push_back({{static_cast<std::int32_t>(i)}, 4, 2.0f});
    names.push_back(base);
  }
  ASSERT_EQ(names.size(), 14u);
  options.frozen.assign(parameters.size(), true);
  ops::TrainingGraph graph(models::testing::record(*g.model), models::testing::shapes_of(*g.model), options, k,
                           threads);
  ops::ParameterBuffer w(graph.parameter_shapes());
  g.load(w);
  const std::size_t n = parameters.size();
  for (std::size_t a = 0; a < names.size(); ++a)
    for (std::size_t half = 0; half < 2; ++half) {
      const TensorFile::Entry& e = g.file.entries.at("lora0." + names[a] + (half == 0 ? ".A" : ".B"));
      const std::string name = "lora0." + names[a] + (half == 0 ? ".A" : ".B");
      if (e.dtype == "F32") {
        const auto values = g.file.read<float>(name);
        std::copy(values.begin(), values.end(), w.data(n + 2 * a + half));
      } else {
        const auto values = g.file.read<double>(name);
        std::transform(values.begin(), values.end(), w.data(n + 2 * a + half),
                       [](double d) { return static_cast<float>(d); });
      }
    }
  AdamW optimiser(graph.parameter_shapes(), 1e-2f, 0);
  const auto& wanted = g.summary.find("lora")->find("loss_before_step")->as_array();
  for (std::size_t step = 0; step < 10; ++step) {
    graph.gradients().zero();
    ASSERT_TRUE(graph.forward(w, g.batch()));
    const double loss = graph.backward(1 / g.kept()) / static_cast<double>(g.kept());
    EXPECT_NEAR(loss, wanted[step].as_double(), 1e-3) << step;
    for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(models::testing::max_abs(graph.gradients().tensor(i)), 0.0);
    optimiser.update(k, w, graph.gradients(), n);
  }
}

INSTANTIATE_TEST_SUITE_P(All, SharedGolden, ::testing::Values("qwen3", "qwen2"));

}  // namespace
}  // namespace qw::models
