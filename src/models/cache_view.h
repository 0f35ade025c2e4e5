// How pools of the kvcache room look to an executor.
#pragma once

#include "kvcache/block_pool.h"
#include "kvcache/state_pool.h"
#include "ops/running_executor.h"

namespace qw::models {

// Valid as long as the pool.
ops::CacheView cache_view(const kvcache::BlockPool& pool);
ops::StateView state_view(kvcache::StatePool& pool);

}  // namespace qw::models
