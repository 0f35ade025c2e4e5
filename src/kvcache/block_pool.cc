#include "kvcache/block_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "kvcache/page_ahead.h"

namespace qw::kvcache {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Bytes of one block of keys (or values) in one layer.
std::int64_t half_block_bytes(const CacheShape& s) {
  return tensor::row_bytes(s.dtype, std::int64_t{s.kv_heads} * s.block_tokens * s.head_dim);
}

}  // namespace

std::int64_t block_bytes(const CacheShape& shape) {
  return shape.layers * (2 * half_block_bytes(shape) + shape.beside_floats * std::int64_t{sizeof(float)});
}

BlockTable::BlockTable(BlockTable&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
      id_(std::exchange(other.id_, -1)),
      max_tokens_(std::exchange(other.max_tokens_, 0)),
      blocks_(std::move(other.blocks_)) {}

BlockTable& BlockTable::operator=(BlockTable&& other) noexcept {
  // `taken` gives this table's old blocks back when it goes.
  BlockTable taken(std::move(other));
  std::swap(pool_, taken.pool_);
  std::swap(id_, taken.id_);
  std::swap(max_tokens_, taken.max_tokens_);
  std::swap(blocks_, taken.blocks_);
  return *this;
}

BlockTable::~BlockTable() {
  if (pool_ == nullptr) return;
  pool_->release(*this);
  --pool_->tables_out_;
}

std::int64_t BlockTable::capacity_tokens() const {
  return pool_ == nullptr ? 0 : static_cast<std::int64_t>(blocks_.size()) * pool_->shape_.block_tokens;
}

std::string violation(const PoolSnapshot& snapshot) {
  if (snapshot.total_blocks < 0) return "negative number of blocks";
  const auto total = static_cast<std::size_t>(snapshot.total_blocks);
  std::vector<std::string> holder(total);  // the last that claimed it
  std::vector<std::int32_t> count(total, 0);
  std::vector<bool> kept(total, false);
  std::string broken;
  const auto exists = [&](std::int32_t block, const std::string& name) {
    if (block >= 0 && block < snapshot.total_blocks) return true;
    if (broken.empty()) broken = name + " holds block " + std::to_string(block) + ", which does not exist";
    return false;
  };
  for (std::int32_t b : snapshot.kept)
    if (exists(b, "the keeper")) kept[static_cast<std::size_t>(b)] = true;
  const auto claim = [&](std::int32_t block, const std::string& name, bool shares) {
    if (!exists(block, name)) return;
    std::string& other = holder[static_cast<std::size_t>(block)];
    const bool taken = !other.empty() && !(shares && kept[static_cast<std::size_t>(block)] && other != name);
    if (broken.empty() && taken) broken = "block " + std::to_string(block) + " is held by " + name + " and by " + other;
    other = name;
  };
  for (std::int32_t b : snapshot.free_blocks) {
    claim(b, "the free list", false);
    if (broken.empty() && kept[static_cast<std::size_t>(b)])
      broken = "block " + std::to_string(b) + " is kept and free";
  }
  for (const auto& table : snapshot.tables)
    for (std::int32_t b : table.blocks) {
      claim(b, "table " + std::to_string(table.id), true);
      if (broken.empty()) ++count[static_cast<std::size_t>(b)];
    }
  if (!broken.empty()) return broken;
  for (std::size_t b = 0; b < total; ++b) {
    if (holder[b].empty() && !kept[b]) return "block " + std::to_string(b) + " is lost";
    if (!snapshot.counts.empty() && snapshot.counts[b] != count[b])
      return "block " + std::to_string(b) + " is counted in " + std::to_string(snapshot.counts[b]) + " tables, not " +
             std::to_string(count[b]);
  }
  return "";
}

Result<BlockPool> BlockPool::create(const CacheShape& shape, std::int32_t blocks) {
  if (shape.layers <= 0 || shape.kv_heads <= 0 || shape.head_dim <= 0 || blocks <= 0)
    return fail(ErrorKind::kUsage, "cache: layers, heads, head width and blocks must be positive");
  if (shape.block_tokens <= 0 || !std::has_single_bit(static_cast<std::uint32_t>(shape.block_tokens)))
    return fail(ErrorKind::kUsage, "cache: tokens per block must be a power of two");
  const bool plain = shape.dtype == tensor::DType::kF32 || shape.dtype == tensor::DType::kF16 || shape.dtype == tensor::DType::kBF16;
  const bool scaled = shape.dtype == tensor::DType::kQ8_0 || shape.dtype == tensor::DType::kQ4_0;
  if (!plain && !scaled)
    return fail(ErrorKind::kUsage,
                "cache: elements must be f32, f16, bf16, q8_0 or q4_0, not " + std::string(tensor::name(shape.dtype)));
  if (scaled && (shape.head_dim % 32 != 0 || shape.block_tokens % 32 != 0))
    return fail(ErrorKind::kUsage, "cache: " + std::string(tensor::name(shape.dtype)) +
                                       " needs heads and blocks of a multiple of 32, not " + std::to_string(shape.head_dim) +
                                       " and " + std::to_string(shape.block_tokens));
  const std::int64_t dims[] = {2, shape.layers, blocks, shape.kv_heads, shape.block_tokens, shape.head_dim, 4};
  QW_TRY(tensor::checked_elements(dims).transform([](std::int64_t) {}));
  // Kernels count all layers' halves of blocks in 32 bits (CacheView::block_step).
  if (blocks > std::numeric_limits<std::int32_t>::max() / 2 / shape.layers)
    return fail(ErrorKind::kUsage, "cache: " + std::to_string(blocks) + " blocks are too many for " + std::to_string(shape.layers) + " layers");
  const std::int64_t beside[] = {shape.layers, blocks, shape.beside_floats, 4};
  QW_TRY(tensor::checked_elements(beside).transform([](std::int64_t) {}));

  BlockPool pool;
  pool.shape_ = shape;
  pool.total_ = blocks;
  try {
    pool.memory_ = tensor::Buffer(pool.half_bytes() * static_cast<std::size_t>(pool.block_step()) * static_cast<std::size_t>(blocks));
    pool.beside_ = tensor::Buffer(static_cast<std::size_t>(shape.layers * blocks * shape.beside_floats) * sizeof(float));
    pool.free_.reserve(static_cast<std::size_t>(blocks));
    pool.counts_.assign(static_cast<std::size_t>(blocks), 0);
    pool.kept_.assign(static_cast<std::size_t>(blocks), false);
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kResource, "cache: no memory for " + std::to_string(blocks) + " blocks of " +
                                          std::to_string(block_bytes(shape)) + " bytes");
  }
  for (std::int32_t b = blocks - 1; b >= 0; --b) pool.free_.push_back(b);  // block 0 goes out first
  return pool;
}

