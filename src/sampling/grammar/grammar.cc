#include "sampling/grammar/grammar.h"

#include <algorithm>
#include <deque>

#include "sampling/grammar/automaton.h"
#include "sampling/grammar/runner.h"

namespace qw::sampling::grammar {
namespace {

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

}  // namespace

class Compiler {
 public:
  explicit Compiler(const Source& source) : source_(source) {}

  Result<Grammar> compile() {
    QW_CHECK(source_.root() >= 0);
    if (source_.spent()) return source_.effort()->error();
    QW_TRY(build_rules());
    find_productive();
    if (source_.spent()) return source_.effort()->error();
    if (!productive_[index(source_.root())]) return fail(ErrorKind::kBadInput, "the grammar matches nothing");
    drop_dead_ends();
    find_nullable();
    if (source_.spent()) return source_.effort()->error();
    QW_TRY(check_alternatives());
    QW_TRY(check_left_recursion());
    return join();
  }

 private:
  Status build_rules() {
    std::size_t left = kMaxStates;
    for (const Source::Named& rule : source_.rules()) {
      if (rule.body < 0) return fail(ErrorKind::kBadInput, "rule '" + rule.name + "' is used but not defined");
      QW_ASSIGN(RuleAutomaton automaton, build_automaton(source_, rule.body, left));
      left -= std::min(left, automaton.states.size());
      rules_.push_back(std::move(automaton));
    }
    return {};
  }

  // Calls grow(rule), which says whether the rule's start changed, for every rule and again for those that call one
  // whose start did.
  template <class Grow>
  void until_settled(Grow grow) {
    std::vector<std::vector<Rule>> callers(rules_.size());
    std::deque<Rule> open;  // the oldest first: a rule of many calls is looked at when all of them are settled
    for (std::size_t r = rules_.size(); r-- > 0;) {
      open.push_back(static_cast<Rule>(r));
      for (const auto& state : rules_[r].states)
        for (const auto& c : state.calls) callers[index(c.rule)].push_back(static_cast<Rule>(r));
    }
    for (auto& list : callers) {
      std::sort(list.begin(), list.end());
      list.erase(std::unique(list.begin(), list.end()), list.end());
    }
    std::vector<bool> waiting(rules_.size(), true);
    while (!open.empty() && !source_.spent()) {
      const Rule r = open.front();
      open.pop_front();
      waiting[index(r)] = false;
      if (!grow(index(r))) continue;
      for (const Rule caller : callers[index(r)]) {
        if (waiting[index(caller)]) continue;
        waiting[index(caller)] = true;
        open.push_back(caller);
      }
    }
  }

  // States from which the end of their rule can be reached, calling only rules that have an end themselves.
  void find_productive() {
    productive_.assign(rules_.size(), false);
    for (const auto& rule : rules_) {
      alive_.emplace_back();
      for (const auto& state : rule.states) alive_.back().push_back(state.accepting);
    }
    until_settled([&](std::size_t r) {
      const auto alive = [&](const RuleAutomaton::State& state) {
        return std::any_of(state.edges.begin(), state.edges.end(),
                           [&](const auto& e) { return alive_[r][index(e.target)]; }) ||
               std::any_of(state.calls.begin(), state.calls.end(),
                           [&](const auto& c) { return productive_[index(c.rule)] && alive_[r][index(c.back)]; });
      };
      spread(r, alive_[r], alive);
      if (!alive_[r][0] || productive_[r]) return false;
      productive_[r] = true;
      return true;
    });
  }

  // Sets the marks of a rule's states for which `holds` until none is new. Targets mostly come after their states.
  template <class Holds>
  void spread(std::size_t r, std::vector<char>& marks, Holds holds) const {
    for (bool changed = true; changed;) {
      changed = false;
      std::size_t looked = 0;
      for (std::size_t s = marks.size(); s-- > 0;) {
        const auto& state = rules_[r].states[s];
        looked += 4 * (1 + state.edges.size() + state.calls.size());
        if (!marks[s] && holds(state)) marks[s] = changed = true;
      }
      if (!source_.spend(looked)) return;
    }
  }

  void drop_dead_ends() {
    for (std::size_t r = 0; r < rules_.size(); ++r) {
      for (RuleAutomaton::State& state : rules_[r].states) {
        std::erase_if(state.edges, [&](const auto& e) { return !alive_[r][index(e.target)]; });
        std::erase_if(state.calls,
                      [&](const auto& c) { return !productive_[index(c.rule)] || !alive_[r][index(c.back)]; });
      }
    }
  }

