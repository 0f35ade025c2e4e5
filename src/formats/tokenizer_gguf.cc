#include "formats/tokenizer_gguf.h"

#include "formats/internal/text.h"

namespace qw::formats {
namespace {

using internal::quote;

// The special ids: one row serves reading and writing.
struct IdKey {
  const char* key;
  std::optional<std::int64_t> GgufVocabulary::*member;
};
constexpr IdKey kIdKeys[] = {{"tokenizer.ggml.bos_token_id", &GgufVocabulary::bos},
                             {"tokenizer.ggml.eos_token_id", &GgufVocabulary::eos},
                             {"tokenizer.ggml.padding_token_id", &GgufVocabulary::pad},
                             {"tokenizer.ggml.eot_token_id", &GgufVocabulary::eot},
                             {"tokenizer.ggml.unknown_token_id", &GgufVocabulary::unk}};

tl::unexpected<Error> wrong(const GgufFile& file, const std::string& why) {
  return fail(ErrorKind::kBadInput, file.path().string() + ": " + why);
}

constexpr const char* kSpacePrefixKey = "tokenizer.ggml.space_prefix";  // of this house

// A string key; `fallback` if it is absent.
Result<std::string> read_text(const GgufFile& file, const char* key, std::string fallback) {
  const json::Value* value = file.metadata().find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) return wrong(file, "metadata " + quote(key) + " is not a string");
  return value->as_string();
}

std::vector<std::string> copy_strings(const std::vector<std::string_view>& views) {
  return std::vector<std::string>(views.begin(), views.end());
}

Status read_token_types(const GgufFile& file, GgufVocabulary& out) {
  constexpr const char* kKey = "tokenizer.ggml.token_type";
  if (file.entry(kKey) == nullptr) {
    out.token_types.assign(out.tokens.size(), GgufTokenType::kNormal);
    return {};
  }
  QW_ASSIGN(const auto types, file.integers(kKey));
  if (types.size() != out.tokens.size())
    return wrong(file, std::string(kKey) + " and tokenizer.ggml.tokens differ in length");
  for (const std::int64_t t : types) {
    if (t < 1 || t > 6) return wrong(file, std::string(kKey) + " holds " + std::to_string(t));
    out.token_types.push_back(static_cast<GgufTokenType>(t));
  }
  return {};
}

Status read_ids(const GgufFile& file, GgufVocabulary& out) {
  for (const IdKey& row : kIdKeys) {
    const json::Value* value = file.metadata().find(row.key);
    if (value == nullptr) continue;
    if (!value->is_int() || value->as_int() < 0 || value->as_int() >= static_cast<std::int64_t>(out.tokens.size())) {
      return wrong(file, std::string(row.key) + " is no id of the vocabulary");
    }
    out.*row.member = value->as_int();
  }
  return {};
}

Status read_switch(const GgufFile& file, const char* key, bool& out) {
  const json::Value* value = file.metadata().find(key);
  if (value == nullptr) return {};
  if (!value->is_bool()) return wrong(file, std::string(key) + " is not a boolean");
  out = value->as_bool();
  return {};
}

// What only vocabularies of characters have.
Status read_characters(const GgufFile& file, GgufVocabulary& out) {
  QW_TRY(read_switch(file, "tokenizer.ggml.add_space_prefix", out.add_space_prefix));
  QW_ASSIGN(out.space_prefix, read_text(file, kSpacePrefixKey, ""));
  if (file.entry("tokenizer.ggml.scores") == nullptr) return {};
  QW_ASSIGN(const auto scores, file.numbers("tokenizer.ggml.scores"));
  if (scores.size() != out.tokens.size()) return wrong(file, "tokenizer.ggml.scores and .tokens differ in length");
  for (const double score : scores) out.scores.push_back(static_cast<float>(score));
  return {};
}

}  // namespace

Result<GgufVocabulary> read_gguf_vocabulary(const GgufFile& file) {
  GgufVocabulary out;
  QW_ASSIGN(out.model, read_text(file, "tokenizer.ggml.model", ""));
  if (out.model != "gpt2" && out.model != "llama") {
    return wrong(file, "tokenizer model " + quote(out.model) + " is not supported, only 'gpt2' and 'llama' (BPE)");
  }
  QW_ASSIGN(out.pre, read_text(file, "tokenizer.ggml.pre", ""));
  QW_ASSIGN(const auto tokens, file.strings("tokenizer.ggml.tokens"));
  if (tokens.empty()) return wrong(file, "tokenizer.ggml.tokens is empty");
  out.tokens = copy_strings(tokens);
  QW_TRY(read_token_types(file, out));
  const bool characters = out.model == "llama";
  if (characters) QW_TRY(read_characters(file, out));
  std::vector<std::string_view> merges;
  if (!characters || file.entry("tokenizer.ggml.merges") != nullptr) {
    QW_ASSIGN(merges, file.strings("tokenizer.ggml.merges"));
  }
  for (const std::string_view m : merges) {
    const std::size_t blank = m.find(' ', 1);  // the left part is never empty, but may itself be a blank's letter
    if (blank == std::string_view::npos || blank + 1 == m.size())
      return wrong(file, "merge " + quote(m) + " is no pair");
  }
  out.merges = copy_strings(merges);
  QW_TRY(read_ids(file, out));
  QW_TRY(read_switch(file, "tokenizer.ggml.add_bos_token", out.add_bos));
  QW_ASSIGN(out.chat_template, read_text(file, "tokenizer.chat_template", ""));
  return out;
}

void write_gguf_vocabulary(const GgufVocabulary& vocabulary, GgufMetadata& metadata) {
  QW_CHECK(vocabulary.token_types.size() == vocabulary.tokens.size());
  metadata.set("tokenizer.ggml.model", vocabulary.model);
  if (!vocabulary.pre.empty()) metadata.set("tokenizer.ggml.pre", vocabulary.pre);
  if (vocabulary.model == "llama") {
    metadata.set("tokenizer.ggml.pre", "default");
    metadata.set("tokenizer.ggml.add_space_prefix", vocabulary.add_space_prefix);
    if (!vocabulary.space_prefix.empty()) metadata.set(kSpacePrefixKey, vocabulary.space_prefix);
    json::Array scores;
    for (const float score : vocabulary.scores) scores.emplace_back(static_cast<double>(score));
    metadata.set_array("tokenizer.ggml.scores", GgufType::kF32, std::move(scores));
  }
  json::Array types;
  for (const GgufTokenType t : vocabulary.token_types) types.emplace_back(static_cast<int>(t));
  metadata.set_array("tokenizer.ggml.tokens", GgufType::kString,
                     json::Array(vocabulary.tokens.begin(), vocabulary.tokens.end()));
  metadata.set_array("tokenizer.ggml.token_type", GgufType::kI32, std::move(types));
  metadata.set_array("tokenizer.ggml.merges", GgufType::kString,
                     json::Array(vocabulary.merges.begin(), vocabulary.merges.end()));
  for (const IdKey& row : kIdKeys) {
    if (vocabulary.*row.member) metadata.set_typed(row.key, GgufType::kU32, json::Value(*(vocabulary.*row.member)));
  }
  metadata.set("tokenizer.ggml.add_bos_token", vocabulary.add_bos);
  if (!vocabulary.chat_template.empty()) metadata.set("tokenizer.chat_template", vocabulary.chat_template);
}

}  // namespace qw::formats
