#include "ops/token_index.h"

#include <algorithm>
#include <numeric>

#include "kernels/dot_product.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"

namespace qw::ops {

std::int64_t index_block_floats(std::int64_t dim, std::int64_t ratio, std::int64_t block_tokens) {
  return ratio == 0 ? 0 : (block_tokens + ceil_div(block_tokens, ratio)) * dim;
}

std::int64_t index_workspace_bytes(const IndexSpec& spec, std::int64_t head_dim, std::int64_t rows, int workers) {
  if (spec.ratio == 0) return 0;
  const std::int64_t seen = spec.all_seen() + kMaxIndexedBlock;
  const std::int64_t floats = rows * (spec.rope.rotary + spec.dim + 4) + (workers + 1) * kIndexScores + 2 * workers * seen * head_dim;
  return floats * std::int64_t{sizeof(float)} + rows * spec.blocks * std::int64_t{sizeof(std::int32_t)} +
         workers * (spec.blocks + 1) * static_cast<std::int64_t>(sizeof(kernels::CacheRun));
}

float* IndexedCache::token(std::int64_t position) const {
  const std::int32_t b = blocks[static_cast<std::size_t>(position / block_tokens)];
  return data + b * index_block_floats(dim, ratio, block_tokens) + position % block_tokens * dim;
}

// A block of the cache that others share must not change: so a key stands where the token stands that completes it.
float* IndexedCache::block(std::int64_t number) const {
  const std::int64_t at = ((number + 1) * ratio - 1) / block_tokens, earlier = at * block_tokens / ratio;
  const std::int32_t b = blocks[static_cast<std::size_t>(at)];
  return data + b * index_block_floats(dim, ratio, block_tokens) + (block_tokens + number - earlier) * dim;
}

void index_keys(const Machine& m, const IndexSpec& spec, const float* norm, const float* cos, const float* sin, std::int64_t n, float* means) {
  rms_norm_forward(m, means, norm, spec.eps, n, spec.dim, means, nullptr);
  rope_forward(m, spec.rope, cos, sin, n, spec.dim, means);
}

float index_score(const IndexSpec& spec, const float* q, const float* key) {
  float score = 0;
  for (std::int32_t h = 0; h < spec.heads; ++h, q += spec.dim) score += std::max(kernels::dot_product(q, key, spec.dim), 0.0f);
  return score;
}

void best_blocks(const float* scores, std::int64_t n, std::int64_t most, std::int32_t* order, std::int32_t* chosen) {
  std::iota(order, order + n, 0);
  // A score that is not a number is as good as none: comparisons must stay an order.
  const auto worth = [&](std::int32_t b) { return scores[b] > 0 ? scores[b] : 0.0f; };
  const auto better = [&](std::int32_t a, std::int32_t b) { return worth(a) > worth(b); };
  constexpr std::int64_t kFew = 64;
  if (most * kFew <= n) std::partial_sort(order, order + most, order + n, better);
  else std::nth_element(order, order + most - 1, order + n, better);
  std::copy(order, order + most, chosen);
  std::sort(chosen, chosen + most);
}

std::int64_t visible_runs(const IndexSpec& spec, const std::int32_t* chosen, std::int64_t tokens, kernels::CacheRun* runs) {
  std::int64_t n = 0;
  const auto see = [&](std::int64_t begin, std::int64_t count) {
    if (n > 0 && runs[n - 1].begin + runs[n - 1].tokens == begin) runs[n - 1].tokens += count;
    else runs[n++] = {begin, count};
  };
  for (std::int32_t i = 0; i < spec.blocks; ++i) see(std::int64_t{chosen[i]} * spec.ratio, spec.ratio);
  if (const std::int64_t tail = tokens % spec.ratio; tail > 0) see(tokens - tail, tail);
  return n;
}

}  // namespace qw::ops
