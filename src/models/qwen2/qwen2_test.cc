#include "models/qwen2/qwen2.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qw::models {
namespace {

using ::testing::HasSubstr;

json::Object small() {
  return json::Object{{"model_type", "qwen2"},       {"vocab_size", 100},       {"hidden_size", 32},
                      {"intermediate_size", 40},     {"num_hidden_layers", 2},  {"num_attention_heads", 4},
                      {"num_key_value_heads", 2},    {"rope_theta", 1000000.0}, {"rms_norm_eps", 1e-6},
                      {"tie_word_embeddings", false}};
}

TEST(Qwen2, ReadsItsConfiguration) {
  const auto model = model_from_hf_config(small());
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->traits().head_dim, 8);
  EXPECT_EQ((*model)->parameters().size(), 3u + 2 * 12);
  EXPECT_NE((*model)->head().id, (*model)->embedding().id);
  EXPECT_EQ((*model)->parameters()[3].hf_name, "model.layers.0.self_attn.q_proj.bias");
  EXPECT_TRUE((*model)->parameters()[3].is_bias);
  EXPECT_EQ((*model)->parameters().back().gguf_name, "output.weight");
}

// Qwen2.5-0.5B: d 896, 24 layers, 14 heads over 2, F 4864, tied: 494,032,768 parameters as published.
TEST(Qwen2, CountsTheParametersOfAPublishedSize) {
  json::Object o = small();
  o.set("vocab_size", 151936);
  o.set("hidden_size", 896);
  o.set("num_hidden_layers", 24);
  o.set("num_attention_heads", 14);
  o.set("intermediate_size", 4864);
  o.set("tie_word_embeddings", true);
  const auto model = model_from_hf_config(o);
  ASSERT_TRUE(model);
  std::int64_t n = 0;
  for (const auto& p : (*model)->parameters()) n += p.shape.elements();
  EXPECT_EQ(n, 494032768);
}

TEST(Qwen2, ErrorsNameTheKey) {
  json::Object o = small();
  o.set("num_attention_heads", 5);
  EXPECT_THAT(model_from_hf_config(o).error().message, HasSubstr("num_key_value_heads"));
  o.set("num_key_value_heads", 5);
  EXPECT_THAT(model_from_hf_config(o).error().message,
              HasSubstr("num_attention_heads: 5 does not divide the width 32"));
  o = small();
  o.set("num_attention_heads", 32);
  o.set("num_key_value_heads", 2);
  EXPECT_THAT(model_from_hf_config(o).error().message, HasSubstr("head_dim: 1 is not"));
}

TEST(Qwen2, WrittenConfigurationsReadBack) {
  const auto model = model_from_hf_config(small());
  const json::Value written((*model)->hf_config());
  EXPECT_EQ(json::Value((*model_from_hf_config(written.as_object()))->hf_config()), written);
  const auto from_gguf = model_from_gguf_metadata((*model)->gguf_metadata(), true, 100);
  ASSERT_TRUE(from_gguf);
  EXPECT_EQ(json::Value((*from_gguf)->hf_config()), written);
}

}  // namespace
}  // namespace qw::models
