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
  else l.delta_norm = table_.norm(names.hf + "input_layernorm.weight", names.gguf + "attn_norm.weight", t.width);
  if (!full) l.delta = delta_weights(table_, config_.traits, hybrid_, defaults_.fused_inputs, names);
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
  t.recurrent_row_floats = delta_row_floats(t, hybrid_);
  if (t.draft_layers > 0) return;
  const std::string mtp = "layers that draft later tokens";
  t.left_aside.push_back({"mtp.", mtp});
  for (int i = 0; i < hybrid_.draft_layers; ++i) t.left_aside.push_back({LayerNames(hybrid_.layers() + i).gguf, mtp});
}

void HybridDecoder::forward(ops::Executor& ex) const {
  Value x = ex.embed(embedding_);  // [N, D]
  int with_cache = 0;
  for (const Layer& l : layers_) x = run_layer(ex, x, l, l.full ? with_cache++ : 0);
  finish(ex, x);
}

Value HybridDecoder::run_layer(ops::Executor& ex, Value x, const Layer& l, int cache_layer) const {
  x = l.full ? attention_block(ex, x, l.attention, config_, cache_layer)
             : ex.add(x, delta_net(ex, ex.rms_norm(x, l.delta_norm, config_.eps), l.delta, hybrid_));
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
