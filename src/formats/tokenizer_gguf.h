// The tokenizer keys of a GGUF file as plain data. What the data mean is the tokenizer room's business; whoever owns
// both rooms puts them together.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/gguf.h"

namespace qw::formats {

// Values of tokenizer.ggml.token_type.
enum class GgufTokenType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct GgufVocabulary {
  std::string model = "gpt2";                           // byte-level BPE; or "llama", of characters
  std::string pre;                                      // name of the pre-tokeniser; empty: the file does not say
  std::vector<std::string> tokens;                      // by id, bytes as GPT-2 letters (special tokens verbatim)
  std::vector<GgufTokenType> token_types;               // one per token
  std::vector<float> scores;                            // of "llama": one per token, or none
  std::vector<std::string> merges;                      // "left right", by rank; "llama" may have none
  std::optional<std::int64_t> bos, eos, pad, eot, unk;  // ids inside the vocabulary
  bool add_bos = false;
  bool add_space_prefix = true;  // of "llama"
  std::string space_prefix;      // of "llama", a key of this house
  std::string chat_template;     // Jinja source, may be empty
};

// kBadInput: keys missing, of another type, of different lengths, ids outside the vocabulary, another tokenizer model.
Result<GgufVocabulary> read_gguf_vocabulary(const GgufFile& file);
void write_gguf_vocabulary(const GgufVocabulary& vocabulary, GgufMetadata& metadata);

}  // namespace qw::formats
