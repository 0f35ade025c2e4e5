#include "models/qwen3_5_moe/qwen3_5_moe.h"

namespace qw::models::qwen3_5_moe {
namespace {

constexpr HybridDefaults kDefaults{
    .names = {.architecture = "qwen3_5_moe", .gguf_architecture = "qwen35moe", .head_dim = 256, .shared = true, .gguf_normalise = true},
    .mixture = true,
    .fused_inputs = false,
    .sections = true,
    .class_name = "Qwen3_5MoeForCausalLM",
    .hf_type = "qwen3_5_moe_text"};

}  // namespace

Qwen35Moe::Qwen35Moe(HybridConfig config) : HybridDecoder(std::move(config), kDefaults) {}

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config) {
  QW_ASSIGN(HybridConfig c, read_hybrid_hf(config, kDefaults));
  return std::make_unique<Qwen35Moe>(std::move(c));
}

Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab) {
  QW_ASSIGN(HybridConfig c, read_hybrid_gguf(metadata, kDefaults, has_output_weight, vocab));
  return std::make_unique<Qwen35Moe>(std::move(c));
}

}  // namespace qw::models::qwen3_5_moe
