#include "models/qwen3/qwen3.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qw::models {
namespace {

using ::testing::HasSubstr;

json::Object small() {
  return json::Object{{"model_type", "qwen3"},
                      {"vocab_size", 100},
                      {"hidden_size", 24},
                      {"intermediate_size", 40},
                      {"num_hidden_layers", 2},
                      {"num_attention_heads", 4},
                      {"num_key_value_heads", 2},
                      {"head_dim", 8},
                      {"rope_theta", 1000000.0},
                      {"rms_norm_eps", 1e-6},
                      {"max_position_embeddings", 4096},
                      {"tie_word_embeddings", true}};
}

std::string error_with(const char* key, json::Value value) {
  json::Object o = small();
  o.set(key, std::move(value));
  const auto model = model_from_hf_config(o);
  return model ? "accepted" : (model.error().kind == ErrorKind::kBadInput ? model.error().message : "wrong kind");
}

TEST(Qwen3, ReadsItsConfiguration) {
  const auto model = model_from_hf_config(small());
  ASSERT_TRUE(model) << model.error().message;
  const ModelTraits& t = (*model)->traits();
  EXPECT_EQ(t.architecture, "qwen3");
  EXPECT_EQ(t.vocab, 100);
  EXPECT_EQ(t.heads * t.head_dim, 32);
  EXPECT_EQ(t.context, 4096);
  EXPECT_TRUE(t.tied_embeddings);
  EXPECT_EQ((*model)->head().id, (*model)->embedding().id);
  EXPECT_EQ((*model)->parameters().size(), 2u + 2 * 11);
  EXPECT_EQ((*model)->parameters()[2].hf_name, "model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ((*model)->parameters()[2].gguf_name, "blk.0.attn_q.weight");
  EXPECT_EQ((*model)->parameters()[2].shape, (tensor::Shape{32, 24}));
}

// Counts worked out by hand from the published sizes.
TEST(Qwen3, CountsTheParametersOfThePublishedSizes) {
  auto count = [](json::Object o) {
    const auto model = model_from_hf_config(o);
    std::int64_t n = 0;
    for (const auto& p : (*model)->parameters()) n += p.shape.elements();
    return n;
  };
  json::Object o = small();
  o.set("vocab_size", 151936);
  o.set("hidden_size", 1024);
  o.set("num_hidden_layers", 28);
  o.set("num_attention_heads", 16);
  o.set("num_key_value_heads", 8);
  o.set("head_dim", 128);
  o.set("intermediate_size", 3072);
  EXPECT_EQ(count(o), 596049920);
  o.set("vocab_size", 6400);
  o.set("hidden_size", 768);
  o.set("num_hidden_layers", 8);
  o.set("num_attention_heads", 8);
  o.set("num_key_value_heads", 4);
  o.set("head_dim", 96);
  o.set("intermediate_size", 2432);
  EXPECT_EQ(count(o), 63912192);
}

TEST(Qwen3, ErrorsNameTheKey) {
  EXPECT_THAT(error_with("hidden_size", -1), HasSubstr("hidden_size"));
  EXPECT_THAT(error_with("hidden_size", "24"), HasSubstr("hidden_size: must be an integer, is string"));
  EXPECT_THAT(error_with("num_hidden_layers", 100000), HasSubstr("num_hidden_layers"));
  EXPECT_THAT(error_with("vocab_size", nullptr), HasSubstr("vocab_size: missing"));
  EXPECT_THAT(error_with("num_key_value_heads", 3), HasSubstr("num_key_value_heads: 3 does not divide"));
  EXPECT_THAT(error_with("head_dim", 7), HasSubstr("head_dim"));
  EXPECT_THAT(error_with("head_dim", 4096), HasSubstr("head_dim"));
  EXPECT_THAT(error_with("rms_norm_eps", -1.0), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(error_with("rope_theta", 0), HasSubstr("rope_theta"));
  EXPECT_THAT(error_with("hidden_act", "gelu"), HasSubstr("hidden_act"));
  EXPECT_THAT(error_with("attention_bias", true), HasSubstr("attention_bias"));
  EXPECT_THAT(error_with("layer_types", json::Array{"full_attention", "sliding_attention"}),
              HasSubstr("use_sliding_window gives no window"));
  EXPECT_THAT(error_with("layer_types", json::Array{"full_attention"}), HasSubstr("each of the 2 layers"));
  EXPECT_THAT(error_with("layer_types", json::Array{"full_attention", "chunked_attention"}), HasSubstr("layer_types"));
  json::Object windows = small();
  windows.set("use_sliding_window", true);
  windows.set("sliding_window", 0);
  EXPECT_THAT(model_from_hf_config(windows).error().message, HasSubstr("sliding_window: 0 is outside"));
  EXPECT_THAT(error_with("tie_word_embeddings", 1), HasSubstr("tie_word_embeddings"));
  EXPECT_THAT(error_with("model_type", "llama"), HasSubstr("\"llama\" is not one of"));
  EXPECT_THAT(error_with("rope_scaling", json::Object{{"type", "longrope"}, {"factor", 2.0}}), HasSubstr("longrope"));
  EXPECT_THAT(error_with("rope_scaling", json::Object{{"type", "yarn"}}), HasSubstr("rope_scaling.factor: missing"));
  EXPECT_THAT(error_with("rope_scaling", 3), HasSubstr("rope_scaling: must be an object"));
  EXPECT_THAT(error_with("rope_parameters", json::Object{{"partial_rotary_factor", 0.5}}),
              HasSubstr("partial_rotary_factor"));
}

TEST(Qwen3, WrittenConfigurationsReadBack) {
  for (const bool tied : {true, false}) {
    json::Object o = small();
    o.set("tie_word_embeddings", tied);
    o.set("rope_scaling",
          json::Object{{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 1024}});
    const auto model = model_from_hf_config(o);
    ASSERT_TRUE(model) << model.error().message;
    const json::Value written((*model)->hf_config());
    const auto again = model_from_hf_config(written.as_object());
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(json::Value((*again)->hf_config()), written);
    const auto from_gguf = model_from_gguf_metadata((*model)->gguf_metadata(), !tied, 100);
    ASSERT_TRUE(from_gguf) << from_gguf.error().message;
    EXPECT_EQ(json::Value((*from_gguf)->hf_config()), written);
  }
}

TEST(Qwen3, GgufDefaultsAndErrors) {
  json::Object o = (*model_from_hf_config(small()))->gguf_metadata();
  o.erase("qwen3.attention.head_count_kv");
  o.erase("qwen3.vocab_size");
  const auto model = model_from_gguf_metadata(o, false, 100);
  ASSERT_TRUE(model);
  EXPECT_EQ((*model)->traits().kv_heads, 4);
  EXPECT_FALSE(model_from_gguf_metadata(o, false, 0));
  o.set("qwen3.attention.value_length", 16);
  EXPECT_THAT(model_from_gguf_metadata(o, false, 100).error().message, HasSubstr("qwen3.attention.value_length"));
  o.erase("qwen3.attention.value_length");
  o.set("qwen3.block_count", 0);
  EXPECT_THAT(model_from_gguf_metadata(o, false, 100).error().message, HasSubstr("qwen3.block_count"));
  o.set("general.architecture", "gpt2");
  EXPECT_THAT(model_from_gguf_metadata(o, false, 100).error().message, HasSubstr("gpt2"));
}

}  // namespace
}  // namespace qw::models
