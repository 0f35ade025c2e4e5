#include "model_facts.h"

#include <algorithm>

#include "base/cpu.h"
#include "base/sha256.h"

namespace qw::app {

api::ModelFacts facts_of(const OpenedModel& opened, std::span<const tensor::ConstView> weights,
                         const engine::LoadOptions& options) {
  constexpr std::int64_t kTaken = 64;  // bytes of a tensor
  constexpr std::size_t kDigits = 16;
  api::ModelFacts out;
  out.format = opened.source.kind() == formats::ModelKind::kGguf ? "gguf" : "safetensors";
  out.architecture = opened.model->traits().architecture;
  out.weights = tensor::name(weight_dtype(opened));
  out.bytes = opened.source.total_bytes();
  for (const auto& p : opened.model->parameters()) out.parameters += p.shape.elements();

  base::Sha256 hash;
  const auto add = [&hash](std::string_view text) {
    hash.update(text);
    hash.update("\n");
  };
  add(QW_VERSION);
  add(base::chosen_isa().map([](base::Isa isa) { return base::isa_name(isa); }).value_or(""));
  add(options.cache_dtype ? tensor::name(*options.cache_dtype) : "auto");
  for (std::size_t i = 0; i < weights.size(); ++i) {
    add(opened.model->parameters()[i].hf_name);
    add(tensor::name(weights[i].dtype));
    if (weights[i].data == nullptr) continue;  // they are made when they are asked for
    hash.update(std::span(weights[i].data, static_cast<std::size_t>(std::min(weights[i].bytes(), kTaken))));
  }
  out.fingerprint = "fp_" + hash.hex().substr(0, kDigits);
  return out;
}

}  // namespace qw::app
