// Heads other than the language model's: how files name them, and that what is written reads back. Their numbers are
// held to PyTorch in engine/heads_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/internal/test_model.h"

namespace qw::models {
namespace {

using testing::OpenedGolden;
using ::testing::HasSubstr;

struct Wanted {
  const char* folder;
  HeadKind kind;
  std::int32_t outputs;
};
constexpr Wanted kWanted[] = {{"head_embedding", HeadKind::kEmbedding, 24},
                              {"head_classes", HeadKind::kClasses, 3},
                              {"head_reward", HeadKind::kClasses, 1},
                              {"head_steps", HeadKind::kSteps, 2},
                              {"head_guard", HeadKind::kGuard, 23}};

TEST(OtherHeads, ConfigurationsNameThemInBothFormats) {
  for (const Wanted& w : kWanted) {
    SCOPED_TRACE(w.folder);
    const OpenedGolden golden(w.folder);
    const auto again = model_from_hf_config(golden.model->hf_config());
    ASSERT_TRUE(again) << again.error().message;
    const auto from_gguf = model_from_gguf_metadata(golden.model->gguf_metadata(), false, golden.model->traits().vocab);
    ASSERT_TRUE(from_gguf) << from_gguf.error().message;
    for (const Model* m : {golden.model.get(), again->get(), from_gguf->get()}) {
      EXPECT_EQ(m->traits().head.kind, w.kind);
      EXPECT_EQ(m->traits().head.outputs, w.outputs);
      EXPECT_FALSE(m->head().present());
      EXPECT_FALSE(m->traits().tied_embeddings);
      ASSERT_EQ(m->parameters().size(), golden.model->parameters().size());
      EXPECT_EQ(json::Value(m->hf_config()), json::Value(golden.model->hf_config()));
      for (std::size_t i = 0; i < m->parameters().size(); ++i)
        EXPECT_EQ(m->parameters()[i].gguf_name, golden.model->parameters()[i].gguf_name);
    }
  }
}

TEST(OtherHeads, LabelsKeepTheirOrder) {
  const HeadTraits classes = OpenedGolden("head_classes").model->traits().head;
  EXPECT_EQ(classes.labels, (std::vector<std::string>{"bad", "fair", "good"}));
  const HeadTraits guard = OpenedGolden("head_guard").model->traits().head;
  EXPECT_EQ(guard.response_levels, (std::vector<std::string>{"Safe", "Unsafe", "Controversial"}));
  EXPECT_EQ(guard.response_categories.size(), 8u);
  EXPECT_EQ(guard.query_levels.size(), 3u);
  EXPECT_EQ(guard.query_categories.back(), "Jailbreak");
}

TEST(OtherHeads, ARerankerInGgufHasTwoNamedRows) {
  json::Object keys = OpenedGolden("qwen3_untied_f32").model->gguf_metadata();
  keys.set("qwen3.pooling_type", 4);
  keys.set("qwen3.classifier.output_labels", json::Array{"yes", "no"});
  const auto model = model_from_gguf_metadata(keys, false, 61);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->traits().head.labels, (std::vector<std::string>{"yes", "no"}));
  EXPECT_EQ((*model)->parameters().back().gguf_name, "cls.output.weight");
  EXPECT_EQ((*model)->parameters().back().shape[0], 2);
}

std::string hf_error(const char* folder, const char* key, json::Value value) {
  json::Object config = OpenedGolden(folder).model->hf_config();
  config.set(key, std::move(value));
  const auto model = model_from_hf_config(config);
  return model ? "fine" : model.error().message;
}

std::string gguf_error(const char* key, json::Value value) {
  json::Object keys = OpenedGolden("head_guard").model->gguf_metadata();
  keys.set(key, std::move(value));
  const auto model = model_from_gguf_metadata(keys, false, 61);
  return model ? "fine" : model.error().message;
}

TEST(OtherHeads, WhatCannotBeMeantNamesItsKey) {
  const auto classes = [](const char* name) { return json::Array{name}; };
  EXPECT_THAT(hf_error("head_classes", "architectures", classes("Qwen3ForTokenClassification")), HasSubstr("Qwen3ForTokenClassification"));
  EXPECT_THAT(hf_error("head_classes", "architectures", "Qwen3Model"), HasSubstr("architectures: must be an array"));
  EXPECT_THAT(hf_error("head_classes", "num_labels", 4), HasSubstr("num_labels"));
  EXPECT_THAT(hf_error("head_classes", "id2label", json::Object{{"1", "a"}}), HasSubstr("id2label: has no label of index 0"));
  EXPECT_THAT(hf_error("head_classes", "id2label", json::Array{}), HasSubstr("id2label: must be an object"));
  EXPECT_THAT(hf_error("head_guard", "guard_inner_size", 0), HasSubstr("guard_inner_size"));
  EXPECT_THAT(hf_error("head_guard", "query_category_map", nullptr), HasSubstr("query_category_map: is missing"));
  EXPECT_THAT(hf_error("head_guard", "num_category", 9), HasSubstr("num_category"));
  EXPECT_THAT(gguf_error("qwen3.head.kind", "oracle"), HasSubstr("qwen3.head.kind: \"oracle\""));
  EXPECT_THAT(gguf_error("qwen3.head.query_levels", json::Array{1}), HasSubstr("qwen3.head.query_levels: must hold strings"));
  EXPECT_THAT(gguf_error("qwen3.head.width", -1), HasSubstr("qwen3.head.width"));
  json::Object pooled = OpenedGolden("qwen3_untied_f32").model->gguf_metadata();
  pooled.set("qwen3.pooling_type", 1);
  EXPECT_THAT(model_from_gguf_metadata(pooled, false, 61).error().message, HasSubstr("qwen3.pooling_type: 1"));
}

}  // namespace
}  // namespace qw::models
