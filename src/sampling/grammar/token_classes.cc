#include "sampling/grammar/token_classes.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace qw::sampling::grammar {
namespace {

// Of one grammar. Grammars of usual size stay far below; beyond it classes are worked out again each time.
constexpr std::size_t kMaxKeptBytes = std::size_t{64} << 20;
// States that read at least this many of the 256 bytes are worth working out ahead.
constexpr int kWideBytes = 64;
// In steps of effort: a byte of the tokens' tree for a simple state, and finding what is kept.
constexpr std::size_t kSimpleStep = 16, kLookUp = 64;
// Texts of bounded length have a state for each character; theirs come when they are needed.
constexpr int kMaxWarmed = 32;

// What one byte from `before` places to `after` places costs: each of the new ones is looked for among the others.
std::size_t step_cost(std::size_t before, std::size_t after) { return 32 * (1 + before) + after * after; }

// Runs tokens given by ascending order from one start, sharing what neighbours have in common.
class Walk {
 public:
  Walk(Runner& runner, const TokenTable& table, Configurations start, Effort& effort)
      : runner_(runner), table_(table), effort_(effort) {
    path_.push_back(std::move(start));
  }

  enum class Outcome : std::uint8_t { kAccepted, kRefused, kOpen };
  Outcome run(std::uint32_t order) {
    const std::string_view text = table_.text(order);
    std::size_t common = 0;
    while (common < done_ && common < text.size() && common < last_.size() && text[common] == last_[common]) ++common;
    last_ = text;
    done_ = common;
    for (; done_ < text.size() && !path_[done_].items.empty(); ++done_) {
      if (path_.size() <= done_ + 1) path_.emplace_back();
      runner_.step(path_[done_], static_cast<std::uint8_t>(text[done_]), path_[done_ + 1]);
      if (!effort_.spend(step_cost(path_[done_].items.size(), path_[done_ + 1].items.size()))) return Outcome::kRefused;
    }
    const Configurations& end = path_[done_];
    if (done_ == text.size() && (!end.dead() || end.escaped)) return Outcome::kAccepted;
    // What left the rule earlier, at any byte, may read on.
    const bool left = std::any_of(path_.begin() + 1, path_.begin() + 1 + static_cast<std::ptrdiff_t>(done_),
                                  [](const Configurations& c) { return c.escaped; });
    return left ? Outcome::kOpen : Outcome::kRefused;
  }

 private:
  Runner& runner_;
  const TokenTable& table_;
  Effort& effort_;
  std::vector<Configurations> path_;  // [d]: after d bytes of last_
  std::string_view last_;
  std::size_t done_ = 0;  // bytes of last_ that path_ holds
};

}  // namespace

std::int64_t TokenSet::count() const {
  return std::accumulate(words_.begin(), words_.end(), std::int64_t{0},
                         [](std::int64_t n, std::uint64_t w) { return n + std::popcount(w); });
}

std::size_t TokenClasses::Hash::operator()(const Key& k) const {
  std::uint64_t h = 0;
  for (const State s : {k.state, k.back, k.below}) h = (h ^ static_cast<std::uint32_t>(s)) * 0x9E3779B97F4A7C15u;
  return static_cast<std::size_t>(h ^ (h >> 32));
}

TokenClasses::TokenClasses(Grammar grammar, std::shared_ptr<const TokenTable> table)
    : grammar_(std::move(grammar)), table_(std::move(table)) {}

std::size_t TokenClasses::bytes() const {
  const std::shared_lock lock(mutex_);
  return kept_bytes_;
}

std::shared_ptr<const TokenClasses::Class> TokenClasses::find(const Key& key) const {
  const std::shared_lock lock(mutex_);
  const auto it = kept_.find(key);
  return it == kept_.end() ? nullptr : it->second;
}

