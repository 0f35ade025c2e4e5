#include <algorithm>

#include "tokenizer/internal/character_bpe.h"
#include "tokenizer/internal/folder_files.h"
#include "tokenizer/internal/pre_tokenizer.h"
#include "tokenizer/internal/shown.h"

namespace qw::tokenizer {
namespace {

using json::Value;

// Vocabularies have few holes; an id far beyond the number of tokens would make us allocate by a number in a file.
constexpr std::size_t kMaxHoles = 1 << 16;

tl::unexpected<Error> bad(const std::string& where, const std::string& what) {
  return fail(ErrorKind::kBadInput, where + ": " + what);
}

Status read_normalizer(const Value* value, TokenizerSpec& spec) {
  spec.nfc = false;
  if (value == nullptr || value->is_null()) return {};
  for (const Value* step : steps_of(*value, "normalizers")) {
    if (!is_type(*step, "NFC")) return bad("normalizer", "only NFC or none is known, not " + shown(json::dump(*step)));
    spec.nfc = true;
  }
  return {};
}

Status read_pre_tokenizer(const Value* value, TokenizerSpec& spec) {
  const std::string where = "pre_tokenizer";
  if (value == nullptr) return bad(where, "missing");
  const auto steps = steps_of(*value, "pretokenizers");
  if (steps.size() != 2 || !is_type(*steps[0], "Split") || !is_type(*steps[1], "ByteLevel")) {
    return bad(where, "expected a Sequence of Split and ByteLevel");
  }
  const Value* pattern = steps[0]->find("pattern");
  const Value* regex = pattern != nullptr ? pattern->find("Regex") : nullptr;
  if (regex == nullptr || !regex->is_string()) return bad(where, "the Split has no regex");
  const auto kind = pre_tokenizer_by_regex(regex->as_string());
  if (!kind) return bad(where, "unknown regex " + shown(regex->as_string()));
  const Value* behavior = steps[0]->find("behavior");
  if (behavior == nullptr || !behavior->is_string() || behavior->as_string() != "Isolated" ||
      !is_off(*steps[0], "invert")) {
    return bad(where, "the Split must be Isolated and not inverted");
  }
  const Value* use_regex = steps[1]->find("use_regex");  // on when absent
  if (use_regex == nullptr || !is_off(*steps[1], "use_regex") || !is_off(*steps[1], "add_prefix_space")) {
    return bad(where, "the ByteLevel must have neither regex nor prefix space");
  }
  spec.pre_tokenizer = pre_tokenizer_name(*kind);
  return {};
}

Status add_merge(std::size_t number, std::string_view left, std::string_view right, TokenizerSpec& spec) {
  auto left_bytes = token_of(left, spec), right_bytes = token_of(right, spec);
  const std::string where = "merge " + std::to_string(number);
  if (!left_bytes) return in_context(where, std::move(left_bytes).error());
  if (!right_bytes) return in_context(where, std::move(right_bytes).error());
  spec.merges.emplace_back(std::move(*left_bytes), std::move(*right_bytes));
  return {};
}

}  // namespace

Status read_merges(const Value* merges, TokenizerSpec& spec) {
  if (merges == nullptr || !merges->is_array()) return bad("model", "no list of merges");
  spec.merges.reserve(merges->as_array().size());
  for (const Value& merge : merges->as_array()) {
    const std::size_t number = spec.merges.size();
    if (merge.is_string()) {
      QW_TRY(read_merge(number, merge.as_string(), spec));
    } else if (merge.is_array() && merge.as_array().size() == 2 && merge.as_array()[0].is_string() &&
               merge.as_array()[1].is_string()) {
      QW_TRY(add_merge(number, merge.as_array()[0].as_string(), merge.as_array()[1].as_string(), spec));
    } else {
      return bad("merge " + std::to_string(number), "neither \"a b\" nor [\"a\", \"b\"]");
    }
  }
  return {};
}

namespace {

Status read_model(const Value* model, const AddedReader& added, TokenizerSpec& spec) {
  if (model == nullptr || !model->is_object()) return bad("model", "missing");
  if (const Value* type = model->find("type"); type != nullptr && !is_type(*model, "BPE")) {
    return bad("model", "only BPE is known, not " + shown(json::dump(*type)));
  }
  for (const char* key :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"}) {
    if (!is_off(*model, key)) return bad("model", std::string(key) + " is set, which byte-level BPE of Qwen never has");
  }
  const Value* vocab = model->find("vocab");
  if (vocab == nullptr) return bad("model", "no vocab");
  QW_TRY(read_vocabulary(*vocab, added, spec));
  return read_merges(model->find("merges"), spec);
}

}  // namespace

bool is_type(const Value& value, std::string_view type) {
  const Value* name = value.find("type");
  return name != nullptr && name->is_string() && name->as_string() == type;
}

bool is_off(const Value& value, std::string_view key) {
  const Value* member = value.find(key);
  if (member == nullptr || member->is_null()) return true;
  if (member->is_bool()) return !member->as_bool();
  if (member->is_number()) return member->as_double() == 0;
  return member->is_string() && member->as_string().empty();
}

std::vector<const Value*> steps_of(const Value& value, std::string_view list_key) {
  std::vector<const Value*> steps;
  if (!is_type(value, "Sequence")) return {&value};
  if (const Value* list = value.find(list_key); list != nullptr && list->is_array()) {
    for (const Value& step : list->as_array()) steps.push_back(&step);
  }
  return steps;
}

Result<std::string> token_of(std::string_view text, const TokenizerSpec& spec) {
  if (!spec.characters) return letters_to_bytes(text);
  if (text.find(' ') != std::string_view::npos) {
    return fail(ErrorKind::kBadInput, shown(text) + ": a blank where U+2581 should stand for it");
  }
  return with_blanks(text, CharacterVocabulary::Blank::kNever, true);
}

Result<TokenId> read_id(const std::string& where, const Value& value) {
  // Ids name rows of an embedding; 2^24 is far above any.
  if (!value.is_int() || value.as_int() < 0 || value.as_int() >= (1 << 24)) {
    return bad(where, "expected a token id, got " + shown(json::dump(value)));
  }
  return static_cast<TokenId>(value.as_int());
}

Status read_vocabulary(const Value& vocab, const AddedReader& added, TokenizerSpec& spec) {
  if (!vocab.is_object()) return bad("vocab", "expected an object of tokens and ids");
  const json::Object& entries = vocab.as_object();
  for (const auto& [letters, value] : entries) {
    QW_ASSIGN(const TokenId id, read_id("vocab: " + shown(letters), value));
    const auto at = static_cast<std::size_t>(id);
    if (at >= entries.size() + kMaxHoles) {
      return bad("vocab", "id " + std::to_string(id) + " among only " + std::to_string(entries.size()) + " tokens");
    }
    // An added token may stand in the vocabulary too, as itself rather than in letters.
    if (const AddedToken* token = added.find(id); token != nullptr && token->text == letters) continue;
    Result<std::string> bytes = token_of(letters, spec);
    if (!bytes) return in_context("vocab", std::move(bytes).error());
    if (const auto byte = spec.characters ? byte_of_name(letters) : std::nullopt) {
      bytes = std::string(1, static_cast<char>(*byte));
      spec.characters->bytes[static_cast<std::size_t>(*byte)] = id;
    }
    if (spec.tokens.size() <= at) spec.tokens.resize(at + 1);
    if (!spec.tokens[at].empty()) return bad("vocab", "two tokens with id " + std::to_string(id));
    spec.tokens[at] = std::move(*bytes);
  }
  return {};
}

Status read_merge(std::size_t number, std::string_view line, TokenizerSpec& spec) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == line.size()) {
    return bad("merge " + std::to_string(number), "expected two tokens and a space between, got " + shown(line));
  }
  return add_merge(number, line.substr(0, space), line.substr(space + 1), spec);
}

