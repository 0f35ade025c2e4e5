#include "formats/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/internal/test_files.h"

namespace qw::formats {
namespace {

using testing::HasSubstr;

// A folder with the smallest model, and this generation_config.json.
class GenerationConfigTest : public testing::Test {
 protected:
  Result<GenerationConfig> of_folder(const std::string& text) {
    test::spill(folder_ / "config.json", "{}");
    std::filesystem::copy(test::golden("small.safetensors"), folder_ / "model.safetensors",
                          std::filesystem::copy_options::overwrite_existing);
    test::spill(folder_ / "generation_config.json", text);
    QW_ASSIGN(const auto source, ModelSource::open(folder_.path()));
    return read_generation_config(source);
  }
  Result<GenerationConfig> of_gguf(const GgufMetadata& metadata) {
    const float one[] = {1};
    QW_ASSIGN(auto writer, GgufWriter::create(folder_ / "m.gguf", metadata, {{"t", tensor::DType::kF32, {1}}}));
    QW_TRY(writer.append(std::as_bytes(std::span(one))));
    QW_TRY(writer.commit());
    QW_ASSIGN(const auto source, ModelSource::open(folder_ / "m.gguf"));
    return read_generation_config(source);
  }
  test::Folder folder_;
};

TEST_F(GenerationConfigTest, GoesThroughAGgufFileAndBack) {
  const std::string text = R"({"do_sample": true, "temperature": 0.6, "top_p": 0.95, "min_p": 0.05, )"
                           R"("repetition_penalty": 1.05, "top_k": 20})";
  const auto first = of_folder(text);
  ASSERT_TRUE(first) << first.error().message;
  GgufMetadata metadata;
  write_generation_config(*first, metadata);
  // The keys and types that other programs read.
  for (const char* key : {"temp", "top_p", "min_p", "penalty_repeat"}) {
    const auto* item = metadata.find(std::string("general.sampling.") + key);
    ASSERT_NE(item, nullptr) << key;
    EXPECT_EQ(item->type, GgufType::kF32) << key;
  }
  EXPECT_EQ(metadata.find("general.sampling.top_k")->type, GgufType::kI32);
  const auto second = of_gguf(metadata);
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(json::dump(generation_config_json(*second)), text);
  EXPECT_EQ(second->temperature, 0.6);
}

TEST_F(GenerationConfigTest, GreedyIsDoSampleFalse) {
  const auto greedy = of_folder(R"({"do_sample": false, "temperature": 0.7, "top_k": -1, "top_p": null})");
  ASSERT_TRUE(greedy) << greedy.error().message;
  EXPECT_EQ(greedy->temperature, 0.0);
  EXPECT_EQ(greedy->top_k, 0);
  EXPECT_FALSE(greedy->top_p);
  GgufMetadata metadata;
  write_generation_config(*greedy, metadata);
  EXPECT_EQ(json::dump(generation_config_json(*of_gguf(metadata))), R"({"do_sample": false, "top_k": 0})");
}

TEST_F(GenerationConfigTest, NothingStatedIsNothing) {
  EXPECT_TRUE(of_folder("{\"eos_token_id\": 3}")->empty());
  GgufMetadata metadata;
  metadata.set("general.name", "x");
  EXPECT_TRUE(of_gguf(metadata)->empty());
  write_generation_config({}, metadata);
  EXPECT_EQ(metadata.items().size(), 1u);
}

TEST_F(GenerationConfigTest, WhatCannotBeMeantIsRefused) {
  for (const char* text : {R"({"temperature": "hot"})", R"({"temperature": -1})", R"({"top_p": 1.5})",
                           R"({"top_k": 2.5})", R"({"top_k": -2})", R"({"repetition_penalty": 0})",
                           R"({"do_sample": 1})", R"({"min_p": []})"}) {
    const auto config = of_folder(text);
    ASSERT_FALSE(config) << text;
    EXPECT_EQ(config.error().kind, ErrorKind::kBadInput);
    EXPECT_THAT(config.error().message, HasSubstr("generation_config.json: ")) << text;
  }
  GgufMetadata metadata;
  metadata.set("general.sampling.temp", "hot");
  EXPECT_THAT(of_gguf(metadata).error().message, HasSubstr("m.gguf: general.sampling.temp must be a number"));
}

}  // namespace
}  // namespace qw::formats
