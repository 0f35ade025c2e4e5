#include "models/qwen4_exp/qwen4_exp.h"

#include <gmock/gmock.h>

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
  EXPECT_THAT(c->ngrams.factors, ElementsAre(23703573157769u, 20109073645365u, 8052911324071u));
  EXPECT_THAT(c->ngrams.sizes, ElementsAre(20000003, 20000023, 20000033, 20000047, 20000059, 20000063, 20000069, 20000077, 20000081,
                                           20000093, 20000107, 20000147, 20000153, 20000159, 20000161, 20000171));
  EXPECT_EQ(c->ngrams.offsets.back() + c->ngrams.sizes.back(), 320001446);
  EXPECT_EQ(c->ngrams.rows_each, 2500012);
  EXPECT_EQ(c->ngrams.dim, 160);
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

TEST(Qwen4Exp, TheContextIsWhatIsComputedAndFilesKeepTheirs) {
  const auto model = from_hf_config(released());
  EXPECT_EQ((*model)->traits().context, 2051);
  ASSERT_EQ((*model)->traits().notices.size(), 2u);
  EXPECT_THAT((*model)->traits().notices[0], HasSubstr("2051 tokens, not 262144"));
  EXPECT_THAT((*model)->traits().notices[1], HasSubstr("experimental"));
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
  EXPECT_THAT(error("ple_layer_ids", json::Array{2, 6}), HasSubstr("ple_layer_ids: only one"));
  EXPECT_THAT(error("ple_layer_ids", json::Array{49}), HasSubstr("ple_layer_ids"));
  EXPECT_THAT(error("ple_embed_dim", 2561), HasSubstr("ple_embed_dim"));
  EXPECT_THAT(error("split_ngram_parts", 129), HasSubstr("split_ngram_parts"));
  EXPECT_THAT(error("eos_token_id", nullptr), HasSubstr("eos_token_id"));
  EXPECT_THAT(error("eos_token_id", 248320), HasSubstr("eos_token_id"));
  EXPECT_THAT(error("output_gate_type", "tanh"), HasSubstr("output_gate_type"));
  EXPECT_EQ(error("eos_token_id", json::Array{248046, 248044}), "accepted");
}

// Files whose numbers are not those of the rule would be hashed wrongly.
TEST(Qwen4Exp, GgufMustHaveTheNumbersOfTheRule) {
  const auto model = from_hf_config(released());
  json::Object metadata = (*model)->gguf_metadata();
  ASSERT_TRUE(from_gguf_metadata(metadata, true, 248320));
  json::Array factors = metadata.find("qwen4exp.ple.layer_multipliers")->as_array();
  factors[1] = json::Value(std::int64_t{3});
  metadata.set("qwen4exp.ple.layer_multipliers", factors);
  EXPECT_THAT(from_gguf_metadata(metadata, true, 248320).error().message, HasSubstr("ple.layer_multipliers"));
}

}  // namespace
}  // namespace qw::models::qwen4_exp
