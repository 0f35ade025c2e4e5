#include "models/internal/senses.h"

#include "models/internal/names.h"

namespace qw::models {
namespace {

// Whose language model is one of the house. With text alone all axes of a position are equal, so positions are plain ones.
struct Kind {
  std::string_view whole, language;
};
constexpr Kind kKinds[] = {{"qwen2_vl", "qwen2"},           {"qwen2_vl_text", "qwen2"},      {"qwen2_5_vl", "qwen2"},
                           {"qwen2_5_vl_text", "qwen2"},    {"qwen2_5_omni", "qwen2"},       {"qwen2_5_omni_thinker", "qwen2"},
                           {"qwen2_audio", "qwen2"},        {"qwen3_vl", "qwen3"},           {"qwen3_vl_text", "qwen3"},
                           {"qwen3_vl_moe", "qwen3_moe"},   {"qwen3_vl_moe_text", "qwen3_moe"}, {"qwen3_omni_moe", "qwen3_moe"}, {"qwen3_omni_moe_thinker", "qwen3_moe"}};

constexpr Kind kGgufKinds[] = {{"qwen2vl", "qwen2"}, {"qwen3vl", "qwen3"}, {"qwen3vlmoe", "qwen3moe"}};

struct Tower {
  std::string_view key;  // of the configuration
  std::string_view prefix, what;
};
constexpr Tower kTowers[] = {
    {"vision_config", "visual.", "the vision tower"},
    {"vision_config", "model.visual.", "the vision tower"},
    {"vision_config", "thinker.visual.", "the vision tower"},
    {"audio_config", "audio_tower.", "the audio tower"},
    {"audio_config", "multi_modal_projector.", "the audio tower"},
    {"audio_config", "thinker.audio_tower.", "the audio tower"},
    {"visual", "transformer.visual.", "the vision tower"},  // Qwen-VL and Qwen-Audio of 2023
    {"audio", "transformer.audio.", "the audio tower"},
    {"talker_config", "talker.", "the speaking model"},
    {"talker_config", "token2wav.", "the speaking model"},
    {"talker_config", "code2wav.", "the speaking model"},
};

Result<const json::Object*> nested(const json::Object& config, std::string_view key) {
  const json::Value* value = config.find_set(key);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) return fail(ErrorKind::kBadInput, std::string(key) + ": must be an object");
  return &value->as_object();
}

void carry(const json::Object& from, json::Object& to) {
  for (const char* key : {"vision_config", "audio_config", "talker_config"})
    if (from.find_set(key) != nullptr) to.set(key, json::Object{});
  if (const json::Value* tied = from.find_set("tie_word_embeddings"); tied && to.find_set("tie_word_embeddings") == nullptr)
    to.set("tie_word_embeddings", *tied);
}

// The released Qwen2-Audio leaves out what its library takes for granted.
void complete(json::Object& language) {
  constexpr std::pair<const char*, std::int64_t> kDefaults[] = {
      {"hidden_size", 4096}, {"num_hidden_layers", 32}, {"num_attention_heads", 32}, {"num_key_value_heads", 32}};
  for (const auto& [key, value] : kDefaults)
    if (language.find_set(key) == nullptr) language.set(key, value);
}

}  // namespace

Result<json::Object> language_config(const json::Object& config) {
  const json::Value* type = config.find_set("model_type");
  json::Object out = config;
  QW_ASSIGN(const json::Object* thinker, nested(config, "thinker_config"));
  const json::Object& around = thinker != nullptr ? *thinker : config;
  QW_ASSIGN(const json::Object* text, nested(around, "text_config"));
  if (text != nullptr) {
    out = *text;
    carry(around, out);
  }
  if (thinker != nullptr) carry(config, out);
  if (type == nullptr) return out;
  out.set("model_type", *type);
  for (const Kind& kind : kKinds)
    if (type->is_string() && type->as_string() == kind.whole) out.set("model_type", std::string(kind.language));
  if (type->is_string() && type->as_string() == "qwen2_audio") complete(out);
  if (type->is_string() && type->as_string().starts_with("qwen3_vl_moe")) out.set(std::string(kTransposedExperts), true);
  return out;
}

json::Object language_metadata(const json::Object& metadata) {
  const json::Value* type = metadata.find_set("general.architecture");
  for (const Kind& kind : kGgufKinds) {
    if (type == nullptr || !type->is_string() || type->as_string() != kind.whole) continue;
    json::Object out;
    const std::string prefix = std::string(kind.whole) + ".";
    for (const auto& [key, value] : metadata)
      out.set(std::string_view(key).starts_with(prefix) ? std::string(kind.language) + "." + std::string(key).substr(prefix.size()) : std::string(key), value);
    out.set("general.architecture", std::string(kind.language));
    return out;
  }
  return metadata;
}

std::vector<ModelTraits::LeftAside> towers_beside(const json::Object& config) {
  std::vector<ModelTraits::LeftAside> out;
  for (const Tower& tower : kTowers)
    if (config.find_set(tower.key) != nullptr) out.push_back({std::string(tower.prefix), std::string(tower.what)});
  return out;
}

}  // namespace qw::models
