#include <cmath>

#include "models/qwen2/qwen2.h"

namespace qw::models::qwen2 {

using ops::Value;

void Qwen2::forward(ops::Executor& ex) const {
  const ModelTraits& t = config_.traits;
  const float eps = config_.eps;
  ops::AttentionSpec attention{.heads = t.heads,
                               .kv_heads = t.kv_heads,
                               .head_dim = t.head_dim,
                               .scale = 1.0f / std::sqrt(static_cast<float>(t.head_dim))};
  Value x = ex.embed(weights_.embedding);  // [N, D]
  for (const Layer& l : weights_.layers) {
    const Value h = ex.rms_norm(x, l.attention_norm, eps);
    const Value q = ex.rope(ex.linear(h, l.q, l.q_bias), config_.rope);  // [N, H * Dh]
    const Value k = ex.rope(ex.linear(h, l.k, l.k_bias), config_.rope);  // [N, K * Dh]
    const Value v = ex.linear(h, l.v, l.v_bias);
    x = ex.add(x, ex.linear(ex.attention(q, k, v, attention), l.o));
    ++attention.layer;

    const Value f = ex.rms_norm(x, l.ffn_norm, eps);
    const Value gate = ex.linear(f, l.gate), up = ex.linear(f, l.up);  // [N, F]
    x = ex.add(x, ex.linear(ex.swiglu(gate, up), l.down));
  }
  ex.head(ex.rms_norm(x, weights_.norm, eps), weights_.head);  // [N, V]
}

}  // namespace qw::models::qwen2
