#include "describe.h"

#include <cstdio>
#include <filesystem>
#include <map>

#include "base/cpu.h"
#include "models/load.h"
#include "text_source.h"

namespace qw::app {
namespace {

std::string licence_of(const OpenedModel& opened) {
  for (const char* key : {"general.license", "license"}) {
    const json::Value* v = opened.source.config().find(key);
    if (v != nullptr && v->is_string()) return v->as_string();
  }
  for (const char* name : {"LICENSE", "LICENSE.txt"}) {
    const auto file = std::filesystem::path(opened.path) / name;
    if (std::filesystem::is_regular_file(file)) return file.string();
  }
  return "";
}

// How the files hold quantised weights; bytes_by_type says what they are run as.
std::string quantisation_of(const OpenedModel& opened) {
  const formats::HfFolder* folder = opened.source.hf_folder();
  return folder == nullptr || folder->quantised() == nullptr ? "" : folder->quantised()->config().describe();
}

json::Array memory_table(const OpenedModel& opened, std::span<const tensor::DType> weights, std::vector<std::int64_t> contexts) {
  const std::int64_t own = opened.model->traits().context;
  if (contexts.empty()) {
    for (const std::int64_t c : {std::int64_t{2048}, std::int64_t{8192}, std::int64_t{32768}, own}) {
      if (c <= own && (contexts.empty() || contexts.back() < c)) contexts.push_back(c);
    }
  }
  json::Array rows;
  const std::int64_t text = text_bytes(*opened.model);
  for (const std::int64_t context : contexts) {
    const auto need = engine::estimate_memory(*opened.model, weights, usual_options(*opened.model, context));
    rows.push_back(json::Object{{"context", context},
                                {"weight_bytes", need.weight_bytes},
                                {"cache_bytes", need.cache_bytes},
                                {"workspace_bytes", need.workspace_bytes},
                                {"text_bytes", text},
                                {"program_bytes", kProgramBytes},
                                {"total_bytes", need.total() + text + kProgramBytes}});
  }
  return rows;
}

}  // namespace

Result<json::Object> describe_model(const OpenedModel& opened, const std::vector<std::int64_t>& contexts) {
  QW_ASSIGN(const auto views, models::load_weights(*opened.model, opened.source));  // all are there, in their shapes
  const auto& t = opened.model->traits();
  std::int64_t parameters = 0;
  for (const auto& p : opened.model->parameters()) parameters += p.shape.elements();
  std::map<std::string, std::int64_t> formats;
  std::map<std::string, std::int64_t> counts;
  for (const auto& tensor : opened.source.tensors()) {
    formats[std::string(tensor::name(tensor.dtype))] += tensor.bytes();
    ++counts[std::string(tensor::name(tensor.dtype))];
  }
  json::Object quantisation, histogram;
  for (const auto& [name, count] : counts) histogram.set(name, count);
  for (const auto& [name, bytes] : formats) quantisation.set(name, bytes);
  std::string chat_template;
  if (auto spec = tokenizer_of(opened.path)) chat_template = spec->chat_template;
  json::Array notices;
  for (const std::string& notice : t.notices) notices.emplace_back(notice);
  return json::Object{{"path", opened.path},
                      {"format", opened.source.kind() == formats::ModelKind::kGguf ? "gguf" : "safetensors"},
                      {"architecture", t.architecture},
                      {"head", models::head_name(t.head.kind)},
                      {"parameters", parameters},
                      {"layers", t.layers + static_cast<std::int64_t>(t.recurrent.size())},
                      {"recurrent_layers", static_cast<std::int64_t>(t.recurrent.size())},
                      {"draft_layers", t.draft_layers},
                      {"state_bytes", t.state_floats * static_cast<std::int64_t>(sizeof(float))},
                      {"width", t.width},
                      {"heads", t.heads},
                      {"kv_heads", t.kv_heads},
                      {"head_dim", t.head_dim},
                      {"ffn_width", t.ffn_width},
                      {"vocab", t.vocab},
                      {"tied_embeddings", t.tied_embeddings},
                      {"context", t.context},
                      {"notices", std::move(notices)},
                      {"tensors", static_cast<std::int64_t>(opened.source.tensors().size())},
                      {"bytes", opened.source.total_bytes()},
                      {"quantisation", quantisation_of(opened)},
                      {"bytes_by_type", std::move(quantisation)},
                      {"tensors_by_type", std::move(histogram)},
                      {"chat_template", chat_template},
                      {"sampling", formats::generation_config_json(opened.generation)},
                      {"licence", licence_of(opened)},
                      {"memory", memory_table(opened, formats_of(views), contexts)},
                      {"memory_available_bytes", static_cast<std::int64_t>(base::available_memory_bytes())}};
}

void print_description(const json::Object& d, bool as_json) {
  if (as_json) {
    std::puts(json::dump(d).c_str());
    return;
  }
  for (const auto& [key, value] : d) {
    if (key == "memory" || key == "chat_template") continue;
    std::printf("%-24s %s\n", key.c_str(), value.is_string() ? value.as_string().c_str() : json::dump(value).c_str());
  }
  const std::string& text = d.find("chat_template")->as_string();
  std::printf("%-24s %s\n", "chat_template", text.empty() ? "none" : (std::to_string(text.size()) + " bytes (see --json)").c_str());
  for (const json::Value& row : d.find("memory")->as_array()) {
    std::printf("memory at context %-6lld %.3f GB\n", static_cast<long long>(row.find("context")->as_int()),
                static_cast<double>(row.find("total_bytes")->as_int()) / 1e9);
  }
}

}  // namespace qw::app
