#include "sampling/grammar/token_table.h"

#include <algorithm>
#include <limits>

namespace qw::sampling::grammar {

TokenTable::TokenTable(const tokenizer::Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string_view text = tokenizer.token_bytes(id);
    if (!text.empty() && text.size() <= std::numeric_limits<std::uint16_t>::max() && !tokenizer.is_special(id))
      ids_.push_back(id);
  }
  std::sort(ids_.begin(), ids_.end(), [&](TokenId a, TokenId b) {
    const std::string_view x = tokenizer.token_bytes(a), y = tokenizer.token_bytes(b);
    return x != y ? x < y : a < b;
  });
  std::vector<std::uint32_t> path;  // nodes from the root to the last token's end
  const auto close_to = [&](std::size_t depth) {
    while (path.size() > depth) {
      nodes_[path.back()].end = static_cast<std::uint32_t>(nodes_.size());
      path.pop_back();
    }
  };
  std::string_view last;
  for (std::uint32_t order = 0; order < ids_.size(); ++order) {
    const std::string_view now = text(order);
    const auto common = static_cast<std::size_t>(
        std::mismatch(now.begin(), now.begin() + static_cast<std::ptrdiff_t>(std::min(now.size(), last.size())),
                      last.begin())
            .first -
        now.begin());
    close_to(common);
    for (std::size_t d = common; d < now.size(); ++d) {
      path.push_back(static_cast<std::uint32_t>(nodes_.size()));
      nodes_.push_back({0, order, static_cast<std::uint16_t>(d + 1), static_cast<std::uint8_t>(now[d])});
    }
    last = now;
  }
  close_to(0);
}

}  // namespace qw::sampling::grammar
