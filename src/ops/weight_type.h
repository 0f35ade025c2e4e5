// How the kernels name the formats that weights of a running model may have.
#pragma once

#include <optional>

#include "kernels/kernels.h"
#include "tensor/dtype.h"

namespace qw::ops {

// Nothing where no kernel takes the format. kQ4_Z, which no file has, is opened into kGroups4 (tensor/groups.h); all
// others are packed as their bytes lie in a file.
std::optional<kernels::WeightType> weight_type(tensor::DType type);

}  // namespace qw::ops
