// Writes a tokenizer the way transformers keeps it: four files, and the stop ids in generation_config.json.
#include <algorithm>
#include <map>

#include "base/file.h"
#include "json/value.h"
#include "tokenizer/internal/character_bpe.h"
#include "tokenizer/internal/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {
namespace {

using json::Array;
using json::Object;
using json::Value;

Value id_value(TokenId id) { return Value(std::int64_t{id}); }

Value or_null(const std::optional<std::string>& text) { return text ? Value(*text) : Value(); }

// The flags that every added token of a byte-level tokenizer has.
Object added_flags(const AddedToken& token) {
  return Object{{"content", token.text}, {"single_word", false},           {"lstrip", false},
                {"rstrip", false},       {"normalized", token.normalized}, {"special", token.special}};
}

// A token as the files write it.
std::string written(std::string_view token, const TokenizerSpec& spec) {
  return spec.characters ? blank_signs(token) : bytes_to_letters(token);
}

Object vocabulary(const TokenizerSpec& spec) {
  Object vocab;
  const auto byte_of = [&](std::size_t id) -> std::optional<int> {
    if (!spec.characters || spec.tokens[id].size() != 1) return std::nullopt;
    const auto byte = static_cast<unsigned char>(spec.tokens[id][0]);
    if (spec.characters->bytes[byte] != static_cast<TokenId>(id)) return std::nullopt;
    return byte;
  };
  for (std::size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.tokens[id].empty()) continue;
    const auto byte = byte_of(id);
    vocab.set(byte ? name_of_byte(*byte) : written(spec.tokens[id], spec), id_value(static_cast<TokenId>(id)));
  }
  return vocab;
}

std::vector<const AddedToken*> added_by_id(const TokenizerSpec& spec) {
  std::vector<const AddedToken*> sorted;
  for (const AddedToken& token : spec.added) sorted.push_back(&token);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->id < b->id; });
  return sorted;
}

Object byte_level(bool add_prefix_space) {
  return Object{
      {"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", false}, {"use_regex", false}};
}

Object step(std::string_view type) {
  Object made;
  made.set("type", type);
  return made;
}

Object replace(std::string_view from, std::string_view to) {
  Object pattern, made = step("Replace");
  pattern.set("String", from);
  made.set("pattern", std::move(pattern));
  made.set("content", to);
  return made;
}

Object metaspace(std::string_view scheme) {
  return Object{{"type", "Metaspace"}, {"replacement", kBlankSign}, {"prepend_scheme", scheme}, {"split", false}};
}

struct Steps {
  Value normalizer, pre_tokenizer, decoder;
};

