#include "models/load.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "models/internal/test_model.h"

namespace qw::models {
namespace {

namespace fs = std::filesystem;

// Qwen3-VL's folders hold experts as [E, D, 2F] and [E, F, D].
TEST(TransposedExperts, AreThoseOfTheOtherLayout) {
  const testing::OpenedGolden golden("qwen3_moe_untied_f32");
  const fs::path folder = fs::temp_directory_path() / ("qw_transposed_" + std::to_string(::getpid()));
  fs::create_directories(folder);
  std::vector<formats::TensorInfo> infos = golden.source.tensors();
  std::int64_t turned = 0;
  for (auto& t : infos)
    if (t.shape.rank() == 3) t.shape = tensor::Shape{t.shape[0], t.shape[2], t.shape[1]}, ++turned;
  ASSERT_EQ(turned, 4);
  auto writer = formats::SafetensorsWriter::create(folder / "model.safetensors", infos);
  ASSERT_TRUE(writer) << writer.error().message;
  for (const auto& t : infos) {
    const auto view = *golden.source.tensor(t.name);
    std::vector<float> out(view.f32(), view.f32() + view.shape.elements());
    if (t.shape.rank() == 3)
      for (std::int64_t e = 0, i = 0; e < t.shape[0]; ++e)
        for (std::int64_t r = 0; r < t.shape[1]; ++r)
          for (std::int64_t c = 0; c < t.shape[2]; ++c, ++i)
            out[static_cast<std::size_t>(i)] = view.f32()[(e * t.shape[2] + c) * t.shape[1] + r];
    ASSERT_TRUE(writer->append(std::as_bytes(std::span(out))));
  }
  ASSERT_TRUE(writer->commit());
  json::Object text = golden.source.config();
  text.erase("architectures");
  const json::Object whole{{"model_type", "qwen3_vl_moe"}, {"architectures", json::Array{"Qwen3VLMoeForConditionalGeneration"}},
                           {"text_config", text}, {"vision_config", json::Object{}}};
  ASSERT_TRUE(base::write_file_atomically(folder / "config.json", json::dump(whole)));
  {
    const auto source = formats::ModelSource::open(folder);
    ASSERT_TRUE(source) << source.error().message;
    const auto model = model_from_source(*source);
    ASSERT_TRUE(model) << model.error().message;
    const auto views = load_weights(**model, *source);
    ASSERT_TRUE(views) << views.error().message;
    for (std::size_t i = 0; i < views->size(); ++i) {
      tensor::Buffer own;
      const auto got = tensor::in_memory((*views)[i], own);
      ASSERT_EQ(got.shape, golden.views[i].shape);
      EXPECT_EQ(0, std::memcmp(got.data, golden.views[i].data, static_cast<std::size_t>(got.bytes()))) << (*model)->parameters()[i].hf_name;
    }
  }
  // Libraries save such models in the layout of other folders: told apart by the shapes.
  fs::copy_file(testing::golden_folder() / "qwen3_moe_untied_f32/model.safetensors", folder / "model.safetensors",
                fs::copy_options::overwrite_existing);
  {
    const auto source = formats::ModelSource::open(folder);
    ASSERT_TRUE(source);
    const auto model = model_from_source(*source);
    const auto views = load_weights(**model, *source);
    ASSERT_TRUE(views) << views.error().message;
    for (std::size_t i = 0; i < views->size(); ++i)
      EXPECT_EQ(0, std::memcmp((*views)[i].data, golden.views[i].data, static_cast<std::size_t>((*views)[i].bytes())));
  }
  // What is neither is refused.
  for (auto& t : infos)
    if (t.name.ends_with("1.mlp.experts.gate_up_proj")) t.shape = tensor::Shape{t.shape[0], 16, 128};
  auto wrong = formats::SafetensorsWriter::create(folder / "model.safetensors", infos);
  ASSERT_TRUE(wrong);
  for (const auto& t : infos) ASSERT_TRUE(wrong->append(std::vector<std::byte>(static_cast<std::size_t>(t.shape.elements() * 4))));
  ASSERT_TRUE(wrong->commit());
  const auto source = formats::ModelSource::open(folder);
  ASSERT_TRUE(source);
  EXPECT_NE(load_weights(**model_from_source(*source), *source).error().message.find("should be [4, 32, 64]"), std::string::npos);
  fs::remove_all(folder);
}

class Load : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("qw_load_test_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // A copy of the tied golden model whose tensors pass through `change`.
  fs::path variant(const std::function<void(std::vector<formats::TensorInfo>&)>& change) {
    const fs::path golden = testing::golden_folder() / "qwen3_tied_bf16";
    auto source = formats::ModelSource::open(golden);
    EXPECT_TRUE(source);
    std::vector<formats::TensorInfo> infos = source->tensors();
    change(infos);
    auto writer = formats::SafetensorsWriter::create(folder_ / "model.safetensors", infos);
    EXPECT_TRUE(writer) << writer.error().message;
    for (const auto& info : infos) {
      const std::vector<std::byte> zeros(static_cast<std::size_t>(info.bytes()));
      EXPECT_TRUE(writer->append(zeros));
    }
    EXPECT_TRUE(writer->commit());
    fs::copy_file(golden / "config.json", folder_ / "config.json", fs::copy_options::overwrite_existing);
    return folder_;
  }
  std::string load_error(const fs::path& path) {
    const auto source = formats::ModelSource::open(path);
    if (!source) return source.error().message;
    const auto model = model_from_source(*source);
    if (!model) return model.error().message;
    const auto weights = load_weights(**model, *source);
    return weights ? "ok" : weights.error().message;
  }
  fs::path folder_;
};

TEST_F(Load, EveryFolderGivesTheBytesOfItsFile) {
  base::ThreadPool threads(1);
  for (const char* name : {"qwen2_tied_f32", "qwen2_untied_bf16", "qwen3_tied_bf16", "qwen3_untied_f32"}) {
    const auto source = formats::ModelSource::open(testing::golden_folder() / name);
    ASSERT_TRUE(source) << source.error().message;
    const auto model = model_from_source(*source);
    ASSERT_TRUE(model) << model.error().message;
    const auto weights = load_weights(**model, *source);
    ASSERT_TRUE(weights) << weights.error().message;
    ASSERT_EQ(weights->size(), (*model)->parameters().size());
    // The parity tests read the same files by other means and hold their logits to the reference implementation.
    const testing::TensorFile raw(testing::golden_folder() / name / "model.safetensors");
    for (std::size_t i = 0; i < weights->size(); ++i) {
      const tensor::ConstView expected = raw.view((*model)->parameters()[i].hf_name), &got = (*weights)[i];
      ASSERT_EQ(got.dtype, expected.dtype);
      ASSERT_EQ(got.shape, expected.shape);
      ASSERT_EQ(std::memcmp(got.data, expected.data, static_cast<std::size_t>(got.bytes())), 0) << i;
    }
  }
}

TEST_F(Load, GgufGivesTheSameModelAndWeights) {
  for (const char* name : {"qwen2_tied_f32", "qwen3_untied_f32"}) {
    const auto source = formats::ModelSource::open(testing::golden_folder() / name);
    ASSERT_TRUE(source);
    const auto model = model_from_source(*source);
    ASSERT_TRUE(model);
    const auto weights = load_weights(**model, *source);
    ASSERT_TRUE(weights);
    std::vector<formats::TensorInfo> infos;
    for (std::size_t i = 0; i < weights->size(); ++i)
      infos.push_back({(*model)->parameters()[i].gguf_name, (*weights)[i].dtype, (*weights)[i].shape});
    const fs::path path = folder_ / "model.gguf";
    auto writer =
        formats::GgufWriter::create(path, gguf_keys(**model), infos);
    ASSERT_TRUE(writer) << writer.error().message;
    for (const auto& view : *weights) ASSERT_TRUE(writer->write(view));
    ASSERT_TRUE(writer->commit());

    const auto again = formats::ModelSource::open(path);
    ASSERT_TRUE(again) << again.error().message;
    const auto same = model_from_source(*again);
    ASSERT_TRUE(same) << same.error().message;
    EXPECT_EQ((*same)->traits().tied_embeddings, (*model)->traits().tied_embeddings);
    EXPECT_EQ((*same)->traits().vocab, (*model)->traits().vocab);
    const auto loaded = load_weights(**same, *again);
    ASSERT_TRUE(loaded) << loaded.error().message;
    ASSERT_EQ(loaded->size(), weights->size());
    for (std::size_t i = 0; i < loaded->size(); ++i)
      EXPECT_EQ(std::memcmp((*loaded)[i].data, (*weights)[i].data, static_cast<std::size_t>((*loaded)[i].bytes())), 0);
  }
}

TEST_F(Load, ErrorsNameTheTensor) {
  EXPECT_EQ(load_error(variant([](auto&) {})), "ok");
  const std::string missing = load_error(
      variant([](auto& infos) { std::erase_if(infos, [](const auto& t) { return t.name == "model.norm.weight"; }); }));
  EXPECT_NE(missing.find("model.norm.weight"), std::string::npos) << missing;
  const std::string shape = load_error(variant([](auto& infos) {
    for (auto& t : infos)
      if (t.name == "model.norm.weight") t.shape = tensor::Shape{3};
  }));
  EXPECT_NE(shape.find("model.norm.weight"), std::string::npos) << shape;
  EXPECT_NE(shape.find("[3]"), std::string::npos) << shape;
  const std::string stray = load_error(variant([](auto& infos) {
    infos.push_back({"model.layers.0.self_attn.q_proj.bias", tensor::DType::kF32, tensor::Shape{8}});
  }));
  EXPECT_NE(stray.find("q_proj.bias"), std::string::npos) << stray;
}

TEST_F(Load, RedundantTensorsAreLeftAside) {
  EXPECT_EQ(load_error(variant([](auto& infos) {
              infos.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", tensor::DType::kF32, tensor::Shape{4}});
              infos.push_back({"lm_head.weight", tensor::DType::kF32, tensor::Shape{4, 4}});
            })),
            "ok");
}

TEST_F(Load, WrongConfigurationsAreNamed) {
  const fs::path path = variant([](auto&) {});
  std::ofstream(path / "config.json") << R"({"model_type":"gpt2"})";
  const std::string error = load_error(path);
  EXPECT_NE(error.find(path.string()), std::string::npos) << error;
  EXPECT_NE(error.find("gpt2"), std::string::npos) << error;
}

}  // namespace
}  // namespace qw::models
