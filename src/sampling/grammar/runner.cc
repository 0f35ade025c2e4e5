#include "sampling/grammar/runner.h"

#include <algorithm>

namespace qw::sampling::grammar {

Stacks::Id Stacks::push(Id below, State back) {
  const std::uint64_t key =
      (static_cast<std::uint64_t>(static_cast<std::uint32_t>(below)) << 32) | static_cast<std::uint32_t>(back);
  const auto [it, fresh] = known_.try_emplace(key, static_cast<Id>(nodes_.size()));
  if (fresh) nodes_.push_back({below, back});
  return it->second;
}

void Stacks::clear() {
  nodes_.clear();
  known_.clear();
}

void Runner::enter(State state, Stacks::Id stack, Configurations& to) {
  // Left recursion was refused, so a configuration that comes again through its own calls has a longer stack only if
  // bytes were read: this ends.
  open_.assign(1, {state, stack});
  seen_.clear();
  while (!open_.empty()) {
    const Configuration c = open_.back();
    open_.pop_back();
    if (std::find(seen_.begin(), seen_.end(), c) != seen_.end()) continue;
    seen_.push_back(c);
    if (to.items.size() >= kMaxConfigurations || seen_.size() >= kMaxConfigurations ||
        stacks_.size() >= kMaxStackNodes) {
      overflow_ = true;
      return;
    }
    if (!grammar_->edges(c.state).empty() && std::find(to.items.begin(), to.items.end(), c) == to.items.end())
      to.items.push_back(c);
    if (grammar_->accepting(c.state)) {
      if (c.stack == Stacks::kBottom) {
        to.ended = true;
      } else if (c.stack == Stacks::kUnknown) {
        to.escaped = true;
      } else {
        open_.push_back({stacks_.back(c.stack), stacks_.below(c.stack)});
      }
    }
    for (const Grammar::Call& call : grammar_->calls(c.state))
      open_.push_back({call.start, call.tail ? c.stack : stacks_.push(c.stack, call.back)});
  }
}

void Runner::step(const Configurations& from, std::uint8_t byte, Configurations& to) {
  to.clear();
  for (const Configuration& c : from.items) {
    for (const Grammar::Edge& e : grammar_->edges(c.state)) {
      if (e.first > byte) break;  // in ascending order
      if (byte <= e.last) enter(e.target, c.stack, to);
    }
  }
}

}  // namespace qw::sampling::grammar
