// Layers that draft against outside truths: tests/golden/draft_*, made by tools/reference/make_draft_golden.py.
// Tolerances are relative to the largest wanted value.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>

#include "formats/gguf.h"
#include "models/internal/test_model.h"
#include "tensor/blocks.h"

namespace qw::models {
namespace {

using models::testing::OpenedGolden;
using models::testing::all_kernels;
using models::testing::Runner;
using models::testing::TensorFile;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

const char* const kFolders[] = {"draft_qwen3_next_f32", "draft_qwen3_5_bf16", "draft_qwen3_5_moe_bf16", "draft_qwen4_exp_bf16"};

struct Golden : OpenedGolden {
  TensorFile expected;
  std::vector<std::int32_t> ids;
  std::vector<tensor::Buffer> made;
  std::vector<tensor::Tensor> floats;
  std::vector<tensor::ConstView> in_float;
  explicit Golden(const std::string& name)
      : OpenedGolden(name), expected(models::testing::golden_folder() / name / "expected.safetensors") {
    ids = expected.ids("input_ids");
    made.resize(views.size());
    for (std::size_t i = 0; i < views.size(); ++i) {
      views[i] = tensor::in_memory(views[i], made[i]);
      floats.emplace_back(tensor::DType::kF32, views[i].shape);
      tensor::decode(views[i], reinterpret_cast<float*>(floats.back().view().data));
      in_float.push_back(floats.back().view());
    }
  }
};

using Rows = std::vector<std::vector<float>>;

// Row t: the token after t, and what the model keeps of t.
std::vector<Runner::Row> draft_rows(const std::vector<std::int32_t>& ids, std::int32_t sequence = 0) {
  std::vector<Runner::Row> rows;
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) rows.push_back({ids[t + 1], static_cast<std::int32_t>(t), sequence});
  return rows;
}

std::vector<float> kept_rows(const ops::RunningExecutor& executor, std::int64_t first, std::int64_t count) {
  std::vector<float> out;
  for (std::int64_t r = first; r < first + count; ++r) {
    const auto row = executor.kept(r);
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

std::int32_t best_of(const std::vector<float>& row) {
  return static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

TEST(Draft, LogitsAndFurtherDraftsAgreeWithTheReference) {
  base::ThreadPool threads(2);
  for (const char* name : kFolders) {
    Golden g(name);
    const auto n = static_cast<std::int64_t>(g.ids.size());
    const bool bf16 = g.views[0].dtype == tensor::DType::kBF16;
    for (const auto* k : all_kernels())
      for (const bool stored : {false, true}) {
        SCOPED_TRACE(std::string(name) + " " + k->name + (stored ? " as stored" : " in float"));
        const double tolerance = stored && bf16 ? 2e-2 : 1e-4;
        Runner runner(*g.model, stored ? g.views : g.in_float, threads, *k);
        EXPECT_LT(models::testing::worst(runner.step(runner.rows_of(g.ids)), g.expected.read<float>("logits")),
                  tolerance);
        const Rows made = runner.draft_step(draft_rows(g.ids), kept_rows(*runner.executor, 0, n - 1));
        EXPECT_LT(models::testing::worst(made, g.expected.read<float>("draft_logits")), tolerance);
        const auto chain = g.expected.ids("chain_ids");
        if (!stored) {
          EXPECT_EQ(best_of(made.back()), chain[0]);
        }
        Rows further;
        std::vector<float> hidden = kept_rows(*runner.draft, n - 2, 1);
        for (std::size_t c = 0; c < chain.size(); ++c) {
          further.push_back(runner.draft_step(
              {{chain[c], static_cast<std::int32_t>(n - 1) + static_cast<std::int32_t>(c), 0}}, hidden)[0]);
          hidden = kept_rows(*runner.draft, 0, 1);
        }
        EXPECT_LT(models::testing::worst(further, g.expected.read<float>("chain_logits")), tolerance);
      }
  }
}

TEST(Draft, OnePassEqualsChunksEqualsBatched) {
  for (const char* name : kFolders) {
    SCOPED_TRACE(name);
    Golden g(name);
    base::ThreadPool one(1), three(3);
    const auto& kernels = kernels::kernels_for(base::best_isa());
    Runner whole(*g.model, g.views, one, kernels), other(*g.model, g.views, three, kernels);
    whole.step(whole.rows_of(g.ids));
    const std::vector<float> given = kept_rows(*whole.executor, 0, static_cast<std::int64_t>(g.ids.size()) - 1);
    const auto rows = draft_rows(g.ids);
    const Rows wanted = whole.draft_step(rows, given);
    const auto width = static_cast<std::size_t>(g.model->traits().draft_width);
    for (const std::size_t chunk : {std::size_t{1}, std::size_t{7}}) {
      Rows got;
      for (std::size_t i = 0; i < rows.size(); i += chunk) {
        const std::size_t end = std::min(rows.size(), i + chunk);
        const Rows part = other.draft_step(
            {rows.begin() + static_cast<std::ptrdiff_t>(i), rows.begin() + static_cast<std::ptrdiff_t>(end)},
            std::span(given).subspan(i * width, (end - i) * width));
        got.insert(got.end(), part.begin(), part.end());
      }
      EXPECT_EQ(got, wanted) << "chunks of " << chunk;
    }
    auto batch = draft_rows({g.ids.rbegin(), g.ids.rend()}, 2);
    for (const auto& r : draft_rows(g.ids, 1)) batch.push_back(r);
    std::vector<float> twice = given;
    twice.insert(twice.end(), given.begin(), given.end());
    const Rows got = other.draft_step(batch, twice);
    EXPECT_EQ(Rows(got.begin() + static_cast<std::ptrdiff_t>(rows.size()), got.end()), wanted) << "in a batch";
  }
}

// The model says the same whether its layers that draft run or not: they have cache layers of their own.
TEST(Draft, TheModelItselfDoesNotChange) {
  Golden g("draft_qwen3_5_bf16");
  base::ThreadPool threads(1);
  const auto& kernels = kernels::kernels_for(base::best_isa());
  Runner alone(*g.model, g.views, threads, kernels), drafted(*g.model, g.views, threads, kernels);
  const auto rows = alone.rows_of(g.ids);
  Rows wanted, got;
  for (const Runner::Row& r : rows) wanted.push_back(alone.step({r})[0]);
  for (std::size_t t = 0; t < rows.size(); ++t) {
    got.push_back(drafted.step({rows[t]})[0]);
    if (t + 1 < rows.size())
      drafted.draft_step({{rows[t + 1].token, rows[t].position, 0}}, kept_rows(*drafted.executor, 0, 1));
  }
  EXPECT_EQ(got, wanted);
}

TEST(Draft, GgufHoldsTheSameLayersUnderItsNames) {
  const fs::path path = fs::temp_directory_path() / ("qw_draft_" + std::to_string(::getpid()) + ".gguf");
  for (const char* name : kFolders) {
    SCOPED_TRACE(name);
    Golden g(name);
    ASSERT_NO_FATAL_FAILURE(qw::models::testing::write_gguf(path, *g.model, g.in_float));
    const auto source = formats::ModelSource::open(path);
    ASSERT_TRUE(source) << source.error().message;
    if (g.model->parameters().back().gguf_none) {  // files have no place for them: they hold the model alone
      const auto alone = model_from_source(*source);
      ASSERT_TRUE(alone) << alone.error().message;
      EXPECT_EQ((*alone)->traits().draft_layers, 0);
      EXPECT_TRUE(load_weights(**alone, *source));
      continue;
    }
    for (const char* tensor : {"eh_proj", "enorm", "hnorm", "shared_head_norm"})
      EXPECT_NE(source->find("blk.2.nextn." + std::string(tensor) + ".weight"), nullptr) << tensor;
    EXPECT_NE(source->find("blk.2.attn_q.weight"), nullptr);
    const auto model = model_from_source(*source);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ((*model)->traits().draft_layers, 1);
    EXPECT_EQ((*model)->traits().layers, g.model->traits().layers);
    const auto views = load_weights(**model, *source);
    ASSERT_TRUE(views) << views.error().message;
    ASSERT_EQ(views->size(), g.views.size());
    base::ThreadPool threads(1);
    Runner runner(**model, *views, threads, kernels::kernels_for(base::best_isa()));
    runner.step(runner.rows_of(g.ids));
    const auto n = static_cast<std::int64_t>(g.ids.size());
    EXPECT_LT(models::testing::worst(runner.draft_step(draft_rows(g.ids), kept_rows(*runner.executor, 0, n - 1)),
                                     g.expected.read<float>("draft_logits")),
              1e-4);
  }
  fs::remove(path);
}

// Libraries that leave the tensors out keep the number in the configuration.
TEST(Draft, ConfigurationsMaySpeakOfLayersThatAreNotThere) {
  OpenedGolden g("qwen3_5_f32");
  json::Object config = g.source.config();
  config.set("mtp_num_hidden_layers", 1);
  EXPECT_EQ((*model_from_hf_config(config))->traits().draft_layers, 1);
  EXPECT_EQ((*model_from_hf_config(config, 0))->traits().draft_layers, 0);
  config.set("mtp_num_hidden_layers", 2);  // no release has several: they are left aside
  const auto several = model_from_hf_config(config);
  EXPECT_EQ((*several)->traits().draft_layers, 0);
  EXPECT_EQ((*several)->traits().left_aside[0].prefix, "mtp.");
  config.set("mtp_num_hidden_layers", -1);
  EXPECT_THAT(model_from_hf_config(config).error().message, HasSubstr("mtp_num_hidden_layers"));
}

TEST(Draft, AStepMustBringARowForEachToken) {
  Golden g("draft_qwen3_5_bf16");
  base::ThreadPool threads(1);
  Runner runner(*g.model, g.views, threads, kernels::kernels_for(base::best_isa()));
  const std::vector<std::int32_t> zero{0};
  const std::vector<std::span<const std::int32_t>> tables{runner.tables[0].blocks()};
  EXPECT_THAT(runner.draft->begin({zero, zero, zero, tables, zero, &runner.cache}).error().message,
              HasSubstr("are given"));
}

}  // namespace
}  // namespace qw::models
