// Every architecture the house knows, one line each.
#include <string>

#include "models/internal/names.h"
#include "models/internal/senses.h"
#include "models/model.h"
#include "models/qwen/qwen.h"
#include "models/qwen2/qwen2.h"
#include "models/qwen2_moe/qwen2_moe.h"
#include "models/qwen3/qwen3.h"
#include "models/qwen3_5/qwen3_5.h"
#include "models/qwen3_5_moe/qwen3_5_moe.h"
#include "models/qwen3_moe/qwen3_moe.h"
#include "models/qwen3_next/qwen3_next.h"
#include "models/qwen4_exp/qwen4_exp.h"

namespace qw::models {
namespace {

struct Architecture {
  std::string_view hf_type, gguf_name;
  Result<std::unique_ptr<Model>> (*from_hf)(const json::Object&);
  Result<std::unique_ptr<Model>> (*from_gguf)(const json::Object&, bool, std::int64_t);
};

constexpr Architecture kArchitectures[] = {
    {"qwen", "qwen", qwen::from_hf_config, qwen::from_gguf_metadata},
    {"qwen2", "qwen2", qwen2::from_hf_config, qwen2::from_gguf_metadata},
    {"qwen2_moe", "qwen2moe", qwen2_moe::from_hf_config, qwen2_moe::from_gguf_metadata},
    {"qwen3", "qwen3", qwen3::from_hf_config, qwen3::from_gguf_metadata},
    {"qwen3_moe", "qwen3moe", qwen3_moe::from_hf_config, qwen3_moe::from_gguf_metadata},
    {"qwen3_next", "qwen3next", qwen3_next::from_hf_config, qwen3_next::from_gguf_metadata},
    {"qwen3_5", "qwen35", qwen3_5::from_hf_config, qwen3_5::from_gguf_metadata},
    {"qwen3_5_text", "qwen35", qwen3_5::from_hf_config, qwen3_5::from_gguf_metadata},
    {"qwen3_5_moe", "qwen35moe", qwen3_5_moe::from_hf_config, qwen3_5_moe::from_gguf_metadata},
    {"qwen3_5_moe_text", "qwen35moe", qwen3_5_moe::from_hf_config, qwen3_5_moe::from_gguf_metadata},
    {"qwen4_exp", "qwen4exp", qwen4_exp::from_hf_config, qwen4_exp::from_gguf_metadata},
    {"qwen4_exp_text", "qwen4exp", qwen4_exp::from_hf_config, qwen4_exp::from_gguf_metadata},
};

Result<const Architecture*> find(const json::Object& object, std::string_view key,
                                 std::string_view Architecture::*name) {
  const json::Value* type = object.find(key);
  if (type == nullptr || !type->is_string()) return fail(ErrorKind::kBadInput, std::string(key) + ": missing");
  std::string known;
  for (const Architecture& a : kArchitectures) {
    if (type->as_string() == a.*name) return &a;
    known += (known.empty() ? "" : ", ") + std::string(a.*name);
  }
  return fail(ErrorKind::kBadInput,
              std::string(key) + ": \"" + type->as_string().substr(0, 64) + "\" is not one of " + known);
}

}  // namespace

std::vector<std::string> architectures() {
  std::vector<std::string> names;
  for (const Architecture& a : kArchitectures) names.emplace_back(a.hf_type);
  return names;
}

void Model::draft(ops::Executor&) const { QW_CHECK(traits().draft_layers > 0); }

Result<std::unique_ptr<Model>> model_from_hf_config(const json::Object& config, std::optional<std::int32_t> draft_layers,
                                                    const json::Object& integers) {
  QW_ASSIGN(json::Object language, language_config(config));
  if (!integers.empty()) language.set(std::string(kHfIntegers), integers);
  if (draft_layers) language.set(std::string(kHfDraftLayers), *draft_layers);
  QW_ASSIGN(const Architecture* a, find(language, "model_type", &Architecture::hf_type));
  return a->from_hf(language);
}

Result<std::unique_ptr<Model>> model_with_scores(const Model& body, const std::vector<std::string>& labels) {
  json::Object config = body.hf_config();
  const std::string causal = config.find("architectures")->as_array()[0].as_string();
  config.set("architectures", json::Array{causal.substr(0, causal.rfind("For")) + "ForSequenceClassification"});
  json::Object names;
  for (std::size_t i = 0; i < labels.size(); ++i) names.set(std::to_string(i), labels[i]);
  if (labels.empty()) config.set("num_labels", 1);
  else config.set("id2label", std::move(names));
  QW_ASSIGN(auto made, model_from_hf_config(config, 0));
  if (made->traits().head.kind != HeadKind::kClasses)
    return fail(ErrorKind::kBadInput, body.traits().architecture + ": has no head of scores here");
  return made;
}

Result<std::unique_ptr<Model>> model_with_embeddings(const Model& body) {
  json::Object config = body.hf_config();
  config.set("architectures", json::Array{"Model"});
  QW_ASSIGN(auto made, model_from_hf_config(config, 0));
  if (made->traits().head.kind != HeadKind::kEmbedding)
    return fail(ErrorKind::kBadInput, body.traits().architecture + ": gives no embeddings here");
  return made;
}

Result<std::unique_ptr<Model>> model_from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                        std::int64_t vocab) {
  const json::Object language = language_metadata(metadata);
  QW_ASSIGN(const Architecture* a, find(language, "general.architecture", &Architecture::gguf_name));
  return a->from_gguf(language, has_output_weight, vocab);
}

}  // namespace qw::models
