#include "models/qwen3/qwen3.h"

namespace qw::models::qwen3 {

using ops::Value;

void Qwen3::forward(ops::Executor& ex) const {
  Value x = ex.embed(embedding_);  // [N, D]
  for (int i = 0; i < config_.traits.layers; ++i) {
    const Layer& l = layers_[static_cast<std::size_t>(i)];
    x = attention_block(ex, x, l.attention, config_, i);
    x = ex.add(x, swiglu_ffn(ex, ex.rms_norm(x, l.ffn_norm, config_.eps), l.ffn));
  }
  finish(ex, x);
}

}  // namespace qw::models::qwen3
