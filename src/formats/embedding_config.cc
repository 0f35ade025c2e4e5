#include "formats/embedding_config.h"

#include <filesystem>

#include "base/file.h"

namespace qw::formats {
namespace {

constexpr const char* kLast = "pooling_mode_lasttoken";

Status bad(const std::string& what) { return fail(ErrorKind::kBadInput, what); }

// "1_Pooling": a name within the folder, never a way out of it.
bool plain_name(const std::string& path) {
  return !path.empty() && path != "." && path != ".." && path.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

Result<json::Value> read_json(const std::filesystem::path& path) {
  QW_ASSIGN(const std::string text, base::read_file(path, std::uint64_t{1} << 20));  // prompts of pages would fit
  auto value = json::parse(text);
  if (!value) return in_context(path.string(), std::move(value).error());
  return std::move(*value);
}

}  // namespace

Result<EmbeddingConfig> read_modules(const json::Value& modules, std::string& folder_of_pooling) {
  EmbeddingConfig config;
  if (!modules.is_array()) return tl::unexpected(bad("must be an array of modules").error());
  bool transformer = false;
  for (const json::Value& module : modules.as_array()) {
    const json::Value *type = module.find("type"), *path = module.find("path");
    if (type == nullptr || !type->is_string() || path == nullptr || !path->is_string())
      return tl::unexpected(bad("every module needs a type and a path").error());
    const std::string name = type->as_string().substr(type->as_string().rfind('.') + 1);
    if (name == "Transformer" && !transformer && path->as_string().empty()) {
      transformer = true;
    } else if (name == "Pooling" && transformer && folder_of_pooling.empty() && plain_name(path->as_string())) {
      folder_of_pooling = path->as_string();
    } else if (name == "Normalize" && !folder_of_pooling.empty()) {
      config.normalise = true;
    } else {
      return tl::unexpected(bad("module \"" + name.substr(0, 64) + "\" is not supported in this place").error());
    }
  }
  if (folder_of_pooling.empty()) return tl::unexpected(bad("has no Transformer followed by a Pooling").error());
  return config;
}

Status check_pooling(const json::Value& config) {
  if (!config.is_object()) return bad("must be an object");
  bool last = false;
  for (const auto& [key, value] : config.as_object()) {
    if (key == "pooling_mode") {  // newer files name the one mode
      if (!value.is_string() || value.as_string() != "lasttoken") return bad("pooling_mode must be lasttoken");
      last = true;
    }
    if (!key.starts_with("pooling_mode") || !value.is_bool() || !value.as_bool()) continue;
    if (key != kLast) return bad(key.substr(0, 64) + " is not supported: only " + kLast);
    last = true;
  }
  return last ? Status() : bad(std::string(kLast) + " must be true");
}

Result<std::string> query_prompt(const json::Value& config) {
  const json::Value* prompts = config.find("prompts");
  const json::Value* query = prompts == nullptr ? nullptr : prompts->find("query");
  if (query == nullptr || query->is_null()) return std::string();
  if (!query->is_string()) return tl::unexpected(bad("prompts.query must be a string").error());
  return query->as_string();
}

Result<std::optional<EmbeddingConfig>> read_embedding_config(const ModelSource& source) {
  const auto folder = source.path();
  const auto modules = folder / "modules.json", named = folder / "config_sentence_transformers.json";
  std::error_code ignored;
  if (source.hf_folder() == nullptr || !std::filesystem::exists(modules, ignored)) return std::optional<EmbeddingConfig>();
  QW_ASSIGN(const json::Value list, read_json(modules));
  std::string pooling;
  auto config = read_modules(list, pooling);
  if (!config) return in_context(modules.string(), std::move(config).error());
  const auto pooling_file = folder / pooling / "config.json";
  QW_ASSIGN(const json::Value how, read_json(pooling_file));
  if (auto fine = check_pooling(how); !fine) return in_context(pooling_file.string(), std::move(fine).error());
  if (std::filesystem::exists(named, ignored)) {
    QW_ASSIGN(const json::Value prompts, read_json(named));
    auto prompt = query_prompt(prompts);
    if (!prompt) return in_context(named.string(), std::move(prompt).error());
    config->query_prompt = std::move(*prompt);
  }
  return std::optional(std::move(*config));
}

Status write_embedding_config(const EmbeddingConfig& config, std::int64_t width, std::int64_t context,
                              const std::filesystem::path& folder) {
  json::Array stages;
  const auto stage = [&](const std::string& name) {
    const auto i = static_cast<std::int64_t>(stages.size());
    stages.emplace_back(json::Object{{"idx", i},
                                     {"name", std::to_string(i)},
                                     {"path", i == 0 ? "" : std::to_string(i) + "_" + name},
                                     {"type", "sentence_transformers.models." + name}});
  };
  stage("Transformer");
  stage("Pooling");
  if (config.normalise) stage("Normalize");
  const auto write = [&](const char* name, json::Value value) {
    return base::write_file_atomically(folder / name, json::dump(value, {.indent = 2}) + "\n");
  };
  std::error_code code;
  std::filesystem::create_directories(folder / "1_Pooling", code);
  if (code) return fail(ErrorKind::kFailed, folder.string() + ": cannot create 1_Pooling: " + code.message());
  QW_TRY(write("1_Pooling/config.json", json::Object{{"word_embedding_dimension", width}, {kLast, true}}));
  QW_TRY(write("sentence_bert_config.json", json::Object{{"max_seq_length", context}, {"do_lower_case", false}}));
  QW_TRY(write("config_sentence_transformers.json",
               json::Object{{"prompts", json::Object{{"query", config.query_prompt}, {"document", ""}}},
                            {"default_prompt_name", nullptr},
                            {"similarity_fn_name", "cosine"}}));
  return write("modules.json", std::move(stages));
}

}  // namespace qw::formats
