#include "tokenizer/internal/added_tokens.h"

#include <algorithm>

namespace qw::tokenizer {

void AddedTokens::add(std::string_view text, TokenId id) {
  QW_CHECK(!text.empty());
  bool& starts = starts_[static_cast<unsigned char>(text[0])];
  if (!starts) start_bytes_ += text[0];
  starts = true;
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

std::size_t AddedTokens::find_start(std::string_view text, std::size_t from) const {
  // Nearly always it is < alone, for which the library looks at many bytes at a time.
  if (start_bytes_.size() == 1) return std::min(text.find(start_bytes_[0], from), text.size());
  while (from < text.size() && !starts_[static_cast<unsigned char>(text[from])]) ++from;
  return from;
}

std::optional<AddedTokens::Match> AddedTokens::find(std::string_view text, std::size_t from) const {
  for (std::size_t begin = find_start(text, from); begin < text.size(); begin = find_start(text, begin + 1)) {
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
