// Released sizes: the published numbers of each configuration give the count of parameters they are known by; and checkpoints of
// several senses give their language model. Qwen3-Next is counted in qwen3_next_test.cc.
#include <gmock/gmock.h>

#include "models/model.h"

namespace qw::models {
namespace {

using ::testing::HasSubstr;

std::int64_t count(const json::Object& config) {
  const auto model = model_from_hf_config(config);
  if (!model) throw std::runtime_error(model.error().message);
  std::int64_t n = 0;
  for (const auto& p : (*model)->parameters()) n += p.shape.elements();
  return n;
}

struct Size {
  const char *name, *type;
  std::int64_t width, layers, heads, kv, ffn, vocab;
  bool tied;
  std::int64_t parameters;
};

json::Object config_of(const Size& s) {
  json::Object o{{"model_type", s.type},           {"hidden_size", s.width},     {"num_hidden_layers", s.layers}, {"num_attention_heads", s.heads},
                 {"num_key_value_heads", s.kv},    {"intermediate_size", s.ffn}, {"vocab_size", s.vocab},         {"tie_word_embeddings", s.tied}};
  if (std::string_view(s.type) == "qwen3") o.set("head_dim", 128);
  return o;
}

// Embeddings are counted once where they are tied.
constexpr Size kDense[] = {
    {"Qwen1.5-0.5B", "qwen2", 1024, 24, 16, 16, 2816, 151936, true, 463987712},
    {"Qwen1.5-1.8B", "qwen2", 2048, 24, 16, 16, 5504, 151936, false, 1836828672},
    {"Qwen1.5-4B", "qwen2", 2560, 40, 20, 20, 6912, 151936, false, 3950369280},
    {"Qwen1.5-7B", "qwen2", 4096, 32, 32, 32, 11008, 151936, false, 7721324544},
    {"Qwen1.5-14B", "qwen2", 5120, 40, 40, 40, 13696, 152064, false, 14167290880},
    {"Qwen1.5-32B", "qwen2", 5120, 64, 40, 8, 27392, 152064, false, 32512218112},
    {"Qwen1.5-72B", "qwen2", 8192, 80, 64, 64, 24576, 152064, false, 72287920128},
    {"Qwen1.5-110B", "qwen2", 8192, 80, 64, 8, 49152, 152064, false, 111209914368},
    {"CodeQwen1.5-7B", "qwen2", 4096, 32, 32, 4, 13440, 92416, false, 7250284544},
    {"Qwen2-0.5B, Qwen2.5-0.5B", "qwen2", 896, 24, 14, 2, 4864, 151936, true, 494032768},
    {"Qwen2-1.5B, Qwen2.5-1.5B", "qwen2", 1536, 28, 12, 2, 8960, 151936, true, 1543714304},
    {"Qwen2.5-3B", "qwen2", 2048, 36, 16, 2, 11008, 151936, true, 3085938688},
    {"Qwen2-7B, Qwen2.5-7B", "qwen2", 3584, 28, 28, 4, 18944, 152064, false, 7615616512},
    {"Qwen2.5-14B", "qwen2", 5120, 48, 40, 8, 13824, 152064, false, 14770033664},
    {"Qwen2.5-32B, QwQ-32B", "qwen2", 5120, 64, 40, 8, 27648, 152064, false, 32763876352},
    {"Qwen2-72B, Qwen2.5-72B", "qwen2", 8192, 80, 64, 8, 29568, 152064, false, 72706203648},
    {"Qwen3-0.6B", "qwen3", 1024, 28, 16, 8, 3072, 151936, true, 596049920},
    {"Qwen3-1.7B", "qwen3", 2048, 28, 16, 8, 6144, 151936, true, 1720574976},
    {"Qwen3-4B", "qwen3", 2560, 36, 32, 8, 9728, 151936, true, 4022468096},
    {"Qwen3-8B", "qwen3", 4096, 36, 32, 8, 12288, 151936, false, 8190735360},
    {"Qwen3-14B", "qwen3", 5120, 40, 40, 8, 17408, 151936, false, 14768307200},
    {"Qwen3-32B", "qwen3", 5120, 64, 64, 8, 25600, 151936, false, 32762123264},
};

TEST(Published, DenseSizesCount) {
  for (const Size& s : kDense) EXPECT_EQ(count(config_of(s)), s.parameters) << s.name;
}

TEST(Published, MixturesCount) {
  const auto mixture = [](Size s, std::int64_t experts, std::int64_t chosen, std::int64_t width, std::int64_t shared) {
    json::Object o = config_of(s);
    o.set("num_experts", experts);
    o.set("num_experts_per_tok", chosen);
    o.set("moe_intermediate_size", width);
    if (shared > 0) o.set("shared_expert_intermediate_size", shared);
    return count(o);
  };
  EXPECT_EQ(mixture({"", "qwen2_moe", 2048, 24, 16, 16, 5632, 151936, false, 0}, 60, 4, 1408, 5632), 14315784192);   // Qwen1.5-MoE-A2.7B
  EXPECT_NEAR(static_cast<double>(mixture({"", "qwen2_moe", 3584, 28, 28, 4, 18944, 151936, false, 0}, 64, 8, 2560, 20480)), 57.41e9, 1e7);  // Qwen2-57B-A14B
  EXPECT_EQ(mixture({"", "qwen3_moe", 2048, 48, 32, 4, 6144, 151936, false, 0}, 128, 8, 768, 0), 30532122624);       // Qwen3-30B-A3B
  EXPECT_EQ(mixture({"", "qwen3_moe", 4096, 94, 64, 4, 12288, 151936, false, 0}, 128, 8, 1536, 0), 235093634560);    // Qwen3-235B-A22B
  EXPECT_EQ(mixture({"", "qwen3_moe", 6144, 62, 96, 8, 8192, 151936, false, 0}, 160, 8, 2560, 0), 480154875392);     // Qwen3-Coder-480B-A35B
}

struct HybridSize {
  const char* name;
  std::int64_t width, layers, heads, kv, delta_heads, ffn, experts, chosen, expert_width;
  bool tied;
  std::int64_t parameters;  // of the language model, without the layer that drafts
};

constexpr HybridSize kHybrid[] = {
    {"Qwen3.5-0.8B", 1024, 24, 8, 2, 16, 3584, 0, 0, 0, true, 752393024},
    {"Qwen3.5-2B", 2048, 24, 8, 2, 16, 6144, 0, 0, 0, true, 1881825088},
    {"Qwen3.5-4B", 2560, 32, 16, 4, 32, 9216, 0, 0, 0, true, 4205751296},
    {"Qwen3.5-9B", 4096, 32, 16, 4, 32, 12288, 0, 0, 0, false, 8953803264},
    {"Qwen3.5-27B, Qwen3.6-27B, Qwen3.8-27B", 5120, 64, 24, 4, 48, 17408, 0, 0, 0, false, 26895998464},
    {"Qwen3.5-35B-A3B, Qwen3.6-35B-A3B", 2048, 40, 16, 2, 32, 0, 256, 8, 512, false, 34660610688},
    {"Qwen3.5-122B-A10B", 3072, 48, 32, 2, 64, 0, 256, 8, 1024, false, 122111526912},
    {"Qwen3.5-397B-A17B", 4096, 60, 32, 2, 64, 0, 512, 10, 1024, false, 396346350336},
    // With its drafting layer (26,378,027,520) the published 2,446,182,725,504.
    {"Qwen3.8-2.4T-A95B", 8192, 92, 64, 4, 128, 0, 512, 10, 2048, false, 2446182725504 - 26378027520},
};

TEST(Published, HybridsCount) {
  for (const HybridSize& s : kHybrid) {
    json::Object o{{"model_type", s.experts > 0 ? "qwen3_5_moe_text" : "qwen3_5_text"}, {"vocab_size", 248320}, {"hidden_size", s.width},
                   {"num_hidden_layers", s.layers}, {"num_attention_heads", s.heads}, {"num_key_value_heads", s.kv}, {"head_dim", 256},
                   {"linear_num_key_heads", 16}, {"linear_num_value_heads", s.delta_heads}, {"tie_word_embeddings", s.tied}};
    if (s.experts == 0) o.set("intermediate_size", s.ffn);
    for (const char* key : {"moe_intermediate_size", "shared_expert_intermediate_size"})
      if (s.experts > 0) o.set(key, s.expert_width);
    if (s.experts > 0) o.set("num_experts", s.experts), o.set("num_experts_per_tok", s.chosen);
    EXPECT_EQ(count(o), s.parameters) << s.name;
    if (s.layers != 92) continue;
    o.set("mtp_num_hidden_layers", 1);
    EXPECT_EQ(count(o), 2446182725504) << "with its drafting layer, as published";
  }
}

TEST(Published, FirstGenerationCounts) {
  const auto first = [](std::int64_t width, std::int64_t layers, std::int64_t heads, std::int64_t twice, std::int64_t vocab) {
    return count({{"model_type", "qwen"}, {"hidden_size", width}, {"num_hidden_layers", layers}, {"num_attention_heads", heads},
                  {"intermediate_size", twice}, {"vocab_size", vocab}, {"kv_channels", 128}, {"layer_norm_epsilon", 1e-6},
                  {"rotary_emb_base", 10000}, {"seq_length", 2048}});
  };
  EXPECT_EQ(first(2048, 24, 16, 11008, 151936), 1836828672);    // Qwen-1.8B
  EXPECT_EQ(first(4096, 32, 32, 22016, 151936), 7721324544);    // Qwen-7B
  EXPECT_EQ(first(5120, 40, 40, 27392, 152064), 14167290880);   // Qwen-14B
  EXPECT_EQ(first(8192, 80, 64, 49152, 152064), 72287920128);   // Qwen-72B
}

TEST(Senses, TheLanguageModelIsFound) {
  const json::Object plain = config_of(kDense[16]);
  const auto language = [](const json::Object& config) {
    const auto model = model_from_hf_config(config);
    return model ? (*model)->hf_config() : json::Object{{"error", model.error().message}};
  };
  const json::Value wanted(language(plain));
  json::Object text = plain;
  text.set("model_type", "qwen3_vl_text");
  text.erase("tie_word_embeddings");
  text.set("rope_scaling", json::Object{{"rope_type", "default"}, {"mrope_interleaved", true}, {"mrope_section", json::Array{24, 20, 20}}});
  const json::Object whole{{"model_type", "qwen3_vl"}, {"tie_word_embeddings", true}, {"text_config", text}, {"vision_config", json::Object{}}};
  EXPECT_EQ(json::Value(language(whole)), wanted);
  EXPECT_EQ((*model_from_hf_config(whole))->traits().left_aside[0].what, "the vision tower");
  json::Object flat = config_of(kDense[10]);
  const json::Value older(language(flat));
  flat.set("model_type", "qwen2_vl");
  flat.set("rope_scaling", json::Object{{"type", "mrope"}, {"mrope_section", json::Array{16, 24, 24}}});
  EXPECT_EQ(json::Value(language(flat)), older);
  json::Object metadata = (*model_from_hf_config(plain))->gguf_metadata(), renamed;
  for (const auto& [key, value] : metadata) renamed.set(key.starts_with("qwen3.") ? "qwen3vl." + key.substr(6) : std::string(key), value);
  renamed.set("general.architecture", "qwen3vl");
  const auto again = model_from_gguf_metadata(renamed, false, 151936);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(json::Value((*again)->hf_config()), wanted);
}

// Qwen2-Audio's released text_config says no more than this.
TEST(Senses, WhatQwen2AudioLeavesOutIsItsLibrarysDefault) {
  const json::Object text{{"model_type", "qwen2"}, {"intermediate_size", 11008}, {"max_position_embeddings", 8192}, {"vocab_size", 156032},
                          {"rope_theta", 10000}, {"rms_norm_eps", 1e-5}};
  const auto model = model_from_hf_config({{"model_type", "qwen2_audio"}, {"audio_config", json::Object{}}, {"text_config", text}});
  ASSERT_TRUE(model) << model.error().message;
  std::int64_t n = 0;
  for (const ParameterSpec& p : (*model)->parameters()) n += p.shape.elements();
  EXPECT_EQ(n, 7721324544 + 2 * 4096 * std::int64_t{156032 - 151936});  // Qwen-7B, with more tokens
}

TEST(Senses, OthersAreRefusedByName) {
  const auto error = [](json::Object config) {
    const auto model = model_from_hf_config(config);
    return model ? std::string("accepted") : model.error().message;
  };
  EXPECT_THAT(error({{"model_type", "qwen3_asr"}, {"text_config", json::Object{}}}), HasSubstr("\"qwen3_asr\" is not one of"));
  EXPECT_THAT(error({{"model_type", "qwen3_vl"}, {"text_config", 3}}), HasSubstr("text_config: must be an object"));
  EXPECT_THAT(error({{"model_type", "qwen3_omni_moe"}, {"thinker_config", "x"}}), HasSubstr("thinker_config: must be an object"));
}

}  // namespace
}  // namespace qw::models
