#include "sampling/grammar/automaton.h"

#include <algorithm>
#include <array>
#include <map>

#include "sampling/grammar/grammar.h"

namespace qw::sampling::grammar {
namespace {

// Thompson's construction ("Regular expression search algorithm", CACM 1968), with calls as a further kind of move.
class Builder {
 public:
  struct State {
    std::vector<std::int32_t> empty;
    std::vector<RuleAutomaton::Edge> edges;
    std::vector<RuleAutomaton::Call> calls;
  };

  Builder(const Source& source, std::size_t max_states) : source_(source), max_states_(max_states) {}

  std::int32_t add_state() {
    states_.emplace_back();
    return static_cast<std::int32_t>(states_.size() - 1);
  }
  bool full() const { return states_.size() > max_states_; }
  std::vector<State>& states() { return states_; }

  // Builds `node` from state `from` on; where it ends.
  std::int32_t build(Node node, std::int32_t from) {
    if (full() || !source_.spend(256)) return from;
    const Source::Expression& e = source_.expression(node);
    switch (e.kind) {
      case Source::Kind::kBytes:
        return build_bytes(e.bytes, from);
      case Source::Kind::kSet:
        return build_set(e.set, from);
      case Source::Kind::kSequence:
        for (const Node child : e.children) from = build(child, from);
        return from;
      case Source::Kind::kChoice:
        return build_choice(e, from);
      case Source::Kind::kRepeat:
        return build_repeat(e, from);
      case Source::Kind::kRule: {
        const std::int32_t back = add_state();
        at(from).calls.push_back({e.rule, back});
        return back;
      }
      case Source::Kind::kUntil:
        return build_search(e.bytes, from, true);
      case Source::Kind::kWithout:
        return build_search(e.bytes, from, false);
    }
    return from;
  }

 private:
  State& at(std::int32_t s) { return states_[static_cast<std::size_t>(s)]; }
  void edge(std::int32_t from, int first, int last, std::int32_t to) {
    at(from).edges.push_back({static_cast<std::uint8_t>(first), static_cast<std::uint8_t>(last), to});
  }

  std::int32_t build_bytes(std::string_view bytes, std::int32_t from) {
    for (const char c : bytes) {
      const std::int32_t to = add_state();
      const int byte = static_cast<unsigned char>(c);
      edge(from, byte, byte, to);
      from = to;
    }
    return from;
  }

  std::int32_t build_choice(const Source::Expression& e, std::int32_t from) {
    const std::int32_t to = add_state();
    for (const Node child : e.children) {
      const std::int32_t begin = add_state();
      at(from).empty.push_back(begin);
      const std::int32_t end = build(child, begin);
      at(end).empty.push_back(to);
    }
    return to;
  }

  std::int32_t build_repeat(const Source::Expression& e, std::int32_t from) {
    const Node child = e.children.front();
    for (std::int32_t i = 0; i < e.min && !full(); ++i) from = build(child, from);
    if (e.max == kNoLimit) {
      const std::int32_t loop = add_state(), to = add_state();
      at(from).empty.push_back(loop);
      const std::int32_t begin = add_state();
      at(loop).empty.push_back(begin);
      const std::int32_t end = build(child, begin);
      at(end).empty.push_back(loop);
      at(loop).empty.push_back(to);
      return to;
    }
    const std::int32_t to = add_state();
    for (std::int32_t i = e.min; i < e.max && !full(); ++i) {
      at(from).empty.push_back(to);
      const std::int32_t begin = add_state();
      at(from).empty.push_back(begin);
      from = build(child, begin);
    }
    at(from).empty.push_back(to);
    return to;
  }

  // Any bytes, watching for the first occurrence of `pattern` (Knuth, Morris and Pratt, 1977: state i has seen i bytes
  // of it). With `through` it ends behind the occurrence, without it ends anywhere before one is complete.
  std::int32_t build_search(std::string_view pattern, std::int32_t from, bool through) {
    const auto n = static_cast<std::int32_t>(pattern.size());
    std::vector<std::int32_t> state(static_cast<std::size_t>(n));
    for (auto& s : state) s = add_state();
    const std::int32_t to = add_state();
    at(from).empty.push_back(state[0]);
    std::vector<std::array<std::int32_t, 256>> next(static_cast<std::size_t>(n));
    std::int32_t fallback = 0;
    for (std::int32_t i = 0; i < n; ++i) {
      const auto want = static_cast<unsigned char>(pattern[static_cast<std::size_t>(i)]);
      auto& row = next[static_cast<std::size_t>(i)];
      if (i > 0) row = next[static_cast<std::size_t>(fallback)];
      if (i > 0) fallback = next[static_cast<std::size_t>(fallback)][want];
      row[want] = i + 1;
    }
    for (std::int32_t i = 0; i < n; ++i) {
      const auto& row = next[static_cast<std::size_t>(i)];
      if (!through) at(state[static_cast<std::size_t>(i)]).empty.push_back(to);
      for (int first = 0; first < 256;) {
        int last = first;
        while (last < 255 && row[static_cast<std::size_t>(last) + 1] == row[static_cast<std::size_t>(first)]) ++last;
        const std::int32_t seen = row[static_cast<std::size_t>(first)];
        if (seen < n || through)
          edge(state[static_cast<std::size_t>(i)], first, last, seen == n ? to : state[static_cast<std::size_t>(seen)]);
        first = last + 1;
      }
    }
    return to;
  }