std::shared_ptr<const TokenClasses::Class> TokenClasses::keep(const Key& key, Class made) const {
  auto shared = std::make_shared<const Class>(std::move(made));
  const std::unique_lock lock(mutex_);
  if (kept_bytes_ + shared->bytes() > kMaxKeptBytes) return shared;
  const auto [it, fresh] = kept_.try_emplace(key, shared);
  if (fresh) kept_bytes_ += shared->bytes();
  return it->second;
}

TokenClasses::Class TokenClasses::settle(std::vector<TokenId> accepted, std::vector<std::uint32_t> open) const {
  Class out;
  out.open = std::move(open);
  if (accepted.size() * 32 < static_cast<std::size_t>(table_->vocab())) {
    out.few = std::move(accepted);
  } else {
    out.many = TokenSet(table_->vocab());
    for (const TokenId id : accepted) out.many.add(id);
  }
  return out;
}

// The tokens at a node, and where nothing reads on, those below: `whole`: they are read to their end; `left`: the rule
// was left on the way.
void TokenClasses::sort_tokens(std::uint32_t node, bool whole, bool read_on, bool left, std::vector<TokenId>& accepted,
                               std::vector<std::uint32_t>& open) const {
  const auto nodes = table_->nodes();
  const TokenTable::TrieNode& n = nodes[node];
  const std::uint32_t behind = table_->order_at(n.end);
  std::uint32_t order = n.order;
  if (whole) {
    const std::uint32_t deeper = node + 1 < n.end ? nodes[node + 1].order : behind;
    for (; order < deeper; ++order) accepted.push_back(table_->id(order));
  }
  if (!read_on && left)
    for (; order < behind; ++order) open.push_back(order);
}

// The usual case, some six times quicker: one state after another, nothing when a call or a choice comes up.
std::optional<TokenClasses::Class> TokenClasses::of_simple_state(State state, Effort& effort) const {
  if (!grammar_.simple(state)) return {};
  struct Step {
    State state;  // -1: nothing reads on
    bool left;
  };
  std::vector<Step> path(1, {state, false});
  std::vector<TokenId> accepted;
  std::vector<std::uint32_t> open;
  const auto nodes = table_->nodes();
  for (std::uint32_t n = 0; n < nodes.size();) {
    const std::size_t d = nodes[n].depth;
    if (path.size() <= d) path.push_back({});
    State next = -1;
    for (const Grammar::Edge& e : grammar_.edges(path[d - 1].state)) {
      if (e.first > nodes[n].byte) break;
      if (nodes[n].byte <= e.last) next = e.target;
    }
    if (!effort.spend(kSimpleStep)) return {};
    bool escaped = false;
    if (next >= 0) {
      if (!grammar_.simple(next)) return {};
      escaped = grammar_.accepting(next);
      if (grammar_.edges(next).empty()) next = -1;
    }
    path[d] = {next, path[d - 1].left || escaped};
    sort_tokens(n, next >= 0 || escaped, next >= 0, path[d].left, accepted, open);
    n = next >= 0 ? n + 1 : nodes[n].end;
  }
  return settle(std::move(accepted), std::move(open));
}

std::optional<TokenClasses::Class> TokenClasses::of_any_state(State state, Effort& effort) const {
  Runner runner(grammar_);
  std::vector<Configurations> path(1);
  std::vector<char> left(1, 0);  // [d]: somebody left the rule within the first d bytes
  path[0].items.push_back({state, Stacks::kUnknown});
  std::vector<TokenId> accepted;
  std::vector<std::uint32_t> open;
  const auto nodes = table_->nodes();
  for (std::uint32_t n = 0; n < nodes.size();) {
    const std::size_t d = nodes[n].depth;
    if (path.size() <= d) {
      path.emplace_back();
      left.push_back(0);
    }
    runner.step(path[d - 1], nodes[n].byte, path[d]);
    if (!effort.spend(step_cost(path[d - 1].items.size(), path[d].items.size()))) return {};
    const bool alive = !path[d].items.empty(), escaped = path[d].escaped;
    left[d] = static_cast<char>(left[d - 1] != 0 || escaped);
    sort_tokens(n, alive || escaped, alive, left[d] != 0, accepted, open);
    n = alive ? n + 1 : nodes[n].end;
  }
  return settle(std::move(accepted), std::move(open));
}

