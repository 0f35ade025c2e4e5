#include "formats/embedding_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/internal/test_files.h"

namespace qw::formats {
namespace {

using testing::HasSubstr;

json::Value stage(const char* type, const char* path) {
  return json::Object{{"idx", 0}, {"name", "0"}, {"path", path}, {"type", std::string("sentence_transformers.models.") + type}};
}

TEST(EmbeddingConfig, AFolderNamesItsStages) {
  const auto folder = std::filesystem::path(QW_SOURCE_DIR) / "tests/golden";
  const auto source = ModelSource::open(folder / "head_embedding");
  ASSERT_TRUE(source) << source.error().message;
  const auto config = read_embedding_config(*source);
  ASSERT_TRUE(config) << config.error().message;
  ASSERT_TRUE(*config);
  EXPECT_TRUE((*config)->normalise);
  EXPECT_EQ((*config)->query_prompt, "Instruct: Find it\nQuery:");
  const auto plain = ModelSource::open(folder / "qwen3_tied_bf16");
  ASSERT_TRUE(plain);
  EXPECT_FALSE(*read_embedding_config(*plain));
}

TEST(EmbeddingConfig, WhatIsWrittenReadsBack) {
  test::Folder folder;
  test::spill(folder / "config.json", "{}");
  std::filesystem::copy(test::golden("small.safetensors"), folder / "model.safetensors");
  for (const bool normalise : {true, false}) {
    ASSERT_TRUE(write_embedding_config({normalise, "Query: "}, 8, 64, folder.path()));
    const auto source = ModelSource::open(folder.path());
    ASSERT_TRUE(source) << source.error().message;
    const auto config = read_embedding_config(*source);
    ASSERT_TRUE(config) << config.error().message;
    ASSERT_TRUE(*config);
    EXPECT_EQ((*config)->normalise, normalise);
    EXPECT_EQ((*config)->query_prompt, "Query: ");
  }
}

TEST(EmbeddingConfig, OtherStagesAreRefused) {
  const auto error_of = [](json::Array modules) {
    std::string pooling;
    const auto config = read_modules(std::move(modules), pooling);
    return config ? "fine " + pooling : config.error().message;
  };
  EXPECT_EQ(error_of({stage("Transformer", ""), stage("Pooling", "1_Pooling")}), "fine 1_Pooling");
  EXPECT_THAT(error_of({stage("Transformer", ""), stage("Pooling", "1_Pooling"), stage("Dense", "2_Dense")}), HasSubstr("\"Dense\""));
  EXPECT_THAT(error_of({stage("Transformer", ""), stage("Pooling", "../secret")}), HasSubstr("\"Pooling\""));
  EXPECT_THAT(error_of({stage("Transformer", ""), stage("Pooling", "..")}), HasSubstr("\"Pooling\""));
  EXPECT_THAT(error_of({stage("Normalize", "2"), stage("Transformer", "")}), HasSubstr("\"Normalize\""));
  EXPECT_THAT(error_of({stage("Transformer", "")}), HasSubstr("Pooling"));
  EXPECT_THAT(error_of({3}), HasSubstr("type"));
  std::string pooling;
  EXPECT_FALSE(read_modules(json::Object{}, pooling));
}

TEST(EmbeddingConfig, OnlyTheLastTokenIsPooled) {
  EXPECT_TRUE(check_pooling(json::Object{{"pooling_mode_lasttoken", true}, {"pooling_mode_cls_token", false}}));
  EXPECT_TRUE(check_pooling(json::Object{{"pooling_mode", "lasttoken"}}));
  EXPECT_THAT(check_pooling(json::Object{{"pooling_mode_mean_tokens", true}}).error().message, HasSubstr("pooling_mode_mean_tokens"));
  EXPECT_FALSE(check_pooling(json::Object{{"pooling_mode", "mean"}}));
  EXPECT_FALSE(check_pooling(json::Object{}));
  EXPECT_FALSE(check_pooling(json::Array{}));
}

}  // namespace
}  // namespace qw::formats
