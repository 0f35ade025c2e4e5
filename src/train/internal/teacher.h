// The teacher of a distillation: any model that is served, in the format its files have, run beside the student.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/model_file.h"
#include "models/model.h"
#include "ops/training_graph.h"

namespace qw::train {

class Teacher {
 public:
  // `rows`: of the largest batch. kernels and pool must outlive the teacher. kBadInput when it is no language model.
  static Result<std::unique_ptr<Teacher>> open(const std::string& path, std::int64_t rows,
                                               kernels::GemmPrecision precision, const kernels::Kernels& kernels,
                                               base::ThreadPool& pool);

  Status forward(const ops::TrainingBatch& batch) { return graph_->forward(none_, batch); }
  // After forward: [rows, vocab()].
  void logits(std::span<const std::int32_t> rows, float* out) { graph_->logits(rows, out); }
  std::int64_t vocab() const { return model_->traits().vocab; }
  double take_flops() { return graph_->take_flops(); }
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  explicit Teacher(formats::ModelSource source) : source_(std::move(source)) {}
  formats::ModelSource source_;
  std::unique_ptr<models::Model> model_;
  std::vector<tensor::ConstView> weights_;  // mapped, not copied
  std::string fingerprint_;
  std::unique_ptr<ops::TrainingGraph> graph_;
  ops::ParameterBuffer none_;  // all weights are read from the files
};

}  // namespace qw::train
