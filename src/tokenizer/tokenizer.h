// Text to token ids and back: byte-level BPE of the Qwen family (2, 2.5, 3 and models trained here).
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
  bool special = true;   // special tokens are left out by decode(skip_special); `false` ones are kept
};

// Everything a tokenizer is made of, whichever file it came from. Token strings are raw bytes, not GPT-2 letters.
struct TokenizerSpec {
  std::vector<std::string> tokens;                       // regular tokens by id (bytes)
  std::vector<std::pair<std::string, std::string>> merges;  // by rank, as byte strings
  std::vector<AddedToken> added;
  std::string pre_tokenizer = "qwen2";                   // named pre-tokeniser
  bool nfc = true;
  std::optional<TokenId> bos, eos, pad;
  std::vector<TokenId> stop;                             // all ids that end a generation (eos first)
  std::string chat_template;                             // Jinja source, may be empty
};

class Tokenizer {
 public:
  static Result<Tokenizer> create(TokenizerSpec spec);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Number of ids (regular and added); ids are 0..vocab_size()-1, possibly with holes.
  std::int64_t vocab_size() const;
  // parse_special: added tokens in the text become their ids; otherwise they are ordinary text.
  std::vector<TokenId> encode(std::string_view text, bool parse_special = true) const;
  // Raw bytes of the ids; ids outside the vocabulary give nothing. Not necessarily valid UTF-8.
  std::string decode_bytes(std::span<const TokenId> ids, bool skip_special = true) const;
  // The same with invalid sequences replaced by U+FFFD (as Python's errors="replace").
  std::string decode(std::span<const TokenId> ids, bool skip_special = true) const;
  // Bytes of one token ("" for holes).
  std::string_view token_bytes(TokenId id) const;
  bool is_special(TokenId id) const;
  std::optional<TokenId> find(std::string_view token_text) const;  // added or regular token by its bytes
  const TokenizerSpec& spec() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

// Cuts text into pieces as the named pre-tokeniser ("qwen2") does; exposed for the trainer and tests.
void pre_tokenize(std::string_view name, std::string_view text, const std::function<void(std::string_view)>& piece);

// ---- files --------------------------------------------------------------------------------------------------------
// A folder with tokenizer.json, or vocab.json + merges.txt (+ tokenizer_config.json, added_tokens.json,
// special_tokens_map.json, generation_config.json, chat_template.jinja).
Result<TokenizerSpec> load_tokenizer_folder(const std::filesystem::path& folder);
// Writes tokenizer.json, vocab.json, merges.txt, tokenizer_config.json that transformers loads.
Status save_tokenizer_folder(const TokenizerSpec& spec, const std::filesystem::path& folder);
// GPT-2's printable alphabet for bytes, used by those files and by GGUF.
std::string bytes_to_letters(std::string_view bytes);
Result<std::string> letters_to_bytes(std::string_view letters);

// ---- trainer -------------------------------------------------------------------------------------------------------
struct TrainOptions {
  std::int64_t vocab = 8192;          // regular tokens, 256 bytes included
  std::string pre_tokenizer = "qwen2";
  std::int64_t min_frequency = 2;
  std::vector<std::string> added_tokens;   // appended after the regular tokens, in order
};
// Deterministic BPE training: ties broken by smaller pair of ids. `next` yields one document at a time, nullopt at the end.
Result<TokenizerSpec> train_bpe(const std::function<std::optional<std::string_view>()>& next, const TrainOptions& options,
                                const std::function<void(std::int64_t done, std::int64_t total)>& progress = {});

}  // namespace qw::tokenizer
