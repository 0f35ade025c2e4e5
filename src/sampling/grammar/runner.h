// Runs a grammar byte by byte. Where it stands is a set of configurations: a state, and the states to return to.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "sampling/grammar/grammar.h"

namespace qw::sampling::grammar {

// States to return to, the innermost first; shared between configurations. Copies are independent.
class Stacks {
 public:
  using Id = std::int32_t;
  static constexpr Id kBottom = -1;   // the grammar ends here
  static constexpr Id kUnknown = -2;  // whoever asks does not say what lies below
  Id push(Id below, State back);
  State back(Id top) const { return nodes_[static_cast<std::size_t>(top)].back; }
  Id below(Id top) const { return nodes_[static_cast<std::size_t>(top)].below; }
  std::size_t size() const { return nodes_.size(); }
  void clear();

 private:
  struct Node {
    Id below;
    State back;
  };
  std::vector<Node> nodes_;
  std::unordered_map<std::uint64_t, Id> known_;
};

struct Configuration {
  State state;
  Stacks::Id stack;
  friend bool operator==(const Configuration&, const Configuration&) = default;
};

struct Configurations {
  std::vector<Configuration> items;  // those with bytes to read; no two alike
  bool ended = false;                // the grammar may end here
  bool escaped = false;              // a configuration returned to what lies below kUnknown
  bool dead() const { return items.empty() && !ended; }
  void clear() {
    items.clear();
    ended = escaped = false;
  }
};

class Runner {
 public:
  // Ambiguous grammars may stand in many places at once; more than this is an error, told by overflow().
  static constexpr std::size_t kMaxConfigurations = 4096;
  // Nested deeper than this, all configurations together (JSON of that many brackets).
  static constexpr std::size_t kMaxStackNodes = std::size_t{1} << 20;

  explicit Runner(const Grammar& grammar) : grammar_(&grammar) {}
  // Adds where `state` over `stack` leads without a byte.
  void enter(State state, Stacks::Id stack, Configurations& to);
  // Where `from` leads by one byte; `to` is overwritten and must be another object.
  void step(const Configurations& from, std::uint8_t byte, Configurations& to);
  Stacks& stacks() { return stacks_; }
  const Stacks& stacks() const { return stacks_; }
  bool overflow() const { return overflow_; }

 private:
  const Grammar* grammar_;
  Stacks stacks_;
  std::vector<Configuration> open_, seen_;
  bool overflow_ = false;
};

}  // namespace qw::sampling::grammar
