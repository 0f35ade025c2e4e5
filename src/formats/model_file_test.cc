#include "formats/model_file.h"

#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/internal/test_files.h"

namespace qw::formats {
namespace {

using test::golden;
using test::values_of;
using testing::HasSubstr;

TEST(ModelSource, Gguf) {
  const auto model = ModelSource::open(golden("small.gguf"));
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->kind(), ModelKind::kGguf);
  EXPECT_EQ(model->path(), golden("small.gguf"));
  EXPECT_EQ(model->config().find("general.architecture")->as_string(), "qwen3");
  EXPECT_TRUE(model->generation_config().empty());
  EXPECT_EQ(model->find("matrix.f32")->bytes(), 24);
  EXPECT_TRUE(model->tensor("matrix.f32", {2, 3}));
  const auto wrong = model->tensor("matrix.f32", {3, 2});
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message,
              HasSubstr("tensor 'matrix.f32' has shape [2, 3], the configuration asks for [3, 2]"));
  EXPECT_THAT(wrong.error().message, HasSubstr("small.gguf"));
  EXPECT_THAT(model->tensor("nope").error().message, HasSubstr("no tensor 'nope'"));
  EXPECT_GT(model->total_bytes(), 1000);
}

TEST(ModelSource, HuggingFaceFolder) {
  auto opened = ModelSource::open(golden("hf_sharded"));
  ASSERT_TRUE(opened) << opened.error().message;
  const ModelSource model = std::move(*opened);
  EXPECT_EQ(model.kind(), ModelKind::kHfFolder);
  EXPECT_EQ(model.path(), golden("hf_sharded"));
  EXPECT_EQ(model.config().find("model_type")->as_string(), "qwen3");
  EXPECT_EQ(model.generation_config().find("top_p")->as_double(), 0.8);
  EXPECT_EQ(model.tensors().size(), 3u);
  EXPECT_EQ(model.total_bytes(), 140);
  EXPECT_THAT(values_of<float>(*model.tensor("y.weight", {3})), testing::ElementsAreArray(test::ramp(3)));
}

TEST(ModelSource, WhatIsMissingIsNamed) {
  const test::Folder folder;
  const auto why = [&](const std::filesystem::path& path) {
    const auto model = ModelSource::open(path);
    if (model) return std::string("accepted");
    EXPECT_EQ(model.error().kind, ErrorKind::kBadInput);
    return model.error().message;
  };
  EXPECT_THAT(why(folder / "absent"), HasSubstr("no such file or folder"));
  EXPECT_THAT(why(folder.path()), HasSubstr("config.json: cannot open"));
  test::spill(folder / "consolidated.00.pth", "PK");
  EXPECT_THAT(why(folder.path()), HasSubstr("consolidated.00.pth: a pickle is not read"));
  EXPECT_THAT(why(folder / "consolidated.00.pth"), HasSubstr("consolidated.00.pth: a pickle is not read"));
  const auto pipe = folder / "pipe.gguf";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(why(pipe), HasSubstr("pipe.gguf: not a regular file"));  // without waiting for somebody who writes
  std::filesystem::remove(folder / "consolidated.00.pth");
  test::spill(folder / "config.json", "[]");
  EXPECT_THAT(why(folder.path()), HasSubstr("config.json: not a JSON object"));
  test::spill(folder / "config.json", "{\"a\": }");
  EXPECT_THAT(why(folder.path()), HasSubstr("config.json: JSON: byte 6"));
  test::spill(folder / "config.json", "{}");
  EXPECT_THAT(why(folder.path()), HasSubstr("no model.safetensors"));
  test::spill(folder / "pytorch_model.bin", "x");
  EXPECT_THAT(why(folder.path()), AllOf(HasSubstr("pytorch_model.bin: a pickle is not read"), HasSubstr("save_pretrained")));
  std::filesystem::copy(golden("small.safetensors"), folder / "weights.safetensors");
  EXPECT_THAT(why(folder.path()), "accepted");
  std::filesystem::copy(golden("small.safetensors"), folder / "more.safetensors");
  EXPECT_THAT(why(folder.path()), HasSubstr("several .safetensors files"));
  test::spill(folder / "generation_config.json", "5");
  EXPECT_THAT(why(folder.path()), HasSubstr("generation_config.json: not a JSON object"));
  EXPECT_THAT(why(folder / "weights.safetensors"), HasSubstr("give the folder with config.json"));
  EXPECT_THAT(why(folder / "config.json"), HasSubstr("config.json: "));
}

}  // namespace
}  // namespace qw::formats
