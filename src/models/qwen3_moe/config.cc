#include "models/internal/config_reader.h"
#include "models/qwen3_moe/qwen3_moe.h"

namespace qw::models::qwen3_moe {
namespace {

constexpr MixtureDefaults kDefaults{.architecture = "qwen3_moe",
                                    .gguf_architecture = "qwen3moe",
                                    .head_dim = 128,
                                    .shared = false,
                                    .gguf_normalise = true,
                                    .windows = Windows::kAll};

}  // namespace

Qwen3Moe::Qwen3Moe(MixtureConfig config) : MixtureDecoder(std::move(config), {.biases = false, .head_norms = true}) {}

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config) {
  QW_ASSIGN(MixtureConfig c, read_mixture_hf(config, kDefaults));
  const ConfigReader in(config, "");
  QW_ASSIGN(const bool bias, in.boolean("attention_bias", false));
  if (bias) return in.bad("attention_bias", "biases on the projections are not supported");
  return std::make_unique<Qwen3Moe>(std::move(c));
}

Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab) {
  QW_ASSIGN(MixtureConfig c, read_mixture_gguf(metadata, kDefaults, has_output_weight, vocab));
  return std::make_unique<Qwen3Moe>(std::move(c));
}

json::Object Qwen3Moe::hf_config() const {
  json::Object o = write_mixture_hf(mixture_, "Qwen3MoeForCausalLM");
  o.set("attention_bias", false);
  return o;
}

json::Object Qwen3Moe::gguf_metadata() const { return write_mixture_gguf(mixture_, kDefaults); }

}  // namespace qw::models::qwen3_moe
