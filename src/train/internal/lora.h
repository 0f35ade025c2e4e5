// Low-rank adapters as they are trained: on which weights of a model, their first values, and the PEFT folder they end
// in.
//
// LoRA: Hu et al. (2021), y = W x + s B A x with A [rank, in] drawn from U(-1/sqrt(in), 1/sqrt(in)) and B = 0, so that
// training starts from the base itself. s = alpha / rank; rsLoRA (Kalajdzievski, 2023) alpha / sqrt(rank). DoRA (Liu et
// al., 2024) adds row lengths, which start as those of W. LoRA+ (Hayou et al., 2024): B learns faster than A. PiSSA (Meng
// et al., 2024): A and B start as the largest components A0, B0 of W, and what is changed is W - s B0 A0. Since the base
// stays as it is here, an adapter then has twice the rank: B A in its first half, -B0 A0 in the second, which is not trained.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "formats/model_file.h"
#include "ops/training_graph.h"
#include "train/internal/nf4.h"
#include "train/optimizer.h"
#include "train/trainer.h"

namespace qw::train {

// The base of a run that trains adapters, and what stands on it.
class Lora {
 public:
  // Opens the base (any format that is served). kBadInput: a target that the model has not, or that an adapter as
  // others read it cannot change.
  static Result<std::unique_ptr<Lora>> create(const TrainConfig& config, base::ThreadPool& pool);

  const models::Model& model() const { return *model_; }
  const std::vector<ops::Adapter>& adapters() const { return adapters_; }
  // By parameter of the model, valid as long as this object.
  const std::vector<tensor::ConstView>& base() const { return base_; }
  // Of what the base takes: as its file has it, and made smaller here.
  std::int64_t base_bytes() const;
  // By parameter that an adapter adds (ops::Adapter), in their order.
  const std::vector<tensor::Shape>& shapes() const { return shapes_; }
  const std::vector<std::string>& names() const { return names_; }  // as PEFT has them
  const std::vector<UpdateRule>& rules() const { return rules_; }
  const std::vector<float>& lr_ratios() const { return lr_ratios_; }
  // Changes when the base does: over kind, shape and some rows of every tensor.
  const std::string& fingerprint() const { return fingerprint_; }

  // First values; `weights` is the table of a training graph with these adapters.
  void initialise(ops::ParameterBuffer& weights, const kernels::Kernels& kernels, base::ThreadPool& pool) const;
  // Takes from a step's gradients what is not trained of the adapters.
  void mask(ops::ParameterBuffer& gradients) const;
  // A folder that PEFT loads, and `--adapter` does.
  Status write(const ops::ParameterBuffer& weights, const std::filesystem::path& folder) const;

 private:
  Lora(TrainConfig config, formats::ModelSource source) : config_(std::move(config)), source_(std::move(source)) {}
  Status choose_targets();
  Status make_smaller(base::ThreadPool& pool);
  void add(std::int32_t parameter, const std::string& path);
  std::int64_t whole_rank() const { return config_.lora->rank * (config_.lora->pissa ? 2 : 1); }
  void begin_at_components(const ops::Adapter& adapter, std::size_t p, ops::ParameterBuffer& weights,
                           const kernels::Kernels& kernels, base::ThreadPool& pool) const;
  TrainConfig config_;
  formats::ModelSource source_;
  std::unique_ptr<models::Model> model_;
  std::vector<tensor::ConstView> base_;
  std::vector<std::unique_ptr<Nf4>> smaller_;  // what some of base_ view
  std::vector<ops::Adapter> adapters_;
  std::vector<tensor::Shape> shapes_;
  std::vector<std::string> names_, targets_;  // targets_: the endings of modules' names that were chosen
  std::vector<UpdateRule> rules_;
  std::vector<float> lr_ratios_;
  std::string fingerprint_;
};

// What a recipe says of them, for checkpoints: all that must be equal to go on.
json::Object to_json(const LoraConfig& config);

}  // namespace qw::train