  // States from which the end of the rule can be reached without text.
  void find_nullable() {
    for (const auto& rule : rules_) {
      nullable_.emplace_back();
      for (const auto& state : rule.states) nullable_.back().push_back(state.accepting);
    }
    std::vector<bool> told(rules_.size(), false);
    until_settled([&](std::size_t r) {
      spread(r, nullable_[r], [&](const RuleAutomaton::State& state) {
        return std::any_of(state.calls.begin(), state.calls.end(),
                           [&](const auto& c) { return nullable_[index(c.rule)][0] && nullable_[r][index(c.back)]; });
      });
      if (!nullable_[r][0] || told[r]) return false;
      told[r] = true;
      return true;
    });
  }

  // What a place may be followed by stands in a list as long when the grammar is run; longer ones are refused there.
  Status check_alternatives() const {
    for (std::size_t r = 0; r < rules_.size(); ++r)
      for (const auto& state : rules_[r].states)
        if (state.calls.size() >= Runner::kMaxConfigurations)
          return fail(ErrorKind::kBadInput, "'" + source_.rules()[r].name + "' has more than " +
                                                std::to_string(Runner::kMaxConfigurations) + " alternatives");
    return {};
  }

  // Rules that `rule` may call before it has read anything.
  std::vector<Rule> first_calls(std::size_t rule) const {
    std::vector<Rule> out;
    std::vector<std::int32_t> open{0};
    std::vector<bool> seen(rules_[rule].states.size(), false);
    seen[0] = true;
    while (!open.empty()) {
      const auto& state = rules_[rule].states[index(open.back())];
      open.pop_back();
      for (const auto& c : state.calls) {
        out.push_back(c.rule);
        if (!nullable_[index(c.rule)][0] || seen[index(c.back)]) continue;
        seen[index(c.back)] = true;
        open.push_back(c.back);
      }
    }
    return out;
  }

  Status check_left_recursion() const {
    enum class Mark : std::uint8_t { kNew, kOpen, kDone };
    std::vector<Mark> marks(rules_.size(), Mark::kNew);
    struct Visit {
      std::size_t rule;
      std::vector<Rule> calls;
    };
    for (std::size_t r = 0; r < rules_.size(); ++r) {
      if (marks[r] != Mark::kNew) continue;
      std::vector<Visit> path{{r, first_calls(r)}};
      marks[r] = Mark::kOpen;
      while (!path.empty()) {
        Visit& top = path.back();
        if (top.calls.empty()) {
          marks[top.rule] = Mark::kDone;
          path.pop_back();
          continue;
        }
        const auto next = index(top.calls.back());
        top.calls.pop_back();
        if (marks[next] == Mark::kOpen)
          return fail(ErrorKind::kBadInput,
                      "rule '" + source_.rules()[next].name + "' calls itself before any text (left recursion)");
        if (marks[next] == Mark::kDone) continue;
        marks[next] = Mark::kOpen;
        path.push_back({next, first_calls(next)});
      }
    }
    return {};
  }

  Grammar join() const {
    std::vector<State> starts;
    State total = 0;
    for (const auto& rule : rules_) {
      starts.push_back(total);
      total += static_cast<State>(rule.states.size());
    }
    Grammar out;
    out.start_ = starts[index(source_.root())];
    out.states_.reserve(index(total) + 1);
    for (std::size_t r = 0; r < rules_.size(); ++r) {
      for (const auto& state : rules_[r].states) {
        const bool overlap =
            std::adjacent_find(state.edges.begin(), state.edges.end(),
                               [](const auto& a, const auto& b) { return b.first <= a.last; }) != state.edges.end();
        out.states_.push_back({static_cast<std::uint32_t>(out.edges_.size()),
                               static_cast<std::uint32_t>(out.calls_.size()), state.accepting,
                               state.calls.empty() && !overlap});
        for (const auto& e : state.edges) out.edges_.push_back({e.first, e.last, starts[r] + e.target});
        for (const auto& c : state.calls) {
          const auto& back = rules_[r].states[index(c.back)];
          const bool tail = back.accepting && back.edges.empty() && back.calls.empty();
          out.calls_.push_back({starts[index(c.rule)], starts[r] + c.back, tail});
        }
      }
    }
    out.states_.push_back(
        {static_cast<std::uint32_t>(out.edges_.size()), static_cast<std::uint32_t>(out.calls_.size()), false, false});
    return out;
  }

  const Source& source_;
  std::vector<RuleAutomaton> rules_;
  std::vector<bool> productive_;                     // by rule
  std::vector<std::vector<char>> alive_, nullable_;  // by rule and state
};

Result<Grammar> Grammar::compile(const Source& source) { return Compiler(source).compile(); }

}  // namespace qw::sampling::grammar
