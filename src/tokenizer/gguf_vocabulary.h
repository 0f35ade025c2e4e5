// A tokenizer as GGUF's tokenizer.ggml.* keys hold it, as plain data; whoever reads or writes the file fills or takes
// it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

// The numbers of tokenizer.ggml.token_type.
enum class GgufTokenType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // a special token
  kUserDefined = 4,  // an added token that is not special
  kUnused = 5,       // a row without meaning
  kByte = 6,         // <0x41>, of characters only
};

struct GgufVocabulary {
  std::string model = "gpt2";       // .model: "gpt2" (byte-level BPE) or "llama" (of characters, as SentencePiece)
  std::vector<std::string> tokens;  // .tokens: normal ones in GPT-2 letters (of characters: with U+2581
                                    // for blanks), others as text
  std::vector<float> scores;        // .scores, of characters: what is higher is merged first
  std::vector<std::int32_t> token_types;           // .token_type; empty: all are normal
  std::vector<std::string> merges;                 // .merges: "left right" in letters
  std::string pre;                                 // .pre
  std::optional<std::int64_t> bos, eos, pad, eot;  // .bos_token_id, .eos_token_id, .padding_token_id, .eot_token_id
  bool add_bos = false;                            // .add_bos_token
  bool add_space_prefix = true;                    // .add_space_prefix, of characters
  std::string space_prefix;                        // a key of this house, of characters: how, if not to every section
  std::string chat_template;                       // tokenizer.chat_template, may be empty
};

// Of characters, merges are those listed, else all ways to make a token of two others, the higher score first, as
// llama.cpp merges them; it does not look at listed ones.
// Stop ids are eos, eot, and the special tokens <|im_end|> and <|endoftext|> where they exist (files of the first
// generation name only the latter). Text is normalised (NFC), as the models were trained, which not every reader of
// these files does. Bad input: an unknown pre-tokeniser, tokens that are no letters, lists of different lengths.
Result<TokenizerSpec> spec_from_gguf(const GgufVocabulary& vocabulary);

// The reverse. `rows`: rows of the embedding, if more than the tokenizer's ids; those without a token become "[PADn]",
// unused. Bad input if the spec is no tokenizer.
Result<GgufVocabulary> spec_to_gguf(const TokenizerSpec& spec, std::int64_t rows = 0);

}  // namespace qw::tokenizer
