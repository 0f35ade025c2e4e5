#include "models/qwen2_moe/qwen2_moe.h"

namespace qw::models::qwen2_moe {
namespace {

constexpr MixtureDefaults kDefaults{.architecture = "qwen2_moe",
                                    .gguf_architecture = "qwen2moe",
                                    .head_dim = 0,
                                    .shared = true,
                                    .gguf_normalise = false,
                                    .windows = Windows::kEveryOtherBefore};

}  // namespace

Qwen2Moe::Qwen2Moe(MixtureConfig config) : MixtureDecoder(std::move(config), {.biases = true, .head_norms = false}) {}

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config) {
  QW_ASSIGN(MixtureConfig c, read_mixture_hf(config, kDefaults));
  return std::make_unique<Qwen2Moe>(std::move(c));
}

Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab) {
  QW_ASSIGN(MixtureConfig c, read_mixture_gguf(metadata, kDefaults, has_output_weight, vocab));
  return std::make_unique<Qwen2Moe>(std::move(c));
}

json::Object Qwen2Moe::hf_config() const {
  return write_mixture_hf(mixture_, "Qwen2MoeForCausalLM");
}

json::Object Qwen2Moe::gguf_metadata() const { return write_mixture_gguf(mixture_, kDefaults); }

}  // namespace qw::models::qwen2_moe
