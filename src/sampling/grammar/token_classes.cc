#include "sampling/grammar/token_classes.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

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

}  // namespace

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

// Works out a class; may be left and gone on with.
class TokenClasses::Making {
 public:
  enum class Progress : std::uint8_t { kGoesOn, kDone, kNothing };
  explicit Making(const TokenClasses& classes) : classes_(classes) {}
  virtual ~Making() = default;
  // kGoesOn: the effort is due for a pause; kNothing: it is spent.
  virtual Progress run(Effort& effort) = 0;
  virtual Class take() { return classes_.settle(std::move(accepted_), std::move(open_)); }

 protected:
  const TokenClasses& classes_;
  std::vector<TokenId> accepted_;
  std::vector<std::uint32_t> open_;
};

// The usual case, some six times quicker: one state after another, nothing when a call or a choice comes up.
class TokenClasses::OfSimpleState final : public Making {
 public:
  OfSimpleState(const TokenClasses& classes, State state) : Making(classes), path_(1, {state, false}) {}
  // kNothing, with effort left: a state is not simple.
  Progress run(Effort& effort) override {
    const Grammar& grammar = classes_.grammar_;
    if (!grammar.simple(path_[0].state)) return Progress::kNothing;
    const auto nodes = classes_.table_->nodes();
    while (node_ < nodes.size()) {
      if (effort.due()) return Progress::kGoesOn;
      const std::size_t d = nodes[node_].depth;
      if (path_.size() <= d) path_.push_back({});
      State next = -1;
      for (const Grammar::Edge& e : grammar.edges(path_[d - 1].state)) {
        if (e.first > nodes[node_].byte) break;
        if (nodes[node_].byte <= e.last) next = e.target;
      }
      if (!effort.spend(kSimpleStep)) return Progress::kNothing;
      bool escaped = false;
      if (next >= 0) {
        if (!grammar.simple(next)) return Progress::kNothing;
        escaped = grammar.accepting(next);
        if (grammar.edges(next).empty()) next = -1;
      }
      path_[d] = {next, path_[d - 1].left || escaped};
      classes_.sort_tokens(node_, next >= 0 || escaped, next >= 0, path_[d].left, accepted_, open_);
      node_ = next >= 0 ? node_ + 1 : nodes[node_].end;
    }
    return Progress::kDone;
  }

 private:
  struct Step {
    State state;  // -1: nothing reads on
    bool left;
  };
  std::vector<Step> path_;
  std::uint32_t node_ = 0;
};

class TokenClasses::OfAnyState final : public Making {
 public:
  OfAnyState(const TokenClasses& classes, State state)
      : Making(classes), runner_(classes.grammar_), path_(1), left_(1, 0) {
    path_[0].items.push_back({state, Stacks::kUnknown});
  }
  Progress run(Effort& effort) override {
    const auto nodes = classes_.table_->nodes();
    while (node_ < nodes.size()) {
      if (effort.due()) return Progress::kGoesOn;
      const std::size_t d = nodes[node_].depth;
      if (path_.size() <= d) {
        path_.emplace_back();
        left_.push_back(0);
      }
      runner_.step(path_[d - 1], nodes[node_].byte, path_[d]);
      if (!effort.spend(step_cost(path_[d - 1].items.size(), path_[d].items.size()))) return Progress::kNothing;
      const bool alive = !path_[d].items.empty(), escaped = path_[d].escaped;
      left_[d] = static_cast<char>(left_[d - 1] != 0 || escaped);
      classes_.sort_tokens(node_, alive || escaped, alive, left_[d] != 0, accepted_, open_);
      node_ = alive ? node_ + 1 : nodes[node_].end;
    }
    return Progress::kDone;
  }

 private:
  Runner runner_;
  std::vector<Configurations> path_;
  std::vector<char> left_;  // [d]: somebody left the rule within the first d bytes
  std::uint32_t node_ = 0;
};

class TokenClasses::OfState final : public Making {
 public:
  OfState(const TokenClasses& classes, State state) : Making(classes), simple_(classes, state), any_(classes, state) {}
  Progress run(Effort& effort) override {
    if (is_simple_) {
      const Progress progress = simple_.run(effort);
      if (progress != Progress::kNothing || effort.spent()) return progress;
      is_simple_ = false;
    }
    return any_.run(effort);
  }
  Class take() override { return is_simple_ ? simple_.take() : any_.take(); }

 private:
  bool is_simple_ = true;
  OfSimpleState simple_;
  OfAnyState any_;
};

// Of the tokens that a state alone leaves open, with the two innermost returns (-1: not known).
class TokenClasses::InContext final : public Making {
 public:
  InContext(const TokenClasses& classes, const Key& key, std::shared_ptr<const Class> alone, Effort& effort)
      : Making(classes),
        alone_(std::move(alone)),
        runner_(classes.grammar_),
        walk_(runner_, *classes.table_, start(key), effort) {}
  Progress run(Effort& effort) override {
    for (; at_ < alone_->open.size(); ++at_) {
      if (effort.due()) return Progress::kGoesOn;
      const std::uint32_t order = alone_->open[at_];
      const Walk::Outcome outcome = walk_.run(order);
      if (outcome == Walk::Outcome::kAccepted) accepted_.push_back(classes_.table_->id(order));
      if (outcome == Walk::Outcome::kOpen) open_.push_back(order);
      if (!effort.spend(kLookUp)) return Progress::kNothing;
    }
    return Progress::kDone;
  }

