// A compiled grammar: for each rule a finite automaton whose edges read a byte or call a rule. Together they are a
// pushdown automaton (a recursive transition network: Woods, "Transition network grammars", CACM 1970), which
// runner.h runs.
//
// Immutable and free of references, so that threads may share it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "sampling/grammar/source.h"

namespace qw::sampling::grammar {

using State = std::int32_t;

// A grammar may have so many states before its repetitions are refused; one takes some 40 bytes.
inline constexpr std::size_t kMaxStates = std::size_t{1} << 18;

class Grammar {
 public:
  struct Edge {
    std::uint8_t first, last;  // bytes
    State target;
  };
  struct Call {
    State start;  // of the rule
    State back;   // where it goes on afterwards
    bool tail;    // nothing but the end of the calling rule follows: no return is needed
  };

  // kBadInput: a rule without a definition, one that calls itself before any text (left recursion), a grammar that
  // matches nothing, one of more than kMaxStates states.
  static Result<Grammar> compile(const Source& source);

  State start() const { return start_; }
  std::span<const Edge> edges(State s) const { return slice(edges_, at(s).edges, at(s + 1).edges); }
  std::span<const Call> calls(State s) const { return slice(calls_, at(s).calls, at(s + 1).calls); }
  bool accepting(State s) const { return at(s).accepting; }  // the rule may end here
  // Reads at most one way: no calls, and no two edges for a byte.
  bool simple(State s) const { return at(s).simple; }
  State states() const { return static_cast<State>(states_.size()) - 1; }

 private:
  friend class Compiler;
  struct Entry {
    std::uint32_t edges = 0, calls = 0;  // where they begin
    bool accepting = false, simple = false;
  };
  const Entry& at(State s) const { return states_[static_cast<std::size_t>(s)]; }
  template <class T>
  static std::span<const T> slice(const std::vector<T>& all, std::uint32_t begin, std::uint32_t end) {
    return std::span(all).subspan(begin, end - begin);
  }
  State start_ = 0;
  std::vector<Entry> states_;  // one more than there are states
  std::vector<Edge> edges_;    // of a state in ascending order, disjoint where the rule could be made deterministic
  std::vector<Call> calls_;
};

}  // namespace qw::sampling::grammar
