#include "open_model.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>

#include "base/cpu.h"
#include "chat/prompt.h"
#include "gguf_tokenizer.h"
#include "models/load.h"
#include "text_source.h"

namespace qw::app {
namespace {

double gigabytes(std::int64_t bytes) { return static_cast<double>(bytes) / 1e9; }

sampling::SamplingParams sampling_params(const formats::GenerationConfig& stated) {
  sampling::SamplingParams p;
  const auto set = [](float& to, const std::optional<double>& from) {
    if (from) to = static_cast<float>(*from);
  };
  set(p.temperature, stated.temperature);
  set(p.top_p, stated.top_p);
  set(p.min_p, stated.min_p);
  set(p.repetition_penalty, stated.repetition_penalty);
  if (stated.top_k) p.top_k = static_cast<std::int32_t>(*stated.top_k);
  return p;
}

Status check_memory(const OpenedModel& opened, std::span<const tensor::ConstView> weights,
                    const engine::LoadOptions& options) {
  const auto need = engine::estimate_memory(*opened.model, formats_of(weights), options);
  const auto have = static_cast<std::int64_t>(base::available_memory_bytes());
  if (need.total() <= have) return {};
  char text[256];
  std::snprintf(text, sizeof(text), "needs %.2f GB of memory (weights %.2f, cache %.2f, workspace %.2f), %.2f GB are available",
                gigabytes(need.total()), gigabytes(need.weight_bytes), gigabytes(need.cache_bytes),
                gigabytes(need.workspace_bytes), gigabytes(have));
  return fail(ErrorKind::kResource, opened.path + ": " + text);
}

}  // namespace

std::string chat_template_of(const tokenizer::TokenizerSpec& spec) {
  if (!spec.chat_template.empty()) return spec.chat_template;
  for (const auto& added : spec.added) {
    if (added.text == "<|im_start|>") return std::string(chat::kChatMlTemplate);
  }
  return "";
}

Result<OpenedModel> open_model(const std::string& name) {
  QW_ASSIGN(std::string path, resolve_model(name));
  QW_ASSIGN(auto source, formats::ModelSource::open(path));
  QW_ASSIGN(auto model, models::model_from_source(source));
  QW_ASSIGN(const auto generation, formats::read_generation_config(source));
  return OpenedModel{std::move(path), std::move(source), std::move(model), generation};
}

tensor::DType weight_dtype(const OpenedModel& opened) {
  std::map<tensor::DType, std::int64_t> elements;
  for (const auto& t : opened.source.tensors()) {
    if (t.shape.rank() >= 2) elements[t.dtype] += t.shape.elements();
  }
  tensor::DType most = tensor::DType::kF32;
  for (const auto& [type, count] : elements) {
    if (count > elements[most]) most = type;
  }
  return most;
}

std::vector<tensor::DType> formats_of(std::span<const tensor::ConstView> weights) {
  std::vector<tensor::DType> formats;
  for (const tensor::ConstView& w : weights) formats.push_back(w.dtype);
  return formats;
}

Result<ReadyModel> load_model(const std::string& name, engine::LoadOptions options) {
  const auto started = std::chrono::steady_clock::now();
  QW_ASSIGN(OpenedModel opened, open_model(name));
  QW_ASSIGN(const auto views, models::load_weights(*opened.model, opened.source));
  QW_TRY(check_memory(opened, views, options));
  ReadyModel ready;
  ready.name = std::filesystem::path(name).filename().string();
  if (ready.name.ends_with(".gguf")) ready.name.resize(ready.name.size() - 5);
  ready.defaults = sampling_params(opened.generation);

  auto spec = opened.source.gguf() != nullptr ? tokenizer_of_gguf(*opened.source.gguf())
                                              : tokenizer::load_tokenizer_folder(opened.path);
  if (!spec) return in_context(opened.path, spec.error());
  ready.defaults.stop_ids = spec->stop;
  const std::string template_source = chat_template_of(*spec);
  QW_ASSIGN(auto tokenizer, tokenizer::Tokenizer::create(std::move(*spec)));
  ready.tokenizer = std::make_unique<tokenizer::Tokenizer>(std::move(tokenizer));
  if (!template_source.empty()) {
    auto parsed = chat::Template::parse(template_source);
    if (!parsed) return in_context(opened.path + ": chat template", parsed.error());
    ready.chat_template = std::move(*parsed);
  }
  options.engine.mask = sampling::vocabulary_mask(*ready.tokenizer, opened.model->traits().vocab);
  QW_ASSIGN(ready.loaded, engine::LoadedModel::create(std::move(opened.model), views, options));
  ready.load_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
  return ready;
}

}  // namespace qw::app