  // ---- code points as their UTF-8 (RFC 3629) ----
  std::int32_t build_set(const CodePoints& set, std::int32_t from) {
    const std::int32_t to = add_state();
    CodePoints valid = set;
    valid.remove(0xD800, 0xDFFF);
    for (const auto& [first, last] : valid.ranges()) {
      constexpr std::array<char32_t, 4> kLargest = {0x7F, 0x7FF, 0xFFFF, CodePoints::kLast};  // of 1 .. 4 bytes
      char32_t begin = first;
      for (int bytes = 1; bytes <= 4 && begin <= last; ++bytes) {
        const char32_t end = std::min(last, kLargest[static_cast<std::size_t>(bytes - 1)]);
        if (begin > end) continue;
        add_range(begin, end, bytes, from, to);
        begin = end + 1;
      }
    }
    return to;
  }

  static int byte_of(char32_t c, int bytes, int index) {
    constexpr std::array<int, 5> kLead = {0, 0, 0xC0, 0xE0, 0xF0};
    if (index == 0)
      return bytes == 1 ? static_cast<int>(c)
                        : kLead[static_cast<std::size_t>(bytes)] | static_cast<int>(c >> (6 * (bytes - 1)));
    return 0x80 | static_cast<int>((c >> (6 * (bytes - 1 - index))) & 0x3F);
  }

  // Code points first..last, all of `bytes` bytes, from byte `index` on; they agree in the bytes before it.
  void add_range(char32_t first, char32_t last, int bytes, std::int32_t from, std::int32_t to, int index = 0) {
    const int low = byte_of(first, bytes, index), high = byte_of(last, bytes, index);
    const int left = bytes - 1 - index;  // bytes that follow
    if (left == 0) return edge(from, low, high, to);
    const char32_t rest = (char32_t{1} << (6 * left)) - 1;
    const auto branch = [&](int a, int b, char32_t begin, char32_t end) {
      const std::int32_t middle = add_state();
      edge(from, a, b, middle);
      add_range(begin, end, bytes, middle, to, index + 1);
    };
    if (low == high) return branch(low, high, first, last);
    int begin = low, end = high;
    if ((first & rest) != 0) branch(begin++, low, first, first | rest);
    const bool partial = (last & rest) != rest;
    if (partial) --end;
    if (begin <= end) {  // whole lead bytes: any continuation
      const char32_t any = (first & ~rest) + ((static_cast<char32_t>(begin - low)) << (6 * left));
      branch(begin, end, any, any | rest);
    }
    if (partial) branch(high, high, last & ~rest, last);
  }

  const Source& source_;
  std::size_t max_states_;
  std::vector<State> states_;
};

// The moves of a set of states, empty moves followed.
struct Moves {
  std::vector<RuleAutomaton::Edge> edges;
  std::vector<RuleAutomaton::Call> calls;
  bool accepting = false;
};

class Simplifier {
 public:
  // What a simplification may take, in steps of a nanosecond or so. Parts that may all be left out reach all that
  // follow them, so that a text of n such parts takes n * n steps: 48 s for 64 KiB, and gigabytes.
  static constexpr std::size_t kMostSteps = std::size_t{1} << 26;

  Simplifier(const Source& source, const std::vector<Builder::State>& states, std::int32_t end)
      : source_(source), states_(states), end_(end), seen_(states.size()) {}

  Moves moves(const std::vector<std::int32_t>& set) {
    Moves out;
    ++round_;
    std::vector<std::int32_t> open = set;
    for (const std::int32_t s : open) seen_[static_cast<std::size_t>(s)] = round_;
    while (!open.empty()) {
      const std::int32_t s = open.back();
      open.pop_back();
      const Builder::State& state = states_[static_cast<std::size_t>(s)];
      steps_ += 8 * (1 + state.edges.size() + state.calls.size());  // about as long as eight looks at an edge
      out.accepting = out.accepting || s == end_;
      out.edges.insert(out.edges.end(), state.edges.begin(), state.edges.end());
      out.calls.insert(out.calls.end(), state.calls.begin(), state.calls.end());
      for (const std::int32_t t : state.empty) {
        if (seen_[static_cast<std::size_t>(t)] == round_) continue;
        seen_[static_cast<std::size_t>(t)] = round_;
        open.push_back(t);
      }
    }
    return out;
  }

