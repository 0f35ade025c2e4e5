#include "models/qwen4_exp/qwen4_exp.h"

#include <gmock/gmock.h>

#include <set>

#include "models/internal/names.h"
#include "models/load.h"

namespace qw::models::qwen4_exp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The released configuration, as published.
json::Object released() {
  json::Object o{{"model_type", "qwen4_exp_text"}, {"vocab_size", 248320},        {"hidden_size", 2560},
                 {"num_hidden_layers", 48},        {"num_attention_heads", 24},   {"num_key_value_heads", 2},
                 {"head_dim", 256},                {"max_position_embeddings", 262144}, {"tie_word_embeddings", false},
                 {"full_attention_interval", 4},   {"linear_num_key_heads", 16},  {"linear_num_value_heads", 48},
                 {"linear_key_head_dim", 128},     {"linear_value_head_dim", 128}, {"linear_conv_kernel_dim", 4},
                 {"num_experts", 512},             {"num_experts_per_tok", 10},   {"moe_intermediate_size", 640},
                 {"shared_expert_intermediate_size", 640}, {"output_gate_type", "sigmoid"}, {"hc_count", 4},
                 {"hc_lowrank", 320},              {"indexer_n_heads", 4},        {"indexer_kv_heads", 1},
                 {"indexer_head_dim", 128},        {"indexer_budget", 2048},      {"indexer_compress_ratio", 4},
                 {"ple_layer_ids", json::Array{2}}, {"ple_embed_dim", 2560},      {"ple_conv_kernel_size", 4},
                 {"ngram_size", 3},                {"heads_per_ngram", 8},        {"split_ngram_parts", 128},
                 {"eos_token_id", 248044}};
  o.set("rope_parameters", json::Object{{"rope_type", "default"}, {"rope_theta", 10000000}, {"partial_rotary_factor", 0.25},
                                        {"mrope_section", json::Array{11, 11, 10}}});
  return o;
}

TEST(Qwen4Exp, TheHashIsThatOfTheRelease) {
  const auto c = read_hf(released());
  ASSERT_TRUE(c) << c.error().message;
  ASSERT_EQ(c->ngrams.size(), 1u);
  const ops::NgramSpec& n = c->ngrams[0];
  EXPECT_THAT(n.factors, ElementsAre(23703573157769u, 20109073645365u, 8052911324071u));
  EXPECT_THAT(n.sizes, ElementsAre(20000003, 20000023, 20000033, 20000047, 20000059, 20000063, 20000069, 20000077, 20000081,
                                           20000093, 20000107, 20000147, 20000153, 20000159, 20000161, 20000171));
  EXPECT_EQ(n.offsets.back() + n.sizes.back(), 320001446);
  EXPECT_EQ(n.rows_each, 2500012);
  EXPECT_EQ(n.dim, 160);
}

// 125 billion in the model and 51 billion in the table, as published.
TEST(Qwen4Exp, CountsTheParametersOfTheRelease) {
  const auto model = from_hf_config(released());
  ASSERT_TRUE(model) << model.error().message;
  std::int64_t body = 0, table = 0;
  for (const ParameterSpec& p : (*model)->parameters())
    (p.hf_name.find("ngram_embedding") == std::string::npos ? body : table) += p.shape.elements();
  EXPECT_NEAR(static_cast<double>(body), 125e9, 1e9);
  EXPECT_EQ(table, std::int64_t{320001536} * 160);
}

// The release has 1658 tensors. Its vision tower of 27 layers has 12 in each and 9 around them; what is left is the language model's
// with one layer that drafts, if that has an indexer and a mixer of its own.
TEST(Qwen4Exp, TensorsAreAsManyAsTheReleaseHas) {
  json::Object o = released();
  o.set("mtp_num_hidden_layers", 1);
  const auto model = from_hf_config(o);
  ASSERT_TRUE(model) << model.error().message;
  std::set<std::string> names;
  for (const ParameterSpec& p : (*model)->parameters()) names.insert(p.hf_fused.empty() ? p.hf_name : p.hf_fused);
  for (const auto& numbers : (*model)->traits().integers) names.insert(numbers.hf_name);
  EXPECT_EQ(names.size(), 1658u - (27 * 12 + 9));
  EXPECT_EQ((*model)->traits().draft_layers, 1);
  EXPECT_EQ((*model)->traits().draft_width, 4 * 2560);
}

