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

// As the checkpoints of a million tokens have it.
TEST(Qwen2, ReadsAndWritesDualChunkAttention) {
  json::Object o = small(), dual{{"chunk_size", 262144}, {"local_size", 8192}, {"original_max_position_embeddings", 262144}};
  o.set("max_position_embeddings", 1010000);
  o.set("dual_chunk_attention_config", dual);
  const auto model = model_from_hf_config(o);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->traits().context, 1010000);
  EXPECT_TRUE((*model)->traits().notices.empty());
  const json::Object written = (*model)->hf_config();
  EXPECT_EQ(*written.find("dual_chunk_attention_config"), json::Value(dual));
  EXPECT_EQ(json::Value((*model_from_hf_config(written))->hf_config()), json::Value(written));
  const auto from_gguf = model_from_gguf_metadata((*model)->gguf_metadata(), true, 100);
  ASSERT_TRUE(from_gguf) << from_gguf.error().message;
  EXPECT_EQ(json::Value((*from_gguf)->hf_config()), json::Value(written));
  // Within one chunk and the trained length it is what everybody computes.
  o.set("max_position_embeddings", 32768);
  EXPECT_EQ((*model_from_hf_config(o))->hf_config().find("dual_chunk_attention_config"), nullptr);
  o.set("max_position_embeddings", 1010000);
  const auto with = [&](const char* key, json::Value value) {
    json::Object other = dual, whole = o;
    other.set(key, std::move(value));
    whole.set("dual_chunk_attention_config", other);
    const auto made = model_from_hf_config(whole);
    return made ? (*made)->traits().notices.empty() ? "" : (*made)->traits().notices[0] : made.error().message;
  };
  EXPECT_THAT(with("local_size", 262144), HasSubstr("dual_chunk_attention_config.local_size: 262144 is outside"));
  EXPECT_THAT(with("local_size", 8000), HasSubstr("254144 tokens (less local_size); must be a multiple of 1024"));
  EXPECT_THAT(with("sparse_attention_config", json::Array{}), HasSubstr("computed in full"));
  EXPECT_EQ(with("sparse_attention_enabled", false), "");
  o.set("use_sliding_window", true);
  o.set("sliding_window", 100);
  o.set("max_window_layers", 0);
  EXPECT_THAT(with("local_size", 8192), HasSubstr("chunks and a sliding window"));
}

// Which layers have a window is said in three ways, and kept in both formats.
TEST(Qwen2, ReadsAndWritesWindows) {
  const auto written = [](const json::Object& o) -> json::Value {
    const auto model = model_from_hf_config(o);
    if (!model) return json::Value(model.error().message);
    const auto from_gguf = model_from_gguf_metadata((*model)->gguf_metadata(), true, 100);
    if (!from_gguf) return json::Value(from_gguf.error().message);
    const json::Value config((*model)->hf_config());
    EXPECT_EQ(json::Value((*from_gguf)->hf_config()), config);
    EXPECT_EQ(json::Value((*model_from_hf_config(config.as_object()))->hf_config()), config);
    const json::Value* types = config.find("layer_types");
    return json::Array{*config.find("use_sliding_window"), types != nullptr ? *types : json::Value()};
  };
  const json::Value none = json::Array{false, nullptr};
  json::Object o = small();
  o.set("sliding_window", 512);
  o.set("max_window_layers", 1);
  EXPECT_EQ(written(o), none);
  o.set("use_sliding_window", true);
  EXPECT_EQ(written(o), json::Value(json::Array{true, json::Array{"full_attention", "sliding_attention"}}));
  o.set("layer_types", json::Array{"sliding_attention", "full_attention"});
  EXPECT_EQ(written(o), json::Value(json::Array{true, json::Array{"sliding_attention", "full_attention"}}));
  o.erase("layer_types");
  o.set("max_window_layers", 2);
  EXPECT_EQ(written(o), none);
  o.set("max_window_layers", 0);
  o.set("sliding_window", nullptr);
  EXPECT_EQ(written(o), none);
}

TEST(Qwen2, WindowsOfAGgufFileNeedTheirLayers) {
  json::Object o = (*model_from_hf_config(small()))->gguf_metadata();
  const auto error = [&] { return model_from_gguf_metadata(o, true, 100).error().message; };
  o.set("qwen2.attention.sliding_window", 16);
  EXPECT_THAT(error(), HasSubstr("attention.sliding_window_pattern"));
  o.set("qwen2.attention.sliding_window_pattern", json::Array{true});
  EXPECT_THAT(error(), HasSubstr("each of the 2 layers"));
  o.set("qwen2.attention.sliding_window_pattern", json::Array{true, 1});
  EXPECT_THAT(error(), HasSubstr("true and false"));
}

}  // namespace
}  // namespace qw::models
