#include "governance/keywords/keyword_index.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

namespace qw::governance {
namespace {

// A larger filter would leave the second-level cache, and cost what it saves.
constexpr int kMostFilterBits = 23;

}  // namespace

struct KeywordIndex::Plan {
  std::vector<std::uint32_t> parent;
  std::vector<Symbol> symbol;  // that leads to the node
};

KeywordIndex::KeywordIndex(std::span<const Symbol> symbols, std::span<const std::uint32_t> ends,
                           std::span<const std::uint32_t> categories) {
  Plan plan;
  grow(symbols, ends, categories, plan);
  add_branches(plan);
  add_jumps(plan);
  link(plan);
}

// The keywords are sorted: those that share a beginning lie together, and are a node's range.
void KeywordIndex::grow(std::span<const Symbol> symbols, std::span<const std::uint32_t> ends,
                        std::span<const std::uint32_t> categories, Plan& plan) {
  const auto keyword = [&](std::uint32_t i) {
    const std::uint32_t begin = i == 0 ? 0 : ends[i - 1];
    return symbols.subspan(begin, ends[i] - begin);
  };
  std::vector<std::uint32_t> order(ends.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    const auto left = keyword(a), right = keyword(b);
    return std::lexicographical_compare(left.begin(), left.end(), right.begin(), right.end());
  });
  struct Range {
    std::uint32_t begin, end, parent;
    Symbol symbol;
    std::uint16_t depth;
  };
  std::vector<Range> open{{0, static_cast<std::uint32_t>(order.size()), kRoot, {}, 0}}, children;
  while (!open.empty()) {
    auto [at, end, parent, symbol, depth] = open.back();
    open.pop_back();
    const auto node = static_cast<std::uint32_t>(nodes_.size());
    nodes_.push_back({.first_end = static_cast<std::uint32_t>(ends_.size()), .depth = depth});
    plan.parent.push_back(parent);
    plan.symbol.push_back(symbol);
    for (; at < end && keyword(order[at]).size() == depth; ++at) ends_.push_back({order[at], categories[order[at]]});
    children.clear();
    while (at < end) {
      const Symbol next = keyword(order[at])[depth];
      std::uint32_t last = at + 1;
      while (last < end && keyword(order[last])[depth] == next) ++last;
      children.push_back({at, last, node, next, static_cast<std::uint16_t>(depth + 1)});
      at = last;
    }
    if (children.empty()) continue;
    // What most keywords go on with is what lies behind the node.
    const auto most = std::max_element(children.begin(), children.end(), [](const Range& a, const Range& b) {
      return a.end - a.begin < b.end - b.begin;
    });
    std::swap(*most, children.back());
    nodes_[node].first = children.back().symbol.bits;
    nodes_[node].branches = children.size() > 1;
    open.insert(open.end(), children.begin(), children.end());
  }
  nodes_.push_back({.first_end = static_cast<std::uint32_t>(ends_.size())});
}

// A node and the one behind it, which says where the keywords end that end at this one.
void KeywordIndex::ask(std::uint32_t node) const {
  __builtin_prefetch(&nodes_[node]);
  __builtin_prefetch(&nodes_[node + 1].depth);
}

std::uint32_t KeywordIndex::jump(std::span<const Symbol, 3> symbols) const {
  const std::uint32_t a = symbols[0].bits, b = symbols[1].bits, c = symbols[2].bits;
  for (std::size_t at = mixed(a, b, c) >> jump_shift_;; at = (at + 1) & (jumps_.size() - 1)) {
    const Jump& place = jumps_[at];
    if (place.node == kRoot || (place.first == a && place.second == b && place.third == c)) return place.node;
  }
}

