#include <algorithm>

#include "models/internal/names.h"
#include "models/qwen4_exp/qwen4_exp.h"

namespace qw::models::qwen4_exp {

Qwen4Exp::Qwen4Exp(Config config)
    : Decoder(config.hybrid.mixture.dense, {.embedding = "model.embed_tokens.weight", .norm = nullptr}), config4_(std::move(config)) {
  ModelTraits& t = config_.traits;
  const HybridConfig& hybrid = config4_.hybrid;
  t.experts = hybrid.mixture.experts;
  t.experts_per_token = hybrid.mixture.top_k;
  t.expert_width = hybrid.mixture.expert_width;
  t.index.heads = config4_.index_heads;
  t.index.dim = config4_.index_dim;
  t.index.ratio = static_cast<std::int32_t>(config4_.index_ratio);
  t.index.blocks = static_cast<std::int32_t>(config4_.index_budget / config4_.index_ratio);
  t.index.eps = config_.eps;
  t.index.rope = config_.rope;
  t.index.rope.head_dim = config4_.index_dim;
  for (int i = 0; i < hybrid.layers(); ++i) {
    const LayerNames names(i);
    const auto at = std::find(config4_.ple_layers.begin(), config4_.ple_layers.end(), i);
    const auto which = static_cast<std::int32_t>(at - config4_.ple_layers.begin());
    const bool ngrams = at != config4_.ple_layers.end();
    if (ngrams) ngram_weights(names, which);
    const bool full = hybrid.full[static_cast<std::size_t>(i)];
    if (!full) t.recurrent.push_back(i);
    layers_.push_back(layer_weights(names, full));
    layers_.back().ngrams = ngrams ? which : -1;
  }
  last_ = mixer_weights("model.hyper_connection_mixer.", "output_hc_", false);
  end_table();
  if (hybrid.draft_layers == 1) draft_weights();
  for (std::size_t i = 0; i < table_.specs().size(); ++i) {
    ParameterSpec& p = table_.spec({static_cast<std::int32_t>(i)});
    if (p.is_norm && p.hf_name.find("linear_attn.") == std::string::npos) p.hf.numbers = FileForm::Numbers::kOneLess;
  }
  // Of a row: what the delta networks need, and of the wide residual its norm, gates, products and sums.
  t.recurrent_row_floats = delta_row_floats(t, hybrid) + 12 * std::int64_t{config4_.streams} * t.width + config4_.rank + 2 * std::int64_t{config4_.ple_width};
  if (t.draft_layers == 0) t.left_aside.push_back({"mtp.", "layers that draft later tokens"});
  note_numbers();
  t.notices.push_back("experimental: this architecture was compared with its reference implementation on small random models only");
}

Qwen4Exp::Layer Qwen4Exp::layer_weights(const LayerNames& names, bool full) {
  Layer l;
  l.full = full;
  l.attention_mixer = mixer_weights(names.hf + "attn_hyper_connection.", names.gguf + "hc_attn_", true);
  if (full) l.attention = indexed_attention_weights(names);
  else l.delta = delta_weights(table_, config_.traits, config4_.hybrid, false, names);
  l.ffn_mixer = mixer_weights(names.hf + "mlp_hyper_connection.", names.gguf + "hc_ffn_", true);
  l.experts = mixture_weights(table_, config4_.hybrid.mixture, names);
  return l;
}

// llama.cpp's files leave this layer out, and a file that held it would not load there.
void Qwen4Exp::draft_weights() {
  ModelTraits& t = config_.traits;
  const std::size_t first = table_.specs().size();
  const std::int64_t d = t.width, wide = config4_.streams * d;
  const LayerNames names(config4_.hybrid.layers(), std::string(kHfDraftLayer) + "0.");
  const std::string gguf = names.gguf + "nextn.";
  draft_.embedding_norm = table_.norm("mtp.pre_fc_norm_embedding.weight", gguf + "enorm.weight", d);
  draft_.hidden_norm = table_.norm("mtp.pre_fc_norm_hidden.weight", gguf + "hnorm.weight", wide);
  draft_.embedding = table_.matrix("mtp.fc_embedding.weight", gguf + "e_proj.weight", d, d);
  draft_.hidden = table_.matrix("mtp.fc_hidden.weight", gguf + "h_proj.weight", d, d);
  draft_.layer = layer_weights(names, true);
  draft_.last = mixer_weights("mtp.hyper_connection_mixer.", gguf + "hc_", false);
  for (std::size_t i = first; i < table_.specs().size(); ++i) {
    ParameterSpec& p = table_.spec({static_cast<std::int32_t>(i)});
    p.draft = p.gguf_none = true;
  }
  t.draft_layers = 1;
  t.draft_width = static_cast<std::int32_t>(wide);
}

void Qwen4Exp::note_numbers() {
  ModelTraits& t = config_.traits;
  for (std::size_t i = 0; i < config4_.ple_layers.size(); ++i) {
    const ops::NgramSpec& n = config4_.ngrams[i];
    const std::string hf = "model.layers." + std::to_string(config4_.ple_layers[i]) + ".ple.ple_embedding.";
    t.integers.push_back({hf + "layer_multipliers", {n.factors.begin(), n.factors.end()}});
    t.integers.push_back({hf + "ngram_heads_vocab_sizes", n.sizes});
    t.integers.push_back({hf + "ngram_heads_offsets", n.offsets});
  }
  for (const char* key : {"layer_multipliers", "head_offsets", "head_vocab_sizes"}) t.gguf_u64.push_back(std::string("qwen4exp.ple.") + key);
}

Qwen4Exp::Mixer Qwen4Exp::mixer_weights(const std::string& hf, const std::string& gguf, bool inject) {
  const std::int64_t wide = std::int64_t{config4_.streams} * config_.traits.width;
  Mixer w;
  w.norm = table_.norm(hf + "hc_norm.weight", gguf + "norm.weight", wide);
  w.down = table_.matrix(hf + "input_mix_weight_down.weight", gguf + "down.weight", config4_.rank, wide);
  w.up = table_.matrix(hf + "input_mix_weight_up.weight", gguf + "up.weight", wide, config4_.rank);
  if (inject) w.inject = table_.matrix(hf + "block_inject_weight.weight", gguf + "inject.weight", config4_.streams, wide);
  return w;
}

AttentionWeights Qwen4Exp::indexed_attention_weights(const LayerNames& names) {
  const ModelTraits& t = config_.traits;
  AttentionWeights w = attention_weights(table_, t, names, {.biases = false, .head_norms = true, .gated = true, .outer_norm = false});
  const std::string hf = names.hf + "self_attn.indexer.", gguf = names.gguf + "indexer.";
  const std::int64_t queries = std::int64_t{config4_.index_heads} * config4_.index_dim, all = queries + config4_.index_dim;
  w.index_q = table_.matrix(hf + "index_qk_proj.weight", gguf + "q_proj.weight", queries, t.width);
  w.index_k = table_.matrix(hf + "index_qk_proj.weight", gguf + "k_proj.weight", config4_.index_dim, t.width);
  for (const ops::Weight part : {w.index_q, w.index_k}) table_.spec(part).hf.whole = tensor::Shape{all, t.width};
  table_.spec(w.index_q).hf.row = [](std::int64_t i) { return i; };
  table_.spec(w.index_k).hf.row = [queries](std::int64_t i) { return queries + i; };
  w.index_q_norm = table_.norm(hf + "q_layernorm.weight", gguf + "q_norm.weight", config4_.index_dim);
  w.index = t.index;
  w.index.key_norm = table_.norm(hf + "k_layernorm.weight", gguf + "k_norm.weight", config4_.index_dim);
  for (const ops::Weight chooses : {w.index_q, w.index_k, w.index_q_norm, w.index.key_norm}) table_.spec(chooses).selects = true;
  return w;
}

void Qwen4Exp::ngram_weights(const LayerNames& names, std::int32_t which) {
  ModelTraits& t = config_.traits;
  const std::int64_t wide = std::int64_t{config4_.streams} * t.width;
  const std::string hf = names.hf + "ple.", gguf = names.gguf + "ple_";
  Ngrams w;
  w.spec = config4_.ngrams[static_cast<std::size_t>(which)];
  ops::NgramSpec& n = w.spec;
  for (std::int32_t s = 0; s < config4_.shards; ++s) {
    const ops::Weight one = table_.matrix(hf + "ple_embedding.ngram_embedding.shard_" + std::to_string(s) + ".weight",
                                          gguf_table(which), n.rows_each, n.dim);
    if (s == 0) n.table = one;
    ParameterSpec& p = table_.spec(one);
    p.gguf_part = s;
    p.gguf_parts = config4_.shards;
    p.gguf_rows = true;
  }
  w.key = table_.matrix(hf + "key_proj.weight", gguf + "key.weight", wide, config4_.ple_width);
  w.value = table_.matrix(hf + "value_proj.weight", gguf + "value.weight", t.width, config4_.ple_width);
  w.norm_key = table_.norm(hf + "norm_key.weight", gguf + "norm_key.weight", wide);
  w.norm_query = table_.norm(hf + "norm_query.weight", gguf + "norm_query.weight", wide);
  w.norm_conv = table_.norm(hf + "norm_conv.weight", gguf + "norm_conv.weight", wide);
  w.conv = table_.matrix(hf + "conv1d.weight", gguf + "conv1d.weight", wide, config4_.ple_taps);
  table_.spec(w.conv).hf.whole = tensor::Shape{wide, 1, config4_.ple_taps};
  table_.spec(w.conv).init_std = 0;  // the reference begins without it
  n.state = t.state_floats;
  w.conv_state = n.state + n.size - 1;
  t.state_floats = w.conv_state + std::int64_t{config4_.ple_taps - 1} * config4_.ngram_size * wide;
  ple_.push_back(std::move(w));
}

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config) {
  QW_ASSIGN(Config c, read_hf(config));
  return std::make_unique<Qwen4Exp>(std::move(c));
}

Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab) {
  QW_ASSIGN(Config c, read_gguf(metadata, has_output_weight, vocab));
  return std::make_unique<Qwen4Exp>(std::move(c));
}

}  // namespace qw::models::qwen4_exp
