#include "tokenizer/internal/token_trie.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace qw::tokenizer {

namespace {

constexpr std::uint32_t kBlock = 256;  // exclusive or with a byte stays within one
// Every byte of a token makes at most one node. Real vocabularies have 1 to 2 MB of text; this keeps a foreign one from
// making us allocate many times its size, and bases within their 28 bits.
constexpr std::size_t kMaxTextBytes = std::size_t{32} << 20;
// Places tried for a node with several children before a new block is begun.
constexpr int kMaxTries = 128;

}  // namespace

class TokenTrie::Builder {
 public:
  Builder(std::vector<Entry> entries, base::HugeVector<TokenId>& shorter)
      : entries_(std::move(entries)), shorter_(&shorter) {
    sort_entries();
  }

  TokenTrie build() {
    make_nodes();
    add_block();
    std::fill(free_.begin(), free_.end(), 0);  // block 0 stays empty for the nodes without children
    // Low ids are frequent tokens. Placed in that order, what is used most lies together.
    const std::vector<std::uint32_t> order = by_least_id();
    constexpr std::size_t kAhead = 16;  // nodes lie here and there in that order
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (i + kAhead < order.size()) __builtin_prefetch(&nodes_[order[i + kAhead]]);
      if (nodes_[order[i]].children != 0) place(nodes_[order[i]]);
    }
    TokenTrie trie;
    trie.units_.assign(free_.size() * 64, kNoNode);
    for (const Node& node : nodes_) {
      if (node.parent == kNone) continue;
      trie.units_[nodes_[node.parent].base ^ node.label] =
          node.label | (std::uint64_t{node.base} << kBaseShift) | (static_cast<std::uint64_t>(node.id + 1) << kIdShift);
    }
    trie.root_ = nodes_.front().base;
    trie.fill_starts();
    trie.sixes_.assign((std::size_t{1} << kSixBits) / 64, 0);
    for (const Entry& entry : entries_) trie.fill_six(entry.text);
    return trie;
  }

 private:
  // By their texts. Most differ in their first eight bytes, which are compared as a number: zeros stand for what is missing.
  void sort_entries() {
    struct Key {
      std::uint64_t first;
      std::uint32_t entry;
    };
    std::vector<Key> keys(entries_.size());
    for (std::uint32_t i = 0; i < keys.size(); ++i) {
      keys[i] = {0, i};
      const std::string_view text = entries_[i].text;
      for (std::size_t j = 0; j < 8; ++j)
        keys[i].first = (keys[i].first << 8) | (j < text.size() ? static_cast<unsigned char>(text[j]) : 0u);
    }
    std::sort(keys.begin(), keys.end(), [&](const Key& a, const Key& b) {
      return a.first != b.first ? a.first < b.first : entries_[a.entry].text < entries_[b.entry].text;
    });
    std::vector<Entry> sorted;
    sorted.reserve(keys.size());
    for (const Key& key : keys) sorted.push_back(entries_[key.entry]);
    entries_ = std::move(sorted);
  }

  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Node {
    std::uint32_t base = 0, parent = kNone, first_child = 0;  // children are consecutive
    TokenId id = -1, least_id = 0;                            // the token that ends here; the least of those that pass
    std::uint16_t children = 0;
    unsigned char label = 0;
  };
  struct Range {
    std::uint32_t begin, end;  // of entries_
    TokenId prefix;            // the longest token that ends above
  };

  // Level by level: the entries of a node begin with its path, and the children part them by the byte that follows.
  void make_nodes() {
    // Room for a node of every byte: as they grow, both would be copied to new memory many times.
    std::size_t bytes = 0;
    for (const Entry& entry : entries_) bytes += entry.text.size();
    base::HugeVector<Range> ranges;
    ranges.reserve(bytes + 1);
    ranges.push_back({0, static_cast<std::uint32_t>(entries_.size()), -1});
    nodes_.reserve(bytes + 1);
    nodes_.resize(1);
    std::size_t depth = 0, level_end = 1;
    for (std::size_t n = 0; n < nodes_.size(); ++n) {
      if (n == level_end) {
        ++depth;
        level_end = nodes_.size();
      }
      Range range = ranges[n];
      if (n != 0 && entries_[range.begin].text.size() == depth) {
        nodes_[n].id = entries_[range.begin].id;
        (*shorter_)[static_cast<std::size_t>(nodes_[n].id)] = range.prefix;
        range.prefix = nodes_[n].id;
        ++range.begin;
      }
      nodes_[n].first_child = static_cast<std::uint32_t>(nodes_.size());
      for (std::uint32_t begin = range.begin; begin < range.end;) {
        const char label = entries_[begin].text[depth];
        std::uint32_t end = begin;
        TokenId least = entries_[begin].id;
        for (; end < range.end && entries_[end].text[depth] == label; ++end) least = std::min(least, entries_[end].id);
        Node child;
        child.parent = static_cast<std::uint32_t>(n);
        child.least_id = least;
        child.label = static_cast<unsigned char>(label);
        nodes_.push_back(child);
        ranges.push_back({begin, end, range.prefix});
        ++nodes_[n].children;
        begin = end;
      }
    }
  }

  // The nodes in order of their least ids, by counting.
  std::vector<std::uint32_t> by_least_id() const {
    TokenId last = 0;
    for (const Node& node : nodes_) last = std::max(last, node.least_id);
    std::vector<std::uint32_t> starts(static_cast<std::size_t>(last) + 2), order(nodes_.size());
    for (const Node& node : nodes_) ++starts[static_cast<std::size_t>(node.least_id) + 1];
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    for (std::uint32_t n = 0; n < nodes_.size(); ++n) order[starts[static_cast<std::size_t>(nodes_[n].least_id)]++] = n;
    return order;
  }

  void add_block() {
    free_.insert(free_.end(), kBlock / 64, ~std::uint64_t{0});
    base_taken_.resize(base_taken_.size() + kBlock);
  }

  bool fits(const Node& node, std::uint64_t base) const {
    if (base_taken_[base]) return false;
    for (std::uint32_t i = 0; i < node.children; ++i) {
      const std::uint64_t at = base ^ nodes_[node.first_child + i].label;
      if (((free_[at / 64] >> (at % 64)) & 1) == 0) return false;
    }
    return true;
  }

  void take(Node& node, std::uint64_t base) {
    node.base = static_cast<std::uint32_t>(base);
    base_taken_[base] = true;
    for (std::uint32_t i = 0; i < node.children; ++i) {
      const std::uint64_t at = base ^ nodes_[node.first_child + i].label;
      free_[at / 64] &= ~(std::uint64_t{1} << (at % 64));
    }
  }

  // Puts the first child at one free unit after another until all of them fit.
  void place(Node& node) {
    const unsigned char label = nodes_[node.first_child].label;
    while (first_free_ < free_.size() && free_[first_free_] == 0) ++first_free_;
    int tries = 0;
    for (std::size_t word = first_free_; word < free_.size() && tries < kMaxTries; ++word) {
      for (std::uint64_t bits = free_[word]; bits != 0; bits &= bits - 1, ++tries) {
        const std::uint64_t base = (word * 64 + static_cast<std::size_t>(std::countr_zero(bits))) ^ label;
        if (fits(node, base)) return take(node, base);
      }
    }
    const std::uint64_t base = free_.size() * 64;
    add_block();
    take(node, base);
  }

  std::vector<Entry> entries_;
  base::HugeVector<TokenId>* shorter_;
  base::HugeVector<Node> nodes_;
  std::vector<std::uint64_t> free_;  // a bit a unit
  std::vector<bool> base_taken_;
  std::size_t first_free_ = 0;  // no free unit in words before
};

