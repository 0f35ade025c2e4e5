#include "models/qwen2/qwen2.h"

namespace qw::models::qwen2 {

Qwen2::Qwen2(DenseConfig config) : Decoder(std::move(config)) {
  const ModelTraits& t = config_.traits;
  for (int i = 0; i < t.layers; ++i) {
    const LayerNames names(i);
    Layer l;
    l.attention = attention_weights(table_, t, names, {.biases = true, .head_norms = false});
    l.ffn_norm = table_.norm(names.hf + "post_attention_layernorm.weight", names.gguf + "ffn_norm.weight", t.width);
    l.ffn = ffn_weights(table_, names.hf + "mlp.", names.gguf + "ffn_", ".weight", t.ffn_width, t.width);
    layers_.push_back(l);
  }
  end_table();
}

}  // namespace qw::models::qwen2
