// Qwen3.5, 3.6 and 3.8, dense, the language model alone: gated delta networks and attention with a gate, three to one.
#pragma once

#include "models/internal/hybrid.h"

namespace qw::models::qwen3_5 {

class Qwen35 final : public HybridDecoder {
 public:
  explicit Qwen35(HybridConfig config);
};

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config);
Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab);

}  // namespace qw::models::qwen3_5
