#include "tokenizer/internal/added_tokens.h"

namespace qw::tokenizer {

void AddedTokens::add(std::string_view text, TokenId id) {
  QW_CHECK(!text.empty());
  starts_[static_cast<unsigned char>(text[0])] = true;
  std::uint32_t node = 0;
  for (const char c : text) {
    std::uint32_t& child = children_[pair_key(static_cast<TokenId>(node), static_cast<unsigned char>(c))];
    if (child == 0) {
      child = static_cast<std::uint32_t>(nodes_.size());
      nodes_.push_back(kNone);
    }
    node = child;
  }
  nodes_[node] = id;
}

std::optional<AddedTokens::Match> AddedTokens::find(std::string_view text, std::size_t from) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    std::optional<Match> longest;
    std::uint32_t node = 0;
    for (std::size_t at = begin; at < text.size(); ++at) {
      const auto* child = children_.find(pair_key(static_cast<TokenId>(node), static_cast<unsigned char>(text[at])));
      if (child == nullptr) break;
      node = *child;
      if (nodes_[node] != kNone) longest = Match{begin, at + 1, nodes_[node]};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace qw::tokenizer