BlockPool::BlockPool(BlockPool&& other) noexcept
    : shape_(other.shape_),
      total_(std::exchange(other.total_, 0)),
      next_table_(other.next_table_),
      tables_out_(other.tables_out_),
      free_(std::move(other.free_)),
      counts_(std::move(other.counts_)),
      kept_(std::move(other.kept_)),
      memory_(std::move(other.memory_)),
      beside_(std::move(other.beside_)) {
  QW_CHECK(tables_out_ == 0 && other.keeper_ == nullptr && other.ahead_ == nullptr);  // all point at their pool
}

BlockPool::~BlockPool() { QW_CHECK(tables_out_ == 0); }

std::int64_t BlockPool::blocks_for(std::int64_t tokens) const { return ceil_div(tokens, shape_.block_tokens); }

BlockTable BlockPool::make_table(std::int64_t max_tokens) {
  QW_CHECK(max_tokens >= 0);
  BlockTable table;
  table.pool_ = this;
  table.id_ = next_table_++;
  table.max_tokens_ = max_tokens;
  table.blocks_.reserve(static_cast<std::size_t>(blocks_for(max_tokens)));
  ++tables_out_;
  return table;
}

Status BlockPool::reserve(BlockTable& table, std::int64_t tokens) {
  QW_CHECK(table.pool_ == this);
  if (tokens > table.max_tokens_)
    return fail(ErrorKind::kResource, "cache: sequence of " + std::to_string(tokens) + " tokens, at most " +
                                          std::to_string(table.max_tokens_) + " were asked for");
  const std::int64_t missing = blocks_for(tokens) - static_cast<std::int64_t>(table.blocks_.size());
  if (missing > std::int64_t{free_blocks()})
    return fail(ErrorKind::kResource,
                "cache: " + std::to_string(missing) + " blocks needed, " + std::to_string(free_blocks()) + " free");
  for (std::int64_t i = 0; i < missing; ++i) table.blocks_.push_back(take());
  return {};
}

