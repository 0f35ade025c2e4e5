#include "open_model.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>

#include "base/cpu.h"
#include "chat/prompt.h"
#include "models/load.h"
#include "text_source.h"

namespace qw::app {
namespace {

double gigabytes(std::int64_t bytes) { return static_cast<double>(bytes) / 1e9; }

Result<std::unique_ptr<models::Model>> make_model(const formats::ModelSource& source) {
  if (source.kind() == formats::ModelKind::kHfFolder) return models::model_from_hf_config(source.config());
  const auto* table = source.find("token_embd.weight");
  if (table == nullptr) return fail(ErrorKind::kBadInput, "no tensor token_embd.weight");
  return models::model_from_gguf_metadata(source.config(), source.find("output.weight") != nullptr, table->shape[0]);
}

// Sampling defaults of generation_config.json; GGUF files may carry general.sampling.*.
sampling::SamplingParams generation_defaults(const formats::ModelSource& source) {
  sampling::SamplingParams p;
  const auto number = [&](const char* hf, const char* gguf) -> std::optional<double> {
    const json::Value* v = source.generation_config().find(hf);
    if (v == nullptr) v = source.config().find(gguf);
    return v != nullptr && v->is_number() ? std::optional(v->as_double()) : std::nullopt;
  };
  const auto within = [](std::optional<double> v, double low, double high, float fallback) {
    return v && *v >= low && *v <= high ? static_cast<float>(*v) : fallback;
  };
  p.temperature = within(number("temperature", "general.sampling.temp"), 0, 2, p.temperature);
  p.top_p = within(number("top_p", "general.sampling.top_p"), 0, 1, p.top_p);
  p.min_p = within(number("min_p", "general.sampling.min_p"), 0, 1, p.min_p);
  p.repetition_penalty = within(number("repetition_penalty", "general.sampling.penalty_repeat"), 0.01, 10, p.repetition_penalty);
  p.top_k = static_cast<std::int32_t>(within(number("top_k", "general.sampling.top_k"), 0, 1e6, 0));
  return p;
}

Status check_memory(const OpenedModel& opened, const engine::LoadOptions& options) {
  const auto need = engine::estimate_memory(*opened.model, weight_dtype(opened), options);
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
  auto model = make_model(source);
  if (!model) return in_context(path, model.error());
  return OpenedModel{std::move(path), std::move(source), std::move(*model)};
}

Result<std::vector<tensor::ConstView>> parameter_views(const OpenedModel& opened) {
  return models::load_weights(*opened.model, opened.source);
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

Result<ReadyModel> load_model(const std::string& name, engine::LoadOptions options) {
  const auto started = std::chrono::steady_clock::now();
  QW_ASSIGN(OpenedModel opened, open_model(name));
  QW_TRY(check_memory(opened, options));
  QW_ASSIGN(const auto views, parameter_views(opened));
  ReadyModel ready;
  ready.name = std::filesystem::path(name).filename().string();
  if (ready.name.ends_with(".gguf")) ready.name.resize(ready.name.size() - 5);
  ready.defaults = generation_defaults(opened.source);

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
