// Threads for what blocks (the store, files on disk), so that the threads of connections never wait: a preparation of
// one tenant, in order of arrival.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>

#include "api/preparation.h"

namespace qw::api {

class Background {
 public:
  // `most_waiting`: work beyond that is refused; what waits would only be late.
  explicit Background(int threads, std::size_t most_waiting = 1024) : work_(threads, most_waiting) {}

  // False: too much waits, or it was stopped; the work is then dropped, and whatever it holds is let go here.
  bool post(std::function<void()> work) { return work_.post("", std::move(work)); }
  // Returns when what runs has ended; what waits is dropped.
  void stop() { work_.stop(); }

 private:
  Preparation work_;
};

}  // namespace qw::api
