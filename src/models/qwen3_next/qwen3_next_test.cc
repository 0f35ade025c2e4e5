#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/internal/test_model.h"
#include "tensor/blocks.h"

namespace qw::models {
namespace {

using ::testing::HasSubstr;
using models::testing::OpenedGolden;
using models::testing::take;

json::Object small(const char* type = "qwen3_next") {
  return json::Object{{"model_type", type},
                      {"vocab_size", 100},
                      {"hidden_size", 24},
                      {"intermediate_size", 40},
                      {"num_hidden_layers", 4},
                      {"num_attention_heads", 4},
                      {"num_key_value_heads", 2},
                      {"head_dim", 16},
                      {"linear_num_key_heads", 2},
                      {"linear_num_value_heads", 4},
                      {"linear_key_head_dim", 8},
                      {"linear_value_head_dim", 6},
                      {"num_experts", 4},
                      {"num_experts_per_tok", 2},
                      {"moe_intermediate_size", 16},
                      {"shared_expert_intermediate_size", 16}};
}

std::string error_with(const char* key, json::Value value) {
  json::Object o = small();
  o.set(key, std::move(value));
  const auto model = model_from_hf_config(o);
  return model ? "accepted" : (model.error().kind == ErrorKind::kBadInput ? model.error().message : "wrong kind");
}

TEST(Hybrid, ReadsItsConfiguration) {
  const auto model = take(model_from_hf_config(small()));
  const ModelTraits& t = model->traits();
  EXPECT_EQ(t.layers, 1);
  EXPECT_EQ(t.recurrent, (std::vector<std::int32_t>{0, 1, 2}));
  // Three layers, each with three inputs of 2 * 16 + 24 columns and four heads' matrices of 8 x 6, eight keys, what their rows
  // write and nine decays, in whole lines of a cache.
  EXPECT_EQ(t.state_floats, 3 * (3 * 56 + 4 * 176));
  EXPECT_EQ((8 * 6 + 8 * 8 + 8 * 6 + 9 + 15) / 16 * 16, 176);
  const auto o = model->hf_config();
  EXPECT_EQ(o.find("num_hidden_layers")->as_int(), 4);
  EXPECT_EQ(o.find("rope_parameters")->find("partial_rotary_factor")->as_double(), 0.25);
}

TEST(Hybrid, WrittenConfigurationsReadBack) {
  for (const char* type : {"qwen3_next", "qwen3_5", "qwen3_5_moe"})
    for (const bool regular : {true, false}) {
      json::Object o = small(type);
      if (!regular) o.set("layer_types", json::Array{"full_attention", "linear_attention", "linear_attention", "full_attention"});
      o.set("rope_parameters", json::Object{{"rope_type", "yarn"}, {"factor", 4.0}, {"rope_theta", 5e6},
                                            {"original_max_position_embeddings", 1024}, {"partial_rotary_factor", 0.5}});
      const auto model = take(model_from_hf_config(o));
      const json::Value written(model->hf_config());
      EXPECT_EQ(json::Value(take(model_from_hf_config(written.as_object()))->hf_config()), written);
      const auto from_gguf = take(model_from_gguf_metadata(model->gguf_metadata(), true, 100));
      EXPECT_EQ(json::Value(from_gguf->hf_config()), written);
    }
}

// Published sizes: Qwen3-Next-80B-A3B has 79.7 billion parameters without its drafting layer, Qwen3.5-27B's language model
// 26.9 billion; by the formulas of their configurations.
TEST(Hybrid, CountsTheParametersOfPublishedSizes) {
  const auto count = [](const json::Object& o) {
    const auto model = take(model_from_hf_config(o));
    std::int64_t n = 0;
    for (const auto& p : model->parameters()) n += p.shape.elements();
    return n;
  };
  json::Object o{{"model_type", "qwen3_next"}, {"vocab_size", 151936},        {"hidden_size", 2048},        {"intermediate_size", 5120},
                 {"num_hidden_layers", 48},    {"num_attention_heads", 16},   {"num_key_value_heads", 2},   {"head_dim", 256},
                 {"num_experts", 512},         {"num_experts_per_tok", 10},   {"moe_intermediate_size", 512},
                 {"shared_expert_intermediate_size", 512}, {"linear_num_key_heads", 16}, {"linear_num_value_heads", 32},
                 {"linear_key_head_dim", 128}, {"linear_value_head_dim", 128}};
  EXPECT_EQ(count(o), 79674391296);
  o = json::Object{{"model_type", "qwen3_5_text"}, {"vocab_size", 248320},      {"hidden_size", 5120},      {"intermediate_size", 17408},
                   {"num_hidden_layers", 64},      {"num_attention_heads", 24}, {"num_key_value_heads", 4}, {"head_dim", 256},
                   {"linear_num_key_heads", 16},   {"linear_num_value_heads", 48}};
  EXPECT_EQ(count(o) / 100000000, 268);
}

TEST(Hybrid, ErrorsNameTheKey) {
  EXPECT_THAT(error_with("linear_num_value_heads", 3), HasSubstr("linear_num_value_heads: 3 is not a multiple of the 2"));
  EXPECT_THAT(error_with("linear_key_head_dim", 0), HasSubstr("linear_key_head_dim"));
  EXPECT_THAT(error_with("linear_conv_kernel_dim", 1), HasSubstr("linear_conv_kernel_dim"));
  EXPECT_THAT(error_with("layer_types", json::Array{"full_attention"}), HasSubstr("layer_types"));
  EXPECT_THAT(error_with("layer_types", json::Array{"linear_attention", "linear_attention", "linear_attention", "linear_attention"}),
              HasSubstr("layer_types: no layer has attention"));
  EXPECT_THAT(error_with("layer_types", json::Array{"full_attention", "sliding_attention", "full_attention", "full_attention"}),
              HasSubstr("layer_types"));
  EXPECT_THAT(error_with("full_attention_interval", 9), HasSubstr("full_attention_interval: no layer has attention"));
  EXPECT_THAT(error_with("partial_rotary_factor", 0.2), HasSubstr("partial_rotary_factor: a rotated width of 3"));
  EXPECT_THAT(error_with("attention_bias", true), HasSubstr("attention_bias"));
  EXPECT_THAT(error_with("text_config", 3), HasSubstr("text_config"));
  json::Object o = take(model_from_hf_config(small()))->gguf_metadata();
  o.set("qwen3next.ssm.inner_size", 25);
  EXPECT_THAT(model_from_gguf_metadata(o, true, 100).error().message, HasSubstr("ssm.inner_size"));
}

// Axes of positions that are too few or where there are none: the published ones, or none.
TEST(Hybrid, AxesThatDoNotFitAreNotKept) {
  for (const char* type : {"qwen3_next", "qwen3_5"}) {
    json::Object o = small(type);
    o.set("rope_parameters", json::Object{{"mrope_section", json::Array{1}}, {"partial_rotary_factor", 0.5}});
    const json::Value rope = *take(model_from_hf_config(o))->hf_config().find("rope_parameters");
    if (type == std::string("qwen3_next")) {
      EXPECT_EQ(rope.find("mrope_section"), nullptr);
    } else {
      EXPECT_EQ(*rope.find("mrope_section"), json::Value(json::Array{2, 1, 1}));
    }
  }
}

// A GGUF file counts its drafting layers among its blocks. One is kept, several are left aside by name.
TEST(Hybrid, DraftingLayersOfGgufAreBlocks) {
  json::Object o = take(model_from_hf_config(small()))->gguf_metadata();
  o.set("qwen3next.block_count", 5);
  o.set("qwen3next.nextn_predict_layers", 1);
  const auto kept = take(model_from_gguf_metadata(o, true, 100));
  EXPECT_EQ(kept->traits().layers, 1);
  EXPECT_EQ(kept->traits().draft_layers, 1);
  EXPECT_EQ(kept->gguf_metadata().find("qwen3next.block_count")->as_int(), 5);
  EXPECT_EQ(kept->gguf_metadata().find("qwen3next.nextn_predict_layers")->as_int(), 1);
  o.set("qwen3next.block_count", 6);
  o.set("qwen3next.nextn_predict_layers", 2);
  const auto model = take(model_from_gguf_metadata(o, true, 100));
  EXPECT_EQ(model->traits().layers, 1);
  EXPECT_EQ(model->traits().draft_layers, 0);
  std::size_t named = 0;
  for (const auto& aside : model->traits().left_aside) named += aside.prefix == "blk.4." || aside.prefix == "blk.5.";
  EXPECT_EQ(named, 2u);
  EXPECT_EQ(model->gguf_metadata().find("qwen3next.block_count")->as_int(), 4);
  EXPECT_EQ(model->gguf_metadata().find("qwen3next.nextn_predict_layers")->as_int(), 0);
}

// From a folder to this house and back: the same tensors under the same names, bit for bit where numbers only move.
TEST(Hybrid, FoldersComeBackAsTheyWere) {
  for (const char* name : {"qwen3_next_f32", "qwen3_5_f32", "qwen3_5_moe_f32", "qwen3_5_bf16"}) {
    SCOPED_TRACE(name);
    const OpenedGolden g(name);
    const auto there = take(file_tensors(*g.model, g.views, formats::ModelKind::kHfFolder));
    const testing::TensorFile raw(testing::golden_folder() / name / "model.safetensors");
    std::size_t met = 0;
    for (const FileTensor& t : there.tensors) {
      const std::string beside = "model.language_model." + t.name.substr(std::min<std::size_t>(6, t.name.size()));
      const std::string own = raw.has(t.name) ? t.name : beside;
      if (!raw.has(own)) continue;  // experts stand fused in some folders
      ++met;
      ASSERT_EQ(t.shape, raw.view(own).shape) << own;
      std::vector<float> got(static_cast<std::size_t>(t.shape.elements())), wanted(got.size());
      tensor::decode(t.view, got.data());
      tensor::decode(raw.view(own), wanted.data());
      const float tolerance = t.small ? 1e-6f : 0;  // norms pass through 1 + w
      for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], tolerance) << own;
    }
    EXPECT_GT(met, 20u);
  }
}

}  // namespace
}  // namespace qw::models
