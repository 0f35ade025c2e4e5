// From a model on disk to a Model and its weights, whichever format the files have.
//
//   QW_ASSIGN(auto source, formats::ModelSource::open(path));
//   QW_ASSIGN(auto model, models::model_from_source(source));
//   QW_ASSIGN(auto weights, models::load_weights(*model, source));
//   engine::LoadedModel::create(std::move(model), weights, options);    // source may go afterwards
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
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

}  // namespace qw::models
