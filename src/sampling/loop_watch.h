// Finds that an output has begun to repeat itself: that its last tokens are the same few, again and again.
//
// Exact repetition of one period, token by token; what counts up or is worded anew each time is none. A token costs one
// comparison for each period that is looked for (256 numbers side by side, some 50 ns), whatever came before, and
// nothing is allocated.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace qw::sampling {

struct LoopLimits {
  std::int32_t longest_period = 256;  // tokens of what is repeated
  std::int32_t copies = 8;            // of it, one behind the other
  // Tokens that all copies have together. Nobody needs a thought eight times; an answer may be a matrix of zeros, a
  // ruler or a poem's refrain, and ending it early is worse than ending it late.
  std::int32_t in_thinking = 256, in_answer = 1024;
};

// One request's. Whoever knows where thinking ends pushes the tokens (thinking_budget.h); whoever ends the request asks
// answer_repeats().
class LoopWatch {
 public:
  explicit LoopWatch(LoopLimits limits = {});
  void push(tokenizer::TokenId id);
  void restart();  // what was pushed is forgotten
  // Tokens at the end that are copies of one period, at least limits.copies of it; 0: they are none.
  std::int32_t repeated() const { return repeated_; }
  const LoopLimits& limits() const { return limits_; }

  void end_answer() { answer_repeats_ = true; }
  bool answer_repeats() const { return answer_repeats_; }

 private:
  LoopLimits limits_;
  std::size_t periods_, at_ = 0;
  std::vector<std::int32_t> tokens_;  // the last `periods_` twice over, so that they always lie in one piece
  std::vector<std::int32_t> run_;     // by place in that piece: how many of the last tokens equal those a period before
  std::vector<std::int32_t> period_;  // by place in that piece
  std::int32_t repeated_ = 0;
  bool answer_repeats_ = false;
};

}  // namespace qw::sampling
