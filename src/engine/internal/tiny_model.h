// Tiny random models of every kind of layer, for tests.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "engine/loaded_model.h"
#include "ops/running_executor.h"
#include "tensor/blocks.h"

namespace qw::engine {

inline constexpr std::int64_t kTinyVocab = 96;

inline std::unique_ptr<models::Model> tiny_model(const std::string& type, int draft_layers = 0) {
  const auto config = json::parse(R"({"model_type":")" + type + R"(","vocab_size":96,"hidden_size":64,
    "intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":32,
    "max_position_embeddings":128,"rms_norm_eps":1e-6,"rope_theta":10000.0,"tie_word_embeddings":true,
    "hidden_act":"silu","full_attention_interval":2,"linear_num_key_heads":2,"linear_num_value_heads":4,
    "linear_key_head_dim":16,"linear_value_head_dim":16,"num_experts":4,"num_experts_per_tok":2,
    "moe_intermediate_size":32,"shared_expert_intermediate_size":32,"hc_count":2,"hc_lowrank":32,"indexer_n_heads":3,
    "indexer_kv_heads":1,"indexer_head_dim":32,"indexer_budget":12,"indexer_compress_ratio":3,"mtp_num_hidden_layers":)" + std::to_string(draft_layers) + "}");
  EXPECT_TRUE(config) << config.error().message;
  auto model = models::model_from_hf_config(config->as_object());
  EXPECT_TRUE(model) << model.error().message;
  return std::move(*model);
}

struct Weights {
  std::vector<tensor::Tensor> owners;
  std::vector<tensor::ConstView> views;
};
// Large deviations make a sharp, history-dependent distribution out of a tiny network.
inline Weights random_weights(const models::Model& model, tensor::DType type) {
  Weights w;
  std::uint64_t others = 0;  // layers that draft leave the model as it is without them
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    const models::ParameterSpec& p = model.parameters()[i];
    base::Rng rng(p.draft ? 78 : 77, p.draft ? i : others++);
    std::vector<float> values(static_cast<std::size_t>(p.shape.elements()));
    for (float& v : values) v = p.is_norm ? 1.0f : static_cast<float>(rng.next_normal() * 0.15);
    const bool taps = p.hf_name.ends_with("conv1d.weight");  // files keep them in float
    w.owners.emplace_back(p.shape.rank() == 2 && !taps ? type : tensor::DType::kF32, p.shape);
    const tensor::View view = w.owners.back().view();
    for (std::int64_t r = 0; r < p.shape.rows(); ++r)
      tensor::encode_row(view.dtype, values.data() + r * p.shape.back(), p.shape.back(),
                         view.data + r * tensor::row_bytes(view.dtype, p.shape.back()));
    w.views.push_back(view);
  }
  return w;
}

inline LoadOptions small_options() {
  LoadOptions o;
  o.threads = 1;
  o.block_tokens = 8;
  o.cache_tokens = 512;
  o.engine.max_rows = 24;
  o.engine.max_sequences = 6;
  o.engine.growth_tokens = 8;
  return o;
}

inline std::unique_ptr<LoadedModel> load(const std::string& arch, tensor::DType type, const LoadOptions& options) {
  auto model = tiny_model(arch, options.draft_layers ? 1 : 0);
  const Weights weights = random_weights(*model, type);
  auto loaded = LoadedModel::create(std::move(model), weights.views, options);
  EXPECT_TRUE(loaded) << loaded.error().message;
  return std::move(*loaded);
}

// Of the query and down projections.
inline ops::LowRankAdapter random_adapter(const models::Model& model, std::uint64_t seed, std::int64_t rank) {
  ops::LowRankAdapter adapter;
  std::uint64_t others = 0;  // the same whether or not there are layers that draft
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    const models::ParameterSpec& p = model.parameters()[i];
    if (p.draft) continue;
    const std::uint64_t number = others++;
    if (p.shape.rank() != 2 || p.hf_name.find(".experts.") != std::string::npos) continue;
    if (p.hf_name.find("q_proj") == std::string::npos && p.hf_name.find("down_proj") == std::string::npos) continue;
    ops::LowRankChange c{{static_cast<std::int32_t>(i)}, false, tensor::Tensor(tensor::DType::kF32, {rank, p.shape[1]}),
                         tensor::Tensor(tensor::DType::kF32, {p.shape[0], rank}), 0.5f, {}};
    base::Rng rng(seed, number);
    for (std::int64_t k = 0; k < c.a.shape().elements(); ++k) c.a.f32()[k] = static_cast<float>(rng.next_normal() * 0.3);
    for (std::int64_t k = 0; k < c.b.shape().elements(); ++k) c.b.f32()[k] = static_cast<float>(rng.next_normal() * 0.3);
    if (seed % 2 == 1) {
      c.gain.resize(static_cast<std::size_t>(p.shape[0]));
      for (float& g : c.gain) g = 0.8f + 0.4f * rng.next_float();
    }
    adapter.changes.push_back(std::move(c));
  }
  return adapter;
}

}  // namespace qw::engine
