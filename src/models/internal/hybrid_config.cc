#include <algorithm>
#include <cmath>

#include "base/decimal.h"
#include "models/internal/config_reader.h"
#include "models/internal/hybrid.h"
#include "models/internal/names.h"

namespace qw::models {
namespace {

// Bounds that no published model comes near (128 value heads of 128 columns); they keep products far from overflow.
constexpr std::int64_t kMaxDeltaHeads = 4096, kMaxDeltaWidth = 1024, kMaxTaps = 64, kMaxLayers = 1024;
constexpr std::int64_t kInterval = 4;       // both formats' default: attention in every fourth layer
constexpr double kPartialRotary = 0.25;     // the reference's default
constexpr std::int32_t kHeadDim = 256;      // the reference's default

std::int32_t small(std::int64_t i) { return static_cast<std::int32_t>(i); }

struct DeltaKeys {
  std::string_view taps, key_heads, value_heads, key_dim, value_width;
};

Status check_delta(const ConfigReader& in, std::string_view key, const ops::DeltaRuleSpec& d) {
  if (d.value_heads % d.key_heads == 0) return {};
  return in.bad(key, std::to_string(d.value_heads) + " is not a multiple of the " + std::to_string(d.key_heads) + " key heads");
}

std::vector<bool> every(std::int64_t interval, std::int32_t layers) {
  std::vector<bool> full;
  for (std::int32_t i = 0; i < layers; ++i) full.push_back((i + 1) % interval == 0);
  return full;
}

// The interval of a regular pattern; 0: it is not one.
std::int64_t interval_of(const std::vector<bool>& full) {
  const auto first = std::find(full.begin(), full.end(), true) - full.begin() + 1;
  return full == every(first, static_cast<std::int32_t>(full.size())) ? first : 0;
}

// Sets which layers have attention; the traits count those from here on.
Status settle_layers(const ConfigReader& in, std::string_view key, HybridConfig& c) {
  const auto n = std::count(c.full.begin(), c.full.end(), true);
  if (n == 0) return in.bad(key, "no layer has attention");
  c.mixture.dense.traits.layers = static_cast<std::int32_t>(n);
  return {};
}

Status read_layer_types(const ConfigReader& in, HybridConfig& c) {
  const std::int32_t layers = c.mixture.dense.traits.layers;
  const json::Value* types = in.find("layer_types");
  if (types == nullptr) {
    QW_ASSIGN(const std::int64_t interval, in.integer("full_attention_interval", 1, kMaxLayers, kInterval));
    c.full = every(interval, layers);
    return settle_layers(in, "full_attention_interval", c);
  }
  if (!types->is_array() || types->as_array().size() != static_cast<std::size_t>(layers))
    return in.bad("layer_types", "must name the type of each of the " + std::to_string(layers) + " layers");
  for (const json::Value& type : types->as_array()) {
    if (!type.is_string() || (type.as_string() != "full_attention" && type.as_string() != "linear_attention"))
      return in.bad("layer_types", "only full_attention and linear_attention layers are supported");
    c.full.push_back(type.as_string() == "full_attention");
  }
  return settle_layers(in, "layer_types", c);
}

Status set_rotary(const ConfigReader& in, std::string_view key, std::int64_t rotary, HybridConfig& c) {
  ops::RopeSpec& rope = c.mixture.dense.rope;
  if (rotary < 2 || rotary % 2 != 0 || rotary > rope.head_dim)
    return in.bad(key, "a rotated width of " + std::to_string(rotary) + " in heads of " + std::to_string(rope.head_dim));
  rope.rotary = small(rotary);
  return {};
}

// Takes what this file reads itself out of the keys that the readers of other decoders see.
Result<json::Object> without_own_keys(const json::Object& config, double& partial, std::vector<std::int64_t>& sections) {
  json::Object o = config;
  const ConfigReader in(config, "");
  QW_ASSIGN(partial, in.number("partial_rotary_factor", 0, 1, kPartialRotary));
  o.erase("layer_types");
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const json::Value* value = in.find(name);
    if (value == nullptr || !value->is_object()) continue;
    const ConfigReader rope(value->as_object(), "");
    QW_ASSIGN(partial, rope.number("partial_rotary_factor", 0, 1, partial));
    if (const json::Value* axes = rope.find("mrope_section"); axes != nullptr && axes->is_array())
      for (const json::Value& n : axes->as_array())
        if (n.is_int() && sections.size() < 3) sections.push_back(n.as_int());
    json::Object plain = value->as_object();
    plain.erase("partial_rotary_factor");
    o.set(name, plain);
  }
  return o;
}

// A third of the rotated pairs each, the first with what is left over, as the published models have it.
void settle_sections(const HybridDefaults& defaults, HybridConfig& c) {
  if (!defaults.sections) return c.sections.clear();
  const std::int64_t pairs = c.mixture.dense.rope.rotary / 2;
  if (c.sections.size() != 3) c.sections = {pairs - (pairs + 1) / 3 - pairs / 3, (pairs + 1) / 3, pairs / 3};
}

Status read_delta_hf(const ConfigReader& in, HybridConfig& c) {
  ops::DeltaRuleSpec& d = c.delta;
  QW_ASSIGN(c.taps, in.integer("linear_conv_kernel_dim", 2, kMaxTaps, 4).map(small));
  QW_ASSIGN(d.key_heads, in.integer("linear_num_key_heads", 1, kMaxDeltaHeads, 16).map(small));
  QW_ASSIGN(d.value_heads, in.integer("linear_num_value_heads", 1, kMaxDeltaHeads, 32).map(small));
  QW_ASSIGN(d.key_dim, in.integer("linear_key_head_dim", 1, kMaxDeltaWidth, 128).map(small));
  QW_ASSIGN(d.value_dim, in.integer("linear_value_head_dim", 1, kMaxDeltaWidth, 128).map(small));
  return check_delta(in, "linear_num_value_heads", d);
}

Status read_delta_gguf(const ConfigReader& in, HybridConfig& c) {
  ops::DeltaRuleSpec& d = c.delta;
  QW_ASSIGN(c.taps, in.integer("ssm.conv_kernel", 2, kMaxTaps).map(small));
  QW_ASSIGN(d.key_heads, in.integer("ssm.group_count", 1, kMaxDeltaHeads).map(small));
  QW_ASSIGN(d.value_heads, in.integer("ssm.time_step_rank", 1, kMaxDeltaHeads).map(small));
  QW_ASSIGN(d.key_dim, in.integer("ssm.state_size", 1, kMaxDeltaWidth).map(small));
  QW_ASSIGN(const std::int64_t inner, in.integer("ssm.inner_size", 1, kMaxDeltaHeads * kMaxDeltaWidth));
  if (inner % d.value_heads != 0 || inner / d.value_heads > kMaxDeltaWidth)
    return in.bad("ssm.inner_size", std::to_string(inner) + " does not fit " + std::to_string(d.value_heads) + " heads");
  d.value_dim = small(inner / d.value_heads);
  return check_delta(in, "ssm.time_step_rank", d);
}

Status read_layers_gguf(const ConfigReader& in, HybridConfig& c) {
  const std::int32_t layers = c.mixture.dense.traits.layers;
  const json::Value* listed = in.find("attention.recurrent_layers");
  if (listed == nullptr) {
    QW_ASSIGN(const std::int64_t interval, in.integer("full_attention_interval", 1, kMaxLayers, kInterval));
    c.full = every(interval, layers);
    return settle_layers(in, "full_attention_interval", c);
  }
  if (!listed->is_array() || listed->as_array().size() < static_cast<std::size_t>(layers))
    return in.bad("attention.recurrent_layers", "must say it of each of the " + std::to_string(layers) + " layers");
  for (std::int32_t i = 0; i < layers; ++i) {
    const json::Value& v = listed->as_array()[static_cast<std::size_t>(i)];
    if (!v.is_bool() && !v.is_int()) return in.bad("attention.recurrent_layers", "must hold true and false");
    c.full.push_back(v.is_bool() ? !v.as_bool() : v.as_int() == 0);
  }
  return settle_layers(in, "attention.recurrent_layers", c);
}

// Layers that draft, of those the file has.
std::int32_t kept_drafts(const HybridConfig& c) { return c.draft_layers == 1 ? 1 : 0; }

}  // namespace

