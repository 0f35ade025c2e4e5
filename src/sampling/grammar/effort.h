// What it may cost to make one grammar. Counted in steps of about a nanosecond rather than by a clock: what is refused
// is refused on every machine, and whatever else runs there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <utility>

#include "base/result.h"

namespace qw::sampling::grammar {

// Asked now and then from the thread that compiles: true once nobody waits for the grammar any more.
using GivenUp = std::function<bool()>;

class Effort {
 public:
  // About two seconds of a processor: a list of a million values that fits into the states is read in one.
  static constexpr std::size_t kMost = std::size_t{1} << 31;

  explicit Effort(GivenUp given_up = {}, std::size_t most = kMost) : given_up_(std::move(given_up)), left_(most) {}

  // False from the moment on at which more is spent than there was, or nobody waits any more.
  bool spend(std::size_t steps) {
    if (steps > left_) left_ = 0;
    if (left_ == 0) return false;
    left_ -= steps;
    until_pause_ -= std::min(steps, until_pause_);
    since_look_ += steps;
    if (since_look_ < kLook || !given_up_) return left_ > 0;
    since_look_ = 0;
    if (given_up_()) {
      left_ = 0;
      abandoned_ = true;
    }
    return left_ > 0;
  }
  // As spend, of what was worked out before: it counts like the first time, but takes no time.
  bool account(std::size_t steps) {
    left_ -= std::min(steps, left_);
    return left_ > 0;
  }
  // Work that may be left in the middle is to be left (`due`) once about so many more steps were spent.
  void pause_after(std::size_t steps) { until_pause_ = steps; }
  bool due() const { return until_pause_ == 0; }
  bool spent() const { return left_ == 0; }
  std::size_t left() const { return left_; }
  // kInterrupted if nobody waits; kBadInput if it was too much.
  tl::unexpected<Error> error() const {
    if (abandoned_) return fail(ErrorKind::kInterrupted, "nobody waits for the grammar any more");
    return fail(ErrorKind::kBadInput, "it would take too long to make a grammar of this (more than some two seconds)");
  }

 private:
  static constexpr std::size_t kLook = std::size_t{1} << 22;  // some milliseconds
  GivenUp given_up_;
  std::size_t left_, since_look_ = 0, until_pause_ = std::numeric_limits<std::size_t>::max();
  bool abandoned_ = false;
};

}  // namespace qw::sampling::grammar
