#include "models/qwen2/qwen2.h"

namespace qw::models::qwen2 {

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config) {
  QW_ASSIGN(DenseConfig c, read_dense_hf(config, "qwen2", 0, Windows::kFromLayer));
  return std::make_unique<Qwen2>(std::move(c));
}

Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab) {
  QW_ASSIGN(DenseConfig c, read_dense_gguf(metadata, "qwen2", has_output_weight, vocab, Windows::kFromLayer));
  return std::make_unique<Qwen2>(std::move(c));
}

json::Object Qwen2::hf_config() const { return write_dense_hf(config_, "Qwen2ForCausalLM"); }

json::Object Qwen2::gguf_metadata() const { return write_dense_gguf(config_); }

}  // namespace qw::models::qwen2