void TokenTrie::fill_starts() {
  starts_.assign(std::size_t{1} << 16, Start{});
  // The node that `byte` leads to, and what is known then.
  const auto step = [&](const Start& from, std::uint32_t byte, std::uint32_t depth) {
    Start to = from;
    const std::uint64_t unit = units_[from.base ^ byte];
    const bool there = (unit & kLabelMask) == byte;
    to.base = there ? static_cast<std::uint32_t>((unit >> kBaseShift) & kBaseMask) : 0;
    if (there && unit >> kIdShift != 0) {
      to.id = static_cast<std::int32_t>(unit >> kIdShift) - 1;
      to.size = depth;
    }
    return to;
  };
  Start root;
  root.base = static_cast<std::uint32_t>(root_);
  root.alone = 1;
  Start* out = starts_.data();
  for (std::uint32_t lead = 0xE0; lead < 0xF0; ++lead) {
    const Start one = step(root, lead, 1);
    for (std::uint32_t second = 0x80; second < 0xC0; ++second, out += 64) {
      const Start two = step(one, second, 2);
      if (two.base == 0) {  // nothing begins with these: the same for all that may follow
        std::fill_n(out, 64, two);
        continue;
      }
      for (std::uint32_t third = 0; third < 64; ++third) out[third] = step(two, 0x80 + third, 3);
    }
  }
}

void TokenTrie::fill_six(std::string_view token) {
  if (token.size() < 4 || !is_three_bytes(token.data())) return;
  if (token.size() < 6) {
    starts_[start_of(token.data())].alone = 0;
  } else {
    const std::uint64_t bit = six_bit(token.data());
    sixes_[bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
}

std::optional<TokenTrie> TokenTrie::build(std::vector<Entry> entries, base::HugeVector<TokenId>& shorter) {
  std::size_t bytes = 0;
  for (const Entry& entry : entries) bytes += entry.text.size();
  if (bytes > kMaxTextBytes) return std::nullopt;
  return Builder(std::move(entries), shorter).build();
}

}  // namespace qw::tokenizer
