#include "tokenizer/gguf_vocabulary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <future>
#include <unordered_map>

#include "tokenizer/internal/character_bpe.h"
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
      auto bytes = token_of(text, spec);
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
      if (const auto byte = spec.characters ? byte_of_name(text) : std::nullopt) {
        TokenId& id = spec.characters->bytes[static_cast<std::size_t>(*byte)];
        if (id >= 0)
          return fail(ErrorKind::kBadInput,
                      "ids " + std::to_string(id) + " and " + std::to_string(i) + " are both " + text);
        id = static_cast<TokenId>(i);
        spec.tokens[i] = std::string(1, static_cast<char>(*byte));
        return {};
      }
      break;
  }
  return fail(ErrorKind::kBadInput, "id " + std::to_string(i) + ": token type " +
                                        std::to_string(static_cast<std::int32_t>(type)) + " of " + shown(text));
}

// How a blank comes in front, by the key of this house.
constexpr std::array<std::pair<std::string_view, CharacterVocabulary::Blank>, 2> kPrefixNames = {{
    {"unless-there", CharacterVocabulary::Blank::kUnlessThere},
    {"first-unless-there", CharacterVocabulary::Blank::kFirstUnlessThere},
}};

Status begin_characters(const GgufVocabulary& from, TokenizerSpec& spec) {
  CharacterVocabulary& characters = spec.characters.emplace();
  characters.bytes.assign(256, -1);
  characters.blank = from.add_space_prefix ? CharacterVocabulary::Blank::kAlways : CharacterVocabulary::Blank::kNever;
  characters.strip_blank = from.add_space_prefix;
  spec.nfc = false;
  spec.pre_tokenizer.clear();
  if (from.space_prefix.empty()) return {};
  const auto* named = std::find_if(kPrefixNames.begin(), kPrefixNames.end(),
                                   [&](const auto& name) { return name.first == from.space_prefix; });
  if (named == kPrefixNames.end())
    return fail(ErrorKind::kBadInput, "unknown blank prefix " + shown(from.space_prefix));
  characters.blank = named->second;
  return {};
}

// Every two tokens that make a third, by its score.
Status derive_merges(const GgufVocabulary& from, TokenizerSpec& spec) {
  // No real token is longer; every place to divide one is tried.
  constexpr std::size_t kMaxBytes = 1024;
  if (from.scores.size() != from.tokens.size()) {
    return fail(ErrorKind::kBadInput, "tokenizer.ggml.scores: not one for every token");
  }
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t id = 0; id < spec.tokens.size(); ++id) {
    const bool is_byte = !from.token_types.empty() && from.token_types[id] == static_cast<int>(GgufTokenType::kByte);
    if (!spec.tokens[id].empty() && !is_byte) ids.emplace(spec.tokens[id], id);
  }
  struct Made {
    float score;
    std::size_t id, left;
  };
  std::vector<Made> made;
  for (const auto& [text, id] : ids) {
    if (text.size() > kMaxBytes) return fail(ErrorKind::kBadInput, "a token of more than 1024 bytes");
    if (!std::isfinite(from.scores[id])) return fail(ErrorKind::kBadInput, "tokenizer.ggml.scores: not finite");
    for (std::size_t left = 1; left < text.size(); ++left) {
      if (ids.contains(text.substr(0, left)) && ids.contains(text.substr(left)))
        made.push_back({from.scores[id], id, left});
    }
  }
  std::sort(made.begin(), made.end(), [](const Made& a, const Made& b) {
    return a.score != b.score ? a.score > b.score : a.id != b.id ? a.id < b.id : a.left < b.left;
  });
  for (const Made& merge : made) {
    const std::string& text = spec.tokens[merge.id];
    spec.merges.emplace_back(text.substr(0, merge.left), text.substr(merge.left));
  }
  return {};
}