void KeywordIndex::start(std::span<const Symbol> text, std::span<const KeywordCandidate> places,
                         std::span<Start> starts) const {
  struct Walk {
    std::uint32_t node, at;
    bool at_branch;  // which is looked for next
  };
  std::array<Walk, kTogether> walks;
  std::size_t count = 0;
  for (const KeywordCandidate& one : places) {
    if (!one.is_long) continue;
    const auto& at = text.subspan(one.place);
    __builtin_prefetch(&jumps_[mixed(at[0].bits, at[1].bits, at[2].bits) >> jump_shift_]);
  }
  for (std::size_t i = 0; i < places.size(); ++i) {
    const std::size_t at = places[i].place;
    starts[i] = places[i].is_long ? Start{jump(text.subspan(at).first<3>()), 3} : Start{from_root(text[at]), 1};
    if (starts[i].node == kRoot) continue;
    ask(starts[i].node);
    walks[count++] = {starts[i].node, places[i].place + starts[i].symbols, false};
  }
  while (count > 0) {
    std::size_t left = 0;
    for (std::size_t i = 0; i < count; ++i) {
      Walk walk = walks[i];
      const Node& node = nodes_[walk.node];
      if (node.first_end != nodes_[walk.node + 1].first_end) __builtin_prefetch(&ends_[node.first_end]);
      if (walk.at >= text.size()) continue;
      const Symbol next = text[walk.at];
      if (walk.at_branch) {
        walk = {branch(walk.node, next), walk.at + 1, false};
        if (walk.node == kRoot) continue;
        ask(walk.node);
      } else if (node.first == next.bits) {
        walk = {walk.node + 1, walk.at + 1, false};
        ask(walk.node);
      } else {
        const std::uint64_t hash = mixed(walk.node, next.bits);
        if (!node.branches || !may_branch(hash)) continue;
        walk.at_branch = true;
        __builtin_prefetch(&branches_[hash >> branch_shift_]);
      }
      walks[left++] = walk;
    }
    count = left;
  }
}

void KeywordIndex::add_branches(const Plan& plan) {
  const auto branches = [&](auto visit) {
    for (std::uint32_t n = 1; n < plan.parent.size(); ++n)
      if (plan.parent[n] != kRoot && plan.parent[n] + 1 != n) visit(n);
  };
  std::size_t count = 0;
  branches([&](std::uint32_t) { ++count; });
  const auto bits_for = [](std::size_t wanted) { return std::max(6, std::countr_zero(std::bit_ceil(wanted))); };
  const int places = bits_for(2 * count + 1), filter = std::min(bits_for(16 * count + 1), kMostFilterBits);
  branch_shift_ = static_cast<std::uint32_t>(64 - places);
  filter_shift_ = static_cast<std::uint32_t>(64 - filter);
  branches_.resize(std::size_t{1} << places);
  filter_.assign(std::size_t{1} << (filter - 6), 0);
  branches([&](std::uint32_t n) {
    const std::uint64_t hash = mixed(plan.parent[n], plan.symbol[n].bits);
    const std::size_t bit = hash >> filter_shift_;
    filter_[bit >> 6] |= std::uint64_t{1} << (bit & 63);
    std::size_t at = hash >> branch_shift_;
    while (branches_[at].child != kRoot) at = (at + 1) & (branches_.size() - 1);
    branches_[at] = {plan.parent[n], plan.symbol[n].bits, n};
  });
  for (std::uint32_t n = 1; n < plan.parent.size(); ++n) {
    if (plan.parent[n] != kRoot) continue;
    if (root_.size() <= plan.symbol[n].code()) root_.resize(plan.symbol[n].code() + 1, kRoot);
    root_[plan.symbol[n].code()] = n;
  }
}

void KeywordIndex::add_jumps(const Plan& plan) {
  const auto jumps = [&](auto visit) {
    for (std::uint32_t n = 1; n < plan.parent.size(); ++n) {
      if (nodes_[n].depth != 3) continue;
      const std::uint32_t second = plan.parent[n], first = plan.parent[second];
      if (plan.symbol[first].kind() == SymbolKind::kWord) continue;
      visit(Jump{plan.symbol[first].bits, plan.symbol[second].bits, plan.symbol[n].bits, n});
    }
  };
  std::size_t count = 0;
  jumps([&](const Jump&) { ++count; });
  const std::size_t places = std::bit_ceil(std::max<std::size_t>(2, count + count / 2));
  jump_shift_ = static_cast<std::uint32_t>(64 - std::countr_zero(places));
  jumps_.resize(places);
  jumps([&](const Jump& one) {
    std::size_t at = mixed(one.first, one.second, one.third) >> jump_shift_;
    while (jumps_[at].node != kRoot) at = (at + 1) & (jumps_.size() - 1);
    jumps_[at] = one;
  });
}

// The shorter beginnings first: where a node goes on depends on them.
void KeywordIndex::link(const Plan& plan) {
  std::vector<std::uint32_t> order(nodes());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return nodes_[a].depth < nodes_[b].depth; });
  for (const std::uint32_t n : order) {
    const std::uint32_t parent = plan.parent[n];
    if (n == kRoot || parent == kRoot) continue;  // nothing shorter
    const std::uint32_t shorter = step(nodes_[parent].fail, plan.symbol[parent], plan.symbol[n]);
    nodes_[n].fail = shorter;
    nodes_[n].next_end =
        nodes_[shorter].first_end != nodes_[shorter + 1].first_end ? shorter : nodes_[shorter].next_end;
  }
}

}  // namespace qw::governance
