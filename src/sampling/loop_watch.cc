#include "sampling/loop_watch.h"

#include <algorithm>

namespace qw::sampling {

LoopWatch::LoopWatch(LoopLimits limits)
    : limits_(limits),
      periods_(static_cast<std::size_t>(std::max(limits.longest_period, 1))),
      tokens_(2 * periods_, -1),
      run_(periods_),
      period_(periods_) {
  for (std::size_t k = 0; k < periods_; ++k) period_[k] = static_cast<std::int32_t>(periods_ - k);
}

void LoopWatch::restart() {
  std::fill(tokens_.begin(), tokens_.end(), -1);
  std::fill(run_.begin(), run_.end(), 0);
  repeated_ = 0;
}

void LoopWatch::push(tokenizer::TokenId id) {
  const std::int32_t* last = tokens_.data() + at_;  // oldest first
  std::int32_t* run = run_.data();
  const std::int32_t* period = period_.data();
  const std::int32_t copies = limits_.copies - 1;
  std::int32_t most = 0;
  for (std::size_t k = 0; k < periods_; ++k) {
    run[k] = last[k] == id ? run[k] + 1 : 0;
    most = std::max(most, run[k] >= copies * period[k] ? run[k] + period[k] : 0);
  }
  repeated_ = most;
  tokens_[at_] = tokens_[at_ + periods_] = id;
  at_ = at_ + 1 == periods_ ? 0 : at_ + 1;
}

}  // namespace qw::sampling
