// What the module over MPI gives the program. The module is a file of its own, opened only when a launcher started
// several processes, so that the program neither needs MPI to be installed nor waits for it to be loaded
// (docs/adr/0009).
#pragma once

#include <cstddef>

#include "train/communicator.h"

namespace qw::app {

// Destroying it leaves the run, and waits for the others to do so too.
class LaunchedRanks : public train::Communicator {
 public:
  virtual void end_all(int code) = 0;  // the processes of the run, this one too, at once
};

// The module's two symbols. Null and a reason in `error` when MPI cannot be started.
using OpenRanks = LaunchedRanks*(char* error, std::size_t size);
inline constexpr const char* kOpenRanks = "qw_open_ranks";
inline constexpr const char* kRanksVersion = "qw_ranks_version";  // const char[]: of the program it was built with

}  // namespace qw::app
