// Whether the answers of a crowd begin together. Requests that come at once to an engine where nobody answers could
// each begin as soon as its own prompt is read, but then every step of the prompts behind it carries the rows of
// answers, must be short so that these go on evenly, and the last prompt is read at half the speed or less. Reading all
// prompts first, in whole steps, costs the first a later beginning and saves the last about a third of its wait; all
// answers end sooner, and none stands still while others' prompts are read (figures: docs/performance.md).
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

#include "engine/request.h"

namespace qw::engine {

class Gathering {
 public:
  // What there is at the moment, of requests for text.
  struct Crowd {
    std::int64_t answering = 0;  // have a token already
    std::int64_t beginning = 0;  // have none
    std::int64_t unread = 0;     // tokens of the latter's prompts, but the last of each
    bool alike = true;           // of one priority: nobody waits for less urgent ones
  };
  // `limit`: how long a first token may be kept for the sake of the others; `seats`: most that answer at once.
  Gathering(std::chrono::duration<double> limit, std::int64_t seats)
      : limit_(limit), least_(std::max(kFewest, seats / 2)) {}

  // Begins, goes on or ends. `reading`: estimate of how long reading the rest takes; 0: not known.
  void look(const Crowd& crowd, std::chrono::duration<double> reading, Clock::time_point now) {
    const bool wanted = crowd.answering == 0 && crowd.alike && crowd.unread > 0 && crowd.beginning >= least_;
    const std::chrono::duration<double> kept = since_ ? now - *since_ : Clock::duration(0);
    if (!wanted || kept + reading > limit_) {
      since_.reset();
    } else if (!since_) {
      since_ = now;
    }
  }
  bool on() const { return since_.has_value(); }

 private:
  static constexpr std::int64_t kFewest = 4;  // fewer are no crowd: the first would wait, and nobody gain much
  std::chrono::duration<double> limit_;
  std::int64_t least_;
  std::optional<Clock::time_point> since_;
};

}  // namespace qw::engine
