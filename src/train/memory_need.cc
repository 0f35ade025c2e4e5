// What the tables of a run take, from its program and its recipe.
#include "train/estimate.h"
#include "train/internal/lora.h"
#include "train/internal/start.h"
#include "train/internal/state.h"

namespace qw::train {

Result<MemoryNeed> memory_need(const TrainConfig& config, const data::Dataset& dataset, const kernels::Kernels& kernels,
                               base::ThreadPool& pool) {
  std::unique_ptr<Lora> lora;
  std::unique_ptr<models::Model> whole;
  if (config.lora) {
    QW_ASSIGN(lora, Lora::create(config, pool));
  } else {
    QW_ASSIGN(whole, make_model(config, dataset));
  }
  const models::Model& model = lora != nullptr ? lora->model() : *whole;
  QW_TRY(check_length(config, model));
  std::vector<tensor::Shape> shapes;
  for (const auto& parameter : model.parameters()) shapes.push_back(parameter.shape);
  ops::RecordingExecutor recorder(shapes);
  model.forward(recorder);
  ops::Program program = recorder.finish();
  if (config.parallel.tensor > 1) {  // one slice
    const auto columns = static_cast<int>(config.parallel.tensor);
    QW_ASSIGN(const ops::Slicing slicing, slicing_for(model, program, columns));
    program = ops::sliced(program, slicing);
    for (std::size_t p = 0; p < shapes.size(); ++p) shapes[p] = ops::slice_shape(shapes[p], slicing.cut(p), columns);
  }
  ops::TrainingOptions options;
  options.max_tokens = config.sequence_length * config.batch_sequences;
  options.precision =
      config.precision == Precision::kBf16 ? kernels::GemmPrecision::kBF16 : kernels::GemmPrecision::kF32;
  options.recompute = config.recompute;
  options.half_kept = config.half_activations;
  std::vector<UpdateRule> rules = update_rules(model, config.optimizer.kind);
  std::vector<tensor::Shape> trained = shapes;  // as the graph's table has them: nothing of what is stored
  MemoryNeed out;
  if (lora != nullptr) {
    options.adapters = lora->adapters();
    options.frozen.assign(shapes.size(), true);
    options.stored = lora->base();
    rules.assign(shapes.size(), UpdateRule::kFrozen);
    rules.insert(rules.end(), lora->rules().begin(), lora->rules().end());
    for (std::size_t i = 0; i < shapes.size(); ++i)
      if (!options.stored[i].empty()) trained[i] = tensor::Shape{0};
    out.base = lora->base_bytes();
    trained.insert(trained.end(), lora->shapes().begin(), lora->shapes().end());
  }
  const ops::TrainingNeed graph = ops::training_need(program, shapes, options, kernels, pool);
  const OptimizerNeed optimizer = optimizer_need(trained, rules, config.optimizer, options.precision, kernels, pool);
  out.weights = graph.parameters * (config.ema > 0 ? 2 : 1);
  out.gradients = graph.parameters;
  out.moments = optimizer.moments;
  out.activations = graph.activations;
  out.head = graph.head;
  out.workspaces = graph.workspaces;
  out.scratch = optimizer.workspaces;
  return out;
}

}  // namespace qw::train
