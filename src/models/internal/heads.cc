#include "models/internal/heads.h"

#include <algorithm>

namespace qw::models {
namespace {

using ops::Value;

// Far beyond any published head, far from harm: labels of a head, and the hidden width of a guard's branch.
constexpr std::int64_t kMaxLabels = 65536, kMaxGuardWidth = 1 << 18;
constexpr std::string_view kCausal = "ForCausalLM";
// GGUF's pooling types.
constexpr std::int64_t kPoolNone = 0, kPoolLast = 3, kPoolRank = 4;

struct List {  // a list of a guard's labels under both formats' names
  const char *hf_map, *hf_count, *gguf;
  std::vector<std::string> HeadTraits::*labels;
};
constexpr List kGuardLists[] = {
    {"response_risk_level_map", "num_risk_level", "head.response_levels", &HeadTraits::response_levels},
    {"response_category_map", "num_category", "head.response_categories", &HeadTraits::response_categories},
    {"query_risk_level_map", "num_query_risk_level", "head.query_levels", &HeadTraits::query_levels},
    {"query_category_map", "num_query_category", "head.query_categories", &HeadTraits::query_categories},
};

// {"0": "Safe", "1": ...}: every index once.
Result<std::vector<std::string>> read_map(const ConfigReader& in, const char* key) {
  const json::Value* value = in.find(key);
  if (value == nullptr) return std::vector<std::string>();
  if (!value->is_object() || value->as_object().empty() ||
      static_cast<std::int64_t>(value->as_object().size()) > kMaxLabels)
    return in.bad(key, "must be an object of 1 to " + std::to_string(kMaxLabels) + " labels by index");
  const json::Object& map = value->as_object();
  std::vector<std::string> labels;
  for (std::size_t i = 0; i < map.size(); ++i) {
    const json::Value* label = map.find(std::to_string(i));
    if (label == nullptr || !label->is_string()) return in.bad(key, "has no label of index " + std::to_string(i));
    labels.push_back(label->as_string());
  }
  return labels;
}

json::Object as_map(const std::vector<std::string>& labels) {
  json::Object map;
  for (std::size_t i = 0; i < labels.size(); ++i) map.set(std::to_string(i), labels[i]);
  return map;
}

Result<std::vector<std::string>> read_array(const ConfigReader& in, const char* key) {
  const json::Value* value = in.find(key);
  if (value == nullptr) return std::vector<std::string>();
  if (!value->is_array() || value->as_array().empty() || static_cast<std::int64_t>(value->as_array().size()) > kMaxLabels)
    return in.bad(key, "must be an array of 1 to " + std::to_string(kMaxLabels) + " labels");
  std::vector<std::string> labels;
  for (const json::Value& label : value->as_array()) {
    if (!label.is_string()) return in.bad(key, "must hold strings");
    labels.push_back(label.as_string());
  }
  return labels;
}

json::Array as_array(const std::vector<std::string>& labels) { return {labels.begin(), labels.end()}; }

void set_kind(DenseConfig& c, HeadKind kind, std::int64_t outputs) {
  c.traits.head.kind = kind;
  c.traits.head.outputs = static_cast<std::int32_t>(outputs);
  c.traits.tied_embeddings = false;  // there is no head of the language model to tie
}

void set_guard(DenseConfig& c) {
  std::int64_t outputs = 0;
  for (const List& list : kGuardLists) outputs += static_cast<std::int64_t>((c.traits.head.*list.labels).size());
  set_kind(c, HeadKind::kGuard, outputs);
}

Status read_guard_hf(const ConfigReader& in, DenseConfig& c) {
  QW_ASSIGN(const std::int64_t width, in.integer("guard_inner_size", 1, kMaxGuardWidth));
  c.guard_width = static_cast<std::int32_t>(width);
  for (const List& list : kGuardLists) {
    auto& labels = c.traits.head.*list.labels;
    QW_ASSIGN(labels, read_map(in, list.hf_map));
    if (labels.empty()) return in.bad(list.hf_map, "is missing");
    const auto n = static_cast<std::int64_t>(labels.size());
    QW_ASSIGN(const std::int64_t stated, in.integer(list.hf_count, 1, kMaxLabels, n));
    if (stated != n) return in.bad(list.hf_count, "differs from the labels of " + std::string(list.hf_map));
  }
  set_guard(c);
  return {};
}

// The count may stand alone, in the labels, or nowhere (two, as the reference has it).
Status read_classes_hf(const ConfigReader& in, DenseConfig& c) {
  QW_ASSIGN(c.traits.head.labels, read_map(in, "id2label"));
  const auto known = static_cast<std::int64_t>(c.traits.head.labels.size());
  QW_ASSIGN(const std::int64_t n, in.integer("num_labels", 1, kMaxLabels, known > 0 ? known : 2));
  if (known > 0 && n != known) return in.bad("num_labels", "differs from the labels of id2label");
  set_kind(c, HeadKind::kClasses, n);
  return {};
}

void set_reward(DenseConfig& c, bool steps) {
  c.head_hidden_layer = true;
  set_kind(c, steps ? HeadKind::kSteps : HeadKind::kClasses, steps ? 2 : 1);
}

Status read_own_gguf(const ConfigReader& in, const std::string& kind, DenseConfig& c) {
  if (kind == "reward" || kind == "step_reward") {
    set_reward(c, kind == "step_reward");
    return {};
  }
  if (kind != "guard") return in.bad("head.kind", "\"" + kind.substr(0, 64) + "\" is not one of reward, step_reward, guard");
  QW_ASSIGN(const std::int64_t width, in.integer("head.width", 1, kMaxGuardWidth));
  c.guard_width = static_cast<std::int32_t>(width);
  for (const List& list : kGuardLists) {
    QW_ASSIGN(c.traits.head.*list.labels, read_array(in, list.gguf));
    if ((c.traits.head.*list.labels).empty()) return in.bad(list.gguf, "is missing");
  }
  set_guard(c);
  return {};
}

HeadWeights::Branch branch(ParameterTable& table, const DenseConfig& c, const std::string& hf, const std::string& gguf,
                           std::size_t levels, std::size_t categories) {
  HeadWeights::Branch b;
  b.in = table.matrix(hf + "risk_level_category_pre.weight", gguf + ".weight", c.guard_width, c.traits.width);
  b.norm = table.norm(hf + "risk_level_category_layernorm.weight", gguf + "_norm.weight", c.guard_width);
  b.levels = table.matrix(hf + "risk_level_head.weight", gguf + "_level.weight", static_cast<std::int64_t>(levels),
                          c.guard_width);
  b.categories = table.matrix(hf + "category_head.weight", gguf + "_category.weight",
                              static_cast<std::int64_t>(categories), c.guard_width);
  return b;
}

Value run_branch(ops::Executor& ex, Value x, const HeadWeights::Branch& b, float eps) {
  const Value u = ex.rms_norm(ex.linear(x, b.in), b.norm, eps);
  const Value levels = ex.linear(u, b.levels);
  return ex.concat(levels, ex.linear(u, b.categories));
}

}  // namespace

const char* head_name(HeadKind kind) {
  switch (kind) {
    case HeadKind::kLanguage:
      return "language model";
    case HeadKind::kEmbedding:
      return "embedding";
    case HeadKind::kClasses:
      return "classes";
    case HeadKind::kSteps:
      return "steps";
    case HeadKind::kGuard:
      return "guard";
  }
  return "?";
}

Status read_head_hf(const json::Object& config, DenseConfig& c) {
  const ConfigReader in(config, "");
  const json::Value* classes = in.find("architectures");
  if (classes == nullptr) return {};
  if (!classes->is_array() || classes->as_array().empty() || !classes->as_array()[0].is_string())
    return in.bad("architectures", "must be an array of class names");
  const std::string& name = classes->as_array()[0].as_string();
  const auto ends = [&](std::string_view end) { return name.ends_with(end); };
  if (ends("ForProcessRewardModel") || ends("ForRewardModel")) {
    set_reward(c, ends("ForProcessRewardModel"));
    return {};
  }
  if (ends("ForGuardModel")) return read_guard_hf(in, c);
  if (ends("ForSequenceClassification")) return read_classes_hf(in, c);
  if (ends(kCausal) || ends("LMHeadModel") || ends("ForConditionalGeneration")) return {};
  if (ends("Model")) {
    set_kind(c, HeadKind::kEmbedding, c.traits.width);
    return {};
  }
  return in.bad("architectures", "\"" + name.substr(0, 64) + "\" has a head that this program does not compute");
}

Status read_head_gguf(const ConfigReader& in, DenseConfig& c) {
  QW_ASSIGN(const std::string kind, in.string("head.kind", ""));
  if (!kind.empty()) return read_own_gguf(in, kind, c);
  QW_ASSIGN(const std::int64_t pooling, in.integer("pooling_type", -1, kPoolRank, kPoolNone));
  if (pooling <= kPoolNone) return {};
  if (pooling == kPoolLast) {
    set_kind(c, HeadKind::kEmbedding, c.traits.width);
    return {};
  }
  if (pooling != kPoolRank) return in.bad("pooling_type", std::to_string(pooling) + " is neither 3 (last token) nor 4 (rank)");
  QW_ASSIGN(c.traits.head.labels, read_array(in, "classifier.output_labels"));
  set_kind(c, HeadKind::kClasses, std::max<std::int64_t>(1, static_cast<std::int64_t>(c.traits.head.labels.size())));
  return {};
}

void write_head_hf(const DenseConfig& c, std::string_view class_name, json::Object& config) {
  const HeadTraits& h = c.traits.head;
  std::string base(class_name);
  if (base.ends_with(kCausal)) base.resize(base.size() - kCausal.size());
  const auto name = [&](const char* end) { config.set("architectures", json::Array{base + end}); };
  switch (h.kind) {
    case HeadKind::kLanguage:
      return;
    case HeadKind::kEmbedding:
      return name("Model");
    case HeadKind::kSteps:
      return name("ForProcessRewardModel");
    case HeadKind::kClasses:
      name(c.head_hidden_layer ? "ForRewardModel" : "ForSequenceClassification");
      if (!c.head_hidden_layer) config.set("num_labels", h.outputs);
      if (!h.labels.empty()) config.set("id2label", as_map(h.labels));
      return;
    case HeadKind::kGuard:
      name("ForGuardModel");
      config.set("guard_inner_size", c.guard_width);
      for (const List& list : kGuardLists) {
        config.set(list.hf_count, static_cast<std::int64_t>((h.*list.labels).size()));
        config.set(list.hf_map, as_map(h.*list.labels));
      }
  }
}

void write_head_gguf(const DenseConfig& c, const std::string& arch, json::Object& metadata) {
  const HeadTraits& h = c.traits.head;
  if (h.kind == HeadKind::kEmbedding) metadata.set(arch + "pooling_type", kPoolLast);
  if (h.kind == HeadKind::kSteps) metadata.set(arch + "head.kind", "step_reward");
  if (h.kind == HeadKind::kClasses) {
    if (c.head_hidden_layer) metadata.set(arch + "head.kind", "reward");
    metadata.set(arch + "pooling_type", kPoolRank);
    // The count of outputs is known by the labels alone.
    std::vector<std::string> labels = h.labels;
    for (std::int32_t i = 0; labels.empty() && h.outputs > 1 && i < h.outputs; ++i) labels.push_back("LABEL_" + std::to_string(i));
    if (!labels.empty()) metadata.set(arch + "classifier.output_labels", as_array(labels));
  }
  if (h.kind != HeadKind::kGuard) return;
  metadata.set(arch + "head.kind", "guard");
  metadata.set(arch + "head.width", c.guard_width);
  for (const List& list : kGuardLists) metadata.set(arch + list.gguf, as_array(h.*list.labels));
}

HeadWeights head_weights(ParameterTable& table, const DenseConfig& c) {
  const HeadTraits& h = c.traits.head;
  HeadWeights w;
  if (h.kind == HeadKind::kGuard) {
    w.response = branch(table, c, "", "guard.response", h.response_levels.size(), h.response_categories.size());
    w.query = branch(table, c, "query_", "guard.query", h.query_levels.size(), h.query_categories.size());
  } else if (h.kind != HeadKind::kEmbedding) {
    const std::int64_t d = c.traits.width;
    if (c.head_hidden_layer) {
      w.in = table.matrix("score.0.weight", "cls.weight", d, d);
      w.in_bias = table.bias("score.0.bias", "cls.bias", d);
    }
    w.out = table.matrix(c.head_hidden_layer ? "score.2.weight" : "score.weight", "cls.output.weight", h.outputs, d);
    if (c.head_hidden_layer) w.out_bias = table.bias("score.2.bias", "cls.output.bias", h.outputs);
  }
  return w;
}

void run_head(ops::Executor& ex, Value x, const HeadWeights& w, const DenseConfig& c) {
  if (c.traits.head.kind == HeadKind::kGuard) {
    const Value response = run_branch(ex, x, w.response, c.eps);
    return ex.head(ex.concat(response, run_branch(ex, x, w.query, c.eps)), {});
  }
  if (w.in.present()) x = ex.relu(ex.linear(x, w.in, w.in_bias));
  if (w.out.present()) x = ex.linear(x, w.out, w.out_bias);
  ex.head(x, {});
}

}  // namespace qw::models
