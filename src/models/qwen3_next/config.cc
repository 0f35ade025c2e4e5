#include "models/qwen3_next/qwen3_next.h"

namespace qw::models::qwen3_next {
namespace {

constexpr HybridDefaults kDefaults{
    .names = {.architecture = "qwen3_next", .gguf_architecture = "qwen3next", .head_dim = 256, .shared = true, .gguf_normalise = true},
    .mixture = true,
    .fused_inputs = true,
    .sections = false,
    .class_name = "Qwen3NextForCausalLM",
    .hf_type = "qwen3_next"};

}  // namespace

Qwen3Next::Qwen3Next(HybridConfig config) : HybridDecoder(std::move(config), kDefaults) {}

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config) {
  QW_ASSIGN(HybridConfig c, read_hybrid_hf(config, kDefaults));
  return std::make_unique<Qwen3Next>(std::move(c));
}

Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab) {
  QW_ASSIGN(HybridConfig c, read_hybrid_gguf(metadata, kDefaults, has_output_weight, vocab));
  return std::make_unique<Qwen3Next>(std::move(c));
}

}  // namespace qw::models::qwen3_next
