// What the service tells of a loaded model.
#pragma once

#include <span>

#include "api/model_facts.h"
#include "engine/loaded_model.h"
#include "open_model.h"

namespace qw::app {

// Of an opened model with these weights. The fingerprint is of the weights (their names, formats and first bytes), the
// program's version, the instruction set, and the format of keys and values.
api::ModelFacts facts_of(const OpenedModel& opened, std::span<const tensor::ConstView> weights,
                         const engine::LoadOptions& options);

}  // namespace qw::app
