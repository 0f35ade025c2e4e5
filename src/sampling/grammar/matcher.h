// Follows one output through a grammar, token by token.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "sampling/grammar/runner.h"
#include "sampling/grammar/token_classes.h"

namespace qw::sampling::grammar {

// One thread at a time; copies are independent. Memory grows with the output: some tens of bytes a token.
class Matcher {
 public:
  explicit Matcher(std::shared_ptr<const TokenClasses> classes);

  // Reads text on: false, and nothing changed, if the grammar does not allow it. One call is one step of roll_back.
  bool accept(std::string_view bytes);
  // Takes back the last `steps` calls of accept.
  void roll_back(std::size_t steps);
  std::size_t steps() const { return past_.size() - 1; }

  // What finding the tokens that may come next may cost: some 70 ms, which is a dozen texts of bounded length at once
  // over a large vocabulary.
  static constexpr std::size_t kMostMask = std::size_t{1} << 26;

  // Adds the tokens that may come next. `out` is made for table().vocab() tokens. False if it is too much: so many ways
  // are open.
  bool allowed(TokenSet& out) {
    return search(out)->run(std::numeric_limits<std::size_t>::max()) == TokenClasses::Search::State::kDone;
  }
  // The same, to be done a piece at a time, before the next accept or roll_back.
  std::unique_ptr<TokenClasses::Search> search(TokenSet& out) {
    return std::make_unique<TokenClasses::Search>(*classes_, past_.back(), runner_, out, kMostMask);
  }
  bool may_end() const { return past_.back().ended; }
  bool must_end() const { return past_.back().items.empty(); }  // nothing can be read on
  // The grammar is so ambiguous, or nested so deep, that it can not be followed any more.
  bool overflow() const { return runner_.overflow(); }

 private:
  std::shared_ptr<const TokenClasses> classes_;
  Runner runner_;
  std::vector<Configurations> past_;  // after each step; the first is the start
  Configurations scratch_;
};

}  // namespace qw::sampling::grammar
