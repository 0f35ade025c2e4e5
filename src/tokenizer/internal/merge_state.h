// The corpus during BPE training: every distinct piece once, as symbols that grow, with exact counts of all pairs.
//
// A merge costs time in proportion to the places where the pair stands, not to the corpus or to the length of the
// pieces. A symbol lies over the bytes it covers; its id is written at its first and last byte, so both neighbours are
// found without links, and inner bytes hold kNone, so a place that was remembered and has been covered since is seen.
#pragma once

#include <cstdint>
#include <vector>

#include "tokenizer/internal/pair_map.h"
#include "tokenizer/internal/pieces.h"

namespace qw::tokenizer {

class MergeState {
 public:
  struct Pair {
    TokenId left = 0, right = 0;
    std::int64_t count = 0;
    std::vector<std::uint32_t> places;  // where the pair was seen; some may be stale
    bool touched = false;
  };

  // byte_ids: the id of every byte. The corpus must be under 4 GiB (kMaxBytes) of distinct pieces.
  MergeState(const PieceCounter& pieces, const std::vector<TokenId>& byte_ids);

  static constexpr std::uint64_t kMaxBytes = 0xFFFFFFF0u;
  const std::vector<Pair>& pairs() const { return pairs_; }
  // Length of a new token in bytes; every id in the state must have one.
  void set_length(TokenId id, std::uint32_t bytes);
  // Replaces the pair everywhere, leftmost first, by `to`. Appends to `grown` the pairs whose count went up.
  void merge(std::uint32_t pair, TokenId to, std::vector<std::uint32_t>& grown);

 private:
  static constexpr TokenId kNone = -1;
  void lay_out(const PieceCounter& pieces, const std::vector<TokenId>& byte_ids);
  void count_pairs();
  std::int64_t weight_at(std::uint32_t place) const;
  std::uint32_t pair_index(TokenId left, TokenId right);
  void remove(TokenId left, TokenId right, std::int64_t weight);
  void insert(TokenId left, TokenId right, std::int64_t weight, std::uint32_t place, std::vector<std::uint32_t>& grown);

  std::vector<TokenId> symbols_;        // by byte of the corpus; pieces are kept apart by one kNone
  std::vector<std::uint32_t> lengths_;  // by id
  // Pieces lie in order of falling count: those before until_[i] (and not before until_[i - 1]) stand weights_[i]
  // times.
  std::vector<std::uint32_t> until_;
  std::vector<std::int64_t> weights_;
  PairMap<std::uint32_t> index_;  // pair -> place in pairs_ plus 1
  std::vector<Pair> pairs_;
};

}  // namespace qw::tokenizer
