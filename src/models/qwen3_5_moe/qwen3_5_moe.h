// Qwen3.5, 3.6 and 3.8 with mixtures of experts, the language model alone.
#pragma once

#include "models/internal/hybrid.h"

namespace qw::models::qwen3_5_moe {

class Qwen35Moe final : public HybridDecoder {
 public:
  explicit Qwen35Moe(HybridConfig config);
};

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config);
Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab);

}  // namespace qw::models::qwen3_5_moe
