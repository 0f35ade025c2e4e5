#include "formats/recipe.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "formats/quantise.h"

namespace qw::formats {
namespace {

using tensor::DType;

constexpr std::array<Recipe, 18> kRecipes = {{{"f32", DType::kF32, 0},
                                              {"f16", DType::kF16, 1},
                                              {"bf16", DType::kBF16, 32},
                                              {"q8_0", DType::kQ8_0, 7},
                                              {"q4_0", DType::kQ4_0, 2},
                                              {"q4_1", DType::kQ4_1, 3},
                                              {"q5_0", DType::kQ5_0, 8},
                                              {"q5_1", DType::kQ5_1, 9},
                                              {"q2_k", DType::kQ2_K, 10},
                                              {"q3_k_s", DType::kQ3_K, 11},
                                              {"q3_k_m", DType::kQ3_K, 12},
                                              {"q4_k_s", DType::kQ4_K, 14},
                                              {"q4_k_m", DType::kQ4_K, 15},
                                              {"q5_k_s", DType::kQ5_K, 16},
                                              {"q5_k_m", DType::kQ5_K, 17},
                                              {"q6_k", DType::kQ6_K, 18},
                                              {"iq4_nl", DType::kIQ4_NL, 25},
                                              {"iq4_xs", DType::kIQ4_XS, 30}}};
// GGUF numbers a mix of MXFP4 experts only; a dense model's matrices take its place here.
constexpr Recipe kMxfp4{"mxfp4", DType::kMXFP4, 38};

std::int64_t layer_of(std::string_view name) {  // "blk.12.attn_v.weight" -> 12; -1 for tensors of no layer
  if (!name.starts_with("blk.")) return -1;
  std::int64_t layer = -1;
  std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

// The first and last eighth of the layers and every third between them.
bool wants_more_bits(std::int64_t layer, std::int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

DType head_type(const Recipe& r) {
  switch (r.base) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ8_0: return r.base;
    case DType::kQ4_0:
    case DType::kMXFP4: return DType::kQ8_0;
    default: return DType::kQ6_K;
  }
}

DType value_type(const Recipe& r, std::int64_t layer, const RecipeModel& m) {  // attn_v
  const bool grouped = m.kv_heads > 0 && m.heads / m.kv_heads >= 4;  // few, much used values
  if (r.name == "q2_k") return grouped ? DType::kQ4_K : DType::kQ3_K;
  if (r.name == "q3_k_m") return layer < 2 ? DType::kQ5_K : DType::kQ4_K;
  if (r.name == "q4_k_s") return layer < 4 ? DType::kQ5_K : r.base;
  if (r.name == "q4_k_m" || r.name == "q5_k_m") return wants_more_bits(layer, m.layers) ? DType::kQ6_K : r.base;
  if (r.name.starts_with("iq4") && grouped) return DType::kQ5_K;
  return r.base;
}

DType down_type(const Recipe& r, std::int64_t layer, const RecipeModel& m) {  // ffn_down
  if (r.name == "q2_k") return DType::kQ3_K;
  if (r.name == "q3_k_m") return layer < m.layers / 16 ? DType::kQ5_K : DType::kQ4_K;
  if (r.name == "q4_k_s") return layer < m.layers / 8 ? DType::kQ5_K : r.base;
  if (r.name == "q4_k_m" || r.name == "q5_k_m") return wants_more_bits(layer, m.layers) ? DType::kQ6_K : r.base;
  if (r.name.starts_with("iq4") && layer < m.layers / 8 && !m.importance) return DType::kQ5_K;
  return r.base;
}

DType mixed_type(const Recipe& r, std::string_view name, const RecipeModel& m) {
  const bool table = name == "token_embd.weight";
  if (name == "output.weight" || (table && (m.tied || head_type(r) == DType::kQ8_0))) return head_type(r);
  const auto is = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  const std::int64_t layer = layer_of(name);
  if (layer < 0) return r.base;
  if (is("attn_v.")) return value_type(r, layer, m);
  if (is("ffn_down")) return down_type(r, layer, m);
  if (is("attn_output.")) return r.name == "q2_k" ? DType::kQ3_K : r.name == "q3_k_m" ? DType::kQ4_K : r.base;
  if (is("attn_qkv.")) {
    return r.name == "q3_k_m" ? DType::kQ4_K : r.name == "q4_k_m" ? DType::kQ5_K : r.name == "q5_k_m" ? DType::kQ6_K : r.base;
  }
  return r.base;
}

DType narrower_blocks(DType type) {  // for rows that are no multiple of 256
  switch (type) {
    case DType::kQ2_K:
    case DType::kQ3_K: return DType::kQ4_0;
    case DType::kQ4_K: return DType::kQ5_0;
    case DType::kQ5_K: return DType::kQ5_1;
    case DType::kQ6_K: return DType::kQ8_0;
    case DType::kIQ4_XS: return DType::kIQ4_NL;
    default: return type;
  }
}

}  // namespace

const Recipe* find_recipe(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  if (lower == "q3_k" || lower == "q4_k" || lower == "q5_k") lower += "_m";
  if (lower == kMxfp4.name) return &kMxfp4;
  const auto* it = std::find_if(kRecipes.begin(), kRecipes.end(), [&](const Recipe& r) { return r.name == lower; });
  return it == kRecipes.end() ? nullptr : it;
}

std::string recipe_names() {
  std::string names;
  for (const Recipe& r : kRecipes) names += std::string(r.name) + ", ";
  return names + std::string(kMxfp4.name);
}

DType recipe_type(const Recipe& recipe, std::string_view gguf_name, const tensor::Shape& shape,
                  const RecipeModel& model) {
  if (storage_type(gguf_name, shape, DType::kF16) == DType::kF32) return DType::kF32;  // never quantised
  const auto fits = [&](DType t) { return shape.back() % tensor::info(t).block_elements == 0; };
  DType type = mixed_type(recipe, gguf_name, model);
  if (!fits(type)) type = narrower_blocks(type);
  return fits(type) ? type : DType::kF16;
}

}  // namespace qw::formats
