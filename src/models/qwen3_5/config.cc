#include "models/qwen3_5/qwen3_5.h"

namespace qw::models::qwen3_5 {
namespace {

constexpr HybridDefaults kDefaults{
    .names = {.architecture = "qwen3_5", .gguf_architecture = "qwen35", .head_dim = 256},
    .mixture = false,
    .fused_inputs = false,
    .sections = true,
    .class_name = "Qwen3_5ForCausalLM",
    .hf_type = "qwen3_5_text"};

}  // namespace

Qwen35::Qwen35(HybridConfig config) : HybridDecoder(std::move(config), kDefaults) {}

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config) {
  QW_ASSIGN(HybridConfig c, read_hybrid_hf(config, kDefaults));
  return std::make_unique<Qwen35>(std::move(c));
}

Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab) {
  QW_ASSIGN(HybridConfig c, read_hybrid_gguf(metadata, kDefaults, has_output_weight, vocab));
  return std::make_unique<Qwen35>(std::move(c));
}

}  // namespace qw::models::qwen3_5
