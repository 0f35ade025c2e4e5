// Qwen3-Next, Qwen3-Coder-Next: gated delta networks and attention with a gate, three to one, over mixtures of experts.
#pragma once

#include "models/internal/hybrid.h"

namespace qw::models::qwen3_next {

class Qwen3Next final : public HybridDecoder {
 public:
  explicit Qwen3Next(HybridConfig config);
};

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config);
Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab);

}  // namespace qw::models::qwen3_next
