#include "train/internal/example_method.h"

#include <utility>

namespace qw::train {

ExampleMethod::ExampleMethod(const MethodContext& context, data::Holds holds, data::Reading reading,
                             std::int64_t rows)
    : c_(context), holds_(holds), reading_(reading), rows_(rows > 0 ? rows : context.config.sequence_length) {
  batches_.resize(static_cast<std::size_t>(c_.config.accumulation));
  numbers_.resize(batches_.size());
}

Result<data::ExampleStream> ExampleMethod::stream(const std::vector<data::DatasetSource>& sources,
                                                  const data::Cursor& at) const {
  return data::ExampleStream::create(sources, holds_, reading_, rows_, c_.config.seed, at);
}

Status ExampleMethod::judge(std::vector<double>& sums, double count, StepRecord& record) {
  QW_TRY(c_.share.add_up(sums));
  double right = 0, margin = 0;
  for (std::size_t i = 0; i < sums.size(); i += 3) {
    record.loss += sums[i] / count;
    right += sums[i + 1];
    margin += sums[i + 2];
  }
  record.accuracy = right / count;
  record.margin = margin / count;
  return {};
}

Status ExampleMethod::open(const data::Cursor& at) {
  QW_ASSIGN(auto opened, stream(c_.dataset.train, at));
  examples_.emplace(std::move(opened));
  if (c_.dataset.heldout.empty() || heldout_) return {};
  QW_ASSIGN(auto heldout, stream(c_.dataset.heldout, {}));
  heldout_.emplace(std::move(heldout));
  return {};
}

Status ExampleMethod::draw() {
  for (std::size_t i = 0; i < batches_.size(); ++i)
    examples_->next(c_.config.batch_sequences, batches_[i], numbers_[i]);
  return {};
}

MethodSize ExampleMethod::size() const {
  return {examples_->examples_in_epoch(), examples_->rows(),
          examples_->left_out() + (heldout_ ? heldout_->left_out() : 0)};
}

}  // namespace qw::train
