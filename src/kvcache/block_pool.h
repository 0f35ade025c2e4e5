// The paged memory of keys and values: a fixed number of equal blocks, handed out to sequences through block tables.
//
// All memory is taken when the pool is made; a step only moves block numbers between the free list and tables, and
// allocates nothing. Block b of a layer holds `block_tokens` consecutive tokens, in the order that the instruction set in
// use wants (kernels::AttentionDecodeArgs): whole blocks may be copied, parts of them not.
//
// A block is free, or in one table, or kept. Kept blocks are those that a BlockKeeper (prefix_cache.h) knows the
// contents of: any number of tables may hold one (the pool counts them), and with none it is idle. Idle blocks count
// as free: when the free list is empty, the keeper gives one up. Whoever shares a block must not write to it;
// `make_own` puts a copy in its place first.
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
  tensor::DType dtype = tensor::DType::kF32;  // kF32, kF16 or kBF16; kQ8_0 or kQ4_0: head_dim and block_tokens in 32s
  std::int64_t beside_floats = 0;             // of a block in a layer, beside its keys and values: whatever goes with them
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

// Decides what becomes of contents that may be wanted again. Called by the pool within its own methods: must not call
// them back.
class BlockKeeper {
 public:
  virtual ~BlockKeeper() = default;
  virtual void on_idle(std::int32_t block) = 0;   // the last table let go of a kept block
  virtual void on_busy(std::int32_t block) = 0;   // an idle one is in a table again
  virtual std::int32_t give_up() = 0;             // forgets one idle block (there is one) and names it
};

// What a pool looked like at one moment; the input of `violation`.
struct PoolSnapshot {
  std::int32_t total_blocks = 0;
  std::vector<std::int32_t> free_blocks;  // the free list: without the idle
  struct Table {
    std::int32_t id;
    std::vector<std::int32_t> blocks;
  };
  std::vector<Table> tables;
  std::vector<std::int32_t> kept = {};
  std::vector<std::int32_t> counts = {};  // by block: in how many tables the pool believes it is; empty: not looked at
};

// The first broken rule of a snapshot in words, or "" if it is sound: every block number is in range, and every block
// is either on the free list, or kept, or in exactly one table, once; kept ones may be in several tables, once in each
// (so: no leak, no double free, no sharing of what may be written to), and the counts are right.
std::string violation(const PoolSnapshot& snapshot);

class PageAhead;

class BlockPool {
 public:
  // kResource if the memory cannot be had, kUsage if a number of `shape` makes no sense.
  static Result<BlockPool> create(const CacheShape& shape, std::int32_t blocks);
  BlockPool(BlockPool&&) noexcept;  // only while no table is out
  BlockPool& operator=(BlockPool&&) = delete;
  ~BlockPool();  // a bug if a table still holds blocks

  const CacheShape& shape() const { return shape_; }
  std::int32_t total_blocks() const { return total_; }
  std::int32_t free_blocks() const { return static_cast<std::int32_t>(free_.size()) + idle_; }  // idle ones included
  std::int32_t idle_blocks() const { return idle_; }
  std::int32_t shared_blocks() const { return shared_; }  // in more than one table
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

  // ---- for whoever keeps contents (one at most) ----
  void set_keeper(BlockKeeper* keeper);            // null: nobody; no block may be kept then
  void keep(std::int32_t block);                   // of a block in a table, and not kept yet
  void forget(std::int32_t block);                 // the opposite; frees it if it is idle
  bool kept(std::int32_t block) const { return kept_[static_cast<std::size_t>(block)]; }
  std::int32_t tables_of(std::int32_t block) const { return counts_[static_cast<std::size_t>(block)]; }
  // Appends a kept block to a table that has room for it.
  void share(BlockTable& table, std::int32_t block);
  // Puts a kept block with the same contents where `table` has one of its own.
  void replace(BlockTable& table, std::size_t index, std::int32_t block);
  // Puts a copy in the place of a shared block, so that it may be written to. kResource if no block is free.
  Status make_own(BlockTable& table, std::size_t index);
  // Blocks that nobody else holds: what releasing this table would free.
  std::int64_t own_blocks(const BlockTable& table) const;

  // Start of a layer's keys / values in a block. Those of one block in all layers lie together, keys and values by turns, so that
  // memory is touched as blocks are used: a layer's next block is block_step() times the bytes of its keys further on.
  std::byte* keys(std::int32_t layer, std::int32_t block = 0) const;
  std::byte* values(std::int32_t layer, std::int32_t block = 0) const;
  std::int32_t block_step() const { return 2 * shape_.layers; }
  float* beside(std::int32_t layer) const;  // [blocks, beside_floats]

  // Has the system give the memory of blocks [begin, end) of every layer, changing nothing in it; false if it cannot be
  // asked. On any thread, whatever the others do with the pool.
  bool touch(std::int32_t begin, std::int32_t end) const;

  // The tables must be all that are out, for the snapshot to be whole.
  PoolSnapshot snapshot(std::span<const BlockTable* const> tables) const;

 private:
  friend class BlockTable;
  friend class PageAhead;
  BlockPool() = default;
  std::int32_t take();
  void hold(std::int32_t block);
  void let_go(std::int32_t block);
  void copy_block(std::int32_t from, std::int32_t to);
  std::size_t half_bytes() const;  // of one block's keys (or values) in one layer
  CacheShape shape_;
  std::int32_t total_ = 0;
  std::int32_t next_table_ = 0, tables_out_ = 0;
  std::vector<std::int32_t> free_;   // a stack, capacity total_
  std::vector<std::int32_t> counts_;  // by block: in how many tables
  std::vector<bool> kept_;            // by block
  std::int32_t idle_ = 0, shared_ = 0;
  BlockKeeper* keeper_ = nullptr;
  PageAhead* ahead_ = nullptr;       // is told what is taken
  tensor::Buffer memory_;            // block 0: layer 0 keys, layer 0 values, layer 1 keys, ...; block 1: ...
  tensor::Buffer beside_;            // by layer
};

}  // namespace qw::kvcache
