// Gated delta networks: their parameters, as files have them, and their pass.
#include "models/internal/hybrid.h"

namespace qw::models {

using ops::Value;
using ops::Weight;

namespace {

// One projection, row by row of each key head: its query, its key, the values and then the gates of its value heads.
void fused_inputs(ParameterTable& table, const ModelTraits& t, const HybridConfig& c, DeltaWeights& w, const std::string& hf, const std::string& gguf) {
  const ops::DeltaRuleSpec d = c.delta;
  const std::int64_t width = t.width, values = std::int64_t{d.value_heads} / d.key_heads * d.value_dim,
                     group = 2 * std::int64_t{d.key_dim} + 2 * values;
  w.qkv = table.matrix(hf + "in_proj_qkvz.weight", gguf + "attn_qkv.weight", d.input_width(), width);
  w.gate = table.matrix(hf + "in_proj_qkvz.weight", gguf + "attn_gate.weight", d.values_width(), width);
  for (const Weight part : {w.qkv, w.gate}) table.spec(part).hf.whole = tensor::Shape{d.key_heads * group, width};
  // Row i of blocks of `size` rows, which stand `at` rows into each key head's.
  const auto in_group = [group](std::int64_t i, std::int64_t size, std::int64_t at) { return i / size * group + at + i % size; };
  table.spec(w.qkv).hf.row = [=](std::int64_t i) {
    const std::int64_t keys = d.keys_width();
    if (i < 2 * keys) return in_group(i % keys, d.key_dim, i < keys ? 0 : d.key_dim);
    return in_group(i - 2 * keys, values, 2 * std::int64_t{d.key_dim});
  };
  table.spec(w.gate).hf.row = [=](std::int64_t i) { return in_group(i, values, 2 * std::int64_t{d.key_dim} + values); };
  w.write_forget = table.matrix(hf + "in_proj_ba.weight", gguf + "ssm_ba.weight", 2 * std::int64_t{d.value_heads}, width);
}

void split_inputs(ParameterTable& table, const ModelTraits& t, const HybridConfig& c, DeltaWeights& w, const std::string& hf, const std::string& gguf) {
  const ops::DeltaRuleSpec& d = c.delta;
  const std::int64_t width = t.width;
  w.qkv = table.matrix(hf + "in_proj_qkv.weight", gguf + "attn_qkv.weight", d.input_width(), width);
  w.gate = table.matrix(hf + "in_proj_z.weight", gguf + "attn_gate.weight", d.values_width(), width);
  w.write = table.matrix(hf + "in_proj_b.weight", gguf + "ssm_beta.weight", d.value_heads, width);
  w.forget = table.matrix(hf + "in_proj_a.weight", gguf + "ssm_alpha.weight", d.value_heads, width);
}

// Where a key head has several value heads, GGUF has the first of every key head, then the second ones; folders have those
// of a key head together.
void tile_heads(ParameterTable& table, const HybridConfig& c, const DeltaWeights& w) {
  const ops::DeltaRuleSpec d = c.delta;
  if (d.value_heads == d.key_heads) return;
  const auto moved = [d](std::int64_t begin, std::int64_t size) {
    return [=](std::int64_t i) {
      if (i < begin) return i;
      const std::int64_t head = (i - begin) / size, each = d.value_heads / d.key_heads;
      return begin + (head % d.key_heads * each + head / d.key_heads) * size + (i - begin) % size;
    };
  };
  for (const Weight of : {w.qkv, w.conv}) table.spec(of).hf.row = moved(2 * d.keys_width(), d.value_dim);
  table.spec(w.gate).hf.row = moved(0, d.value_dim);
  for (const Weight of : {w.write, w.forget}) table.spec(of).hf.row = moved(0, 1);
  for (const Weight of : {w.a_log, w.dt_bias}) table.spec(of).hf.column = moved(0, 1);
  table.spec(w.out).hf.column = moved(0, d.value_dim);
}

}  // namespace

DeltaWeights delta_weights(ParameterTable& table, ModelTraits& t, const HybridConfig& c, bool fused, const LayerNames& names) {
  const ops::DeltaRuleSpec& d = c.delta;
  const std::string hf = names.hf + "linear_attn.";
  DeltaWeights w;
  if (fused) fused_inputs(table, t, c, w, hf, names.gguf);
  else split_inputs(table, t, c, w, hf, names.gguf);
  w.conv = table.matrix(hf + "conv1d.weight", names.gguf + "ssm_conv1d.weight", d.input_width(), c.taps);
  table.spec(w.conv).hf.whole = tensor::Shape{d.input_width(), 1, c.taps};
  w.a_log = table.bias(hf + "A_log", names.gguf + "ssm_a", d.value_heads);
  table.spec(w.a_log).gguf.numbers = FileForm::Numbers::kMinusExp;
  table.spec(w.a_log).init_rate = 16;  // of the reference: rates of forgetting up to this
  w.dt_bias = table.norm(hf + "dt_bias", names.gguf + "ssm_dt.bias", d.value_heads);
  w.out_norm = table.norm(hf + "norm.weight", names.gguf + "ssm_norm.weight", d.value_dim);
  w.out = table.matrix(hf + "out_proj.weight", names.gguf + "ssm_out.weight", t.width, d.values_width());
  if (d.tiled) tile_heads(table, c, w);
  w.state = t.state_floats;
  t.state_floats += std::int64_t{c.taps - 1} * d.input_width() + d.state_floats();
  return w;
}

Value delta_net(ops::Executor& ex, Value h, const DeltaWeights& w, const HybridConfig& c) {
  ops::DeltaRuleSpec d = c.delta;
  Value inputs, gate;   // [N, 2 keys + values], [N, values]
  Value write, forget;  // [N, Hv]
  if (w.write_forget.present()) {
    const auto [first, second, both] = ex.products(h, {{w.qkv}, {w.gate}, {w.write_forget}});
    const std::int32_t each = d.value_heads / d.key_heads;
    inputs = first;
    gate = second;
    write = ex.head_columns(both, 0, each, 2 * each);
    forget = ex.head_columns(both, each, each, 2 * each);
  } else {
    const auto all = ex.products(h, {{w.qkv}, {w.gate}, {w.write}, {w.forget}});
    inputs = all[0];
    gate = all[1];
    write = all[2];
    forget = all[3];
  }
  const Value u = ex.short_conv(inputs, w.conv, {.state = w.state});
  d.state = w.state + std::int64_t{c.taps - 1} * d.input_width();
  const Value y = ex.delta_rule(u, forget, write, w.a_log, w.dt_bias, d);  // [N, values]
  const Value normed = ex.head_rms_norm(y, w.out_norm, d.value_dim, c.mixture.dense.eps);
  return ex.linear(c.sigmoid_gate ? ex.gate_rows(normed, gate) : ex.swiglu(gate, normed), w.out);
}

std::int64_t delta_row_floats(const ModelTraits& t, const HybridConfig& c) {
  const ops::DeltaRuleSpec& d = c.delta;
  const std::int64_t in = d.input_width(), heads = std::int64_t{t.heads} * t.head_dim;
  // Projection and convolution; gates, keys made unit vectors, outputs and their norms. Of attention: queries with their
  // gates, apart and together.
  const std::int64_t delta = 2 * in + 2 * d.keys_width() + 3 * std::int64_t{d.values_width()} + 6 * std::int64_t{d.value_heads};
  return (t.recurrent.empty() ? 0 : delta) + 3 * heads;
}

}  // namespace qw::models
