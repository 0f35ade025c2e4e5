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
  static constexpr std::uint32_t kNoRank = ~std::uint32_t{0};

  explicit Bpe(std::span<const std::string> tokens) : tokens_(tokens), index_(tokens.size()) {}
  Status index_tokens();
  Status index_merges(std::span<const std::pair<std::string, std::string>> merges);
  void find_whole_tokens();
  // Rank of the merge of a pair, or kNoRank. Most pairs have none, which the filter knows without leaving the cache.
  std::uint32_t rank_of(TokenId left, TokenId right) const {
    const std::uint64_t key = pair_key(left, right), bit = filter_bit(key);
    if (((filter_[bit / 64] >> (bit % 64)) & 1) == 0) return kNoRank;
    const std::uint32_t* found = ranks_.find(key);
    return found != nullptr ? *found : kNoRank;
  }
  std::uint64_t filter_bit(std::uint64_t key) const { return (key * 0xD6E8FEB86659FD93u) >> filter_shift_; }
  void merge_short(std::string_view piece, std::vector<TokenId>& out) const;
  void merge_long(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;

  std::span<const std::string> tokens_;
  StringIndex index_;
  std::array<TokenId, 256> byte_ids_{};
  PairMap<std::uint32_t> ranks_;       // pair -> rank
  std::vector<TokenId> merged_;        // rank -> id of the token that the pair becomes
  std::vector<std::uint64_t> filter_;  // one bit a hash of a pair that has a rank
  int filter_shift_ = 0;
  std::vector<std::uint32_t> byte_ranks_;  // [256 * 256]: rank_of two bytes, which is what every piece starts with
  std::vector<bool> whole_;                // by id: merging the token's bytes gives the token
};

}  // namespace qw::tokenizer
