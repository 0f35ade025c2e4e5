// The tokens of a vocabulary as a trie in depth-first order: the grammars' way to look at all tokens at once.
//
// Holds the tokens that stand for text: regular ones, and added ones that are not special. Made once for a tokenizer;
// immutable, so that threads may share it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace qw::sampling::grammar {

using tokenizer::TokenId;

class TokenTable {
 public:
  // `tokenizer` must outlive the table.
  explicit TokenTable(const tokenizer::Tokenizer& tokenizer);

  struct TrieNode {
    std::uint32_t end;    // the node behind the last one below this
    std::uint32_t order;  // tokens with a lower order come before this node's
    std::uint16_t depth;  // bytes from the root; the root itself is no node, so at least 1
    std::uint8_t byte;
  };
  std::span<const TrieNode> nodes() const { return nodes_; }

  // Tokens by their bytes. Those at or below a node have orders from its `order` up to that of node `end`.
  std::uint32_t size() const { return static_cast<std::uint32_t>(ids_.size()); }
  TokenId id(std::uint32_t order) const { return ids_[order]; }
  std::string_view text(std::uint32_t order) const { return tokenizer_.token_bytes(ids_[order]); }
  std::uint32_t order_at(std::uint32_t node) const { return node < nodes_.size() ? nodes_[node].order : size(); }

  const tokenizer::Tokenizer& tokenizer() const { return tokenizer_; }
  std::int64_t vocab() const { return tokenizer_.vocab_size(); }

 private:
  const tokenizer::Tokenizer& tokenizer_;
  std::vector<TokenId> ids_;
  std::vector<TrieNode> nodes_;
};

}  // namespace qw::sampling::grammar
