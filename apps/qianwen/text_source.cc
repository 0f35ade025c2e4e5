#include "text_source.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "formats/gguf.h"
#include "gguf_tokenizer.h"
#include "hub/model_store.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;

fs::path program_folder() {
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored).parent_path();
}

// A shipped model: beside an installed program, or in the source tree the program was built in.
fs::path shipped_model(const std::string& name) {
  const fs::path folder = program_folder(), file = name + ".gguf";
  for (const fs::path& candidate : {folder / "../share/qianwen" / file, folder / "../../models" / name / file,
                                    fs::path("models") / name / file}) {
    if (fs::exists(candidate)) return candidate.lexically_normal();
  }
  return {};
}

}  // namespace

void add_models_option(CLI::App& cmd) {
  // The option is the variable under another name: there is one place to look for the folder.
  cmd.add_option_function<std::string>(
      "--models", [](const std::string& folder) { ::setenv("QW_MODELS", folder.c_str(), 1); },
      "folder of the models known by name (default: " + model_store() + ")");
}

std::string model_store() {
  if (const char* folder = std::getenv("QW_MODELS"); folder != nullptr && *folder != '\0') return folder;
  if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data != '\0')
    return std::string(data) + "/qianwen/models";
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : ".") + "/.local/share/qianwen/models";
}

Result<std::string> read_text(const std::string& path, std::uint64_t limit_bytes) {
  return path == "-" ? base::InputFile::standard_input().read_all(limit_bytes) : base::read_file(path, limit_bytes);
}

Result<std::string> resolve_model(const std::string& model) {
  if ((model == "mini" || model == "mini-guard") && !fs::exists(model)) {
    const fs::path path = shipped_model(model);
    if (path.empty())
      return fail(ErrorKind::kBadInput,
                  model + ": the shipped model (models/" + model + "/" + model + ".gguf) was not found");
    return path.string();
  }
  if (fs::exists(model)) return model;
  QW_ASSIGN(const auto stored, hub::find_model(model_store(), model));
  if (stored) return stored->path.string();
  // A folder of the store that is no model may still have tokenizer files.
  if (const fs::path folder = fs::path(model_store()) / model;
      model.find('/') == std::string::npos && fs::is_directory(folder))
    return folder.string();
  return fail(ErrorKind::kBadInput, model + ": no such file or folder, and no model of that name in " + model_store());
}

Result<std::vector<std::string>> json_lines(std::string_view input) {
  std::vector<std::string> texts;
  for (std::size_t number = 1; !input.empty(); ++number) {
    const std::size_t end = std::min(input.find('\n'), input.size());
    const std::string_view line = input.substr(0, end);
    input.remove_prefix(std::min(end + 1, input.size()));
    if (line.empty()) continue;
    auto value = json::parse(line);
    if (!value) return in_context("line " + std::to_string(number), value.error());
    const json::Value* text = value->is_object() ? value->find("text") : &*value;
    if (text == nullptr || !text->is_string()) {
      return fail(ErrorKind::kBadInput, "line " + std::to_string(number) + ": expected a string or {\"text\": ...}");
    }
    texts.push_back(text->as_string());
  }
  return texts;
}

Result<json::Value> read_json(const std::string& path) {
  QW_ASSIGN(const std::string text, read_text(path, kMaxPromptBytes));
  auto value = json::parse(text);
  if (!value) return in_context(path, value.error());
  return std::move(*value);
}

Result<json::Array> read_messages(const std::string& path) {
  QW_ASSIGN(json::Value messages, read_json(path));
  if (const json::Value* inner = messages.find("messages")) messages = json::Value(*inner);
  if (!messages.is_array()) return fail(ErrorKind::kBadInput, path + ": expected an array of messages");
  for (std::size_t i = 0; i < messages.as_array().size(); ++i)
    if (!messages.as_array()[i].is_object())
      return fail(ErrorKind::kBadInput, path + ": messages[" + std::to_string(i) + "]: expected an object");
  return std::move(messages.as_array());
}

Result<std::vector<tokenizer::TokenId>> parse_ids(const std::string& option, std::string_view text) {
  const auto bad = [&] { return fail(ErrorKind::kUsage, option + " expects ids such as 1,2,3"); };
  const auto blank = [](char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; };
  const auto trim = [&] {
    while (!text.empty() && blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  };
  trim();
  if (text.starts_with('[') && text.ends_with(']') && text.size() > 1) text = text.substr(1, text.size() - 2);
  trim();
  std::vector<tokenizer::TokenId> ids;
  const char *p = text.data(), *const end = p + text.size();
  while (p != end) {
    tokenizer::TokenId id = 0;
    const auto [next, error] = std::from_chars(p, end, id);
    if (error != std::errc()) return bad();
    ids.push_back(id);
    // One comma, or blanks, or both before the next.
    bool comma = false;
    for (p = next; p != end && (blank(*p) || (*p == ',' && !comma)); ++p) comma |= *p == ',';
    if ((p == next && p != end) || (p == end && comma)) return bad();
  }
  return ids;
}

Result<tokenizer::TokenizerSpec> tokenizer_of(const std::string& model) {
  QW_ASSIGN(const std::string path, resolve_model(model));
  if (fs::is_directory(path)) return tokenizer::load_tokenizer_folder(path);
  QW_ASSIGN(const auto file, formats::GgufFile::open(path));
  return tokenizer_of_gguf(file);
}

}  // namespace qw::app
