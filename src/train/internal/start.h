// The model a run trains, and the weights it begins with.
#pragma once

#include <cstdint>
#include <memory>

#include "data/packing.h"
#include "models/model.h"
#include "ops/parameter_buffer.h"
#include "train/config.h"
#include "train/internal/tensor_group.h"

namespace qw::train {

inline constexpr std::uint64_t kInitStream = std::uint64_t{1}
                                             << 56;  // + parameter: apart from the streams that shuffle data

// The model of a recipe: its own table, or the config.json of the folder it starts from, with a head of scores where
// the recipe asks for one. Layers that draft are left aside: they would have to be trained anew for what the model
// becomes.
Result<std::unique_ptr<models::Model>> make_model(const TrainConfig& config, const data::Dataset& dataset);
// kBadInput when [grpo] would write longer sequences than the model is made for: its engine takes none. In other methods a
// sequence is many documents, whose positions begin anew.
Status check_length(const TrainConfig& config, const models::Model& model);
// Fresh weights: norms 1, biases 0, the rest N(0, init_std), drawn by (seed, parameter). With a `group` those of this
// process's slices; no more than one whole tensor is held meanwhile.
void initialise(const models::Model& model, std::uint64_t seed, const TensorGroup* group, ops::ParameterBuffer& weights);
// The weights of config.init_from; a head that is not there is fresh. kBadInput when they are quantised.
Status load_weights(const TrainConfig& config, const models::Model& model, const TensorGroup* group,
                    ops::ParameterBuffer& weights);
// Changes when the weights do: over kind, shape and some rows of every tensor.
std::string fingerprint_of(const models::Model& model, const std::vector<tensor::ConstView>& views);
// A model that was trained further is sampled as before unless the recipe says otherwise.
Status inherit_generation(TrainConfig& config);

}  // namespace qw::train
