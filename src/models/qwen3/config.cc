#include "models/internal/config_reader.h"
#include "models/qwen3/qwen3.h"

namespace qw::models::qwen3 {

namespace {
constexpr std::int32_t kDefaultHeadDim = 128;  // of a config.json without head_dim; every published size has 128
}

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config) {
  QW_ASSIGN(DenseConfig c, read_dense_hf(config, "qwen3", kDefaultHeadDim, Windows::kFromLayer));
  const ConfigReader in(config, "");
  QW_ASSIGN(const bool bias, in.boolean("attention_bias", false));
  if (bias) return in.bad("attention_bias", "biases on the projections are not supported");
  return std::make_unique<Qwen3>(std::move(c));
}

Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab) {
  QW_ASSIGN(DenseConfig c, read_dense_gguf(metadata, "qwen3", has_output_weight, vocab, Windows::kFromLayer));
  return std::make_unique<Qwen3>(std::move(c));
}

json::Object Qwen3::hf_config() const {
  json::Object o = write_dense_hf(config_, "Qwen3ForCausalLM");
  o.set("attention_bias", false);
  return o;
}

json::Object Qwen3::gguf_metadata() const { return write_dense_gguf(config_); }

}  // namespace qw::models::qwen3
