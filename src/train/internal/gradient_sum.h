// How the processes of a run share a step: who learns from which micro-batches, and how their gradients become one.
//
// Micro-batches are dealt out in parts (ParallelConfig::parts). Within a part gradients add up as they come; parts are
// added in the order of parts.h, so that the sum is the same bytes however many processes there are. The parameter
// table is cut into buckets; a bucket is summed as soon as the last backward of this process is through with it, by a
// thread of its own, while the backward goes on. Of each bucket a process sums one range, for all, and has that range's
// moments (zero = 1, 2).
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ops/training_graph.h"
#include "train/communicator.h"
#include "train/config.h"
#include "train/optimizer.h"

namespace qw::train {

class GradientSum {
 public:
  // `ranks`: the processes that share a step out among them, of `all` processes of the run, which may be more
  // (tensor_group.h). Null: this process is alone. All of them must outlive this object.
  GradientSum(ops::TrainingGraph& graph, const std::vector<UpdateRule>& rules, const ParallelConfig& config,
              Communicator* ranks, Communicator* all, base::ThreadPool& pool);
  ~GradientSum();

  int rank() const;
  int size() const;
  Communicator* ranks() const;     // null: alone
  Communicator* everyone() const;  // of the run; null: alone
  bool leads() const { return everyone() == nullptr || everyone()->rank() == 0; }

  // Makes all gradients 0, for a new step.
  void begin();
  // Calls learn(b) for those of `count` micro-batches that are this process's, in order; each must run one backward.
  // Then the graph's gradients are sums over all of them: everywhere, or (zero > 0) in what is owned().
  Status each(std::size_t count, const std::function<Status(std::size_t batch)>& learn);
  // Whether thing i is this process's, of those that are dealt out one by one: evaluations, forwards without a
  // backward.
  bool mine(std::size_t i) const { return i % static_cast<std::size_t>(size()) == static_cast<std::size_t>(rank()); }
  // Communicator::add_up; alone nothing happens.
  Status add_up(std::span<double> values);
  // Of each parameter the numbers [begin, end) that this process updates; empty: all of them.
  const std::vector<Communicator::Range>& owned() const;
  Communicator::Range owned_by(int rank, std::size_t parameter) const;
  // What others updated of these weights; with zero > 0 only.
  Status gather(ops::ParameterBuffer& weights);
  // Seconds of the last each() in which this process did nothing but wait for sums.
  double waited() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qw::train
