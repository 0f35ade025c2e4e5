// The paged memory of keys and values: a fixed number of equal blocks, handed out to sequences through block tables.
//
// All memory is taken when the pool is made; a step only moves block numbers between the free list and tables, and
// allocates nothing. A block belongs to the free list or to exactly one table (no sharing, so no reference counts);
// `copy_prefix` duplicates a prefix for another sequence. Block b of a layer holds `block_tokens` consecutive tokens;
// the element layout inside a layer's pool is that of kernels::AttentionDecodeArgs:
//   block b, kv head h, slot s  at  ((b * kv_heads + h) * block_tokens + s) * head_dim.
//
// One thread drives a pool. A pool must outlive its tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"

namespace qw::kvcache {

struct CacheShape {
  std::int32_t layers = 0, kv_heads = 0, head_dim = 0;
  std::int32_t block_tokens = 32;             // a power of two
  tensor::DType dtype = tensor::DType::kF32;  // kF32, kF16 or kBF16
};

// Bytes of keys and values one block takes over all layers.
std::int64_t block_bytes(const CacheShape& shape);

// The blocks of one sequence in order: token at position p lives in blocks()[p / block_tokens], slot p % block_tokens.
// Made by BlockPool::make_table; gives its blocks back when destroyed. Move-only.
class BlockPool;
class BlockTable {
 public:
  BlockTable() = default;
  BlockTable(BlockTable&& other) noexcept;
  BlockTable& operator=(BlockTable&& other) noexcept;
  ~BlockTable();
  std::span<const std::int32_t> blocks() const { return blocks_; }
  std::int64_t capacity_tokens() const;  // tokens the held blocks have room for
  std::int64_t max_tokens() const { return max_tokens_; }

 private:
  friend class BlockPool;
  BlockPool* pool_ = nullptr;
  std::int32_t id_ = -1;
  std::int64_t max_tokens_ = 0;
  std::vector<std::int32_t> blocks_;  // reserved for max_tokens_, so growing never allocates
};

// What a pool looked like at one moment; the input of `violation`.
struct PoolSnapshot {
  std::int32_t total_blocks = 0;
  std::vector<std::int32_t> free_blocks;
  struct Table {
    std::int32_t id;
    std::vector<std::int32_t> blocks;
  };
  std::vector<Table> tables;
};

// The first broken rule of a snapshot in words, or "" if it is sound: every block number is in range, and every block
// is either free or in exactly one table, once (so: no leak, no double free, no sharing).
std::string violation(const PoolSnapshot& snapshot);

class BlockPool {
 public:
  // kResource if the memory cannot be had, kUsage if a number of `shape` makes no sense.
  static Result<BlockPool> create(const CacheShape& shape, std::int32_t blocks);
  BlockPool(BlockPool&&) noexcept;  // only while no table is out
  BlockPool& operator=(BlockPool&&) = delete;
  ~BlockPool();  // a bug if a table still holds blocks

  const CacheShape& shape() const { return shape_; }
  std::int32_t total_blocks() const { return total_; }
  std::int32_t free_blocks() const { return static_cast<std::int32_t>(free_.size()); }
  std::int64_t blocks_for(std::int64_t tokens) const;  // ceil(tokens / block_tokens)

  // An empty table that may grow to `max_tokens`. Allocates the table itself; do it when a request arrives.
  BlockTable make_table(std::int64_t max_tokens);
  // Makes room for `tokens` tokens in all (not more): takes blocks from the free list, or fails with kResource and
  // changes nothing. Room already held is kept.
  Status reserve(BlockTable& table, std::int64_t tokens);
  // Gives back the blocks beyond the first `tokens` tokens.
  void truncate(BlockTable& table, std::int64_t tokens);
  void release(BlockTable& table) { truncate(table, 0); }
  // Makes `to` hold copies of the first `tokens` tokens of `from`, in every layer; fails as reserve does.
  Status copy_prefix(const BlockTable& from, std::int64_t tokens, BlockTable& to);

  // Start of a layer's keys / values (all blocks).
  std::byte* keys(std::int32_t layer) const;
  std::byte* values(std::int32_t layer) const;

  // The tables must be all that are out, for the snapshot to be whole.
  PoolSnapshot snapshot(std::span<const BlockTable* const> tables) const;

 private:
  friend class BlockTable;
  BlockPool() = default;
  CacheShape shape_;
  std::int32_t total_ = 0;
  std::int32_t next_table_ = 0, tables_out_ = 0;
  std::size_t layer_bytes_ = 0;      // of keys alone
  std::vector<std::int32_t> free_;   // a stack, capacity total_
  std::vector<std::int32_t> owner_;  // by block: table id, or -1 when free
  tensor::Buffer memory_;            // layer 0 keys, layer 0 values, layer 1 keys, ...
};

}  // namespace qw::kvcache
