#include <string>

#include "models/qwen2/qwen2.h"

namespace qw::models::qwen2 {
namespace {

Layer make_layer(ParameterTable& table, const ModelTraits& t, int i) {
  const std::string hf = "model.layers." + std::to_string(i) + ".", gguf = "blk." + std::to_string(i) + ".";
  const std::int64_t d = t.width, hd = std::int64_t{t.heads} * t.head_dim, kd = std::int64_t{t.kv_heads} * t.head_dim;
  Layer l;
  l.attention_norm = table.norm(hf + "input_layernorm.weight", gguf + "attn_norm.weight", d);
  l.q = table.matrix(hf + "self_attn.q_proj.weight", gguf + "attn_q.weight", hd, d);
  l.q_bias = table.bias(hf + "self_attn.q_proj.bias", gguf + "attn_q.bias", hd);
  l.k = table.matrix(hf + "self_attn.k_proj.weight", gguf + "attn_k.weight", kd, d);
  l.k_bias = table.bias(hf + "self_attn.k_proj.bias", gguf + "attn_k.bias", kd);
  l.v = table.matrix(hf + "self_attn.v_proj.weight", gguf + "attn_v.weight", kd, d);
  l.v_bias = table.bias(hf + "self_attn.v_proj.bias", gguf + "attn_v.bias", kd);
  l.o = table.matrix(hf + "self_attn.o_proj.weight", gguf + "attn_output.weight", d, hd);
  l.ffn_norm = table.norm(hf + "post_attention_layernorm.weight", gguf + "ffn_norm.weight", d);
  l.gate = table.matrix(hf + "mlp.gate_proj.weight", gguf + "ffn_gate.weight", t.ffn_width, d);
  l.up = table.matrix(hf + "mlp.up_proj.weight", gguf + "ffn_up.weight", t.ffn_width, d);
  l.down = table.matrix(hf + "mlp.down_proj.weight", gguf + "ffn_down.weight", d, t.ffn_width);
  return l;
}

}  // namespace

Weights::Weights(const DenseConfig& config) : table(config.init_std) {
  const ModelTraits& t = config.traits;
  embedding = table.matrix("model.embed_tokens.weight", "token_embd.weight", t.vocab, t.width);
  for (int i = 0; i < t.layers; ++i) layers.push_back(make_layer(table, t, i));
  norm = table.norm("model.norm.weight", "output_norm.weight", t.width);
  head = t.tied_embeddings ? embedding : table.matrix("lm_head.weight", "output.weight", t.vocab, t.width);
}

}  // namespace qw::models::qwen2