// llama.cpp reads these as u64 only and leaves the drafting layer out.
TEST(Qwen4Exp, GgufKeysAreThoseOfLlamaCpp) {
  json::Object o = released();
  o.set("mtp_num_hidden_layers", 1);
  const auto model = from_hf_config(o);
  const formats::GgufMetadata keys = gguf_keys(**model);
  for (const char* key : {"qwen4exp.ple.layer_multipliers", "qwen4exp.ple.head_offsets", "qwen4exp.ple.head_vocab_sizes"}) {
    ASSERT_NE(keys.find(key), nullptr) << key;
    EXPECT_EQ(keys.find(key)->element, formats::GgufType::kU64) << key;
  }
  EXPECT_EQ(keys.find("qwen4exp.nextn_predict_layers"), nullptr);
  EXPECT_EQ(keys.find("qwen4exp.block_count")->value.as_int(), 48);
  for (const ParameterSpec& p : (*model)->parameters()) EXPECT_EQ(p.gguf_none, p.hf_name.starts_with("mtp."));
}

// Sizes go on from layer to layer, factors have a seed of their own.
TEST(Qwen4Exp, SeveralLayersMayHaveNgrams) {
  json::Object o = released();
  o.set("ple_layer_ids", json::Array{6, 2});
  const auto c = read_hf(o);
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_THAT(c->ple_layers, ElementsAre(5, 1));
  EXPECT_EQ(c->ngrams[0].sizes.front(), 20000003);
  EXPECT_GT(c->ngrams[1].sizes.front(), c->ngrams[0].sizes.back());
  EXPECT_EQ(c->ngrams[1].offsets.front(), 0);
  o.set("seed", 1234 + 10007);
  EXPECT_EQ(c->ngrams[1].factors, read_hf(o)->ngrams[0].factors);
  const auto again = read_gguf(write_gguf(*c), true, 248320);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->ple_layers, c->ple_layers);
  for (const int i : {0, 1}) {
    EXPECT_EQ(again->ngrams[static_cast<std::size_t>(i)].sizes, c->ngrams[static_cast<std::size_t>(i)].sizes);
    EXPECT_EQ(again->ngrams[static_cast<std::size_t>(i)].factors, c->ngrams[static_cast<std::size_t>(i)].factors);
  }
  EXPECT_EQ(json::Value(write_hf(*again)), json::Value(write_hf(*c)));
}

// Files made elsewhere state the numbers of the hash and not what they come from.
TEST(Qwen4Exp, WhatTheHashComesFromIsSought) {
  json::Object o = released();
  o.set("seed", 77);
  o.set("ngram_vocab_size_base", 100);
  o.set("make_ngram_vocab_size_divisible_by", 24);
  o.set("split_ngram_parts", 1);
  const auto c = read_hf(o);
  ASSERT_TRUE(c) << c.error().message;
  json::Object metadata = write_gguf(*c);
  for (const char* own : {"seed", "vocab_size_base", "divisor"}) metadata.erase(std::string("qwen4exp.ple.") + own);
  metadata.set(std::string(kGgufRows) + gguf_table(0), c->ngrams[0].rows_each);
  const auto again = read_gguf(metadata, true, 248320);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->seed, 77);
  EXPECT_EQ(again->ngrams[0].sizes, c->ngrams[0].sizes);
  EXPECT_EQ(again->ngrams[0].rows_each, c->ngrams[0].rows_each);
  const auto folder = read_hf(write_hf(*again));
  ASSERT_TRUE(folder) << folder.error().message;
  EXPECT_EQ(folder->ngrams[0].factors, c->ngrams[0].factors);
  EXPECT_EQ(folder->ngrams[0].sizes, c->ngrams[0].sizes);
  EXPECT_EQ(folder->ngrams[0].rows_each, c->ngrams[0].rows_each);
}

TEST(Qwen4Exp, TheContextIsTheFiles) {
  const auto model = from_hf_config(released());
  EXPECT_EQ((*model)->traits().context, 262144);
  EXPECT_EQ((*model)->traits().index.dim, 128);
  EXPECT_EQ((*model)->traits().index.ratio, 4);
  EXPECT_EQ((*model)->traits().index.blocks, 512);
  ASSERT_EQ((*model)->traits().notices.size(), 1u);
  EXPECT_THAT((*model)->traits().notices[0], HasSubstr("experimental"));
  EXPECT_EQ((*model)->hf_config().find("max_position_embeddings")->as_int(), 262144);
  EXPECT_EQ((*model)->gguf_metadata().find("qwen4exp.context_length")->as_int(), 262144);
}