// A free block, now in one table. There must be one.
std::int32_t BlockPool::take() {
  std::int32_t block;
  if (!free_.empty()) {
    block = free_.back();
    free_.pop_back();
  } else {
    QW_CHECK(idle_ > 0);
    block = keeper_->give_up();
    QW_CHECK(kept(block));
    kept_[static_cast<std::size_t>(block)] = false;
    --idle_;
  }
  std::int32_t& count = counts_[static_cast<std::size_t>(block)];
  QW_CHECK(count == 0);
  count = 1;
  if (ahead_ != nullptr) ahead_->took(block);
  return block;
}

// One more table has a kept block.
void BlockPool::hold(std::int32_t block) {
  QW_CHECK(kept(block));
  const std::int32_t count = ++counts_[static_cast<std::size_t>(block)];
  if (count == 1) {
    --idle_;
    keeper_->on_busy(block);
  }
  shared_ += count == 2;
}

// One table fewer has a block.
void BlockPool::let_go(std::int32_t block) {
  const std::int32_t count = --counts_[static_cast<std::size_t>(block)];
  QW_CHECK(count >= 0);
  shared_ -= count == 1;
  if (count > 0) return;
  if (kept(block)) {
    ++idle_;
    keeper_->on_idle(block);
  } else {
    free_.push_back(block);
  }
}

void BlockPool::set_keeper(BlockKeeper* keeper) {
  QW_CHECK(idle_ == 0 && (keeper == nullptr || keeper_ == nullptr));
  keeper_ = keeper;
}

void BlockPool::keep(std::int32_t block) {
  QW_CHECK(keeper_ != nullptr && !kept(block) && tables_of(block) == 1);
  kept_[static_cast<std::size_t>(block)] = true;
}

void BlockPool::forget(std::int32_t block) {
  QW_CHECK(kept(block) && tables_of(block) <= 1);
  kept_[static_cast<std::size_t>(block)] = false;
  if (tables_of(block) > 0) return;
  --idle_;
  free_.push_back(block);
}

void BlockPool::share(BlockTable& table, std::int32_t block) {
  QW_CHECK(table.pool_ == this && table.capacity_tokens() < table.max_tokens_);
  hold(block);
  table.blocks_.push_back(block);
}

void BlockPool::replace(BlockTable& table, std::size_t index, std::int32_t block) {
  QW_CHECK(table.pool_ == this && index < table.blocks_.size() && table.blocks_[index] != block);
  hold(block);
  let_go(std::exchange(table.blocks_[index], block));
}

Status BlockPool::make_own(BlockTable& table, std::size_t index) {
  QW_CHECK(table.pool_ == this && index < table.blocks_.size());
  if (free_blocks() == 0) return fail(ErrorKind::kResource, "cache: no block is free for a copy");
  const std::int32_t own = take(), shared = std::exchange(table.blocks_[index], own);
  copy_block(shared, own);
  let_go(shared);
  return {};
}

std::int64_t BlockPool::own_blocks(const BlockTable& table) const {
  QW_CHECK(table.pool_ == this);
  return std::count_if(table.blocks_.begin(), table.blocks_.end(), [&](std::int32_t b) { return tables_of(b) == 1; });
}

