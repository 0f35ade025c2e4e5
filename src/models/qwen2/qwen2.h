// Qwen2: dense decoder with biases on q, k and v (Qwen1.5, Qwen2, Qwen2.5, QwQ).
#pragma once

#include <vector>

#include "models/internal/dense.h"
#include "models/model.h"

namespace qw::models::qwen2 {

struct Layer {
  ops::Weight attention_norm;
  ops::Weight q, q_bias, k, k_bias, v, v_bias, o;
  ops::Weight ffn_norm;
  ops::Weight gate, up, down;
};

struct Weights {
  explicit Weights(const DenseConfig& config);
  ParameterTable table;
  ops::Weight embedding, norm, head;  // head == embedding when tied
  std::vector<Layer> layers;
};

class Qwen2 final : public Model {
 public:
  explicit Qwen2(DenseConfig config);
  const ModelTraits& traits() const override { return config_.traits; }
  const std::vector<ParameterSpec>& parameters() const override { return weights_.table.specs(); }
  ops::Weight embedding() const override { return weights_.embedding; }
  ops::Weight head() const override { return weights_.head; }
  void forward(ops::Executor& ex) const override;
  json::Object hf_config() const override;
  json::Object gguf_metadata() const override;

 private:
  DenseConfig config_;
  Weights weights_;
};

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config);
Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab);

}  // namespace qw::models::qwen2