Result<HybridConfig> read_hybrid_hf(const json::Object& config, const HybridDefaults& defaults) {
  HybridConfig c;
  double partial = 0;
  QW_ASSIGN(json::Object plain, without_own_keys(config, partial, c.sections));
  const ConfigReader in(config, "");
  if (defaults.mixture) {
    if (!in.has("intermediate_size")) plain.set("intermediate_size", in.has("moe_intermediate_size") ? *in.find("moe_intermediate_size") : json::Value(1));
    if (!in.has("norm_topk_prob")) plain.set("norm_topk_prob", true);  // the reference's default
    QW_ASSIGN(c.mixture, read_mixture_hf(plain, defaults.names));
  } else {
    QW_ASSIGN(c.mixture.dense, read_dense_hf(plain, defaults.names.architecture, kHeadDim));
  }
  QW_ASSIGN(c.draft_layers, in.integer(kHfDraftLayers, 0, kMaxLayers, 0).map(small));
  QW_ASSIGN(const bool bias, in.boolean("attention_bias", false));
  if (bias) return in.bad("attention_bias", "biases on the projections are not supported");
  QW_TRY(read_layer_types(in, c));
  QW_TRY(set_rotary(in, "partial_rotary_factor", static_cast<std::int64_t>(c.mixture.dense.rope.head_dim * partial), c));
  QW_TRY(read_delta_hf(in, c));
  c.delta.tiled = !defaults.fused_inputs;
  settle_sections(defaults, c);
  return c;
}

