#include <cmath>

#include "models/qwen/qwen.h"

namespace qw::models::qwen {

Qwen::Qwen(Config config)
    : Decoder(config.dense, {.embedding = "transformer.wte.weight", .norm = "transformer.ln_f.weight"}),
      stated_(std::move(config)) {
  const ModelTraits& t = config_.traits;
  const std::int64_t d = t.width, f = t.ffn_width, heads = std::int64_t{t.heads} * t.head_dim;
  // As the authors drew them: what is added to the residual is drawn smaller by the number of such additions.
  const float residual_std = config_.init_std / std::sqrt(2.0f * static_cast<float>(t.layers));
  for (int i = 0; i < t.layers; ++i) {
    const std::string hf = "transformer.h." + std::to_string(i) + ".", gguf = "blk." + std::to_string(i) + ".";
    Layer l;
    l.attention_norm = table_.norm(hf + "ln_1.weight", gguf + "attn_norm.weight", d);
    l.qkv = table_.matrix(hf + "attn.c_attn.weight", gguf + "attn_qkv.weight", 3 * heads, d);
    l.qkv_bias = table_.bias(hf + "attn.c_attn.bias", gguf + "attn_qkv.bias", 3 * heads);
    l.o = table_.matrix(hf + "attn.c_proj.weight", gguf + "attn_output.weight", d, heads);
    l.ffn_norm = table_.norm(hf + "ln_2.weight", gguf + "ffn_norm.weight", d);
    l.up = table_.matrix(hf + "mlp.w1.weight", gguf + "ffn_up.weight", f, d);
    l.gate = table_.matrix(hf + "mlp.w2.weight", gguf + "ffn_gate.weight", f, d);
    l.down = table_.matrix(hf + "mlp.c_proj.weight", gguf + "ffn_down.weight", d, f);
    table_.spec(l.o).init_std = table_.spec(l.down).init_std = residual_std;
    layers_.push_back(l);
  }
  end_table();
}

}  // namespace qw::models::qwen
