// The processes that train one model together, and how they pass numbers to each other. One per process, made by
// whoever starts the training (over MPI: apps/qianwen/ranks.h); a run of one process needs none.
//
// Calls are made by all processes of a run in the same order, and by one thread of each at a time (any thread); exchanges
// may be made by two threads at once if no partner of the one is a partner of the other. They return when this process's
// part is done. Errors: kFailed, naming the call; after one the run cannot go on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace qw::train {

class Communicator {
 public:
  struct Sent {
    int to = 0;
    std::span<const std::byte> bytes;
  };
  struct Received {
    int from = 0;
    std::span<std::byte> bytes;
  };
  struct Range {
    std::int64_t begin = 0, end = 0;
    std::int64_t length() const { return end - begin; }
  };

  virtual ~Communicator() = default;
  virtual int rank() const = 0;  // 0 .. size() - 1; rank 0 writes files and tells what happens
  virtual int size() const = 0;
  virtual int on_host() const = 0;  // processes of the run on this host, this one among them

  // Sends and receives at once; nobody is its own partner. What one process sends another arrives in the order of its
  // list.
  virtual Status exchange(std::span<const Sent> sent, std::span<const Received> received) = 0;
  // Rank r has ranges[r] of `floats` and everyone gets them all. Ranges do not overlap, and may be empty.
  virtual Status gather(float* floats, std::span<const Range> ranges) = 0;
  // values[i] becomes the sum over all processes, the same bits everywhere. The order is not given: exact for whole
  // numbers, and where at most one process has anything but 0.
  virtual Status add_up(std::span<double> values) = 0;
  virtual Status broadcast(std::span<std::byte> bytes) = 0;  // from rank 0
};

// Rank 0's text becomes everyone's.
Status broadcast(Communicator& ranks, std::string& text);
// kUsage, naming the first rank and what it has, unless every process has the same text as rank 0. `what`: e.g.
// "instruction set".
Status check_same(Communicator& ranks, const char* what, const std::string& text);

}  // namespace qw::train
