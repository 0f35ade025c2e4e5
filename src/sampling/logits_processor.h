// Where a grammar, a watermark or forced tokens enter the choice of the next token. One object serves one request and
// is called by the engine thread only, in this order: prepare, then (apply, accept) for every output token.
#pragma once

#include <cstdint>
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

class LogitsProcessor {
 public:
  virtual ~LogitsProcessor() = default;
  // Before the first token. `vocab` is the width of the logits rows. An error ends the request.
  virtual Status prepare(const History& prompt, std::int64_t vocab) = 0;
  // Changes the logits of the next token in place: -infinity forbids a token. Runs after bias and penalties, before
  // temperature. Must depend on nothing but its own state, `logits` and `history`. An error ends the request.
  virtual Status apply(std::span<float> logits, const History& history) = 0;
  // `id` became the next token. An error ends the request.
  virtual Status accept(tokenizer::TokenId id) = 0;
};

}  // namespace qw::sampling
