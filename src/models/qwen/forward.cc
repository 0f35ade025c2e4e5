#include <cmath>

#include "models/qwen/qwen.h"

namespace qw::models::qwen {

using ops::Value;

void Qwen::forward(ops::Executor& ex) const {
  const ModelTraits& t = config_.traits;
  const float eps = config_.eps;
  const std::int32_t heads = t.heads * t.head_dim;
  ops::AttentionSpec attention{.heads = t.heads,
                               .kv_heads = t.heads,
                               .head_dim = t.head_dim,
                               .scale = 1.0f / std::sqrt(static_cast<float>(t.head_dim))};
  ops::RopeSpec query = config_.rope;  // log-n scaling is the queries' alone
  if (stated_.logn) query.logn_context = static_cast<float>(stated_.trained);
  Value x = ex.embed(embedding_);  // [N, D]
  for (const Layer& l : layers_) {
    const Value qkv = ex.linear(ex.rms_norm(x, l.attention_norm, eps), l.qkv, l.qkv_bias);  // [N, 3 H * Dh]
    const Value q = ex.rope(ex.columns(qkv, 0, heads), query);
    const Value k = ex.rope(ex.columns(qkv, heads, heads), config_.rope);
    const Value v = ex.columns(qkv, 2 * heads, heads);
    x = ex.add(x, ex.linear(ex.attention(q, k, v, attention), l.o));
    ++attention.layer;
    x = ex.add(x, swiglu_ffn(ex, ex.rms_norm(x, l.ffn_norm, eps), {.gate = l.gate, .up = l.up, .down = l.down}));
  }
  finish(ex, x);
}

}  // namespace qw::models::qwen
