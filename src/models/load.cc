#include "models/load.h"

#include <string>
#include <string_view>
#include <unordered_set>

namespace qw::models {
namespace {

constexpr std::string_view kGgufTokenTable = "token_embd.weight", kGgufHead = "output.weight",
                           kHfHead = "lm_head.weight", kHfFrequencies = ".rotary_emb.inv_freq";

// Tensors which may stand in a file and say nothing that the configuration does not.
bool redundant(std::string_view name, const Model& model, formats::ModelKind kind) {
  if (kind != formats::ModelKind::kHfFolder) return false;
  return name.ends_with(kHfFrequencies) || (model.traits().tied_embeddings && name == kHfHead);
}

}  // namespace

Result<std::unique_ptr<Model>> model_from_source(const formats::ModelSource& source) {
  const auto located = [&](Error e) { return in_context(source.path().string(), std::move(e)).value(); };
  if (source.kind() == formats::ModelKind::kHfFolder) return model_from_hf_config(source.config()).map_error(located);
  const formats::TensorInfo* table = source.find(kGgufTokenTable);
  if (table == nullptr || table->shape.rank() != 2)
    return fail(ErrorKind::kBadInput,
                source.path().string() + ": no token table (" + std::string(kGgufTokenTable) + ")");
  return model_from_gguf_metadata(source.config(), source.find(kGgufHead) != nullptr, table->shape[0])
      .map_error(located);
}

Result<std::vector<tensor::ConstView>> load_weights(const Model& model, const formats::ModelSource& source) {
  std::vector<tensor::ConstView> views;
  std::unordered_set<std::string_view> used;
  for (const ParameterSpec& p : model.parameters()) {
    const std::string& name = source.kind() == formats::ModelKind::kGguf ? p.gguf_name : p.hf_name;
    QW_ASSIGN(const tensor::ConstView view, source.tensor(name, p.shape));
    views.push_back(view);
    used.insert(name);
  }
  for (const formats::TensorInfo& t : source.tensors())
    if (!used.contains(t.name) && !redundant(t.name, model, source.kind()))
      return fail(ErrorKind::kBadInput, source.path().string() + ": tensor \"" + t.name.substr(0, 128) +
                                            "\" belongs to no parameter of a " + model.traits().architecture +
                                            " model");
  return views;
}

}  // namespace qw::models
