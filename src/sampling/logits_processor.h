// Where a grammar, a watermark or forced tokens enter the choice of the next token. One object serves one request and
// is called by the engine thread only, in this order: prepare, then (apply, accept) for every output token.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace qw::sampling {

// The tokens a request has so far. Valid during the call only.
struct History {
  std::span<const tokenizer::TokenId> tokens;   // prompt, then output
  std::int64_t prompt_tokens = 0;
  std::span<const tokenizer::TokenId> output() const {
    return tokens.subspan(static_cast<std::size_t>(prompt_tokens));
  }
};

// A token that may be drawn, and how likely beside the others: exp((logit - max) / temperature).
struct Candidate {
  float logit = 0;
  tokenizer::TokenId id = 0;
  double weight = 0;
};

class LogitsProcessor {
 public:
  virtual ~LogitsProcessor() = default;
  // Before the first token. `vocab` is the width of the logits rows. An error ends the request.
  virtual Status prepare(const History& prompt, std::int64_t vocab) = 0;
  // Whether it ever has something to work out ahead: what never does is not asked before each step. Never changes.
  virtual bool works_ahead() const { return false; }
  // Does of what the next apply needs about `steps` (of some nanoseconds each) at most; true once the rest is little. May be
  // called any number of times, also not at all, between accept and apply: what apply gives does not depend on it.
  virtual bool work_ahead(std::size_t /*steps*/) { return true; }
  // Changes the logits of the next token in place: -infinity forbids a token. Runs after bias and penalties, before
  // temperature. Must depend on nothing but its own state, `logits` and `history`. An error ends the request.
  virtual Status apply(std::span<float> logits, const History& history) = 0;
  // Takes part in the draw itself, among what temperature, top-k, top-p and min-p left (by ascending id; at least two):
  // changes weights, or names the place of the token to take. Not called where the most likely token is taken anyway.
  // `guessed`: tokens that are thought to come between `history` and this one; none when the draw counts. What it does
  // must depend on nothing but its own state and these, and change no state that later draws depend on.
  virtual std::optional<std::size_t> draw(std::span<Candidate> candidates, const History& history,
                                          std::span<const tokenizer::TokenId> guessed) {
    (void)candidates, (void)history, (void)guessed;
    return std::nullopt;
  }
  // `id` became the next token. An error ends the request.
  virtual Status accept(tokenizer::TokenId id) = 0;
};

}  // namespace qw::sampling
