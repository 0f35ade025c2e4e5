// Work that a thread does after what already lies before it: threads that live by a queue say how, and whoever would
// wake another thread for each of many things wakes it once for all of them.
#pragma once

#include <functional>
#include <vector>

namespace qw::base {

// How this thread puts work behind what it is about to do; empty: it does not. The work must not wait for long.
using PutOff = std::function<void(std::function<void()> work)>;
void put_off_by(PutOff how);
// As long as it lives, this thread puts work off to its end.
class PuttingOff {
 public:
  PuttingOff();
  ~PuttingOff();
  PuttingOff(const PuttingOff&) = delete;
  PuttingOff& operator=(const PuttingOff&) = delete;

 private:
  std::vector<std::function<void()>> work_;
  PutOff before_;
};

// False if this thread puts nothing off: nothing was done with `work`.
bool put_off(std::function<void()> work);

}  // namespace qw::base