void BlockPool::truncate(BlockTable& table, std::int64_t tokens) {
  QW_CHECK(table.pool_ == this && tokens >= 0);
  const auto keep = static_cast<std::size_t>(blocks_for(tokens));
  while (table.blocks_.size() > keep) {
    const std::int32_t block = table.blocks_.back();
    table.blocks_.pop_back();
    let_go(block);
  }
}

Status BlockPool::copy_prefix(const BlockTable& from, std::int64_t tokens, BlockTable& to) {
  QW_CHECK(from.pool_ == this && to.pool_ == this && from.id_ != to.id_ && tokens <= from.capacity_tokens());
  QW_TRY(reserve(to, tokens));
  for (std::size_t i = 0; i < static_cast<std::size_t>(blocks_for(tokens)); ++i)
    copy_block(from.blocks_[i], to.blocks_[i]);
  return {};
}

void BlockPool::copy_block(std::int32_t from, std::int32_t to) {
  const std::size_t bytes = half_bytes() * static_cast<std::size_t>(block_step());
  std::memcpy(memory_.data() + static_cast<std::size_t>(to) * bytes, memory_.data() + static_cast<std::size_t>(from) * bytes, bytes);
  const auto floats = static_cast<std::size_t>(shape_.beside_floats);
  for (std::int32_t layer = 0; floats > 0 && layer < shape_.layers; ++layer)
    std::memcpy(beside(layer) + static_cast<std::size_t>(to) * floats, beside(layer) + static_cast<std::size_t>(from) * floats, floats * sizeof(float));
}

std::size_t BlockPool::half_bytes() const { return static_cast<std::size_t>(half_block_bytes(shape_)); }

std::byte* BlockPool::keys(std::int32_t layer, std::int32_t block) const {
  QW_CHECK(layer >= 0 && layer < shape_.layers && block >= 0 && block < total_);
  return memory_.data() + half_bytes() * (static_cast<std::size_t>(block) * static_cast<std::size_t>(block_step()) + 2 * static_cast<std::size_t>(layer));
}

std::byte* BlockPool::values(std::int32_t layer, std::int32_t block) const { return keys(layer, block) + half_bytes(); }

float* BlockPool::beside(std::int32_t layer) const {
  QW_CHECK(layer >= 0 && layer < shape_.layers && shape_.beside_floats > 0);
  return reinterpret_cast<float*>(beside_.data()) + layer * total_ * shape_.beside_floats;
}

bool BlockPool::touch(std::int32_t begin, std::int32_t end) const {
  QW_CHECK(0 <= begin && begin <= end && end <= total_);
#if defined(MADV_POPULATE_WRITE)
  constexpr std::uintptr_t kPage = 4096;
  const auto touch_bytes = [](const std::byte* from, std::size_t bytes) {
    const auto first = reinterpret_cast<std::uintptr_t>(from) / kPage * kPage;
    const auto last = (reinterpret_cast<std::uintptr_t>(from) + bytes + kPage - 1) / kPage * kPage;
    return bytes == 0 || madvise(reinterpret_cast<void*>(first), last - first, MADV_POPULATE_WRITE) == 0;
  };
  const auto part = [&](const std::byte* all, std::size_t block) {
    return touch_bytes(all + static_cast<std::size_t>(begin) * block, static_cast<std::size_t>(end - begin) * block);
  };
  if (!part(memory_.data(), half_bytes() * static_cast<std::size_t>(block_step()))) return false;
  for (std::int32_t layer = 0; shape_.beside_floats > 0 && layer < shape_.layers; ++layer)
    if (!part(reinterpret_cast<const std::byte*>(beside(layer)), static_cast<std::size_t>(shape_.beside_floats) * sizeof(float))) return false;
  return true;
#else
  return false;
#endif
}

PoolSnapshot BlockPool::snapshot(std::span<const BlockTable* const> tables) const {
  PoolSnapshot s{total_, free_, {}, {}, counts_};
  for (std::int32_t b = 0; b < total_; ++b)
    if (kept(b)) s.kept.push_back(b);
  for (const BlockTable* t : tables) s.tables.push_back({t->id_, t->blocks_});
  return s;
}

}  // namespace qw::kvcache
