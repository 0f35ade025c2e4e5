#include "models/internal/dense.h"

#include <algorithm>
#include <cmath>

#include "base/decimal.h"
#include "models/internal/config_reader.h"
#include "models/internal/dual_chunk.h"
#include "models/internal/heads.h"
#include "models/internal/senses.h"

namespace qw::models {
namespace {

// Upper bounds that no published model comes near; they keep products of sizes far from overflow and a hostile file
// from asking for absurd tables.
constexpr std::int64_t kMaxVocab = 1 << 24, kMaxWidth = 1 << 18, kMaxFfn = 1 << 20, kMaxLayers = 1024, kMaxHeads = 4096,
                       kMaxContext = std::int64_t{1} << 30;
constexpr std::int64_t kMaxHeadDim = 256;  // the running attention kernels' ceiling; the largest head of the family
constexpr std::int64_t kDefaultContext = 32768;  // when the file does not say
constexpr double kDefaultTheta = 10000;          // both file formats' default

struct Keys {  // the same number under both formats' names
  std::string_view vocab, width, ffn, layers, heads, kv_heads, head_dim, context, eps;
};
constexpr Keys kHf{"vocab_size",          "hidden_size",         "intermediate_size", "num_hidden_layers",
                   "num_attention_heads", "num_key_value_heads", "head_dim",          "max_position_embeddings",
                   "rms_norm_eps"};
constexpr Keys kGguf{"vocab_size",           "embedding_length",     "feed_forward_length",
                     "block_count",          "attention.head_count", "attention.head_count_kv",
                     "attention.key_length", "context_length",       "attention.layer_norm_rms_epsilon"};

Result<DenseConfig> read_sizes(const ConfigReader& in, const Keys& key, std::string_view architecture,
                               std::int32_t default_head_dim) {
  DenseConfig c;
  ModelTraits& t = c.traits;
  t.architecture = architecture;
  auto small = [](std::int64_t i) { return static_cast<std::int32_t>(i); };
  QW_ASSIGN(t.width, in.integer(key.width, 1, kMaxWidth).map(small));
  QW_ASSIGN(t.ffn_width, in.integer(key.ffn, 1, kMaxFfn).map(small));
  QW_ASSIGN(t.layers, in.integer(key.layers, 1, kMaxLayers).map(small));
  QW_ASSIGN(t.heads, in.integer(key.heads, 1, kMaxHeads).map(small));
  QW_ASSIGN(t.kv_heads, in.integer(key.kv_heads, 1, kMaxHeads, t.heads).map(small));
  if (t.heads % t.kv_heads != 0)
    return in.bad(key.kv_heads,
                  std::to_string(t.kv_heads) + " does not divide the " + std::to_string(t.heads) + " heads");
  if (!in.has(key.head_dim) && default_head_dim == 0 && t.width % t.heads != 0)
    return in.bad(key.heads, std::to_string(t.heads) + " does not divide the width " + std::to_string(t.width));
  const std::int32_t otherwise = default_head_dim != 0 ? default_head_dim : t.width / t.heads;
  QW_ASSIGN(t.head_dim, in.integer(key.head_dim, 2, kMaxHeadDim, otherwise).map(small));
  if (t.head_dim % 2 != 0 || t.head_dim < 2)
    return in.bad(key.head_dim, std::to_string(t.head_dim) + " is not a positive even number");
  QW_ASSIGN(t.context, in.integer(key.context, 1, kMaxContext, kDefaultContext));
  QW_ASSIGN(c.eps, in.number(key.eps, 0, 1, 1e-6).map([](double d) { return static_cast<float>(d); }));
  c.rope.head_dim = c.rope.rotary = t.head_dim;
  return c;
}

// Scaling parameters, whose names differ little between the formats.
Status read_yarn(const ConfigReader& in, std::string_view original_key, ops::RopeSpec& rope) {
  auto single = [](double d) { return static_cast<float>(d); };
  QW_ASSIGN(rope.factor, in.number("factor", 1, 1e6).map(single));
  if (rope.scaling != ops::RopeScaling::kYarn) return {};
  QW_ASSIGN(rope.original_context, in.number(original_key, 1, static_cast<double>(kMaxContext)).map(single));
  // YaRN, equation 22: the reference multiplies cos and sin by this.
  rope.attention_factor = static_cast<float>(0.1 * std::log(static_cast<double>(rope.factor)) + 1.0);
  return {};
}

Status read_rope_hf(const json::Object& config, DenseConfig& c) {
  const ConfigReader top(config, "");
  auto single = [](double d) { return static_cast<float>(d); };
  QW_ASSIGN(double theta, top.number("rope_theta", 1, 1e12, kDefaultTheta));
  // Older files say "rope_scaling" (absent or null: none), newer ones "rope_parameters", which holds theta too.
  for (const std::string_view name : {"rope_scaling", "rope_parameters"}) {
    const json::Value* value = top.find(name);
    if (value == nullptr) continue;
    if (!value->is_object()) return top.bad(name, "must be an object");
    const std::string prefix = std::string(name) + ".";
    json::Object flat;
    for (const auto& [k, v] : value->as_object()) flat.set(prefix + k, v);
    const ConfigReader in(flat, prefix);
    QW_ASSIGN(theta, in.number("rope_theta", 1, 1e12, theta));
    QW_ASSIGN(const double partial, in.number("partial_rotary_factor", 0, 1, 1.0));
    if (partial != 1.0) return in.bad("partial_rotary_factor", "this architecture rotates whole heads");
    QW_ASSIGN(std::string type, in.string(in.has("rope_type") ? "rope_type" : "type", "default"));
    if (type == "default" || type == "mrope") continue;  // the second: axes of positions, which text has all equal
    if (type == "linear") {
      c.rope.scaling = ops::RopeScaling::kLinear;
    } else if (type == "yarn") {
      c.rope.scaling = ops::RopeScaling::kYarn;
    } else {
      return in.bad("rope_type", "scaling \"" + type + "\" is not one of default, linear, yarn");
    }
    QW_TRY(read_yarn(in, "original_max_position_embeddings", c.rope));
    QW_ASSIGN(c.rope.beta_fast, in.number("beta_fast", 0.01, 1e4, 32).map(single));
    QW_ASSIGN(c.rope.beta_slow, in.number("beta_slow", 0.01, 1e4, 1).map(single));
    QW_ASSIGN(c.rope.attention_factor, in.number("attention_factor", 0.01, 100, c.rope.attention_factor).map(single));
    for (const char* other : {"mscale", "mscale_all_dim", "truncate"})
      if (in.has(other)) return in.bad(other, "is not supported");
  }
  c.rope.theta = static_cast<float>(theta);
  return {};
}

Status read_rope_gguf(const ConfigReader& in, DenseConfig& c) {
  auto single = [](double d) { return static_cast<float>(d); };
  QW_ASSIGN(c.rope.theta, in.number("rope.freq_base", 1, 1e12, kDefaultTheta).map(single));
  QW_ASSIGN(const std::int64_t rotary, in.integer("rope.dimension_count", 2, kMaxHeadDim, c.traits.head_dim));
  if (rotary != c.traits.head_dim) return in.bad("rope.dimension_count", "this architecture rotates whole heads");
  QW_ASSIGN(const std::string type, in.string("rope.scaling.type", "none"));
  if (type == "none") return {};
  if (type == "linear") {
    c.rope.scaling = ops::RopeScaling::kLinear;
  } else if (type == "yarn") {
    c.rope.scaling = ops::RopeScaling::kYarn;
  } else {
    return in.bad("rope.scaling.type", "scaling \"" + type + "\" is not one of none, linear, yarn");
  }
  QW_ASSIGN(c.rope.factor, in.number("rope.scaling.factor", 1, 1e6).map(single));
  if (c.rope.scaling != ops::RopeScaling::kYarn) return {};
  QW_ASSIGN(c.rope.original_context,
            in.number("rope.scaling.original_context_length", 1, static_cast<double>(kMaxContext)).map(single));
  QW_ASSIGN(c.rope.beta_fast, in.number("rope.scaling.yarn_beta_fast", 0.01, 1e4, 32).map(single));
  QW_ASSIGN(c.rope.beta_slow, in.number("rope.scaling.yarn_beta_slow", 0.01, 1e4, 1).map(single));
  // Here the file's factor multiplies the usual 0.1 ln(s) + 1.
  QW_ASSIGN(const double extra, in.number("rope.scaling.attn_factor", 0.01, 100, 1));
  c.rope.attention_factor = static_cast<float>((0.1 * std::log(static_cast<double>(c.rope.factor)) + 1.0) * extra);
  return {};
}

// Settings that change the computation and that this house does not compute: better an error than wrong numbers.
Status reject_variants(const ConfigReader& in) {
  QW_ASSIGN(const std::string act, in.string("hidden_act", "silu"));
  if (act != "silu") return in.bad("hidden_act", "\"" + act + "\" is not silu");
  return {};
}

// Layers see the last `sliding_window` tokens where use_sliding_window says so: those that layer_types names, else those
// from max_window_layers on.
Status read_windows_hf(const ConfigReader& in, Windows windows, DenseConfig& c) {
  QW_ASSIGN(bool sliding, in.boolean("use_sliding_window", false));
  if (sliding && windows == Windows::kRefused)
    return in.bad("use_sliding_window", "sliding-window attention of this architecture is not supported");
  // The reference's defaults; a window that is null is none.
  constexpr std::int64_t kDefaultWindow = 4096, kDefaultFirst = 28;
  if (in.holds_null("sliding_window")) sliding = false;
  if (sliding) {
    QW_ASSIGN(c.window, in.integer("sliding_window", 1, kMaxContext, kDefaultWindow));
    QW_ASSIGN(const std::int64_t first, in.integer("max_window_layers", 0, kMaxLayers, kDefaultFirst));
    for (int i = 0; i < c.traits.layers; ++i)
      c.windowed.push_back(windows == Windows::kAll || (windows == Windows::kFromLayer ? i >= first : i % 2 == 0 && i < first));
  }
  if (const json::Value* types = in.find("layer_types")) {
    if (!types->is_array() || types->as_array().size() != static_cast<std::size_t>(c.traits.layers))
      return in.bad("layer_types", "must name the type of each of the " + std::to_string(c.traits.layers) + " layers");
    for (std::size_t i = 0; i < types->as_array().size(); ++i) {
      const json::Value& type = types->as_array()[i];
      const bool windowed = type.is_string() && type.as_string() == "sliding_attention";
      if (!windowed && !(type.is_string() && type.as_string() == "full_attention"))
        return in.bad("layer_types", "only full_attention and sliding_attention layers are supported");
      if (windowed && !sliding) return in.bad("layer_types", "sliding_attention, but use_sliding_window gives no window");
      if (sliding && !windowed && windows == Windows::kAll)
        return in.bad("layer_types", "full_attention, but all layers of this architecture have the window");
      if (sliding) c.windowed[i] = windowed;
    }
  }
  if (std::find(c.windowed.begin(), c.windowed.end(), true) == c.windowed.end()) {
    c.window = 0;
    c.windowed.clear();
  }
  return {};
}

// The keys that GGUF files of other families have for it.
constexpr std::string_view kGgufWindow = "attention.sliding_window", kGgufPattern = "attention.sliding_window_pattern";

Status read_windows_gguf(const ConfigReader& in, Windows windows, DenseConfig& c) {
  QW_ASSIGN(c.window, in.integer(kGgufWindow, 0, kMaxContext, 0));
  if (c.window == 0) return {};
  if (windows == Windows::kRefused) return in.bad(kGgufWindow, "sliding-window attention of this architecture is not supported");
  const json::Value* pattern = in.find(kGgufPattern);
  const auto layers = static_cast<std::size_t>(c.traits.layers);
  if (pattern == nullptr || !pattern->is_array() || pattern->as_array().size() != layers)
    return in.bad(kGgufPattern, "must say for each of the " + std::to_string(layers) + " layers whether it has the window");
  for (const json::Value& one : pattern->as_array()) {
    if (!one.is_bool()) return in.bad(kGgufPattern, "must hold true and false");
    c.windowed.push_back(one.as_bool());
    if (windows == Windows::kAll && !one.as_bool())
      return in.bad(kGgufPattern, "all layers of this architecture have the window");
  }
  return {};
}

json::Value rope_scaling_value(const ops::RopeSpec& rope) {
  if (rope.scaling == ops::RopeScaling::kNone) return nullptr;
  const bool yarn = rope.scaling == ops::RopeScaling::kYarn;
  json::Object o{{"rope_type", yarn ? "yarn" : "linear"}, {"factor", base::shortest(rope.factor)}};
  if (!yarn) return o;
  o.set("original_max_position_embeddings", static_cast<std::int64_t>(rope.original_context));
  o.set("attention_factor", base::shortest(rope.attention_factor));
  o.set("beta_fast", base::shortest(rope.beta_fast));
  o.set("beta_slow", base::shortest(rope.beta_slow));
  return o;
}

}  // namespace

Result<DenseConfig> read_dense_hf(const json::Object& config, std::string_view architecture,
                                  std::int32_t default_head_dim, Windows windows) {
  const ConfigReader in(config, "");
  QW_ASSIGN(DenseConfig c, read_sizes(in, kHf, architecture, default_head_dim));
  QW_ASSIGN(c.traits.vocab, in.integer(kHf.vocab, 1, kMaxVocab));
  QW_ASSIGN(c.traits.tied_embeddings, in.boolean("tie_word_embeddings", false));
  QW_ASSIGN(c.init_std, in.number("initializer_range", 0, 1, 0.02).map([](double d) { return static_cast<float>(d); }));
  QW_TRY(reject_variants(in));
  QW_TRY(read_windows_hf(in, windows, c));
  QW_TRY(read_rope_hf(config, c));
  QW_TRY(read_dual_chunk_hf(config, c));
  QW_TRY(read_head_hf(config, c));
  c.traits.left_aside = towers_beside(config);
  return c;
}

Result<DenseConfig> read_dense_gguf(const json::Object& metadata, std::string_view architecture, bool has_output_weight,
                                    std::int64_t vocab, Windows windows) {
  const ConfigReader in(metadata, std::string(architecture) + ".");
  QW_ASSIGN(DenseConfig c, read_sizes(in, kGguf, architecture, 0));
  QW_ASSIGN(const std::int64_t value_length, in.integer("attention.value_length", 1, kMaxHeadDim, c.traits.head_dim));
  if (value_length != c.traits.head_dim) return in.bad("attention.value_length", "differs from attention.key_length");
  if (vocab < 1 || vocab > kMaxVocab)
    return fail(ErrorKind::kBadInput, "token_embd.weight: " + std::to_string(vocab) + " rows");
  c.traits.vocab = vocab;
  c.traits.tied_embeddings = !has_output_weight;
  if (const json::Value* causal = in.find("attention.causal"); causal && causal->is_bool() && !causal->as_bool())
    return in.bad("attention.causal", "only causal attention is supported");
  QW_TRY(read_windows_gguf(in, windows, c));
  QW_TRY(read_rope_gguf(in, c));
  QW_TRY(read_dual_chunk_gguf(in, c));
  QW_TRY(read_head_gguf(in, c));
  return c;
}

json::Object write_dense_hf(const DenseConfig& c, std::string_view class_name) {
  const ModelTraits& t = c.traits;
  json::Object o{
      {"architectures", json::Array{std::string(class_name)}},
      {"attention_dropout", 0.0},
      {"head_dim", t.head_dim},
      {"hidden_act", "silu"},
      {"hidden_size", t.width},
      {"initializer_range", base::shortest(c.init_std)},
      {"intermediate_size", t.ffn_width},
      {"max_position_embeddings", t.context},
      {"model_type", t.architecture},
      {"num_attention_heads", t.heads},
      {"num_hidden_layers", t.layers},
      {"num_key_value_heads", t.kv_heads},
      {"rms_norm_eps", base::shortest(c.eps)},
      {"rope_scaling", rope_scaling_value(c.rope)},
      {"rope_theta", base::shortest(c.rope.theta)},
      {"tie_word_embeddings", t.tied_embeddings},
      {"use_cache", true},
      {"use_sliding_window", c.window > 0},
      {"vocab_size", t.vocab},
  };
  // Where no layer has a window, max_window_layers says that all see everything.
  const auto first = std::find(c.windowed.begin(), c.windowed.end(), true) - c.windowed.begin();
  o.set("max_window_layers", c.window > 0 ? static_cast<std::int64_t>(first) : t.layers);
  if (c.window > 0) {
    o.set("sliding_window", c.window);
    json::Array types;
    for (const bool windowed : c.windowed) types.emplace_back(windowed ? "sliding_attention" : "full_attention");
    o.set("layer_types", types);
  }
  write_dual_chunk_hf(c, o);
  write_head_hf(c, class_name, o);
  return o;
}

json::Object write_dense_gguf(const DenseConfig& c) {
  const ModelTraits& t = c.traits;
  const std::string arch = t.architecture + ".";
  json::Object o{{"general.architecture", t.architecture}};
  o.set(arch + "vocab_size", t.vocab);
  o.set(arch + "context_length", t.context);
  o.set(arch + "embedding_length", t.width);
  o.set(arch + "block_count", t.layers);
  o.set(arch + "feed_forward_length", t.ffn_width);
  o.set(arch + "attention.head_count", t.heads);
  o.set(arch + "attention.head_count_kv", t.kv_heads);
  o.set(arch + "attention.key_length", t.head_dim);
  o.set(arch + "attention.value_length", t.head_dim);
  o.set(arch + "attention.layer_norm_rms_epsilon", base::shortest(c.eps));
  o.set(arch + "rope.freq_base", base::shortest(c.rope.theta));
  o.set(arch + "rope.dimension_count", c.rope.rotary);
  if (c.window > 0) {
    json::Array pattern;
    for (const bool windowed : c.windowed) pattern.emplace_back(windowed);
    o.set(arch + std::string(kGgufWindow), c.window);
    o.set(arch + std::string(kGgufPattern), pattern);
  }
  write_dual_chunk_gguf(c, arch, o);
  write_head_gguf(c, arch, o);
  if (c.rope.scaling == ops::RopeScaling::kNone) return o;
  const bool yarn = c.rope.scaling == ops::RopeScaling::kYarn;
  o.set(arch + "rope.scaling.type", yarn ? "yarn" : "linear");
  o.set(arch + "rope.scaling.factor", base::shortest(c.rope.factor));
  if (!yarn) return o;
  const double usual = 0.1 * std::log(static_cast<double>(c.rope.factor)) + 1.0;
  o.set(arch + "rope.scaling.original_context_length", static_cast<std::int64_t>(c.rope.original_context));
  o.set(arch + "rope.scaling.attn_factor",
        base::shortest(static_cast<float>(static_cast<double>(c.rope.attention_factor) / usual)));
  o.set(arch + "rope.scaling.yarn_beta_fast", base::shortest(c.rope.beta_fast));
  o.set(arch + "rope.scaling.yarn_beta_slow", base::shortest(c.rope.beta_slow));
  return o;
}

ops::Weight ParameterTable::push(ParameterSpec spec) {
  specs_.push_back(std::move(spec));
  return {static_cast<std::int32_t>(specs_.size()) - 1};
}

ops::Weight ParameterTable::matrix(std::string hf, std::string gguf, std::int64_t out, std::int64_t in) {
  return push({std::move(hf), std::move(gguf), tensor::Shape{out, in}, false, false, init_std_});
}

ops::Weight ParameterTable::norm(std::string hf, std::string gguf, std::int64_t n) {
  return push({std::move(hf), std::move(gguf), tensor::Shape{n}, true, false, 0});
}

ops::Weight ParameterTable::bias(std::string hf, std::string gguf, std::int64_t n) {
  return push({std::move(hf), std::move(gguf), tensor::Shape{n}, false, true, 0});
}

}  // namespace qw::models
