#include "formats/internal/peft_config.h"

#include <algorithm>
#include <cmath>

#include "formats/internal/text.h"

namespace qw::formats::internal {
namespace {

tl::unexpected<Error> bad(std::string_view key, const std::string& why) {
  return fail(ErrorKind::kBadInput, std::string(key) + ": " + why);
}

Result<bool> flag(const json::Object& o, std::string_view key) {
  const json::Value* v = o.find_set(key);
  if (v == nullptr) return false;
  if (!v->is_bool()) return bad(key, "must be true or false");
  return v->as_bool();
}

Result<double> number(std::string_view key, const json::Value& v) {
  if (!v.is_number() || !std::isfinite(v.as_double()) || std::abs(v.as_double()) > 1e9)
    return bad(key, "must be a number");
  return v.as_double();
}

// PEFT matches these as regular expressions at the end of a path. Plain paths are all that is written in practice, and
// an expression of somebody else's must not be run.
Result<std::string> plain_suffix(std::string_view key, std::string pattern) {
  if (pattern.starts_with('^')) pattern.erase(0, 1);
  const bool plain = !pattern.empty() && std::all_of(pattern.begin(), pattern.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '.';
  });
  if (!plain) return bad(key, quote(pattern) + " is no path of a module (regular expressions are not read)");
  return pattern;
}

bool ends_path(std::string_view path, std::string_view suffix) {
  if (!path.ends_with(suffix)) return false;
  return path.size() == suffix.size() || path[path.size() - suffix.size() - 1] == '.';
}

// Kinds of adapters whose files do not mean what those of LoRA mean.
Status refuse_others(const json::Object& o) {
  const json::Value* type = o.find_set("peft_type");
  if (type == nullptr || !type->is_string()) return bad("peft_type", "is missing");
  if (type->as_string() != "LORA") return bad("peft_type", quote(type->as_string()) + " is not LORA");
  for (const char* key : {"fan_in_fan_out", "lora_bias", "use_qalora", "use_bdlora"}) {
    QW_ASSIGN(const bool set, flag(o, key));
    if (set) return bad(key, "is not supported");
  }
  for (const char* key : {"target_parameters", "trainable_token_indices", "layer_replication", "alora_invocation_tokens"}) {
    const json::Value* v = o.find_set(key);
    const bool empty = v == nullptr || (v->is_array() && v->as_array().empty()) || (v->is_object() && v->as_object().empty());
    if (!empty) return bad(key, "is not supported");
  }
  // These take their first values out of the base and leave it changed: the adapter alone is only half of it.
  const json::Value* init = o.find_set("init_lora_weights");
  if (init != nullptr && init->is_string())
    for (const char* kind : {"pissa", "olora", "corda", "loftq", "lora_ga"})
      if (init->as_string().starts_with(kind))
        return bad("init_lora_weights", quote(init->as_string()) + " changes the base; save the adapter converted to plain LoRA");
  return {};
}

}  // namespace

float PeftConfig::scale(std::string_view path, std::int64_t rank) const {
  double a = alpha;
  for (const auto& [suffix, value] : alpha_pattern)
    if (ends_path(path, suffix)) {
      a = value;
      break;  // PEFT too takes the first that matches
    }
  const auto r = static_cast<double>(rank);
  return static_cast<float>(a / (rank_stabilised ? std::sqrt(r) : r));
}

Result<PeftConfig> read_peft_config(const json::Object& config) {
  QW_TRY(refuse_others(config));
  PeftConfig out;
  if (const json::Value* alpha = config.find_set("lora_alpha")) {
    QW_ASSIGN(out.alpha, number("lora_alpha", *alpha));
  }
  QW_ASSIGN(out.rank_stabilised, flag(config, "use_rslora"));
  QW_ASSIGN(out.dora, flag(config, "use_dora"));
  if (const json::Value* bias = config.find_set("bias")) {
    const bool known = bias->is_string() && (bias->as_string() == "none" || bias->as_string() == "all" || bias->as_string() == "lora_only");
    if (!known) return bad("bias", "is none of none, all, lora_only");
  }
  if (const json::Value* patterns = config.find_set("alpha_pattern")) {
    if (!patterns->is_object()) return bad("alpha_pattern", "must be an object");
    for (const auto& [pattern, value] : patterns->as_object()) {
      QW_ASSIGN(std::string suffix, plain_suffix("alpha_pattern", pattern));
      QW_ASSIGN(const double alpha, number("alpha_pattern", value));
      out.alpha_pattern.emplace_back(std::move(suffix), alpha);
    }
  }
  // r and rank_pattern say again what the shapes say.
  return out;
}

}  // namespace qw::formats::internal
