// Qwen1.5-MoE and Qwen2-57B-A14B: decoder with a mixture of experts.
#pragma once

#include "models/internal/mixture.h"

namespace qw::models::qwen2_moe {

class Qwen2Moe final : public MixtureDecoder {
 public:
  explicit Qwen2Moe(MixtureConfig config);
  json::Object hf_config() const override;
  json::Object gguf_metadata() const override;
};

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config);
Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab);

}  // namespace qw::models::qwen2_moe
