// From the expression of one rule to a small automaton without empty moves, deterministic unless that makes it too
// large. A step of Grammar::compile, not for others.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "sampling/grammar/source.h"

namespace qw::sampling::grammar {

struct RuleAutomaton {
  struct Edge {
    std::uint8_t first, last;
    std::int32_t target;
    auto operator<=>(const Edge&) const = default;
  };
  struct Call {
    Rule rule;
    std::int32_t back;
    auto operator<=>(const Call&) const = default;
  };
  struct State {
    std::vector<Edge> edges;
    std::vector<Call> calls;
    bool accepting = false;
  };
  std::vector<State> states;  // the first is the start
};

// kBadInput if it takes more than `max_states` on the way, or more than the source may cost; its Effort's error.
Result<RuleAutomaton> build_automaton(const Source& source, Node body, std::size_t max_states);

}  // namespace qw::sampling::grammar
