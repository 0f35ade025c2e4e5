// From a model on disk to a Model and its weights, whichever format the files have.
//
//   QW_ASSIGN(auto source, formats::ModelSource::open(path));
//   QW_ASSIGN(auto model, models::model_from_source(source));
//   QW_ASSIGN(auto weights, models::load_weights(*model, source));
//   engine::LoadedModel::create(std::move(model), weights, options);    // source may go afterwards
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/gguf.h"
#include "formats/model_file.h"
#include "models/model.h"
#include "tensor/tensor.h"

namespace qw::models {

// The model the source's configuration describes; of a folder with modules.json (formats/embedding_config.h) the
// embedding model. kBadInput with the path and the key.
Result<std::unique_ptr<Model>> model_from_source(const formats::ModelSource& source);

// The weights by parameter id, viewed in place: valid as long as `source`. kBadInput naming the tensor if one is
// missing, has another shape than the configuration says, or belongs to no parameter: a tensor that is not understood
// means that the model would be computed wrongly. (Left aside are stored tables of rotary frequencies, which follow
// from the configuration, biases of zeros, a second copy of the token table as head of a model that ties them, and the language model's head of one that has
// another.)
Result<std::vector<tensor::ConstView>> load_weights(const Model& model, const formats::ModelSource& source);

// A tensor as a file of one kind has it.
struct FileTensor {
  std::string name;
  tensor::Shape shape;
  tensor::ConstView view;
  bool small = false;          // a norm or bias: float32 whatever the others are
  std::int32_t parameter = 0;  // of the first that stands in it; -1: whole numbers that belong to none, written as they are
};
struct FileTensors {
  std::vector<FileTensor> tensors;
  std::vector<std::unique_ptr<tensor::RowMaker>> makers;  // what views point to
};
// Model::gguf_metadata() with the types that readers elsewhere expect.
formats::GgufMetadata gguf_keys(const Model& model);
// What to write for weights in the form of this house (by parameter id; they must outlive the result). Of GGUF: the parts
// of a stacked tensor one after the other, each in the shape of its parameter. kBadInput naming the tensor: its numbers
// are stored so that they cannot be put in the file's order.
Result<FileTensors> file_tensors(const Model& model, std::span<const tensor::ConstView> views, formats::ModelKind kind);

}  // namespace qw::models
