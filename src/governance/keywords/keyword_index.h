// Which of many keywords end at a symbol, found in one pass: a trie whose nodes know where to go on when no longer
// keyword fits (Aho and Corasick, 1975). A keyword that begins with a letter or a digit begins where a word does.
//
// Nodes lie in the order of a walk from the root to the left: where a keyword goes on in one way only, as most do
// behind their first characters, the next node lies beside it, and is found without a search. The nodes behind three
// symbols are found from these at once, as most walks fail before. A million keywords take 80 to 230 MB. Read only once
// it is built: any number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/huge_vector.h"
#include "governance/keywords/folding.h"
#include "governance/keywords/keyword_filter.h"

namespace qw::governance {

class KeywordIndex {
 public:
  struct End {
    std::uint32_t keyword, category;
  };
  // `symbols` of all keywords one after the other, keyword i up to `ends[i]`; none is empty. `categories`: of each, for
  // whoever finds it.
  KeywordIndex(std::span<const Symbol> symbols, std::span<const std::uint32_t> ends,
               std::span<const std::uint32_t> categories);

  static constexpr std::uint32_t kRoot = 0;
  // The node of the longest beginning of a keyword that the text ends with; `before`: the symbol in front of `next`.
  std::uint32_t step(std::uint32_t node, Symbol before, Symbol next) const;
  // The node behind `node` for keywords that go on with `next`; kRoot: none does.
  std::uint32_t child(std::uint32_t node, Symbol next) const {
    if (node == kRoot) return from_root(next);
    const Node& at = nodes_[node];
    if (at.first == next.bits) return node + 1;
    return at.branches ? branch(node, next) : kRoot;
  }
  // Calls visit(end) of the keywords that are what leads to `node`.
  template <class Visit>
  void each_here(std::uint32_t node, Visit visit) const {
    for (std::uint32_t i = nodes_[node].first_end; i < nodes_[node + 1].first_end; ++i) visit(ends_[i]);
  }
  // The node behind the first symbols from a place on: one of them, or three where nothing shorter begins there.
  struct Start {
    std::uint32_t node = kRoot, symbols = 0;
  };
  static constexpr std::size_t kTogether = 16;
  // Of up to so many places at once. Has memory bring near what walks through `text` from there will read: for all of
  // them together, since each step of one waits for the one before.
  void start(std::span<const Symbol> text, std::span<const KeywordCandidate> places, std::span<Start> starts) const;
  // Symbols of that beginning.
  std::uint32_t depth(std::uint32_t node) const { return nodes_[node].depth; }
  // Calls visit(symbols, end) of each keyword that ends at `node`, the longest first.
  template <class Visit>
  void each_end(std::uint32_t node, Visit visit) const {
    for (std::uint32_t n = node; n != kRoot; n = nodes_[n].next_end)
      for (std::uint32_t i = nodes_[n].first_end; i < nodes_[n + 1].first_end; ++i) visit(depth(n), ends_[i]);
  }
  bool ends_at(std::uint32_t node) const {
    return nodes_[node].first_end != nodes_[node + 1].first_end || nodes_[node].next_end != kRoot;
  }
  std::size_t nodes() const { return nodes_.size() - 1; }

 private:
  struct Node {
    std::uint32_t first = 0;      // the symbol that leads to the node behind this one; 0: no keyword goes on
    std::uint32_t fail = 0;       // the node of the longest other beginning that the text ends with
    std::uint32_t next_end = 0;   // the nearest one on that way at which a keyword ends; the root: none
    std::uint32_t first_end = 0;  // of the keywords that end here, up to the next node's
    std::uint16_t depth = 0;
    bool branches = false;  // other symbols lead on too: branches_
  };
  struct Branch {
    std::uint32_t node = 0, symbol = 0, child = 0;  // child 0: an empty place
  };
  struct Jump {
    std::uint32_t first, second, third, node;  // node 0: an empty place
  };
  struct Plan;  // what is known of the nodes while they are made

  static bool joined(Symbol before, Symbol next) {
    return before.kind() == SymbolKind::kWord && next.kind() == SymbolKind::kWord;
  }
  std::uint32_t from_root(Symbol next) const { return next.code() < root_.size() ? root_[next.code()] : kRoot; }
  static std::uint64_t mixed(std::uint32_t node, std::uint32_t symbol) {
    const std::uint64_t x = (std::uint64_t{node} << 32 | symbol) * 0x9E3779B97F4A7C15;
    return (x ^ x >> 29) * 0xBF58476D1CE4E5B9;
  }
  static std::uint64_t mixed(std::uint32_t first, std::uint32_t second, std::uint32_t third) {
    const std::uint64_t x =
        first * 0x9E3779B97F4A7C15 + second * 0xC2B2AE3D27D4EB4F + std::uint64_t{third} * 0x165667B19E3779F9;
    return (x ^ x >> 32) * 0xBF58476D1CE4E5B9;
  }
  std::uint32_t branch(std::uint32_t node, Symbol next) const;  // kRoot: none
  bool may_branch(std::uint64_t hash) const {
    const std::size_t bit = hash >> filter_shift_;
    return (filter_[bit >> 6] >> (bit & 63) & 1) != 0;
  }
  std::uint32_t jump(std::span<const Symbol, 3> symbols) const;  // kRoot: none
  void ask(std::uint32_t node) const;
  void grow(std::span<const Symbol> symbols, std::span<const std::uint32_t> ends,
            std::span<const std::uint32_t> categories, Plan& plan);
  void add_branches(const Plan& plan);
  void add_jumps(const Plan& plan);
  void link(const Plan& plan);

  base::HugeVector<Node> nodes_;  // and one behind the last
  base::HugeVector<End> ends_;
  std::vector<std::uint32_t> root_;    // the root's children by code
  base::HugeVector<Branch> branches_;  // by hash, with open addressing
  base::HugeVector<Jump> jumps_;       // likewise
  std::vector<std::uint64_t> filter_;  // a bit of every branch: most of what is looked for is not there
  std::uint32_t branch_shift_ = 63, filter_shift_ = 63, jump_shift_ = 63;
};

inline std::uint32_t KeywordIndex::step(std::uint32_t node, Symbol before, Symbol next) const {
  while (node != kRoot) {
    const Node& at = nodes_[node];
    if (at.first == next.bits) return node + 1;
    if (at.branches) {
      if (const std::uint32_t found = branch(node, next); found != kRoot) return found;
    }
    node = at.fail;
  }
  return joined(before, next) ? kRoot : from_root(next);
}

inline std::uint32_t KeywordIndex::branch(std::uint32_t node, Symbol next) const {
  const std::uint64_t hash = mixed(node, next.bits);
  if (!may_branch(hash)) return kRoot;
  for (std::size_t at = hash >> branch_shift_;; at = (at + 1) & (branches_.size() - 1)) {
    const Branch& place = branches_[at];
    if (place.child == kRoot) return kRoot;
    if (place.node == node && place.symbol == next.bits) return place.child;
  }
}

}  // namespace qw::governance
