#include <algorithm>

#include "base/file.h"
#include "tokenizer/internal/folder_files.h"
#include "tokenizer/internal/shown.h"

namespace qw::tokenizer {
namespace {

using json::Value;

// The largest tokenizer.json in use is about 30 MB.
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{256} << 20;

tl::unexpected<Error> bad(const std::string& where, const std::string& what) {
  return fail(ErrorKind::kBadInput, where + ": " + what);
}

Status named(const char* file, Status status) {
  return status ? std::move(status) : in_context(file, std::move(status).error());
}

// An absent file is an empty object.
Result<Value> parse_object(const char* file, const std::optional<std::string>& text) {
  if (!text) return Value(json::Object{});
  auto value = json::parse(*text);
  if (!value) return in_context(file, std::move(value).error());
  if (!value->is_object()) return bad(file, "not an object");
  return value;
}

// What the other files need of one another.
struct Configs {
  Value tokenizer, special, generation, added;
};

// Without tokenizer.json the class tells the pre-tokeniser.
Status read_class(const Value& config, TokenizerSpec& spec) {
  const Value* value = config.find("tokenizer_class");
  if (value == nullptr || value->is_null()) return {};
  const std::string name = value->is_string() ? value->as_string() : json::dump(*value);
  if (name == "Qwen2Tokenizer" || name == "Qwen2TokenizerFast") return {};
  if (name != "Qwen3_5Tokenizer") {
    return bad("tokenizer_config.json",
               "tokenizer_class " + shown(name) + " is none of Qwen's, and there is no tokenizer.json");
  }
  spec.pre_tokenizer = "qwen35";
  return {};
}

Status read_base(const FolderFiles& files, const Configs& configs, AddedReader& added, TokenizerSpec& spec) {
  if (files.tokenizer_json) return named("tokenizer.json", read_tokenizer_json(*files.tokenizer_json, added, spec));
  if (files.vocab_json && files.merges_txt) {
    QW_TRY(read_class(configs.tokenizer, spec));
    QW_ASSIGN(const Value vocab, parse_object("vocab.json", files.vocab_json));
    QW_TRY(named("vocab.json", read_vocabulary(vocab, added, spec)));
    return named("merges.txt", read_merges_txt(*files.merges_txt, spec));
  }
  if (files.tiktoken) return named("qwen.tiktoken", read_tiktoken(*files.tiktoken, added, spec));
  return fail(ErrorKind::kBadInput, "no tokenizer.json, no vocab.json with merges.txt, and no qwen.tiktoken");
}

Status read_decoder(const Value& config, AddedReader& added) {
  const Value* decoder = config.find("added_tokens_decoder");
  if (decoder == nullptr || decoder->is_null()) return {};
  if (!decoder->is_object()) return bad("added_tokens_decoder", "not an object");
  for (const auto& [key, entry] : decoder->as_object()) {
    const auto number = json::parse(key);  // the id is a string in this file
    QW_ASSIGN(const TokenId id, read_id("added_tokens_decoder", number ? *number : Value(key)));
    QW_TRY(added.read("added_tokens_decoder", id, entry));
  }
  return {};
}

// The text of a named token: a string or an object with content; nullopt if null or absent.
std::optional<std::string> token_text(const Value* value) {
  if (value != nullptr && value->is_object()) value = value->find("content");
  return value != nullptr && value->is_string() ? std::optional(value->as_string()) : std::nullopt;
}

bool is_named_special(const Value& special, const std::string& text) {
  for (const auto& [key, value] : special.as_object()) {
    if (token_text(&value) == text) return true;
    if (!value.is_array()) continue;
    for (const Value& item : value.as_array()) {
      if (token_text(&item) == text) return true;
    }
  }
  return false;
}

// {text: id}; tokens that special_tokens_map.json names are special.
Status read_added_file(const Configs& configs, AddedReader& added) {
  for (const auto& [text, value] : configs.added.as_object()) {
    QW_ASSIGN(const TokenId id, read_id(shown(text), value));
    if (added.find(id) != nullptr && added.find(id)->text == text) continue;
    QW_TRY(added.add("added token", {text, id, is_named_special(configs.special, text)}));
  }
  return {};
}

Result<std::optional<TokenId>> named_token(const char* key, const Configs& configs, const AddedReader& added,
                                           const TokenizerSpec& spec) {
  auto text = token_text(configs.tokenizer.find(key));
  if (!text && configs.tokenizer.find(key) == nullptr) text = token_text(configs.special.find(key));
  if (!text) return std::optional<TokenId>();
  if (const auto id = added.find(*text)) return id;
  const auto at = std::find(spec.tokens.begin(), spec.tokens.end(), *text);
  if (text->empty() || at == spec.tokens.end()) {
    return bad("tokenizer_config.json", std::string(key) + " " + shown(*text) + " is not in the vocabulary");
  }
  return std::optional(static_cast<TokenId>(at - spec.tokens.begin()));
}

Status read_named_tokens(const Configs& configs, const AddedReader& added, TokenizerSpec& spec) {
  const auto read = [&](const char* key, std::optional<TokenId>& to) -> Status {
    QW_ASSIGN(const auto id, named_token(key, configs, added, spec));
    if (id) to = id;
    return {};
  };
  QW_TRY(read("bos_token", spec.bos));
  QW_TRY(read("eos_token", spec.eos));
  QW_TRY(read("pad_token", spec.pad));
  const Value* add_bos = configs.tokenizer.find("add_bos_token");
  spec.add_bos = spec.bos && add_bos != nullptr && add_bos->is_bool() && add_bos->as_bool();
  return {};
}

// generation_config.json: eos_token_id is an id or a list of ids.
Status read_stop_ids(const Value& generation, TokenizerSpec& spec) {
  std::vector<TokenId> stop;
  const auto add = [&](TokenId id) {
    if (std::find(stop.begin(), stop.end(), id) == stop.end()) stop.push_back(id);
  };
  std::vector<TokenId> listed;
  if (const Value* value = generation.find("eos_token_id"); value != nullptr && !value->is_null()) {
    const json::Array items = value->is_array() ? value->as_array() : json::Array{*value};
    if (items.size() > 1024) return bad("eos_token_id", "more than 1024 ids");  // stops are looked through each token
    for (const Value& item : items) {
      QW_ASSIGN(const TokenId id, read_id("eos_token_id", item));
      listed.push_back(id);
    }
  }
  if (!spec.eos && !listed.empty()) spec.eos = listed[0];
  if (spec.eos) add(*spec.eos);
  for (const TokenId id : listed) add(id);
  for (const TokenId id : spec.stop) add(id);
  spec.stop = std::move(stop);
  return {};
}

Status read_template(const FolderFiles& files, const Value& config, TokenizerSpec& spec) {
  if (files.chat_template) {
    spec.chat_template = *files.chat_template;
    return {};
  }
  const Value* value = config.find("chat_template");
  if (value == nullptr || value->is_null()) return {};
  if (value->is_string()) {
    spec.chat_template = value->as_string();
    return {};
  }
  if (!value->is_array()) return bad("chat_template", "neither a string nor a list");
  for (const Value& item : value->as_array()) {  // [{"name": "default", "template": "..."}, ...]
    const Value *name = item.find("name"), *source = item.find("template");
    if (name == nullptr || source == nullptr || !name->is_string() || !source->is_string()) {
      return bad("chat_template", "a list's entries need name and template");
    }
    if (name->as_string() == "default") spec.chat_template = source->as_string();
  }
  return {};
}

Status read_file_if_there(const std::filesystem::path& path, std::optional<std::string>& text) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return {};
  QW_ASSIGN(text, base::read_file(path, kMaxFileBytes));
  return {};
}

}  // namespace

