#include "hub/select.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <map>
#include <regex>

#include "hub/name.h"

namespace qw::hub {
namespace {

bool ends_with(const RemoteFile& file, std::string_view suffix) { return lower(file.path).ends_with(suffix); }

bool in_root(const RemoteFile& file) { return file.path.find('/') == std::string::npos; }

// Files beside the weights that something here reads, and what their makers want to go along.
bool companion(const RemoteFile& file) {
  static constexpr std::array<std::string_view, 18> kNames{
      "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
      "added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json",
      "quantize_config.json", "quant_config.json", "modules.json", "config_sentence_transformers.json",
      "sentence_bert_config.json", "adapter_config.json", "license", "notice"};
  if (in_root(file)) {
    const std::string name = lower(file.path);
    return std::find(kNames.begin(), kNames.end(), name) != kNames.end() || name.starts_with("license.") || name.starts_with("notice.") ||
           name.ends_with(".tiktoken");
  }
  return file.path.ends_with("_Pooling/config.json");   // of embedding models, named in modules.json
}

Result<Selection> select_gguf(const std::vector<RemoteFile>& files, const std::string& pattern) {
  std::map<std::string, std::vector<RemoteFile>> models;
  std::string all;
  for (const RemoteFile& file : files) {
    if (!ends_with(file, ".gguf")) continue;
    all += (all.empty() ? "" : ", ") + file.path;
    if (pattern.empty() || matches(file.path, pattern)) models[gguf_stem(file.path)].push_back(file);
  }
  // A part of a name may also be a part of longer ones ("q4_k" in "q4_k_m"): the end of the name decides then.
  if (models.size() > 1 && !pattern.empty()) {
    std::erase_if(models, [&](const auto& model) {
      const std::string stem = lower(model.first), wanted = lower(pattern);
      return !stem.ends_with("-" + wanted) && !stem.ends_with("." + wanted) && stem != wanted;
    });
  }
  if (models.size() != 1)
    return fail(ErrorKind::kUsage, (pattern.empty() ? "several GGUF files, choose one by NAME:PART" : "\"" + pattern + "\" does not name one GGUF file") +
                                       (" of: " + (all.empty() ? "none" : all.substr(0, 2000))));
  auto& parts = models.begin()->second;
  std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  Selection out{parts, parts.front().path};
  for (const RemoteFile& file : files) {
    if (in_root(file) && (lower(file.path).starts_with("license") || lower(file.path).starts_with("notice"))) out.files.push_back(file);
  }
  return out;
}

Result<std::vector<RemoteFile>> select_safetensors(const std::vector<RemoteFile>& files) {
  static const std::regex kPart("(model|adapter_model)-\\d{5}-of-\\d{5}\\.safetensors");
  std::vector<RemoteFile> single, index, parts, all;
  for (const RemoteFile& file : files) {
    if (!in_root(file)) continue;
    if (file.path == "model.safetensors.index.json") index.push_back(file);
    if (!file.path.ends_with(".safetensors")) continue;
    all.push_back(file);
    if (file.path == "model.safetensors" || file.path == "adapter_model.safetensors") single.push_back(file);
    if (std::regex_match(file.path, kPart)) parts.push_back(file);
  }
  if (!index.empty() && !parts.empty()) {
    parts.push_back(index.front());
    return parts;
  }
  if (!single.empty()) return std::vector<RemoteFile>{single.front()};
  if (all.size() == 1) return all;
  return fail(ErrorKind::kBadInput, "several .safetensors files and no model.safetensors.index.json that says how they belong together");
}

}  // namespace

bool matches(const std::string& path, const std::string& pattern) {
  const std::string name = lower(path), wanted = lower(pattern);
  if (wanted.find_first_of("*?") != std::string::npos) return ::fnmatch(wanted.c_str(), name.c_str(), 0) == 0;
  return name.find(wanted) != std::string::npos;
}

std::string gguf_stem(const std::string& path) {
  static const std::regex kTail("(-\\d{5}-of-\\d{5})?\\.gguf$", std::regex::icase);
  return std::regex_replace(path, kTail, "");
}

Result<Selection> select_files(const std::vector<RemoteFile>& files, const std::string& pattern) {
  const auto any = [&](std::string_view suffix) {
    return std::find_if(files.begin(), files.end(), [&](const RemoteFile& f) { return ends_with(f, suffix); });
  };
  const bool safetensors = std::any_of(files.begin(), files.end(), [](const RemoteFile& f) { return in_root(f) && ends_with(f, ".safetensors"); });
  if (!pattern.empty() || (!safetensors && any(".gguf") != files.end())) return select_gguf(files, pattern);
  if (!safetensors) {
    for (const char* suffix : {".bin", ".pth", ".pt", ".ckpt"}) {
      if (const auto found = any(suffix); found != files.end())
        return fail(ErrorKind::kBadInput, found->path + ": weights in PyTorch's pickle format are not read, since opening them can run "
                                          "code; there are no .safetensors or .gguf files");
    }
    return fail(ErrorKind::kBadInput, "no weights: neither .safetensors nor .gguf files");
  }
  Selection out;
  QW_ASSIGN(out.files, select_safetensors(files));
  for (const RemoteFile& file : files) {
    if (companion(file)) out.files.push_back(file);
  }
  return out;
}

}  // namespace qw::hub
