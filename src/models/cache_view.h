// How pools of the kvcache room look to an executor.
#pragma once

#include "kvcache/block_pool.h"
#include "kvcache/state_pool.h"
#include "models/model.h"
#include "ops/running_executor.h"

namespace qw::models {

// Floats of a block that the model keeps beside keys and values (CacheShape::beside_floats).
std::int64_t beside_floats(const ModelTraits& traits, std::int64_t block_tokens);

// Valid as long as the pool.
ops::CacheView cache_view(const kvcache::BlockPool& pool);
ops::StateView state_view(kvcache::StatePool& pool);

}  // namespace qw::models
