#include "train/internal/teacher.h"

#include "models/load.h"
#include "train/internal/start.h"

namespace qw::train {

Result<std::unique_ptr<Teacher>> Teacher::open(const std::string& path, std::int64_t rows,
                                               kernels::GemmPrecision precision, const kernels::Kernels& kernels,
                                               base::ThreadPool& pool) {
  QW_ASSIGN(auto source, formats::ModelSource::open(path));
  std::unique_ptr<Teacher> teacher(new Teacher(std::move(source)));
  QW_ASSIGN(teacher->model_, models::model_from_source(teacher->source_));
  const models::Model& model = *teacher->model_;
  if (model.traits().head.kind != models::HeadKind::kLanguage)
    return fail(ErrorKind::kBadInput, path + ": is not a language model, so it teaches no tokens");
  QW_ASSIGN(teacher->weights_, models::load_weights(model, teacher->source_));
  teacher->fingerprint_ = fingerprint_of(model, teacher->weights_);
  std::vector<tensor::Shape> shapes;
  for (const auto& parameter : model.parameters()) shapes.push_back(parameter.shape);
  ops::RecordingExecutor recorder(shapes);
  model.forward(recorder);
  ops::TrainingOptions options;
  options.max_tokens = rows;
  options.precision = precision;
  options.forward_only = true;
  options.stored = teacher->weights_;
  teacher->graph_ = std::make_unique<ops::TrainingGraph>(recorder.finish(), shapes, options, kernels, pool);
  teacher->none_ = ops::ParameterBuffer(teacher->graph_->parameter_shapes());
  return teacher;
}

}  // namespace qw::train
