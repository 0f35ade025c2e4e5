// The processes that a launcher (mpirun, srun) started this one among.
#pragma once

#include <memory>

#include "mpi/launched_ranks.h"

namespace qw::app {

// As the launcher's variables say; {0, 1} when nobody set any.
struct Launched {
  int rank = 0, size = 1;
};
Launched launched();

// Joins the others; null when this process is alone. kUsage when there are others and MPI cannot be used: copies of a
// run that know nothing of each other would write over each other's files.
Result<std::unique_ptr<LaunchedRanks>> open_ranks();

// Threads of this process, if the recipe leaves it open: its share of the host's processors, unless the launcher has
// bound it to some already.
int threads_each(const train::Communicator& ranks);

// Tells an error once for all processes and ends them: rank 0 tells it at once; another waits for rank 0 to have had
// the same before it does. Returns the exit code where nobody is left to end.
int report_for_all(LaunchedRanks* ranks, const Error& error);

}  // namespace qw::app
