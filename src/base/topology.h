// Which processors this process may run on, and which of them lie close together: read from Linux's /sys.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

namespace qw::base {

struct Processor {
  int id = 0;     // as the system numbers it
  int core = 0;   // processors of one core share its units (SMT); numbered across the machine
  int cache = 0;  // cores that share a last-level cache; numbered across the machine. 0 for all if every core has its
                  // own, as virtual machines often say: such a group would leave its worker nowhere to go
  int node = 0;  // memory (NUMA) node
};

// The processors of `allowed` as `sys` describes them, in its order. What is not told there counts as one cache, one
// node, and a core to each processor, so an unknown system is never worse than no knowledge.
std::vector<Processor> read_topology(std::span<const int> allowed, const std::filesystem::path& sys = "/sys");
// The processors this process may use (its affinity mask), ascending; at least one.
std::vector<int> allowed_processors();

// For worker 0, 1, ... of `threads` the processor that it should run near (more workers than processors begin again).
// Every core gets one before any gets a second; caches are filled one after the other, and so are nodes, so that few
// workers share what they read.
std::vector<Processor> place_workers(std::vector<Processor> processors, int threads);

}  // namespace qw::base
