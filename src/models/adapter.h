// Adapters fitted to a model: the changes a running model applies (ops/low_rank.h), and the base with the changes put in.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "formats/adapter.h"
#include "models/model.h"
#include "ops/low_rank.h"
#include "tensor/tensor.h"

namespace qw::models {

// An adapter whose names and shapes were matched with the parameters of a model.
class FittedAdapter {
 public:
  // kBadInput naming the tensor: it belongs to no parameter, or does not fit it; another architecture.
  static Result<FittedAdapter> fit(const Model& model, const formats::Adapter& adapter);

  struct Change {
    std::int32_t parameter = -1;
    bool table = false;                    // the look-up, not the product
    tensor::Tensor a, b;                   // f32, as ops::LowRankChange has them
    std::vector<float> magnitude;          // DoRA; empty: none
    float scale = 1;
  };
  const std::vector<Change>& changes() const { return changes_; }
  // Tensors that take the place of the base's.
  struct Replacement {
    std::int32_t parameter = -1;
    tensor::Tensor value;                  // f32
  };
  const std::vector<Replacement>& replacements() const { return replacements_; }

  // True if a running model can apply all of it beside the base: no replaced tensors, no experts.
  bool applies_while_running(const Model& model) const;
  // What it then applies. `weights`: the base by parameter id, for the row lengths that DoRA needs.
  Result<ops::LowRankAdapter> running(const Model& model, std::span<const tensor::ConstView> weights,
                                      base::ThreadPool& pool) const;
  // True if it treats token table and head of a model that ties them differently: such a base must be untied first.
  bool unties(const Model& model) const;

 private:
  std::vector<Change> changes_;
  std::vector<Replacement> replacements_;
};

// The base with an adapter in its weights. Views (by parameter id) live as long as this object, the base's views and
// the adapter. Changed weights are f32 and made when they are wanted.
class MergedWeights {
 public:
  // kBadInput: a model that ties token table and head and an adapter that treats them differently; see untied().
  static Result<MergedWeights> create(const Model& model, std::span<const tensor::ConstView> base,
                                      const FittedAdapter& adapter);
  const std::vector<tensor::ConstView>& views() const { return views_; }

 private:
  std::vector<tensor::ConstView> views_;
  std::vector<std::unique_ptr<tensor::RowMaker>> makers_;
};

// A model like `model` whose head is a parameter of its own, and `weights` with the token table as its head.
struct Untied {
  std::unique_ptr<Model> model;
  std::vector<tensor::ConstView> weights;
};
Result<Untied> untied(const Model& model, std::span<const tensor::ConstView> weights);

}  // namespace qw::models
