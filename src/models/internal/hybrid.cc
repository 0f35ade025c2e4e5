#include "models/internal/hybrid.h"

#include <algorithm>

#include "models/internal/names.h"

namespace qw::models {

using ops::Value;
using ops::Weight;

HybridDecoder::HybridDecoder(HybridConfig config, HybridDefaults defaults)
    : Decoder(config.mixture.dense), hybrid_(std::move(config)), defaults_(defaults) {
  ModelTraits& t = config_.traits;
  t.experts = hybrid_.mixture.experts;
  t.experts_per_token = hybrid_.mixture.top_k;
  t.expert_width = hybrid_.mixture.expert_width;
  for (int i = 0; i < hybrid_.layers(); ++i) {
    const bool full = hybrid_.full[static_cast<std::size_t>(i)];
    if (!full) t.recurrent.push_back(i);
    layers_.push_back(layer_weights(LayerNames(i), full, hybrid_.mixture.has_experts(i)));
  }
  end_table();
  if (hybrid_.draft_layers == 1) draft_weights();
  for (std::size_t i = 0; i < table_.specs().size(); ++i) {
    ParameterSpec& p = table_.spec({static_cast<std::int32_t>(i)});
    if (p.is_norm && p.hf_name.find("linear_attn.") == std::string::npos) p.hf.numbers = FileForm::Numbers::kOneLess;
  }
  note_states();
}

HybridDecoder::Layer HybridDecoder::layer_weights(const LayerNames& names, bool full, bool sparse) {
  const ModelTraits& t = config_.traits;
  Layer l;
  l.full = full;
  if (full) l.attention = attention_weights(table_, t, names, {.biases = false, .head_norms = true, .gated = true});
  else l.delta = delta_weights(names);
  l.ffn_norm = table_.norm(names.hf + "post_attention_layernorm.weight", names.gguf + "post_attention_norm.weight", t.width);
  l.sparse = hybrid_.mixture.experts > 0 && sparse;
  if (l.sparse) l.experts = mixture_weights(table_, hybrid_.mixture, names);
  else l.ffn = ffn_weights(table_, names.hf + "mlp.", names.gguf + "ffn_", ".weight", t.ffn_width, t.width);
  return l;
}

void HybridDecoder::draft_weights() {
  ModelTraits& t = config_.traits;
  const std::size_t first = table_.specs().size();
  const LayerNames names(hybrid_.layers(), std::string(kHfDraftLayer) + "0.");
  const std::string gguf = names.gguf + "nextn.";
  draft_.embedding_norm = table_.norm("mtp.pre_fc_norm_embedding.weight", gguf + "enorm.weight", t.width);
  draft_.hidden_norm = table_.norm("mtp.pre_fc_norm_hidden.weight", gguf + "hnorm.weight", t.width);
  draft_.join = table_.matrix("mtp.fc.weight", gguf + "eh_proj.weight", t.width, 2 * std::int64_t{t.width});
  draft_.layer = layer_weights(names, true, true);
  draft_.norm = table_.norm("mtp.norm.weight", gguf + "shared_head_norm.weight", t.width);
  for (std::size_t i = first; i < table_.specs().size(); ++i) table_.spec({static_cast<std::int32_t>(i)}).draft = true;
  t.draft_layers = 1;
  t.draft_width = t.width;
}

void HybridDecoder::note_states() {
  ModelTraits& t = config_.traits;
  const ops::DeltaRuleSpec& d = hybrid_.delta;
  const std::int64_t in = d.input_width(), heads = std::int64_t{t.heads} * t.head_dim;
  // Projection and convolution; gates, keys made unit vectors, outputs and their norms. Of attention:
  // queries with their gates, apart and together.
  if (!t.recurrent.empty())
    t.recurrent_row_floats = 2 * in + 2 * d.keys_width() + 3 * std::int64_t{d.values_width()} + 6 * std::int64_t{d.value_heads};
  t.recurrent_row_floats += 3 * heads;
  if (t.draft_layers > 0) return;
  const std::string mtp = "layers that draft later tokens";
  t.left_aside.push_back({"mtp.", mtp});
  for (int i = 0; i < hybrid_.draft_layers; ++i) t.left_aside.push_back({LayerNames(hybrid_.layers() + i).gguf, mtp});
}

// One projection, row by row of each key head: its query, its key, the values and then the gates of its value heads.
void HybridDecoder::fused_inputs(Delta& w, const std::string& hf, const std::string& gguf) {
  const ops::DeltaRuleSpec d = hybrid_.delta;
  const std::int64_t width = config_.traits.width, values = std::int64_t{d.value_heads} / d.key_heads * d.value_dim,
                     group = 2 * std::int64_t{d.key_dim} + 2 * values;
  w.qkv = table_.matrix(hf + "in_proj_qkvz.weight", gguf + "attn_qkv.weight", d.input_width(), width);
  w.gate = table_.matrix(hf + "in_proj_qkvz.weight", gguf + "attn_gate.weight", d.values_width(), width);
  for (const Weight part : {w.qkv, w.gate}) table_.spec(part).hf.whole = tensor::Shape{d.key_heads * group, width};
  // Row i of blocks of `size` rows, which stand `at` rows into each key head's.
  const auto in_group = [group](std::int64_t i, std::int64_t size, std::int64_t at) { return i / size * group + at + i % size; };
  table_.spec(w.qkv).hf.row = [=](std::int64_t i) {
    const std::int64_t keys = d.keys_width();
    if (i < 2 * keys) return in_group(i % keys, d.key_dim, i < keys ? 0 : d.key_dim);
    return in_group(i - 2 * keys, values, 2 * std::int64_t{d.key_dim});
  };
  table_.spec(w.gate).hf.row = [=](std::int64_t i) { return in_group(i, values, 2 * std::int64_t{d.key_dim} + values); };
  w.write_forget = table_.matrix(hf + "in_proj_ba.weight", gguf + "ssm_ba.weight", 2 * std::int64_t{d.value_heads}, width);
}

void HybridDecoder::split_inputs(Delta& w, const std::string& hf, const std::string& gguf) {
  const ops::DeltaRuleSpec& d = hybrid_.delta;
  const std::int64_t width = config_.traits.width;
  w.qkv = table_.matrix(hf + "in_proj_qkv.weight", gguf + "attn_qkv.weight", d.input_width(), width);
  w.gate = table_.matrix(hf + "in_proj_z.weight", gguf + "attn_gate.weight", d.values_width(), width);
  w.write = table_.matrix(hf + "in_proj_b.weight", gguf + "ssm_beta.weight", d.value_heads, width);
  w.forget = table_.matrix(hf + "in_proj_a.weight", gguf + "ssm_alpha.weight", d.value_heads, width);
}

// Where a key head has several value heads, GGUF has the first of every key head, then the second ones; folders have those
// of a key head together.
void HybridDecoder::tile_heads(const Delta& w) {
  const ops::DeltaRuleSpec d = hybrid_.delta;
  if (d.value_heads == d.key_heads) return;
  const auto moved = [d](std::int64_t begin, std::int64_t size) {
    return [=](std::int64_t i) {
      if (i < begin) return i;
      const std::int64_t head = (i - begin) / size, each = d.value_heads / d.key_heads;
      return begin + (head % d.key_heads * each + head / d.key_heads) * size + (i - begin) % size;
    };
  };
  for (const Weight of : {w.qkv, w.conv}) table_.spec(of).hf.row = moved(2 * d.keys_width(), d.value_dim);
  table_.spec(w.gate).hf.row = moved(0, d.value_dim);
  for (const Weight of : {w.write, w.forget}) table_.spec(of).hf.row = moved(0, 1);
  for (const Weight of : {w.a_log, w.dt_bias}) table_.spec(of).hf.column = moved(0, 1);
  table_.spec(w.out).hf.column = moved(0, d.value_dim);
}

HybridDecoder::Delta HybridDecoder::delta_weights(const LayerNames& names) {
  const ops::DeltaRuleSpec& d = hybrid_.delta;
  ModelTraits& t = config_.traits;
  const std::string hf = names.hf + "linear_attn.";
  Delta w;
  w.norm = table_.norm(names.hf + "input_layernorm.weight", names.gguf + "attn_norm.weight", t.width);
  if (defaults_.fused_inputs) fused_inputs(w, hf, names.gguf);
  else split_inputs(w, hf, names.gguf);
  w.conv = table_.matrix(hf + "conv1d.weight", names.gguf + "ssm_conv1d.weight", d.input_width(), hybrid_.taps);
  table_.spec(w.conv).hf.whole = tensor::Shape{d.input_width(), 1, hybrid_.taps};
  w.a_log = table_.bias(hf + "A_log", names.gguf + "ssm_a", d.value_heads);
  table_.spec(w.a_log).gguf.numbers = FileForm::Numbers::kMinusExp;
  table_.spec(w.a_log).init_rate = 16;  // of the reference: rates of forgetting up to this
  w.dt_bias = table_.norm(hf + "dt_bias", names.gguf + "ssm_dt.bias", d.value_heads);
  w.out_norm = table_.norm(hf + "norm.weight", names.gguf + "ssm_norm.weight", d.value_dim);
  w.out = table_.matrix(hf + "out_proj.weight", names.gguf + "ssm_out.weight", t.width, d.values_width());
  if (d.tiled) tile_heads(w);
  w.state = t.state_floats;
  t.state_floats += std::int64_t{hybrid_.taps - 1} * d.input_width() + std::int64_t{d.key_dim} * d.values_width();
  return w;
}

// x + the gated delta network of norm(x) -> [N, D].
Value HybridDecoder::delta_block(ops::Executor& ex, Value x, const Delta& w) const {
  ops::DeltaRuleSpec d = hybrid_.delta;
  const Value h = ex.rms_norm(x, w.norm, config_.eps);
  const Value u = ex.short_conv(ex.linear(h, w.qkv), w.conv, {.state = w.state});  // [N, 2 keys + values]
  const Value gate = ex.linear(h, w.gate);                                        // [N, values]
  Value write, forget;                                                            // [N, Hv]
  if (w.write_forget.present()) {
    const Value both = ex.linear(h, w.write_forget);
    const std::int32_t each = d.value_heads / d.key_heads;
    write = ex.head_columns(both, 0, each, 2 * each);
    forget = ex.head_columns(both, each, each, 2 * each);
  } else {
    write = ex.linear(h, w.write);
    forget = ex.linear(h, w.forget);
  }
  d.state = w.state + std::int64_t{hybrid_.taps - 1} * d.input_width();
  const Value y = ex.delta_rule(u, forget, write, w.a_log, w.dt_bias, d);  // [N, values]
  return ex.add(x, ex.linear(ex.swiglu(gate, ex.head_rms_norm(y, w.out_norm, d.value_dim, config_.eps)), w.out));
}

void HybridDecoder::forward(ops::Executor& ex) const {
  Value x = ex.embed(embedding_);  // [N, D]
  int with_cache = 0;
  for (const Layer& l : layers_) x = run_layer(ex, x, l, l.full ? with_cache++ : 0);
  finish(ex, x);
}

Value HybridDecoder::run_layer(ops::Executor& ex, Value x, const Layer& l, int cache_layer) const {
  x = l.full ? attention_block(ex, x, l.attention, config_, cache_layer) : delta_block(ex, x, l.delta);
  const Value f = ex.rms_norm(x, l.ffn_norm, config_.eps);
  return ex.add(x, l.sparse ? mixture(ex, f, l.experts, hybrid_.mixture) : swiglu_ffn(ex, f, l.ffn));
}

void HybridDecoder::draft(ops::Executor& ex) const {
  const Value hidden = ex.rms_norm(ex.given(config_.traits.draft_width), draft_.hidden_norm, config_.eps);
  const Value token = ex.rms_norm(ex.embed(embedding_), draft_.embedding_norm, config_.eps);
  const Value x = ex.linear(ex.concat(token, hidden), draft_.join);  // [N, D]
  const Value h = ex.rms_norm(run_layer(ex, x, draft_.layer, config_.traits.layers), draft_.norm, config_.eps);
  ex.keep(h);
  ex.head(h, head_);
}

}  // namespace qw::models