 private:
  Configurations start(const Key& key) {
    Configurations out;
    const Stacks::Id under = key.below < 0 ? Stacks::kUnknown : runner_.stacks().push(Stacks::kUnknown, key.below);
    out.items.push_back({key.state, runner_.stacks().push(under, key.back)});
    return out;
  }

  std::shared_ptr<const Class> alone_;
  Runner runner_;
  Walk walk_;
  std::size_t at_ = 0;
};

bool TokenClasses::warm(Effort& effort) const {
  int warmed = 0;
  for (State s = 0; s < grammar_.states() && warmed < kMaxWarmed; ++s) {
    int bytes = 0;
    for (const Grammar::Edge& e : grammar_.edges(s)) bytes += e.last - e.first + 1;
    if (bytes < kWideBytes) continue;
    ++warmed;
    const Key key{s, -1, -1};
    if (!effort.spend(grammar_.states())) return false;
    OfState making(*this, s);
    if (making.run(effort) != Making::Progress::kDone) return false;
    keep(key, making.take());
  }
  return true;
}

TokenClasses::Search::Search(const TokenClasses& classes, const Configurations& at, Runner& runner, TokenSet& out,
                             std::size_t most)
    : classes_(classes), at_(at), runner_(runner), out_(out), effort_({}, most) {}
TokenClasses::Search::~Search() = default;

void TokenClasses::Search::take(const Class& c) {
  if (!c.many.words().empty()) out_.add(c.many);
  for (const TokenId id : c.few) out_.add(id);
}

TokenClasses::Search::State TokenClasses::Search::run(std::size_t steps) {
  effort_.pause_after(steps);
  for (; item_ < at_.items.size(); ++item_) {
    const Configuration& c = at_.items[item_];
    if (const State s = find_alone(c); s != State::kDone) return s;
    if (!alone_->open.empty() && c.stack >= 0) {  // at the bottom nothing follows
      if (const State s = find_nested(c); s != State::kDone) return s;
      if (!nested_->open.empty() && runner_.stacks().below(c.stack) >= 0)
        if (const State s = walk_open(c); s != State::kDone) return s;
    }
    alone_ = nested_ = nullptr;
    walk_ = nullptr;
    order_ = 0;
  }
  return effort_.spent() ? State::kTooMuch : State::kDone;
}

// The class of the state alone.
TokenClasses::Search::State TokenClasses::Search::find_alone(const Configuration& c) {
  if (alone_ != nullptr) return State::kDone;
  const Key key{c.state, -1, -1};
  if (making_ == nullptr) {
    if (auto known = classes_.find(key)) {
      if (!effort_.account(known->cost) || !effort_.spend(kLookUp)) return State::kTooMuch;
      alone_ = std::move(known);
    } else {
      before_ = effort_.left();
      making_ = std::make_unique<OfState>(classes_, c.state);
    }
  }
  if (alone_ == nullptr) {
    const auto progress = making_->run(effort_);
    if (progress == Making::Progress::kGoesOn) return State::kGoesOn;
    if (progress == Making::Progress::kNothing) return State::kTooMuch;
    Class made = std::exchange(making_, nullptr)->take();
    made.cost = before_ - effort_.left();
    alone_ = classes_.keep(key, std::move(made));
  }
  if (!effort_.spend(out_.words().size())) return State::kTooMuch;
  take(*alone_);
  return State::kDone;
}

// And with what it returns to.
TokenClasses::Search::State TokenClasses::Search::find_nested(const Configuration& c) {
  if (nested_ != nullptr) return State::kDone;
  const Stacks& stacks = runner_.stacks();
  const Stacks::Id under = stacks.below(c.stack);
  const Key key{c.state, stacks.back(c.stack), under < 0 ? -1 : stacks.back(under)};
  if (making_ == nullptr) {
    if (auto known = classes_.find(key)) {
      if (!effort_.account(known->cost) || !effort_.spend(kLookUp)) return State::kTooMuch;
      nested_ = std::move(known);
    } else {
      before_ = effort_.left();
      making_ = std::make_unique<InContext>(classes_, key, alone_, effort_);
    }
  }
  if (nested_ == nullptr) {
    const auto progress = making_->run(effort_);
    if (progress == Making::Progress::kGoesOn) return State::kGoesOn;
    if (progress == Making::Progress::kNothing) return State::kTooMuch;
    Class made = std::exchange(making_, nullptr)->take();
    made.cost = before_ - effort_.left();
    nested_ = classes_.keep(key, std::move(made));
  }
  take(*nested_);
  return State::kDone;
}

// What only all that lies below can tell is run.
TokenClasses::Search::State TokenClasses::Search::walk_open(const Configuration& c) {
  if (walk_ == nullptr) {
    Configurations start;
    start.items.push_back(c);
    walk_ = std::make_unique<Walk>(runner_, *classes_.table_, std::move(start), effort_);
  }
  for (; order_ < nested_->open.size(); ++order_) {
    if (effort_.due()) return State::kGoesOn;
    const TokenId id = classes_.table_->id(nested_->open[order_]);
    if (!out_.has(id) && walk_->run(nested_->open[order_]) == Walk::Outcome::kAccepted) out_.add(id);
    if (effort_.spent()) return State::kTooMuch;
  }
  return State::kDone;
}

}  // namespace qw::sampling::grammar