Status read_merges_txt(const std::string& text, TokenizerSpec& spec) {
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const bool header = begin == 0 && line.starts_with("#version");
    begin = end + 1;
    if (header || line.empty()) continue;
    QW_TRY(read_merge(number++, line, spec));
  }
  return {};
}

Status AddedReader::read(const std::string& where, TokenId id, const Value& entry) {
  const Value* content = entry.find("content");
  if (content == nullptr || !content->is_string()) return bad(where, "id " + std::to_string(id) + " has no content");
  for (const char* key : {"lstrip", "rstrip", "single_word"}) {
    if (!is_off(entry, key))
      return bad(where, shown(content->as_string()) + " has " + key + ", which is not supported");
  }
  return add(where, {content->as_string(), id, !is_off(entry, "special"), !is_off(entry, "normalized")});
}

Status AddedReader::add(const std::string& where, AddedToken token) {
  const AddedToken* same_id = find(token.id);
  const auto same_text = find(token.text);
  if (same_id != nullptr && same_id->text == token.text) return {};
  if (same_id != nullptr || same_text) {
    return bad(where, shown(token.text) + " with id " + std::to_string(token.id) + " contradicts " +
                          (same_id != nullptr ? shown(same_id->text) + " with the same id"
                                              : "id " + std::to_string(*same_text) + " of the same text"));
  }
  by_id_.emplace(token.id, spec_->added.size());
  by_text_.emplace(token.text, token.id);
  spec_->added.push_back(std::move(token));
  return {};
}

const AddedToken* AddedReader::find(TokenId id) const {
  const auto at = by_id_.find(id);
  return at != by_id_.end() ? &spec_->added[at->second] : nullptr;
}

std::optional<TokenId> AddedReader::find(const std::string& text) const {
  const auto at = by_text_.find(text);
  return at != by_text_.end() ? std::optional(at->second) : std::nullopt;
}

Status read_tokenizer_json(const std::string& text, AddedReader& added, TokenizerSpec& spec) {
  QW_ASSIGN(const Value root, json::parse(text));
  if (!root.is_object()) return fail(ErrorKind::kBadInput, "not an object");
  if (const Value* list = root.find("added_tokens"); list != nullptr && list->is_array()) {
    for (const Value& entry : list->as_array()) {
      const Value* id = entry.find("id");
      if (id == nullptr) return bad("added_tokens", "an entry without id");
      QW_ASSIGN(const TokenId token_id, read_id("added_tokens", *id));
      QW_TRY(added.read("added_tokens", token_id, entry));
    }
  }
  const Value* model = root.find("model");
  if (model != nullptr && model->is_object() && !is_off(*model, "byte_fallback")) {
    return read_characters_json(root, added, spec);
  }
  QW_TRY(read_normalizer(root.find("normalizer"), spec));
  QW_TRY(read_pre_tokenizer(root.find("pre_tokenizer"), spec));
  const Value* decoder = root.find("decoder");
  if (decoder != nullptr && !decoder->is_null() && !is_type(*decoder, "ByteLevel")) {
    return bad("decoder", "only ByteLevel is known");
  }
  return read_model(model, added, spec);
}

}  // namespace qw::tokenizer