std::shared_ptr<const TokenClasses::Class> TokenClasses::of_state(State state, Effort& effort) const {
  const Key key{state, -1, -1};
  if (auto known = find(key)) return effort.spend(kLookUp + known->cost) ? known : nullptr;
  const std::size_t before = effort.left();
  auto made = of_simple_state(state, effort);
  if (!made && !effort.spent()) made = of_any_state(state, effort);
  if (!made) return nullptr;
  made->cost = before - effort.left();
  return keep(key, std::move(*made));
}

std::shared_ptr<const TokenClasses::Class> TokenClasses::in_context(State state, State back, State below,
                                                                    const Class& alone, Effort& effort) const {
  const Key key{state, back, below};
  if (auto known = find(key)) return effort.spend(kLookUp + known->cost) ? known : nullptr;
  const std::size_t before = effort.left();
  Runner runner(grammar_);
  Configurations start;
  const Stacks::Id under = below < 0 ? Stacks::kUnknown : runner.stacks().push(Stacks::kUnknown, below);
  start.items.push_back({state, runner.stacks().push(under, back)});
  Walk walk(runner, *table_, std::move(start), effort);
  std::vector<TokenId> accepted;
  std::vector<std::uint32_t> open;
  for (const std::uint32_t order : alone.open) {
    const Walk::Outcome outcome = walk.run(order);
    if (outcome == Walk::Outcome::kAccepted) accepted.push_back(table_->id(order));
    if (outcome == Walk::Outcome::kOpen) open.push_back(order);
    if (!effort.spend(kLookUp)) return nullptr;
  }
  Class made = settle(std::move(accepted), std::move(open));
  made.cost = before - effort.left();
  return keep(key, std::move(made));
}

bool TokenClasses::warm(Effort& effort) const {
  int warmed = 0;
  for (State s = 0; s < grammar_.states() && warmed < kMaxWarmed; ++s) {
    int bytes = 0;
    for (const Grammar::Edge& e : grammar_.edges(s)) bytes += e.last - e.first + 1;
    if (bytes < kWideBytes) continue;
    ++warmed;
    const Key key{s, -1, -1};
    if (!effort.spend(grammar_.states())) return false;
    auto made = of_simple_state(s, effort);
    if (!made && !effort.spent()) made = of_any_state(s, effort);
    if (!made) return false;
    keep(key, std::move(*made));
  }
  return true;
}

bool TokenClasses::allowed(const Configurations& at, Runner& runner, TokenSet& out, Effort& effort) const {
  const auto take = [&](const Class& c) {
    if (!c.many.words().empty()) out.add(c.many);
    for (const TokenId id : c.few) out.add(id);
  };
  for (const Configuration& c : at.items) {
    const auto alone = of_state(c.state, effort);
    if (alone == nullptr || !effort.spend(out.words().size())) return false;
    take(*alone);
    if (alone->open.empty() || c.stack < 0) continue;  // at the bottom nothing follows
    const Stacks& stacks = runner.stacks();
    const Stacks::Id under = stacks.below(c.stack);
    const auto nested = in_context(c.state, stacks.back(c.stack), under < 0 ? -1 : stacks.back(under), *alone, effort);
    if (nested == nullptr) return false;
    take(*nested);
    if (nested->open.empty() || under < 0) continue;
    Configurations start;
    start.items.push_back(c);
    Walk walk(runner, *table_, std::move(start), effort);
    for (const std::uint32_t order : nested->open)
      if (!out.has(table_->id(order)) && walk.run(order) == Walk::Outcome::kAccepted) out.add(table_->id(order));
    if (effort.spent()) return false;
  }
  return true;
}

}  // namespace qw::sampling::grammar
