// A tokenizer folder's files as texts, and what they say. Apart from the disk so that it can be tested on any bytes.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "json/value.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

struct FolderFiles {
  std::optional<std::string> tokenizer_json, vocab_json, merges_txt, tiktoken;
  std::optional<std::string> tokenizer_config, added_tokens, special_tokens_map, generation_config, chat_template;
};

// The vocabulary comes from tokenizer.json, else vocab.json and merges.txt, else qwen.tiktoken; the other files add
// added tokens, the named tokens, stop ids and the chat template. Errors name the file.
Result<TokenizerSpec> spec_from_files(const FolderFiles& files);

// ---- the parts; each appends to or fills `spec` ---------------------------------------------------------------------

// Collects added tokens from several files, which may repeat but not contradict one another.
class AddedReader {
 public:
  explicit AddedReader(TokenizerSpec& spec) : spec_(&spec) {}
  // An entry of tokenizer.json or of added_tokens_decoder; `where` is for the error.
  Status read(const std::string& where, TokenId id, const json::Value& entry);
  Status add(const std::string& where, AddedToken token);
  const AddedToken* find(TokenId id) const;
  std::optional<TokenId> find(const std::string& text) const;

 private:
  TokenizerSpec* spec_;
  std::unordered_map<TokenId, std::size_t> by_id_;  // places in spec_->added
  std::unordered_map<std::string, TokenId> by_text_;
};

// tokenizer.json: a BPE model with the pre-tokeniser of a Qwen generation. Anything else that would change ids is
// refused by name. The post-processor is not read: encode adds nothing of its own.
Status read_tokenizer_json(const std::string& text, AddedReader& added, TokenizerSpec& spec);
// A vocabulary of characters: model.byte_fallback is set. Normaliser, pre-tokeniser and decoder in the forms that
// SentencePiece models are converted to; sets spec.characters.
Status read_characters_json(const json::Value& root, AddedReader& added, TokenizerSpec& spec);
Status read_vocabulary(const json::Value& vocab, const AddedReader& added, TokenizerSpec& spec);
// One merge "left right" in letters; letters hold no space, so there is exactly one. `number` is for the error.
Status read_merge(std::size_t number, std::string_view line, TokenizerSpec& spec);
Status read_merges(const json::Value* merges, TokenizerSpec& spec);  // of tokenizer.json
Status read_merges_txt(const std::string& text, TokenizerSpec& spec);
// The first Qwen generation: lines "base64(bytes) rank". Merges are derived; its special tokens are added.
Status read_tiktoken(const std::string& text, AddedReader& added, TokenizerSpec& spec);

// A token's bytes: of its letters, or of its text with U+2581 as blanks if spec.characters is set.
Result<std::string> token_of(std::string_view text, const TokenizerSpec& spec);

bool is_type(const json::Value& value, std::string_view type);
// True if the member is absent, null, false, zero or an empty string: a switch that is off.
bool is_off(const json::Value& value, std::string_view key);
// The steps of a normaliser, pre-tokeniser or decoder: a sequence's, or the thing itself.
std::vector<const json::Value*> steps_of(const json::Value& value, std::string_view list_key);

// An integer that can be a token id.
Result<TokenId> read_id(const std::string& where, const json::Value& value);

}  // namespace qw::tokenizer
