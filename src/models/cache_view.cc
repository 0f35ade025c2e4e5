#include "models/cache_view.h"

#include "ops/token_index.h"

namespace qw::models {

std::int64_t beside_floats(const ModelTraits& traits, std::int64_t block_tokens) {
  return ops::index_block_floats(traits.index.dim, traits.index.ratio, block_tokens);
}

ops::CacheView cache_view(const kvcache::BlockPool& pool) {
  ops::CacheView view;
  switch (pool.shape().dtype) {
    case tensor::DType::kF16: view.type = kernels::CacheType::kF16; break;
    case tensor::DType::kBF16: view.type = kernels::CacheType::kBF16; break;
    case tensor::DType::kQ8_0: view.type = kernels::CacheType::kQ8; break;
    case tensor::DType::kQ4_0: view.type = kernels::CacheType::kQ4; break;
    default: view.type = kernels::CacheType::kF32; break;  // BlockPool::create admits no other
  }
  view.block_tokens = pool.shape().block_tokens;
  view.block_step = pool.block_step();
  for (std::int32_t layer = 0; layer < pool.shape().layers; ++layer) {
    view.keys.push_back(pool.keys(layer));
    view.values.push_back(pool.values(layer));
    if (pool.shape().beside_floats > 0) view.index.push_back(pool.beside(layer));
  }
  return view;
}

ops::StateView state_view(kvcache::StatePool& pool) { return {pool.data(), pool.slot_floats(), pool.tokens()}; }

}  // namespace qw::models
