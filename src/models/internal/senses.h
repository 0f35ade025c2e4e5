// Checkpoints of several senses (pictures, sound): where their language model's numbers stand, and what stands beside it.
#pragma once

#include "base/result.h"
#include "json/value.h"
#include "models/model.h"

namespace qw::models {

// The configuration of the language model: an object of its own (text_config, or that of thinker_config), or the whole.
// What the whole says of ties, and the names of the towers, goes along; model_type becomes the language model's own kind.
Result<json::Object> language_config(const json::Object& config);

// The same of GGUF metadata, whose towers are files of their own: keys are renamed to the language model's kind.
json::Object language_metadata(const json::Object& metadata);

// Tensors of the towers that such a configuration names.
std::vector<ModelTraits::LeftAside> towers_beside(const json::Object& config);

}  // namespace qw::models
