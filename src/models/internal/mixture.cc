#include "models/internal/mixture.h"

#include <algorithm>

#include "base/decimal.h"
#include "models/internal/config_reader.h"
#include "models/internal/names.h"

namespace qw::models {

using ops::Value;

namespace {

// More than any published model has (512 experts, 10 chosen); the table holds three parameters for each expert.
constexpr std::int64_t kMaxExperts = 4096, kMaxExpertWidth = 1 << 20;
// Three parameters for each expert of each layer: a configuration of lies must not ask for a table of gigabytes.
constexpr std::int64_t kMaxExpertsOfAllLayers = 1 << 18;

std::int32_t small(std::int64_t i) { return static_cast<std::int32_t>(i); }

Status check_counts(const ConfigReader& in, const MixtureConfig& c, std::string_view experts_key,
                    std::string_view top_k_key) {
  if (c.top_k > c.experts)
    return in.bad(top_k_key, std::to_string(c.top_k) + " of " + std::to_string(c.experts) + " experts");
  if (std::int64_t{c.experts} * c.dense.traits.layers > kMaxExpertsOfAllLayers)
    return in.bad(experts_key, std::to_string(c.experts) + " experts in each of " +
                                   std::to_string(c.dense.traits.layers) + " layers are too many");
  return {};
}

Status read_sparse_layers(const ConfigReader& in, MixtureConfig& c) {
  QW_ASSIGN(c.sparse_step, in.integer("decoder_sparse_step", 1, 1 << 16, 1).map(small));
  const json::Value* listed = in.find("mlp_only_layers");
  if (listed == nullptr) return {};
  if (!listed->is_array()) return in.bad("mlp_only_layers", "must be an array");
  for (const json::Value& v : listed->as_array()) {
    if (!v.is_int() || v.as_int() < 0 || v.as_int() >= c.dense.traits.layers)
      return in.bad("mlp_only_layers", "must hold numbers of layers");
    if (c.has_experts(small(v.as_int()))) c.mlp_only.push_back(small(v.as_int()));
  }
  return {};
}

json::Array as_json(const std::vector<std::int32_t>& numbers) {
  json::Array a;
  for (const std::int32_t n : numbers) a.emplace_back(std::int64_t{n});
  return a;
}

}  // namespace

bool MixtureConfig::has_experts(std::int32_t layer) const {
  return (layer + 1) % sparse_step == 0 && std::find(mlp_only.begin(), mlp_only.end(), layer) == mlp_only.end();
}

Result<MixtureConfig> read_mixture_hf(const json::Object& config, const MixtureDefaults& defaults) {
  const ConfigReader in(config, "");
  MixtureConfig c;
  QW_ASSIGN(c.dense, read_dense_hf(config, defaults.architecture, defaults.head_dim, defaults.windows));
  // Both classes of the reference count experts so; some writers say num_local_experts.
  const std::string_view experts_key = in.has("num_experts") ? "num_experts" : "num_local_experts";
  QW_ASSIGN(c.experts, in.integer(experts_key, 1, kMaxExperts).map(small));
  QW_ASSIGN(c.top_k, in.integer("num_experts_per_tok", 1, kMaxExperts).map(small));
  QW_TRY(check_counts(in, c, experts_key, "num_experts_per_tok"));
  QW_ASSIGN(c.expert_width, in.integer("moe_intermediate_size", 1, kMaxExpertWidth).map(small));
  if (defaults.shared) {
    QW_ASSIGN(c.shared_width, in.integer("shared_expert_intermediate_size", 1, kMaxExpertWidth).map(small));
  }
  QW_ASSIGN(c.normalise, in.boolean("norm_topk_prob", false));
  QW_ASSIGN(c.transposed, in.boolean(kTransposedExperts, false));
  QW_ASSIGN(c.balance, in.number("router_aux_loss_coef", 0, 1e3, 0.001).map([](double d) { return static_cast<float>(d); }));
  QW_TRY(read_sparse_layers(in, c));
  return c;
}

Result<MixtureConfig> read_mixture_gguf(const json::Object& metadata, const MixtureDefaults& defaults,
                                        bool has_output_weight, std::int64_t vocab) {
  MixtureConfig c;
  QW_ASSIGN(c.dense, read_dense_gguf(metadata, defaults.gguf_architecture, has_output_weight, vocab, defaults.windows));
  c.dense.traits.architecture = defaults.architecture;
  const std::int32_t ffn = c.dense.traits.ffn_width;
  const ConfigReader in(metadata, std::string(defaults.gguf_architecture) + ".");
  QW_ASSIGN(c.experts, in.integer("expert_count", 1, kMaxExperts).map(small));
  QW_ASSIGN(c.top_k, in.integer("expert_used_count", 1, kMaxExperts).map(small));
  QW_TRY(check_counts(in, c, "expert_count", "expert_used_count"));
  QW_ASSIGN(c.expert_width, in.integer("expert_feed_forward_length", 1, kMaxExpertWidth, std::max(1, ffn / c.top_k)).map(small));
  if (defaults.shared) {
    QW_ASSIGN(c.shared_width, in.integer("expert_shared_feed_forward_length", 1, kMaxExpertWidth, ffn).map(small));
  }
  QW_ASSIGN(c.normalise, in.boolean("expert_weights_norm", defaults.gguf_normalise));
  QW_TRY(read_sparse_layers(in, c));
  return c;
}

json::Object write_mixture_hf(const MixtureConfig& c, std::string_view class_name) {
  json::Object o = write_dense_hf(c.dense, class_name);
  o.set("decoder_sparse_step", c.sparse_step);
  o.set("mlp_only_layers", as_json(c.mlp_only));
  o.set("moe_intermediate_size", c.expert_width);
  if (c.shared_width > 0) o.set("shared_expert_intermediate_size", c.shared_width);
  o.set("norm_topk_prob", c.normalise);
  o.set("num_experts", c.experts);
  o.set("num_experts_per_tok", c.top_k);
  o.set("router_aux_loss_coef", base::shortest(c.balance));
  return o;
}

json::Object write_mixture_gguf(const MixtureConfig& c, const MixtureDefaults& defaults) {
  DenseConfig dense = c.dense;
  dense.traits.architecture = defaults.gguf_architecture;
  json::Object o = write_dense_gguf(dense);
  const std::string arch = std::string(defaults.gguf_architecture) + ".";
  o.set(arch + "expert_count", c.experts);
  o.set(arch + "expert_used_count", c.top_k);
  o.set(arch + "expert_feed_forward_length", c.expert_width);
  if (c.shared_width > 0) o.set(arch + "expert_shared_feed_forward_length", c.shared_width);
  // Said only where it differs from what every reader of these files takes for granted.
  if (c.normalise != defaults.gguf_normalise) o.set(arch + "expert_weights_norm", c.normalise);
  if (c.sparse_step != 1) o.set(arch + "decoder_sparse_step", c.sparse_step);
  if (!c.mlp_only.empty()) o.set(arch + "mlp_only_layers", as_json(c.mlp_only));
  return o;
}

MixtureWeights mixture_weights(ParameterTable& table, const MixtureConfig& c, const LayerNames& names) {
  const std::int64_t d = c.dense.traits.width, f = c.expert_width;
  const std::string hf = names.hf + "mlp.", gguf = names.gguf + "ffn_";
  MixtureWeights w;
  w.router = table.matrix(hf + "gate.weight", gguf + "gate_inp.weight", c.experts, d);
  // One matrix for each expert; GGUF stacks them, and newer folders hold gate and up of an expert one after the other.
  const auto experts = [&](const std::string& which, std::int64_t out, std::int64_t in, const char* fused,
                           std::int32_t fused_step, std::int32_t fused_first) {
    ops::Weight first;
    for (std::int32_t e = 0; e < c.experts; ++e) {
      const ops::Weight one = table.matrix(hf + "experts." + std::to_string(e) + "." + which + "_proj.weight",
                                           gguf + which + "_exps.weight", out, in);
      if (e == 0) first = one;
      ParameterSpec& spec = table.spec(one);
      spec.gguf_part = e;
      spec.gguf_parts = c.experts;
      spec.hf_fused = hf + "experts." + fused;
      spec.hf_fused_part = fused_step * e + fused_first;
      spec.hf_fused_parts = fused_step * c.experts;
      spec.hf_fused_each = c.transposed ? fused_step : 0;
    }
    return first;
  };
  w.gate = experts("gate", f, d, "gate_up_proj", 2, 0);
  w.up = experts("up", f, d, "gate_up_proj", 2, 1);
  w.down = experts("down", d, f, "down_proj", 1, 0);
  if (c.shared_width == 0) return w;
  w.shared_gate = table.matrix(hf + "shared_expert_gate.weight", gguf + "gate_inp_shexp.weight", 1, d);
  table.spec(w.shared_gate).gguf_vector = true;
  w.shared = ffn_weights(table, hf + "shared_expert.", gguf, "_shexp.weight", c.shared_width, d);
  return w;
}

Value mixture(ops::Executor& ex, Value x, const MixtureWeights& w, const MixtureConfig& c) {
  const Value chosen = ex.experts(x, ex.linear(x, w.router),
                                  {.experts = c.experts,
                                   .top_k = c.top_k,
                                   .width = c.expert_width,
                                   .normalise = c.normalise,
                                   .balance = c.balance,
                                   .gate = w.gate,
                                   .up = w.up,
                                   .down = w.down});
  if (!w.shared_gate.present()) return chosen;
  const auto [gate, up, open] = ex.products(x, {{w.shared.gate}, {w.shared.up}, {w.shared_gate}});  // [N, F], [N, F], [N, 1]
  return ex.add(chosen, ex.gate_rows(ex.linear(ex.swiglu(gate, up), w.shared.down), open));
}

MixtureDecoder::MixtureDecoder(MixtureConfig config, AttentionParts parts)
    : Decoder(config.dense), mixture_(std::move(config)) {
  ModelTraits& t = config_.traits;
  t.experts = mixture_.experts;
  t.experts_per_token = mixture_.top_k;
  t.expert_width = mixture_.expert_width;
  for (int i = 0; i < t.layers; ++i) {
    const LayerNames names(i);
    Layer l;
    l.attention = attention_weights(table_, t, names, parts);
    l.ffn_norm = table_.norm(names.hf + "post_attention_layernorm.weight", names.gguf + "ffn_norm.weight", t.width);
    l.sparse = mixture_.has_experts(i);
    if (l.sparse) l.experts = mixture_weights(table_, mixture_, names);
    else l.ffn = ffn_weights(table_, names.hf + "mlp.", names.gguf + "ffn_", ".weight", t.ffn_width, t.width);
    layers_.push_back(l);
  }
  end_table();
}

void MixtureDecoder::forward(ops::Executor& ex) const {
  Value x = ex.embed(embedding_);  // [N, D]
  for (int i = 0; i < config_.traits.layers; ++i) {
    const Layer& l = layers_[static_cast<std::size_t>(i)];
    x = attention_block(ex, x, l.attention, config_, i);
    const Value f = ex.rms_norm(x, l.ffn_norm, config_.eps);
    x = ex.add(x, l.sparse ? mixture(ex, f, l.experts, mixture_) : swiglu_ffn(ex, f, l.ffn));
  }
  finish(ex, x);
}

}  // namespace qw::models
