// Text to token ids and back: byte-level BPE of the Qwen family (2, 2.5, 3 and models trained here), and the BPE of
// characters that CodeQwen1.5 has (CharacterVocabulary).
//
// Encoding: added tokens are split out verbatim (longest first), the rest is NFC-normalised, cut by the pre-tokeniser,
// and merged by rank. Decoding concatenates token bytes. Any byte string encodes; decode(encode(x)) gives back x when x
// is valid UTF-8 in NFC.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::tokenizer {

using TokenId = std::int32_t;

struct AddedToken {
  std::string text;
  TokenId id = 0;
  bool special = true;      // special tokens are left out by decode(skip_special); `false` ones are kept
  bool normalized = false;  // found in the normalised text rather than in the text as it came
};

// A vocabulary as SentencePiece makes them: merging begins with characters instead of bytes, text is not cut into
// pieces, and a character without a token becomes the tokens of its bytes. Files write U+2581 for a blank; in
// TokenizerSpec it is a blank, and U+2581 in a text counts as one.
struct CharacterVocabulary {
  // When a blank is put in front of a section, what lies between two added tokens.
  enum class Blank : std::uint8_t { kNever, kAlways, kUnlessThere, kFirstUnlessThere };
  Blank blank = Blank::kAlways;
  bool strip_blank = true;     // decoding takes one blank from the front of the text
  std::vector<TokenId> bytes;  // tokens of the bytes 0 to 255; in TokenizerSpec::tokens each is that byte
};

// Everything a tokenizer is made of, whichever file it came from. Token strings are raw bytes, not GPT-2 letters.
struct TokenizerSpec {
  std::vector<std::string> tokens;                          // regular tokens by id (bytes)
  std::vector<std::pair<std::string, std::string>> merges;  // by rank, as byte strings
  std::vector<AddedToken> added;
  std::string pre_tokenizer = "qwen2";  // named pre-tokeniser: "qwen2" or "qwen35"
  bool nfc = true;
  std::optional<CharacterVocabulary> characters;  // then pre_tokenizer and nfc have no meaning
  std::optional<TokenId> bos, eos, pad;
  bool add_bos = false;       // whoever makes a prompt of plain text puts bos in front
  std::vector<TokenId> stop;  // all ids that end a generation (eos first)
  std::string chat_template;  // Jinja source, may be empty
};

class Tokenizer {
 public:
  // Bad input: an unknown pre-tokeniser, a byte without a token, a token twice, a merge of what is no token, added
  // tokens that contradict the vocabulary, ids out of range.
  static Result<Tokenizer> create(TokenizerSpec spec);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Number of ids (regular and added); ids are 0..vocab_size()-1, possibly with holes.
  std::int64_t vocab_size() const;
  // parse_special: added tokens in the text become their ids; otherwise they are ordinary text. Adds nothing of its own
  // (no bos, no eos). Any bytes; a byte that is no UTF-8 becomes its byte's token. Text under 4 GiB. Thread-safe.
  std::vector<TokenId> encode(std::string_view text, bool parse_special = true) const;
  // Raw bytes of the ids; ids outside the vocabulary give nothing. Not necessarily valid UTF-8.
  std::string decode_bytes(std::span<const TokenId> ids, bool skip_special = true) const;
  // The same with invalid sequences replaced by U+FFFD (as Python's errors="replace"). Of a vocabulary of characters:
  // if tokens of bytes in a row are no text together, each becomes U+FFFD, and a blank at the front may go.
  std::string decode(std::span<const TokenId> ids, bool skip_special = true) const;
  // Bytes of one token ("" for holes).
  std::string_view token_bytes(TokenId id) const;
  bool is_special(TokenId id) const;
  // Whether it stands for a byte of a character that has no token (vocabularies of characters only).
  bool is_byte(TokenId id) const;
  std::optional<TokenId> find(std::string_view token_text) const;  // added or regular token by its bytes
  const TokenizerSpec& spec() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

// The spec with more added tokens, whose ids follow the last one, in the order given. Usage error: no token, an empty
// one, one that is there already (added or regular). Ids of all other text stay as they were.
Result<TokenizerSpec> extend_tokenizer(const Tokenizer& tokenizer, std::span<const std::string> texts, bool special);

// Cuts text into pieces as the named pre-tokeniser ("qwen2" or "qwen35", a bug if another) does; every byte is in one
// piece. Exposed for the trainer and tests.
void pre_tokenize(std::string_view name, std::string_view text, const std::function<void(std::string_view)>& piece);

// ---- files --------------------------------------------------------------------------------------------------------
// A folder with tokenizer.json, or vocab.json + merges.txt, or qwen.tiktoken (+ tokenizer_config.json,
// added_tokens.json, special_tokens_map.json, generation_config.json, chat_template.jinja). Bad input, with the file's
// name, for anything unreadable and for settings under which our ids would differ from those meant.
Result<TokenizerSpec> load_tokenizer_folder(const std::filesystem::path& folder);
// Writes tokenizer.json, tokenizer_config.json and, of byte-level BPE, vocab.json and merges.txt that transformers
// loads, and sets the ids of bos, stops and pad in generation_config.json (other keys of one that is there stay). load
// gives the same spec back.
Status save_tokenizer_folder(const TokenizerSpec& spec, const std::filesystem::path& folder);
// GPT-2's printable alphabet for bytes, used by those files and by GGUF.
std::string bytes_to_letters(std::string_view bytes);
Result<std::string> letters_to_bytes(std::string_view letters);

// ---- trainer -------------------------------------------------------------------------------------------------------
struct TrainOptions {
  std::int64_t vocab = 8192;  // regular tokens, 256 bytes included
  std::string pre_tokenizer = "qwen2";
  std::int64_t min_frequency = 2;
  std::vector<std::string> added_tokens = {};  // appended after the regular tokens, in order
};
// Deterministic BPE training: most frequent pair first, ties broken by smaller pair of ids. `next` yields one document
// at a time, nullopt at the end. The 256 byte tokens come first, in the order of their letters; fewer than `vocab`
// tokens come out when no pair is left that stands min_frequency times. Added tokens are special if they look like
// <|this|>; eos is <|im_end|> or else <|endoftext|>, pad <|endoftext|>, stop both, where they are among the added.
// Needs some 12 bytes of memory for each byte of distinct pieces. Usage error: options out of range; resource error:
// over 4 GiB of distinct pieces. progress(tokens so far, vocab) is called after each merge.
Result<TokenizerSpec> train_bpe(const std::function<std::optional<std::string_view>()>& next,
                                const TrainOptions& options,
                                const std::function<void(std::int64_t done, std::int64_t total)>& progress = {});

}  // namespace qw::tokenizer