Steps character_steps(const CharacterVocabulary& characters) {
  using Blank = CharacterVocabulary::Blank;
  Steps steps;
  if (characters.blank == Blank::kUnlessThere || characters.blank == Blank::kFirstUnlessThere) {
    steps.pre_tokenizer = metaspace(characters.blank == Blank::kUnlessThere ? "always" : "first");
  } else {
    Array normalizers;
    if (characters.blank == Blank::kAlways) {
      normalizers.push_back(Object{{"type", "Prepend"}, {"prepend", kBlankSign}});
    }
    normalizers.push_back(replace(" ", kBlankSign));
    steps.normalizer = Object{{"type", "Sequence"}, {"normalizers", std::move(normalizers)}};
  }
  Array decoders;
  decoders.push_back(replace(kBlankSign, " "));
  decoders.push_back(step("ByteFallback"));
  decoders.push_back(step("Fuse"));
  if (characters.strip_blank) {
    decoders.push_back(Object{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  steps.decoder = Object{{"type", "Sequence"}, {"decoders", std::move(decoders)}};
  return steps;
}

Steps byte_steps(const TokenizerSpec& spec) {
  const std::string_view regex = pre_tokenizer_regex(*pre_tokenizer_named(spec.pre_tokenizer));
  const Object split{
      {"type", "Split"}, {"pattern", Object{{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
  return {spec.nfc ? Value(Object{{"type", "NFC"}}) : Value(),
          Object{{"type", "Sequence"}, {"pretokenizers", Array{split, byte_level(false)}}}, byte_level(false)};
}

Value tokenizer_json(const TokenizerSpec& spec, const Object& vocab) {
  Array added, merges;
  for (const AddedToken* token : added_by_id(spec)) {
    Object entry{{"id", id_value(token->id)}};
    for (const auto& [key, value] : added_flags(*token)) entry.set(key, value);
    added.push_back(std::move(entry));
  }
  for (const auto& [left, right] : spec.merges) {
    merges.push_back(Array{written(left, spec), written(right, spec)});
  }
  const Steps steps = spec.characters ? character_steps(*spec.characters) : byte_steps(spec);
  const Object model{{"type", "BPE"},
                     {"dropout", nullptr},
                     {"unk_token", nullptr},
                     {"continuing_subword_prefix", ""},
                     {"end_of_word_suffix", ""},
                     {"fuse_unk", false},
                     {"byte_fallback", spec.characters.has_value()},
                     {"ignore_merges", false},
                     {"vocab", vocab},
                     {"merges", std::move(merges)}};
  return Object{{"version", "1.0"},
                {"truncation", nullptr},
                {"padding", nullptr},
                {"added_tokens", std::move(added)},
                {"normalizer", steps.normalizer},
                {"pre_tokenizer", steps.pre_tokenizer},
                {"post_processor", spec.characters ? Value() : Value(byte_level(false))},
                {"decoder", steps.decoder},
                {"model", model}};
}

Value tokenizer_config(const TokenizerSpec& spec, const Tokenizer& tokenizer) {
  const auto text = [&](std::optional<TokenId> id) -> std::optional<std::string> {
    return id ? std::optional(std::string(tokenizer.token_bytes(*id))) : std::nullopt;
  };
  Object decoder;
  Array special;
  for (const AddedToken* token : added_by_id(spec)) {
    decoder.set(std::to_string(token->id), added_flags(*token));
    if (token->special) special.push_back(token->text);
  }
  Object config{{"add_bos_token", spec.add_bos},
                {"add_prefix_space", false},
                {"added_tokens_decoder", std::move(decoder)},
                {"additional_special_tokens", std::move(special)},
                {"bos_token", or_null(text(spec.bos))}};
  if (!spec.chat_template.empty()) config.set("chat_template", spec.chat_template);
  config.set("clean_up_tokenization_spaces", false);
  config.set("eos_token", or_null(text(spec.eos)));
  config.set("errors", "replace");
  config.set("pad_token", or_null(text(spec.pad)));
  config.set("split_special_tokens", false);
  // The fast class, because the slow one knows only the qwen2 pre-tokeniser and always normalises.
  const bool plain = spec.pre_tokenizer == "qwen2" && spec.nfc && !spec.characters;
  config.set("tokenizer_class", plain ? "Qwen2Tokenizer" : "PreTrainedTokenizerFast");
  config.set("unk_token", nullptr);
  return config;
}

std::string merges_text(const TokenizerSpec& spec) {
  std::string text = "#version: 0.2\n";
  for (const auto& [left, right] : spec.merges) {
    text += bytes_to_letters(left) + ' ' + bytes_to_letters(right) + '\n';
  }
  return text;
}

// generation_config.json belongs to the model too: other keys of a file that is there stay.
Status write_generation_config(const TokenizerSpec& spec, const std::filesystem::path& path) {
  Value config = Object{};
  std::error_code missing;
  if (std::filesystem::exists(path, missing)) {
    QW_ASSIGN(const std::string text, base::read_file(path));
    auto parsed = json::parse(text);
    if (!parsed) return in_context(path.string(), std::move(parsed).error());
    if (!parsed->is_object()) return fail(ErrorKind::kBadInput, path.string() + ": not an object");
    config = std::move(*parsed);
  }
  Array stop;
  for (const TokenId id : spec.stop) stop.push_back(id_value(id));
  Object& object = config.as_object();
  if (spec.bos) object.set("bos_token_id", id_value(*spec.bos));
  if (!stop.empty()) object.set("eos_token_id", std::move(stop));
  if (spec.pad) object.set("pad_token_id", id_value(*spec.pad));
  return base::write_file_atomically(path, json::dump(config, {.indent = 2}) + "\n");
}

}  // namespace

Status save_tokenizer_folder(const TokenizerSpec& spec, const std::filesystem::path& folder) {
  QW_ASSIGN(const Tokenizer tokenizer, Tokenizer::create(spec));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail(ErrorKind::kFailed, folder.string() + ": cannot make the folder: " + error.message());
  const Object vocab = vocabulary(spec);
  const json::WriteStyle pretty{.indent = 2};
  if (!spec.characters) {  // of characters these two alone would not tell how text is encoded
    QW_TRY(base::write_file_atomically(folder / "vocab.json", json::dump(vocab, json::WriteStyle::compact()) + "\n"));
    QW_TRY(base::write_file_atomically(folder / "merges.txt", merges_text(spec)));
  }
  QW_TRY(
      base::write_file_atomically(folder / "tokenizer.json", json::dump(tokenizer_json(spec, vocab), pretty) + "\n"));
  QW_TRY(base::write_file_atomically(folder / "tokenizer_config.json",
                                     json::dump(tokenizer_config(spec, tokenizer), pretty) + "\n"));
  return write_generation_config(spec, folder / "generation_config.json");
}

}  // namespace qw::tokenizer
