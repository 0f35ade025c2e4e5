// Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder: decoder with a mixture of experts.
#pragma once

#include "models/internal/mixture.h"

namespace qw::models::qwen3_moe {

class Qwen3Moe final : public MixtureDecoder {
 public:
  explicit Qwen3Moe(MixtureConfig config);
  json::Object hf_config() const override;
  json::Object gguf_metadata() const override;
};

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config);
Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab);

}  // namespace qw::models::qwen3_moe
