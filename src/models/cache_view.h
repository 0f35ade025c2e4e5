// How a pool of the kvcache room looks to an executor.
#pragma once

#include "kvcache/block_pool.h"
#include "ops/running_executor.h"

namespace qw::models {

// Valid as long as the pool.
ops::CacheView cache_view(const kvcache::BlockPool& pool);

}  // namespace qw::models
