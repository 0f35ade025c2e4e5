// Packed token shards: the documents of one source as token ids, with a loss mask when they come from chats, and with a
// number for each document when its line gave one (a rating, a class).
//
// One file, little-endian; docs/formats/token_shards.md describes it byte by byte. Reading maps the file; a shard that
// does not fit its own header is refused with one line, whatever its bytes are.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace qw::data {

using tokenizer::TokenId;

// SHA-256 (hex) over what a tokenizer does: tokens, merges, added tokens, pre-tokeniser, normalisation. The same for
// every file format it may be loaded from. Shards and checkpoints carry it, so ids are never read with another one.
std::string tokenizer_hash(const tokenizer::TokenizerSpec& spec);

// A shard mapped into memory. Copies nothing; document(i) decodes ids on demand.
class TokenShard {
 public:
  static Result<TokenShard> open(const std::filesystem::path& path);

  std::uint64_t documents() const { return documents_; }
  std::uint64_t tokens() const { return tokens_; }
  std::uint64_t text_bytes() const { return text_bytes_; }        // of all documents, special tokens out
  bool has_mask() const { return mask_ != nullptr; }
  bool has_values() const { return values_ != nullptr; }
  const std::string& tokenizer_hash() const { return tokenizer_hash_; }
  const std::filesystem::path& path() const { return file_.path(); }

  std::uint64_t begin(std::uint64_t document) const { return offsets_[document]; }
  std::uint64_t end(std::uint64_t document) const { return offsets_[document + 1]; }
  std::uint32_t document_bytes(std::uint64_t document) const { return bytes_[document]; }
  TokenId token(std::uint64_t at) const {
    return width_ == 2 ? static_cast<TokenId>(tokens16_[at]) : static_cast<TokenId>(tokens32_[at]);
  }
  // The number of a document; only with has_values().
  float value(std::uint64_t document) const { return values_[document]; }
  // Whether the token at `at` counts in the loss when it is predicted.
  bool kept(std::uint64_t at) const { return mask_ == nullptr || (mask_[at >> 3] >> (at & 7) & 1) != 0; }

 private:
  base::MappedFile file_;
  std::uint64_t documents_ = 0, tokens_ = 0, text_bytes_ = 0;
  int width_ = 2;
  const std::uint16_t* tokens16_ = nullptr;
  const std::uint32_t* tokens32_ = nullptr;
  const std::uint64_t* offsets_ = nullptr;
  const std::uint32_t* bytes_ = nullptr;
  const unsigned char* mask_ = nullptr;
  const float* values_ = nullptr;
  std::string tokenizer_hash_;
};

// Collects documents and writes one or two shards. Tokens go to a temporary file beside the shard, so memory holds
// only 16 bytes a document and, for chats, one bit a token.
class ShardWriter {
 public:
  // `vocab` decides the width of an id on disk; `masked`: every add() brings a mask; `valued`: and a number.
  static Result<ShardWriter> create(const std::filesystem::path& path, std::int64_t vocab, std::string tokenizer_hash,
                                    bool masked, bool valued = false);
  ShardWriter(ShardWriter&&) noexcept;
  ShardWriter& operator=(ShardWriter&&) = delete;
  ~ShardWriter();  // removes the temporary file

  // `text_bytes` is how much text the ids stand for; `kept` has one entry a token when masked, else it is empty.
  Status add(std::span<const TokenId> ids, std::uint32_t text_bytes, std::span<const std::uint8_t> kept = {},
             float value = 0);
  std::uint64_t documents() const;
  std::uint64_t tokens() const;
  // Writes the first documents to the path given at create, the last `heldout` ones to `heldout_path` (if any).
  Status finish(std::uint64_t heldout, const std::filesystem::path& heldout_path);

 private:
  struct State;
  explicit ShardWriter(std::unique_ptr<State>);
  std::unique_ptr<State> state_;
};

}  // namespace qw::data
