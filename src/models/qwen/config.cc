#include <algorithm>

#include "base/decimal.h"
#include "models/internal/config_reader.h"
#include "models/qwen/qwen.h"

namespace qw::models::qwen {
namespace {

constexpr std::int64_t kMaxPositions = std::int64_t{1} << 30;
constexpr std::int32_t kHeadDim = 128;  // kv_channels of every published size

// Both tricks act beyond the trained length only, so they need to know it.
Status read_tricks(const ConfigReader& in, Config& c) {
  QW_ASSIGN(c.trained, in.integer("seq_length", 2, kMaxPositions, 0));
  QW_ASSIGN(c.dynamic_ntk, in.boolean("use_dynamic_ntk", false));
  QW_ASSIGN(c.logn, in.boolean("use_logn_attn", false));
  if (c.trained == 0 && (c.dynamic_ntk || c.logn))
    return in.bad("seq_length", "missing, and use_dynamic_ntk and use_logn_attn count from it");
  ops::RopeSpec& rope = c.dense.rope;
  if (!c.dynamic_ntk) return {};
  if (rope.rotary <= 2) return in.bad("use_dynamic_ntk", "heads are too narrow for it");
  rope.scaling = ops::RopeScaling::kDynamicNtk;
  rope.original_context = static_cast<float>(c.trained);
  return {};
}

// Files state twice the width that the two halves of the feed-forward network have.
Status halve_ffn(const ConfigReader& in, std::string_view key, Config& c) {
  std::int32_t& ffn = c.dense.traits.ffn_width;
  if (ffn % 2 != 0) return in.bad(key, std::to_string(ffn) + " is not even: it is twice the real width");
  ffn /= 2;
  return {};
}

Status check_heads(const ConfigReader& in, std::string_view key, const Config& c) {
  const ModelTraits& t = c.dense.traits;
  if (t.kv_heads != t.heads) return in.bad(key, "this architecture has as many key heads as query heads");
  return {};
}

// What the common reader understands under the names of later generations.
json::Object renamed(const json::Object& config) {
  json::Object o;
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"kv_channels", "head_dim"}, {"layer_norm_epsilon", "rms_norm_eps"}, {"rotary_emb_base", "rope_theta"}};
  for (const auto& [key, value] : config) {
    if (key == "tie_word_embeddings" || key == "rope_scaling") continue;
    const auto* name = std::find_if(std::begin(kNames), std::end(kNames), [&](const auto& n) { return n.first == key; });
    o.set(name == std::end(kNames) ? key : std::string(name->second), value);
  }
  return o;
}

Status reject_variants(const ConfigReader& in) {
  QW_ASSIGN(const bool tied, in.boolean("tie_word_embeddings", false));
  if (tied) return in.bad("tie_word_embeddings", "the head of this architecture is a table of its own");
  QW_ASSIGN(const bool bare, in.boolean("no_bias", true));
  if (!bare) return in.bad("no_bias", "biases outside the fused projection are not supported");
  QW_ASSIGN(const bool scaled, in.boolean("scale_attn_weights", true));
  if (!scaled) return in.bad("scale_attn_weights", "attention without scaling is not supported");
  QW_ASSIGN(const double part, in.number("rotary_pct", 0, 1, 1.0));
  if (part != 1.0) return in.bad("rotary_pct", "this architecture rotates whole heads");
  for (const char* key : {"kv_channels", "layer_norm_epsilon", "rotary_emb_base"})
    if (const json::Value* v = in.find(key); v != nullptr && !v->is_number()) return in.bad(key, "must be a number");
  return {};
}

}  // namespace

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config) {
  const ConfigReader in(config, "");
  QW_TRY(reject_variants(in));
  Config c;
  QW_ASSIGN(c.dense, read_dense_hf(renamed(config), "qwen", kHeadDim));
  QW_TRY(halve_ffn(in, "intermediate_size", c));
  QW_TRY(check_heads(in, "num_key_value_heads", c));
  QW_TRY(read_tricks(in, c));
  return std::make_unique<Qwen>(std::move(c));
}

Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab) {
  const ConfigReader in(metadata, "qwen.");
  json::Object keys = metadata;
  // Some converters leave out the "rms".
  if (const json::Value* eps = in.find("attention.layer_norm_epsilon"); eps && !in.has("attention.layer_norm_rms_epsilon"))
    keys.set("qwen.attention.layer_norm_rms_epsilon", *eps);
  if (!has_output_weight) return fail(ErrorKind::kBadInput, "output.weight: missing, and this architecture ties nothing");
  Config c;
  QW_ASSIGN(c.dense, read_dense_gguf(keys, "qwen", has_output_weight, vocab));
  QW_TRY(halve_ffn(in, "feed_forward_length", c));
  QW_TRY(check_heads(in, "attention.head_count_kv", c));
  // Keys of this house: the format has none for them.
  QW_TRY(read_tricks(in, c));
  return std::make_unique<Qwen>(std::move(c));
}

json::Object Qwen::hf_config() const {
  const ModelTraits& t = config_.traits;
  json::Object o{
      {"architectures", json::Array{"QWenLMHeadModel"}},
      {"hidden_size", t.width},
      {"initializer_range", base::shortest(config_.init_std)},
      {"intermediate_size", 2 * t.ffn_width},
      {"kv_channels", t.head_dim},
      {"layer_norm_epsilon", base::shortest(config_.eps)},
      {"max_position_embeddings", t.context},
      {"model_type", t.architecture},
      {"no_bias", true},
      {"num_attention_heads", t.heads},
      {"num_hidden_layers", t.layers},
      {"rotary_emb_base", base::shortest(config_.rope.theta)},
      {"rotary_pct", 1.0},
      {"scale_attn_weights", true},
  };
  if (stated_.trained > 0) o.set("seq_length", stated_.trained);
  o.set("tie_word_embeddings", false);
  o.set("use_dynamic_ntk", stated_.dynamic_ntk);
  o.set("use_logn_attn", stated_.logn);
  o.set("vocab_size", t.vocab);
  return o;
}

json::Object Qwen::gguf_metadata() const {
  DenseConfig dense = config_;
  dense.traits.ffn_width *= 2;
  dense.rope.scaling = ops::RopeScaling::kNone;  // the keys below say it
  json::Object o = write_dense_gguf(dense);
  if (stated_.trained > 0) o.set("qwen.seq_length", stated_.trained);
  if (stated_.dynamic_ntk) o.set("qwen.use_dynamic_ntk", true);
  if (stated_.logn) o.set("qwen.use_logn_attn", true);
  return o;
}

}  // namespace qw::models::qwen
