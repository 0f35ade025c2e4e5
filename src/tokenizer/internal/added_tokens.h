// Finds added tokens in text: the leftmost, and of those that start there the longest.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/internal/pair_map.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

class AddedTokens {
 public:
  struct Match {
    std::size_t begin, end;
    TokenId id;
  };

  // `text` is not empty.
  void add(std::string_view text, TokenId id);
  bool empty() const { return nodes_.size() == 1; }
  std::optional<Match> find(std::string_view text, std::size_t from) const;

 private:
  static constexpr TokenId kNone = -1;
  // Where the next byte that begins a token is, or the size of the text.
  std::size_t find_start(std::string_view text, std::size_t from) const;

  std::array<bool, 256> starts_{};     // bytes that begin a token, to pass over all others quickly
  std::string start_bytes_;            // the same as a list
  PairMap<std::uint32_t> children_;    // (node, byte) -> node of the trie
  std::vector<TokenId> nodes_{kNone};  // the token that ends at a node
};

}  // namespace qw::tokenizer
