// Some of a run's processes as a run of their own, and all calls made of exchanges alone.
#pragma once

#include <vector>

#include "train/communicator.h"

namespace qw::train {

// The other calls by way of exchange(): each process with each.
class OverExchange : public Communicator {
 public:
  Status gather(float* floats, std::span<const Range> ranges) override;
  Status add_up(std::span<double> values) override;  // in the order of ranks
  Status broadcast(std::span<std::byte> bytes) override;
};

// `members`: ranks of `all`, ascending, this process's among them; its place there is its rank here. `all` must outlive
// it. Its exchanges may run beside those of another subgroup that has no other member in common.
class Subgroup final : public OverExchange {
 public:
  Subgroup(Communicator& all, std::vector<int> members);
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  int on_host() const override { return all_.on_host() < size() ? all_.on_host() : size(); }  // at most
  Status exchange(std::span<const Sent> sent, std::span<const Received> received) override;

 private:
  Communicator& all_;
  std::vector<int> members_;
  int rank_ = 0;
};

}  // namespace qw::train
