// Qwen, first generation: fused q, k, v with bias, multi-head attention, SwiGLU of half the stated width.
#pragma once

#include <vector>

#include "models/internal/decoder.h"

namespace qw::models::qwen {

struct Config {
  DenseConfig dense;            // ffn_width: the real one
  std::int64_t trained = 0;     // seq_length; 0: not stated
  bool dynamic_ntk = false, logn = false;
};

struct Layer {
  ops::Weight attention_norm, qkv, qkv_bias, o;
  ops::Weight ffn_norm, up, gate, down;  // files: w1, w2, c_proj
};

class Qwen final : public Decoder {
 public:
  explicit Qwen(Config config);
  void forward(ops::Executor& ex) const override;
  json::Object hf_config() const override;
  json::Object gguf_metadata() const override;

 private:
  Config stated_;
  std::vector<Layer> layers_;
};

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config);
Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab);

}  // namespace qw::models::qwen
