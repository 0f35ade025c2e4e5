// Qwen3 (dense): decoder with RMS-normalised query and key heads, head width of its own, no biases.
#pragma once

#include <vector>

#include "models/internal/decoder.h"

namespace qw::models::qwen3 {

struct Layer {
  AttentionWeights attention;
  ops::Weight ffn_norm;
  FfnWeights ffn;
};

class Qwen3 final : public Decoder {
 public:
  explicit Qwen3(DenseConfig config);
  void forward(ops::Executor& ex) const override;
  json::Object hf_config() const override;
  json::Object gguf_metadata() const override;

 private:
  std::vector<Layer> layers_;
};

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config);
Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab);

}  // namespace qw::models::qwen3
