// The processes that hold one model together, a slice each (ops/slicing.h), in a run with parallel.tensor > 1.
//
// The processes of a run are a table of so many columns: those of a row, neighbours in rank, hold one model together;
// those of a column hold the same slices and share a step's micro-batches (gradient_sum.h). Whatever is not cut is the
// same bytes in the whole row.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "models/model.h"
#include "ops/parameter_buffer.h"
#include "ops/slicing.h"
#include "train/config.h"
#include "train/internal/subgroup.h"

namespace qw::train {

class TensorGroup {
 public:
  // Joins the row of this process. `all` (null: this process is alone) and `pool` must outlive the group. Errors:
  // kUsage where there are not the processes for whole rows.
  static Result<std::unique_ptr<TensorGroup>> create(Communicator* all, int columns, base::ThreadPool& pool);

  Communicator& row() { return row_; }
  Communicator& column() { return column_; }
  // Whether this process, of those with its slices, hands them to rank 0 for files.
  bool tells() const { return column_.rank() == 0; }

  // Cuts the model whose forward pass is `program`, which becomes that of a slice. kUsage, saying why, where a part of
  // it cannot be cut; models that folders hold in another form than this house cannot either.
  Status cut(const models::Model& model, ops::Program& program);
  const std::vector<tensor::Shape>& shapes() const { return own_; }  // of the slices of this process, by parameter
  const tensor::Shape& whole(std::size_t parameter) const { return whole_[parameter]; }
  ops::Cut cut_of(std::size_t parameter) const { return slicing_.cut(parameter); }
  bool cuts(std::size_t parameter) const { return cut_of(parameter) != ops::Cut::kWhole; }

  // For the graph (TrainingOptions::sum_group): sums in the order of ranks. After a failure, status(), it does nothing.
  void sum(std::span<float> numbers);
  // Of gradients of a step of which each process has a part only.
  Status sum_partial(ops::ParameterBuffer& gradients);
  // Of numbers by parameter that belong to a slice, sums over the row; others stay.
  Status add_up_cut(std::span<double> by_parameter);
  const Status& status() const { return status_; }
  double take_seconds() { return std::exchange(seconds_, 0); }  // that sums took since the last call

  // This process's slice of a whole parameter, or of numbers that stand for its numbers.
  void take(std::size_t parameter, const float* whole, float* own) const;
  // The other way round, at rank 0 of the row; elsewhere `whole` stays empty. Called by the whole row.
  Status join(std::size_t parameter, std::span<const float> own, std::vector<std::byte>& whole);

 private:
  TensorGroup(Communicator& all, int columns, base::ThreadPool& pool);
  Status sum_up(std::span<float> numbers);

  base::ThreadPool& pool_;
  Subgroup row_, column_;
  ops::Slicing slicing_;
  std::vector<tensor::Shape> whole_, own_;
  std::vector<float> arrived_;
  Status status_;
  double seconds_ = 0;
};

// How a model whose forward pass is `program` is cut: errors as TensorGroup::cut's.
Result<ops::Slicing> slicing_for(const models::Model& model, const ops::Program& program, int columns);
// What of a recipe does not go together with parallel.tensor > 1: kBadInput, naming it.
Status check_tensor(const TrainConfig& config);

}  // namespace qw::train
