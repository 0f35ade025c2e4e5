// Which tokens attention sees where an index chooses them (the sparse attention of the Qwen3.8-Flash-Next release).
//
// A sequence is cut into blocks of `ratio` tokens from its first on. A block's key is the mean of its tokens' keys, normalised
// and turned to the position of its first token. The row at position p sees, of the blocks that are complete up to it, the
// `blocks` that score highest, and the tokens behind the last of them:
//   score = sum over heads of max(q_head . key, 0)     (the release divides by sqrt(dim), which changes no order)
// Blocks that no head finds score 0, all of them; which of equals are taken is settled as PyTorch's topk on CPUs does it. Up to IndexSpec::all_seen() tokens a row sees everything.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "ops/executor.h"
#include "ops/machine.h"

namespace qw::ops {

// What a running executor takes beside its values to choose for steps of `rows` rows: bytes, for contexts that are not very long.
std::int64_t index_workspace_bytes(const IndexSpec& spec, std::int64_t head_dim, std::int64_t rows, int workers);
// Scores that are held at once, of as many rows as they are enough for; a longer context makes room for more.
inline constexpr std::int64_t kIndexScores = std::int64_t{1} << 16;
// Most tokens of a block of the cache under an index.
inline constexpr std::int64_t kMaxIndexedBlock = 1024;

// A layer's part of a block of the cache holds the keys [block_tokens, dim] of its tokens, then the keys of the index's blocks
// whose last token it holds, [ceil(block_tokens / ratio), dim].
std::int64_t index_block_floats(std::int64_t dim, std::int64_t ratio, std::int64_t block_tokens);

struct IndexedCache {
  float* data = nullptr;                       // of a layer, all blocks
  std::int64_t dim = 0, ratio = 0, block_tokens = 0;
  std::span<const std::int32_t> blocks = {};   // of one sequence, in order
  float* token(std::int64_t position) const;
  float* block(std::int64_t number) const;     // key of an index's block
};

// Turns means of tokens' keys [n, dim] into blocks' keys, in place; cos and sin [n, rotary / 2] are those of their positions.
void index_keys(const Machine& m, const IndexSpec& spec, const float* norm, const float* cos, const float* sin, std::int64_t n, float* means);

// The score of one row's queries [heads, dim] against a block's key.
float index_score(const IndexSpec& spec, const float* q, const float* key);

// The best `most` of n scores, n > most: their numbers in ascending order. `order` is scratch of n. Of equal ones those that the
// standard library's selection leaves in front, which is the reference's: the same two algorithms, chosen between at the same size.
void best_blocks(const float* scores, std::int64_t n, std::int64_t most, std::int32_t* order, std::int32_t* chosen);

// What a row that sees `tokens` tokens up to itself sees of them by `chosen` blocks; neighbours are one run. Returns the number of
// runs, at most as many as blocks are chosen and one.
std::int64_t visible_runs(const IndexSpec& spec, const std::int32_t* chosen, std::int64_t tokens, kernels::CacheRun* runs);

}  // namespace qw::ops
