#include "models/internal/decoder.h"

#include <cmath>

namespace qw::models {

using ops::Value;

AttentionWeights attention_weights(ParameterTable& table, const ModelTraits& t, const LayerNames& names,
                                   AttentionParts parts) {
  const std::string hf = names.hf + "self_attn.", gguf = names.gguf + "attn_";
  const std::int64_t d = t.width, hd = std::int64_t{t.heads} * t.head_dim, kd = std::int64_t{t.kv_heads} * t.head_dim;
  AttentionWeights w;
  if (parts.outer_norm) w.norm = table.norm(names.hf + "input_layernorm.weight", gguf + "norm.weight", d);
  const auto projection = [&](const std::string& which, std::int64_t out, ops::Weight& matrix, ops::Weight& bias) {
    matrix = table.matrix(hf + which + "_proj.weight", gguf + which + ".weight", out, d);
    if (parts.biases) bias = table.bias(hf + which + "_proj.bias", gguf + which + ".bias", out);
  };
  w.gated = parts.gated;
  projection("q", parts.gated ? 2 * hd : hd, w.q, w.q_bias);
  projection("k", kd, w.k, w.k_bias);
  projection("v", kd, w.v, w.v_bias);
  if (parts.head_norms) {
    w.q_norm = table.norm(hf + "q_norm.weight", gguf + "q_norm.weight", t.head_dim);
    w.k_norm = table.norm(hf + "k_norm.weight", gguf + "k_norm.weight", t.head_dim);
  }
  w.o = table.matrix(hf + "o_proj.weight", gguf + "output.weight", d, hd);
  return w;
}

FfnWeights ffn_weights(ParameterTable& table, const std::string& hf, const std::string& gguf,
                       const std::string& gguf_end, std::int64_t ffn_width, std::int64_t width) {
  FfnWeights w;
  w.gate = table.matrix(hf + "gate_proj.weight", gguf + "gate" + gguf_end, ffn_width, width);
  w.up = table.matrix(hf + "up_proj.weight", gguf + "up" + gguf_end, ffn_width, width);
  w.down = table.matrix(hf + "down_proj.weight", gguf + "down" + gguf_end, width, ffn_width);
  return w;
}

Value attention_block(ops::Executor& ex, Value x, const AttentionWeights& w, const DenseConfig& config, int layer) {
  return ex.add(x, attention(ex, ex.rms_norm(x, w.norm, config.eps), w, config, layer));
}

Value attention(ops::Executor& ex, Value h, const AttentionWeights& w, const DenseConfig& config, int layer) {
  const ModelTraits& t = config.traits;
  // Query and key heads are normalised, each over its own head width, before they are turned.
  const auto normal = [&](Value y, ops::Weight norm) { return norm.present() ? ex.head_rms_norm(y, norm, t.head_dim, config.eps) : y; };
  // Queries [N, H * Dh], or of each head query and gate; keys and values [N, K * Dh].
  const auto [with_gate, keys, v] = ex.products(h, {{w.q, w.q_bias}, {w.k, w.k_bias}, {w.v, w.v_bias}});
  const Value still = normal(w.gated ? ex.head_columns(with_gate, 0, t.head_dim, 2 * t.head_dim) : with_gate, w.q_norm);
  const Value q = ex.rope(still, config.rope);
  const Value k = ex.rope(normal(keys, w.k_norm), config.rope);
  const ops::AttentionSpec spec{.layer = layer,
                                .heads = t.heads,
                                .kv_heads = t.kv_heads,
                                .head_dim = t.head_dim,
                                .scale = 1.0f / std::sqrt(static_cast<float>(t.head_dim)),
                                .window = config.window_of(layer),
                                .chunk = config.rope.chunk};
  const auto towards = [&](ops::ChunkView view) {
    ops::RopeSpec rope = config.rope;
    rope.view = view;
    return ex.rope(still, rope);
  };
  const auto attend = [&] {
    if (spec.chunk > 0) {
      const Value before = towards(ops::ChunkView::kBefore), far = towards(ops::ChunkView::kFar);
      return ex.chunked_attention(q, before, far, k, v, spec);
    }
    if (w.index.ratio == 0) return ex.attention(q, k, v, spec);
    const auto [queries, index_k] = ex.products(h, {{w.index_q}, {w.index_k}});
    const Value index_q = ex.rope(ex.head_rms_norm(queries, w.index_q_norm, w.index.dim, w.index.eps), w.index.rope);
    return ex.indexed_attention(q, k, v, index_q, index_k, spec, w.index);
  };
  Value o = attend();
  if (w.gated) o = ex.gate_rows(o, ex.head_columns(with_gate, t.head_dim, t.head_dim, 2 * t.head_dim));
  return ex.linear(o, w.o);
}

Value swiglu_ffn(ops::Executor& ex, Value x, const FfnWeights& w) {
  const auto [gate, up] = ex.products(x, {{w.gate}, {w.up}});  // [N, F]
  return ex.linear(ex.swiglu(gate, up), w.down);
}

void Decoder::begin_table() {
  embedding_ = table_.matrix(names_.embedding, "token_embd.weight", config_.traits.vocab, config_.traits.width);
}

void Decoder::end_table() {
  const ModelTraits& t = config_.traits;
  if (names_.norm != nullptr) norm_ = table_.norm(names_.norm, "output_norm.weight", t.width);
  if (t.head.kind != HeadKind::kLanguage) {
    other_head_ = head_weights(table_, config_);
    return;
  }
  head_ = t.tied_embeddings ? embedding_ : table_.matrix("lm_head.weight", "output.weight", t.vocab, t.width);
}

void Decoder::finish(ops::Executor& ex, Value x, Value kept) const {
  const Value h = norm_.present() ? ex.rms_norm(x, norm_, config_.eps) : x;  // [N, D]
  if (config_.traits.draft_layers > 0) ex.keep(kept.id >= 0 ? kept : h);
  if (config_.traits.head.kind != HeadKind::kLanguage) return run_head(ex, h, other_head_, config_);
  ex.head(h, head_);  // [N, V]
}

}  // namespace qw::models