TEST(Qwen4Exp, ErrorsNameTheKey) {
  const auto error = [](const char* key, json::Value value) {
    json::Object o = released();
    o.set(key, std::move(value));
    const auto model = from_hf_config(o);
    return model ? std::string("accepted") : model.error().message;
  };
  EXPECT_THAT(error("hc_count", 1), HasSubstr("hc_count"));
  EXPECT_THAT(error("indexer_n_heads", nullptr), HasSubstr("indexer_n_heads: missing"));
  EXPECT_THAT(error("indexer_kv_heads", 2), HasSubstr("indexer_kv_heads"));
  EXPECT_THAT(error("indexer_budget", 2047), HasSubstr("indexer_budget"));
  EXPECT_THAT(error("indexer_head_dim", 63), HasSubstr("indexer_head_dim: keys of 63 components"));
  EXPECT_THAT(error("ple_layer_ids", json::Array{2, 2}), HasSubstr("ple_layer_ids: names a layer twice"));
  EXPECT_THAT(error("ple_layer_ids", json::Array{49}), HasSubstr("ple_layer_ids"));
  EXPECT_THAT(error("ple_embed_dim", 2561), HasSubstr("ple_embed_dim"));
  EXPECT_THAT(error("split_ngram_parts", 129), HasSubstr("split_ngram_parts"));
  EXPECT_THAT(error("eos_token_id", nullptr), HasSubstr("eos_token_id"));
  EXPECT_THAT(error("eos_token_id", 248320), HasSubstr("eos_token_id"));
  EXPECT_THAT(error("output_gate_type", "tanh"), HasSubstr("output_gate_type"));
  EXPECT_EQ(error("eos_token_id", json::Array{248046, 248044}), "accepted");
}

// Numbers of a file are used, whatever rule made them, as far as they can be.
TEST(Qwen4Exp, NumbersOfFilesAreUsed) {
  const auto model = from_hf_config(released());
  const json::Object metadata = (*model)->gguf_metadata();
  const auto with = [&](const char* key, std::size_t at, std::int64_t value) {
    json::Object o = metadata;
    json::Array numbers = o.find(key)->as_array();
    numbers[at] = json::Value(value);
    o.set(key, numbers);
    return read_gguf(o, true, 248320);
  };
  const char *factors = "qwen4exp.ple.layer_multipliers", *sizes = "qwen4exp.ple.head_vocab_sizes", *offsets = "qwen4exp.ple.head_offsets";
  ASSERT_TRUE(with(factors, 1, 3));
  EXPECT_EQ(with(factors, 1, 3)->ngrams[0].factors[1], 3u);
  EXPECT_THAT(with(factors, 1, 0).error().message, HasSubstr("factors of n-grams"));
  EXPECT_THAT(with(factors, 1, INT64_MAX).error().message, HasSubstr("factors of n-grams"));
  ASSERT_TRUE(with(sizes, 2, 7));
  EXPECT_THAT(with(sizes, 2, 0).error().message, HasSubstr("rows of n-grams"));
  EXPECT_THAT(with(offsets, 15, 320001446).error().message, HasSubstr("they end behind the table"));
  EXPECT_THAT(with(offsets, 0, -1).error().message, HasSubstr("rows of n-grams"));
  json::Object few = metadata;
  few.set(sizes, json::Array{3});
  EXPECT_THAT(read_gguf(few, true, 248320).error().message, HasSubstr("must hold 16 numbers"));
  // The same of the tensors of a folder.
  json::Object o = released();
  json::Object tensors{{"model.language_model.layers.1.ple.ple_embedding.layer_multipliers", json::Array{5, 7, 9}}};
  o.set(std::string(kHfIntegers), tensors);
  const auto c = read_hf(o);
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_THAT(c->ngrams[0].factors, ElementsAre(5u, 7u, 9u));
  tensors.set("model.language_model.layers.1.ple.ple_embedding.layer_multipliers", json::Array{5, 7});
  o.set(std::string(kHfIntegers), tensors);
  EXPECT_THAT(read_hf(o).error().message, HasSubstr("factors of n-grams: must hold 3 numbers"));
}

}  // namespace
}  // namespace qw::models::qwen4_exp
