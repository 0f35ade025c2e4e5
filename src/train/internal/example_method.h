// What methods share that learn from examples of one kind (pairs, rated answers, classes): where they are read, and the
// batches of a step.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "data/examples.h"
#include "train/internal/method.h"

namespace qw::train {

class ExampleMethod : public Method {
 public:
  Status open(const data::Cursor& at) override;
  data::Cursor cursor() const override { return examples_->cursor(); }
  Status draw() override;
  std::span<const data::PackedBatch> batches() const override { return batches_; }
  MethodSize size() const override;

 protected:
  // `rows`: of the longest example; 0: sequence_length.
  ExampleMethod(const MethodContext& context, data::Holds holds, data::Reading reading, std::int64_t rows = 0);

  // Into the record, of all processes: `sums` has of each batch the sum of losses, of examples judged right, and of
  // margins, and is added up; `count`: examples of the step.
  Status judge(std::vector<double>& sums, double count, StepRecord& record);

  MethodContext c_;
  std::optional<data::ExampleStream> examples_, heldout_;
  std::vector<data::PackedBatch> batches_;
  std::vector<std::vector<std::int64_t>> numbers_;  // which examples stand in each batch

 private:
  Result<data::ExampleStream> stream(const std::vector<data::DatasetSource>& sources, const data::Cursor& at) const;

  data::Holds holds_;
  data::Reading reading_;
  std::int64_t rows_;
};

}  // namespace qw::train