  // Every state of the result is a set of the builder's, a call being one more symbol. Empty if more than `limit` come
  // out, or it takes too long.
  RuleAutomaton determinised(std::size_t limit) {
    RuleAutomaton out;
    std::map<std::vector<std::int32_t>, std::int32_t> numbers;
    std::vector<std::vector<std::int32_t>> sets;
    const auto number = [&](std::vector<std::int32_t> set) {
      steps_ += 16 * set.size();  // to sort, compare and keep it
      std::sort(set.begin(), set.end());
      set.erase(std::unique(set.begin(), set.end()), set.end());
      const auto [it, fresh] = numbers.try_emplace(set, static_cast<std::int32_t>(sets.size()));
      if (fresh) sets.push_back(std::move(set));
      return it->second;
    };
    number({0});
    for (std::size_t i = 0; i < sets.size(); ++i) {
      if (sets.size() > limit || too_long()) return {};
      const Moves m = moves(sets[i]);
      RuleAutomaton::State state;
      state.accepting = m.accepting;
      state.edges = split_edges(m.edges, number);
      std::map<Rule, std::vector<std::int32_t>> backs;
      for (const auto& call : m.calls) backs[call.rule].push_back(call.back);
      for (auto& [rule, set] : backs) state.calls.push_back({rule, number(std::move(set))});
      out.states.push_back(std::move(state));
    }
    return out;
  }

  // Empty if it takes too long.
  RuleAutomaton without_empty_moves() {
    RuleAutomaton out;
    steps_ = counted_ = 0;
    std::vector<std::int32_t> numbers(states_.size(), -1), order{0};
    numbers[0] = 0;
    const auto number = [&](std::int32_t s) {
      if (numbers[static_cast<std::size_t>(s)] < 0) {
        numbers[static_cast<std::size_t>(s)] = static_cast<std::int32_t>(order.size());
        order.push_back(s);
      }
      return numbers[static_cast<std::size_t>(s)];
    };
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (too_long()) return {};
      Moves m = moves({order[i]});
      for (auto& e : m.edges) e.target = number(e.target);
      for (auto& c : m.calls) c.back = number(c.back);
      const auto tidy = [](auto& v) {
        std::sort(v.begin(), v.end());
        v.erase(std::unique(v.begin(), v.end()), v.end());
      };
      tidy(m.edges);
      tidy(m.calls);
      out.states.push_back({std::move(m.edges), std::move(m.calls), m.accepting});
    }
    return out;
  }

 private:
  // Cuts overlapping ranges of bytes at each other's borders and unites the targets.
  template <class Number>
  std::vector<RuleAutomaton::Edge> split_edges(const std::vector<RuleAutomaton::Edge>& edges, Number number) {
    std::vector<int> borders;
    for (const auto& e : edges) {
      borders.push_back(e.first);
      borders.push_back(e.last + 1);
    }
    std::sort(borders.begin(), borders.end());
    borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
    steps_ += borders.size() * edges.size();
    std::vector<RuleAutomaton::Edge> out;
    for (std::size_t i = 0; i + 1 < borders.size(); ++i) {
      std::vector<std::int32_t> targets;
      for (const auto& e : edges)
        if (e.first <= borders[i] && borders[i] <= e.last) targets.push_back(e.target);
      if (targets.empty()) continue;
      const auto first = static_cast<std::uint8_t>(borders[i]), last = static_cast<std::uint8_t>(borders[i + 1] - 1);
      const std::int32_t target = number(std::move(targets));
      if (!out.empty() && out.back().target == target && out.back().last + 1 == first) {
        out.back().last = last;
      } else {
        out.push_back({first, last, target});
      }
    }
    return out;
  }

  // Beside this rule's own limit there is what all of them together may take.
  bool too_long() {
    const bool go_on = source_.spend(256 + steps_ - counted_);
    counted_ = steps_;
    return !go_on || steps_ > kMostSteps;
  }

  const Source& source_;
  const std::vector<Builder::State>& states_;
  std::int32_t end_;
  std::vector<std::uint32_t> seen_;
  std::uint32_t round_ = 0;
  std::size_t steps_ = 0, counted_ = 0;
};

}  // namespace

Result<RuleAutomaton> build_automaton(const Source& source, Node body, std::size_t max_states) {
  Builder builder(source, max_states);
  const std::int32_t begin = builder.add_state();
  const std::int32_t end = builder.build(body, begin);
  if (source.spent()) return source.effort()->error();
  if (builder.full())
    return fail(ErrorKind::kBadInput, "the grammar is too large (more than " + std::to_string(kMaxStates) + " states)");
  Simplifier simplifier(source, builder.states(), end);
  // Subsets are usually fewer than the states they are made of; where they are many more, sets of states at run time
  // cost less.
  RuleAutomaton out = simplifier.determinised(2 * builder.states().size() + 64);
  if (out.states.empty() && !source.spent()) out = simplifier.without_empty_moves();
  if (source.spent()) return source.effort()->error();
  if (out.states.empty())
    return fail(ErrorKind::kBadInput,
                "the grammar is too large (too many parts that may be left out follow each other)");
  return out;
}

}  // namespace qw::sampling::grammar
