// Byte-pair merging of one piece (Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword
// units", ACL 2016, on bytes): again and again the adjacent pair of lowest rank, the leftmost of equals, becomes one.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/internal/pair_map.h"
#include "tokenizer/internal/string_index.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

class Bpe {
 public:
  // What a call of encode needs; keep one and use it again. One thread at a time.
  struct Scratch {
    std::vector<TokenId> ids;
    std::vector<std::uint32_t> ranks, previous, next;
    std::vector<std::uint64_t> heap;
  };

  // `tokens` must outlive the object. Fails if a byte has no token, a token occurs twice, or a merge names something
  // that is no token.
  static Result<Bpe> create(std::span<const std::string> tokens,
                            std::span<const std::pair<std::string, std::string>> merges);

  // Appends the ids of a piece of less than 4 GiB. Time is n log n.
  void encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;
  std::optional<TokenId> find(std::string_view token) const;

 private:
  struct Merge {
    std::uint32_t rank = kNoRank;
    TokenId id = 0;
  };
  static constexpr std::uint32_t kNoRank = ~std::uint32_t{0};

  explicit Bpe(std::span<const std::string> tokens) : tokens_(tokens), index_(tokens.size()) {}
  Status index_tokens();
  Status index_merges(std::span<const std::pair<std::string, std::string>> merges);
  void find_whole_tokens();
  Merge merge_of(TokenId left, TokenId right) const {
    const Merge* found = merges_.find(pair_key(left, right));
    return found != nullptr ? *found : Merge{};
  }
  void merge_short(std::string_view piece, std::vector<TokenId>& out) const;
  void merge_long(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;

  std::span<const std::string> tokens_;
  StringIndex index_;
  std::array<TokenId, 256> byte_ids_{};
  PairMap<Merge> merges_;
  std::vector<Merge> byte_merges_;   // [256 * 256]: merge_of for two bytes, which is what every piece starts with
  std::vector<bool> whole_;          // by id: merging the token's bytes gives the token
};

}  // namespace qw::tokenizer