Result<HybridConfig> read_hybrid_gguf(const json::Object& metadata, const HybridDefaults& defaults,
                                      bool has_output_weight, std::int64_t vocab) {
  const std::string arch = std::string(defaults.names.gguf_architecture) + ".";
  const ConfigReader in(metadata, arch);
  HybridConfig c;
  QW_ASSIGN(c.draft_layers, in.integer("nextn_predict_layers", 0, kMaxLayers, 0).map(small));
  QW_ASSIGN(const std::int64_t blocks, in.integer("block_count", 1 + c.draft_layers, kMaxLayers));
  QW_ASSIGN(const std::int64_t head_dim, in.integer("attention.key_length", 2, 1 << 16, kHeadDim));
  QW_ASSIGN(const std::int64_t rotary, in.integer("rope.dimension_count", 2, 1 << 16, head_dim));
  json::Object plain = metadata;
  plain.set(arch + "block_count", blocks - c.draft_layers);
  plain.erase(arch + "rope.dimension_count");
  if (defaults.mixture) {
    if (!in.has("feed_forward_length")) plain.set(arch + "feed_forward_length", 1);  // of layers that there are not
    QW_ASSIGN(c.mixture, read_mixture_gguf(plain, defaults.names, has_output_weight, vocab));
  } else {
    QW_ASSIGN(c.mixture.dense, read_dense_gguf(plain, defaults.names.gguf_architecture, has_output_weight, vocab));
    c.mixture.dense.traits.architecture = defaults.names.architecture;
  }
  QW_TRY(read_layers_gguf(in, c));
  QW_TRY(set_rotary(in, "rope.dimension_count", rotary, c));
  QW_TRY(read_delta_gguf(in, c));
  c.delta.tiled = !defaults.fused_inputs;
  if (const json::Value* axes = in.find("rope.dimension_sections"); axes != nullptr && axes->is_array())
    for (const json::Value& n : axes->as_array())
      if (n.is_int() && c.sections.size() < 3) c.sections.push_back(n.as_int());
  settle_sections(defaults, c);
  return c;
}

json::Object write_hybrid_hf(const HybridConfig& c, const HybridDefaults& defaults) {
  json::Object o = defaults.mixture ? write_mixture_hf(c.mixture, defaults.class_name)
                                    : write_dense_hf(c.mixture.dense, defaults.class_name);
  const DenseConfig& dense = c.mixture.dense;
  o.set("model_type", std::string(defaults.hf_type));
  o.set("num_hidden_layers", c.layers());
  o.set("attention_bias", false);
  json::Array types;
  for (const bool full : c.full) types.emplace_back(full ? "full_attention" : "linear_attention");
  o.set("layer_types", types);
  if (const std::int64_t interval = interval_of(c.full)) o.set("full_attention_interval", interval);
  o.set("linear_conv_kernel_dim", c.taps);
  o.set("linear_num_key_heads", c.delta.key_heads);
  o.set("linear_num_value_heads", c.delta.value_heads);
  o.set("linear_key_head_dim", c.delta.key_dim);
  o.set("linear_value_head_dim", c.delta.value_dim);
  json::Object rope{{"rope_type", "default"}};
  if (const json::Value* scaling = o.find_set("rope_scaling")) rope = scaling->as_object();
  rope.set("rope_theta", base::shortest(dense.rope.theta));
  rope.set("partial_rotary_factor", static_cast<double>(dense.rope.rotary) / dense.rope.head_dim);
  if (!c.sections.empty()) {
    rope.set("mrope_interleaved", true);
    rope.set("mrope_section", json::Array{c.sections[0], c.sections[1], c.sections[2]});
  }
  for (const char* older : {"rope_scaling", "rope_theta", "max_window_layers", "use_sliding_window"}) o.erase(older);
  o.set("rope_parameters", rope);
  if (kept_drafts(c) > 0) o.set(std::string(kHfDraftLayers), kept_drafts(c));
  return o;
}

json::Object write_hybrid_gguf(const HybridConfig& c, const HybridDefaults& defaults) {
  DenseConfig dense = c.mixture.dense;
  dense.traits.architecture = defaults.names.gguf_architecture;
  json::Object o = defaults.mixture ? write_mixture_gguf(c.mixture, defaults.names) : write_dense_gguf(dense);
  const std::string arch = std::string(defaults.names.gguf_architecture) + ".";
  const std::int32_t drafts = kept_drafts(c);
  o.set(arch + "block_count", c.layers() + drafts);
  if (c.draft_layers > 0) o.set(arch + "nextn_predict_layers", drafts);  // several are left aside
  if (const std::int64_t interval = interval_of(c.full)) {
    o.set(arch + "full_attention_interval", interval);
  } else {
    json::Array recurrent;
    for (const bool full : c.full) recurrent.emplace_back(!full);
    for (std::int32_t i = 0; i < drafts; ++i) recurrent.emplace_back(false);
    o.set(arch + "attention.recurrent_layers", recurrent);
  }
  o.set(arch + "ssm.conv_kernel", c.taps);
  o.set(arch + "ssm.state_size", c.delta.key_dim);
  o.set(arch + "ssm.group_count", c.delta.key_heads);
  o.set(arch + "ssm.time_step_rank", c.delta.value_heads);
  o.set(arch + "ssm.inner_size", c.delta.values_width());
  if (!c.sections.empty())
    o.set(arch + "rope.dimension_sections", json::Array{c.sections[0], c.sections[1], c.sections[2], 0});
  return o;
}

}  // namespace qw::models