// Writes to spec.merges alone.
Status read_merges(const std::vector<std::string>& lines, TokenizerSpec& spec) {
  spec.merges.reserve(lines.size());
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

Status read_pre(const std::string& name, TokenizerSpec& spec) {
  const auto* pre = std::find_if(kPreNames.begin(), kPreNames.end(), [&](const auto& p) { return p.first == name; });
  if (pre == kPreNames.end()) {
    return fail(ErrorKind::kBadInput, "tokenizer.ggml.pre: unknown pre-tokeniser " + shown(name));
  }
  spec.pre_tokenizer = pre->second;
  return {};
}

// What only vocabularies of characters have.
void write_characters(const TokenizerSpec& spec, GgufVocabulary& to) {
  const CharacterVocabulary& characters = *spec.characters;
  to.model = "llama";
  to.add_space_prefix = characters.blank != CharacterVocabulary::Blank::kNever;
  for (const auto& [name, blank] : kPrefixNames) {
    if (blank == characters.blank) to.space_prefix = name;
  }
  for (std::size_t byte = 0; byte < characters.bytes.size(); ++byte) {
    const auto id = static_cast<std::size_t>(characters.bytes[byte]);
    to.tokens[id] = name_of_byte(static_cast<int>(byte));
    to.token_types[id] = static_cast<std::int32_t>(GgufTokenType::kByte);
  }
  // What an earlier merge makes is higher; what none makes is lowest.
  std::unordered_map<std::string, float> by_text;
  for (std::size_t rank = 0; rank < spec.merges.size(); ++rank) {
    by_text.emplace(spec.merges[rank].first + spec.merges[rank].second, -static_cast<float>(rank));
  }
  const auto lowest = -static_cast<float>(spec.merges.size() + 1);
  for (std::size_t id = 0; id < to.tokens.size(); ++id) {
    const auto found = id < spec.tokens.size() ? by_text.find(spec.tokens[id]) : by_text.end();
    to.scores.push_back(found != by_text.end() ? found->second : lowest);
  }
}

}  // namespace

Result<TokenizerSpec> spec_from_gguf(const GgufVocabulary& from) {
  TokenizerSpec spec;
  const bool characters = from.model == "llama";
  if (characters) {
    QW_TRY(begin_characters(from, spec));
  } else if (from.model == "gpt2") {
    QW_TRY(read_pre(from.pre, spec));
  } else {
    return fail(ErrorKind::kBadInput, "tokenizer.ggml.model: unknown " + shown(from.model));
  }
  if (!from.token_types.empty() && from.token_types.size() != from.tokens.size()) {
    return fail(ErrorKind::kBadInput, "tokenizer.ggml.token_type: " + std::to_string(from.token_types.size()) +
                                          " types of " + std::to_string(from.tokens.size()) + " tokens");
  }
  spec.tokens.resize(from.tokens.size());
  // Merges take twice as long to read as tokens do, and need only how they are written.
  std::future<Status> merges;
  if (!characters) merges = std::async(std::launch::async, [&] { return read_merges(from.merges, spec); });
  for (std::size_t i = 0; i < from.tokens.size(); ++i) {
    if (auto status = read_token(from, i, spec); !status) {
      return in_context("tokenizer.ggml.tokens", std::move(status).error());
    }
  }
  if (characters && from.merges.empty()) {
    QW_TRY(derive_merges(from, spec));
  } else if (auto status = merges.valid() ? merges.get() : read_merges(from.merges, spec); !status) {
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
  const auto written = [&](std::string_view token) {
    return spec.characters ? blank_signs(token) : bytes_to_letters(token);
  };
  const auto n = static_cast<std::size_t>(std::max(rows, tokenizer.vocab_size()));
  for (std::size_t i = 0; i < n; ++i) {
    const std::string_view bytes = tokenizer.token_bytes(static_cast<TokenId>(i));
    to.tokens.push_back(bytes.empty() ? "[PAD" + std::to_string(i) + "]" : written(bytes));
    to.token_types.push_back(
        static_cast<std::int32_t>(bytes.empty() ? GgufTokenType::kUnused : GgufTokenType::kNormal));
  }
  for (const AddedToken& token : spec.added) {
    const auto id = static_cast<std::size_t>(token.id);
    to.tokens[id] = token.text;
    to.token_types[id] =
        static_cast<std::int32_t>(token.special ? GgufTokenType::kControl : GgufTokenType::kUserDefined);
  }
  for (const auto& [left, right] : spec.merges) to.merges.push_back(written(left) + ' ' + written(right));
  to.pre = spec.pre_tokenizer;
  if (spec.characters) write_characters(spec, to);
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
