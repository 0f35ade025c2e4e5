#include "tokenizer/gguf_vocabulary.h"

#include <algorithm>
#include <array>

#include "tokenizer/internal/folder_files.h"
#include "tokenizer/internal/shown.h"

namespace qw::tokenizer {
namespace {

// Ids name rows of an embedding; 2^24 is far above any.
constexpr std::int64_t kMaxRows = std::int64_t{1} << 24;

// Names under which files with the regex of a generation go.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kPreNames = {{
    {"qwen2", "qwen2"},
    {"qwen35", "qwen35"},
    {"deepseek-r1-qwen", "qwen2"},
    {"kormo", "qwen2"},
    {"f2llmv2", "qwen2"},
}};

Status read_token(const GgufVocabulary& from, std::size_t i, TokenizerSpec& spec) {
  const std::string& text = from.tokens[i];
  const auto type = from.token_types.empty() ? GgufTokenType::kNormal : static_cast<GgufTokenType>(from.token_types[i]);
  switch (type) {
    case GgufTokenType::kNormal: {
      auto bytes = letters_to_bytes(text);
      if (!bytes) return in_context("id " + std::to_string(i), std::move(bytes).error());
      spec.tokens[i] = std::move(*bytes);
      return {};
    }
    case GgufTokenType::kControl:
    case GgufTokenType::kUnknown:
      spec.added.push_back({text, static_cast<TokenId>(i), true});
      return {};
    case GgufTokenType::kUserDefined:
      spec.added.push_back({text, static_cast<TokenId>(i), false});
      return {};
    case GgufTokenType::kUnused:
      return {};
    case GgufTokenType::kByte:
      break;
  }
  return fail(ErrorKind::kBadInput, "id " + std::to_string(i) + ": token type " +
                                        std::to_string(static_cast<std::int32_t>(type)) + " in byte-level BPE");
}

Status read_merges(const std::vector<std::string>& lines, TokenizerSpec& spec) {
  for (std::size_t i = 0; i < lines.size(); ++i) QW_TRY(read_merge(i, lines[i], spec));
  return {};
}

Status read_ids(const GgufVocabulary& from, TokenizerSpec& spec) {
  const auto set = [&](const char* key, const std::optional<std::int64_t>& id, std::optional<TokenId>& to) -> Status {
    if (!id) return {};
    if (*id < 0 || static_cast<std::size_t>(*id) >= from.tokens.size()) {
      return fail(ErrorKind::kBadInput, std::string(key) + " " + std::to_string(*id) + " is outside the vocabulary");
    }
    to = static_cast<TokenId>(*id);
    return {};
  };
  std::optional<TokenId> eot;
  QW_TRY(set("bos_token_id", from.bos, spec.bos));
  QW_TRY(set("eos_token_id", from.eos, spec.eos));
  QW_TRY(set("padding_token_id", from.pad, spec.pad));
  QW_TRY(set("eot_token_id", from.eot, eot));
  const auto stop = [&](const std::optional<TokenId>& id) {
    if (id && std::find(spec.stop.begin(), spec.stop.end(), *id) == spec.stop.end()) spec.stop.push_back(*id);
  };
  stop(spec.eos);
  stop(eot);
  for (const std::string_view text : {"<|im_end|>", "<|endoftext|>"}) {
    for (const AddedToken& token : spec.added) {
      if (token.special && token.text == text) stop(token.id);
    }
  }
  return {};
}

}  // namespace

Result<TokenizerSpec> spec_from_gguf(const GgufVocabulary& from) {
  TokenizerSpec spec;
  const auto* pre =
      std::find_if(kPreNames.begin(), kPreNames.end(), [&](const auto& p) { return p.first == from.pre; });
  if (pre == kPreNames.end()) {
    return fail(ErrorKind::kBadInput, "tokenizer.ggml.pre: unknown pre-tokeniser " + shown(from.pre));
  }
  spec.pre_tokenizer = pre->second;
  if (!from.token_types.empty() && from.token_types.size() != from.tokens.size()) {
    return fail(ErrorKind::kBadInput, "tokenizer.ggml.token_type: " + std::to_string(from.token_types.size()) +
                                          " types of " + std::to_string(from.tokens.size()) + " tokens");
  }
  spec.tokens.resize(from.tokens.size());
  for (std::size_t i = 0; i < from.tokens.size(); ++i) {
    if (auto status = read_token(from, i, spec); !status) {
      return in_context("tokenizer.ggml.tokens", std::move(status).error());
    }
  }
  if (auto status = read_merges(from.merges, spec); !status) {
    return in_context("tokenizer.ggml.merges", std::move(status).error());
  }
  if (auto status = read_ids(from, spec); !status) return in_context("tokenizer.ggml", std::move(status).error());
  // Holes at the end are rows of the embedding, not ids of the tokenizer.
  while (!spec.tokens.empty() && spec.tokens.back().empty()) spec.tokens.pop_back();
  spec.add_bos = from.add_bos && spec.bos.has_value();
  spec.chat_template = from.chat_template;
  return spec;
}

Result<GgufVocabulary> spec_to_gguf(const TokenizerSpec& spec, std::int64_t rows) {
  QW_ASSIGN(const Tokenizer tokenizer, Tokenizer::create(spec));
  if (rows > kMaxRows) return fail(ErrorKind::kUsage, "vocabulary of more than 2^24 rows");
  GgufVocabulary to;
  const auto n = static_cast<std::size_t>(std::max(rows, tokenizer.vocab_size()));
  for (std::size_t i = 0; i < n; ++i) {
    const std::string_view bytes = tokenizer.token_bytes(static_cast<TokenId>(i));
    to.tokens.push_back(bytes.empty() ? "[PAD" + std::to_string(i) + "]" : bytes_to_letters(bytes));
    to.token_types.push_back(
        static_cast<std::int32_t>(bytes.empty() ? GgufTokenType::kUnused : GgufTokenType::kNormal));
  }
  for (const AddedToken& token : spec.added) {
    const auto id = static_cast<std::size_t>(token.id);
    to.tokens[id] = token.text;
    to.token_types[id] =
        static_cast<std::int32_t>(token.special ? GgufTokenType::kControl : GgufTokenType::kUserDefined);
  }
  for (const auto& [left, right] : spec.merges)
    to.merges.push_back(bytes_to_letters(left) + ' ' + bytes_to_letters(right));
  to.pre = spec.pre_tokenizer;
  to.bos = spec.bos;
  to.eos = spec.eos;
  to.pad = spec.pad;
  if (const auto end_of_turn = tokenizer.find("<|im_end|>"); end_of_turn && tokenizer.is_special(*end_of_turn)) {
    to.eot = *end_of_turn;
  }
  to.add_bos = spec.add_bos;
  to.chat_template = spec.chat_template;
  return to;
}

}  // namespace qw::tokenizer