Result<TokenizerSpec> spec_from_files(const FolderFiles& files) {
  TokenizerSpec spec;
  AddedReader added(spec);
  Configs configs;
  QW_ASSIGN(configs.tokenizer, parse_object("tokenizer_config.json", files.tokenizer_config));
  QW_ASSIGN(configs.special, parse_object("special_tokens_map.json", files.special_tokens_map));
  QW_ASSIGN(configs.generation, parse_object("generation_config.json", files.generation_config));
  QW_ASSIGN(configs.added, parse_object("added_tokens.json", files.added_tokens));
  if (!files.tokenizer_json) QW_TRY(named("tokenizer_config.json", read_decoder(configs.tokenizer, added)));
  QW_TRY(read_base(files, configs, added, spec));
  if (files.tokenizer_json) QW_TRY(named("tokenizer_config.json", read_decoder(configs.tokenizer, added)));
  QW_TRY(named("added_tokens.json", read_added_file(configs, added)));
  QW_TRY(read_named_tokens(configs, added, spec));
  QW_TRY(named("generation_config.json", read_stop_ids(configs.generation, spec)));
  QW_TRY(named("tokenizer_config.json", read_template(files, configs.tokenizer, spec)));
  return spec;
}

Result<TokenizerSpec> load_tokenizer_folder(const std::filesystem::path& folder) {
  FolderFiles files;
  const std::pair<const char*, std::optional<std::string>*> names[] = {
      {"tokenizer.json", &files.tokenizer_json},
      {"vocab.json", &files.vocab_json},
      {"merges.txt", &files.merges_txt},
      {"qwen.tiktoken", &files.tiktoken},
      {"tokenizer_config.json", &files.tokenizer_config},
      {"added_tokens.json", &files.added_tokens},
      {"special_tokens_map.json", &files.special_tokens_map},
      {"generation_config.json", &files.generation_config},
      {"chat_template.jinja", &files.chat_template}};
  for (const auto& [name, text] : names) QW_TRY(read_file_if_there(folder / name, *text));
  auto spec = spec_from_files(files);
  if (spec) return spec;
  // What is wrong with one of the files begins with its name.
  Error error = std::move(spec).error();
  for (const auto& [name, text] : names) {
    if (error.message.starts_with(std::string(name) + ":")) {
      error.message = (folder / error.message).string();
      return tl::unexpected(std::move(error));
    }
  }
  return in_context(folder.string(), std::move(error));
}

}  // namespace qw::tokenizer
