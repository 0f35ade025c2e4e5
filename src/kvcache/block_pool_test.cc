#include "kvcache/block_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/rng.h"

namespace qw::kvcache {
namespace {

using testing::HasSubstr;

CacheShape small_shape() { return {.layers = 2, .kv_heads = 2, .head_dim = 4, .block_tokens = 16}; }

TEST(BlockPool, ReservesWholeBlocksOrNothing) {
  auto pool = BlockPool::create(small_shape(), 4);
  ASSERT_TRUE(pool);
  BlockTable a = pool->make_table(64), b = pool->make_table(64);
  ASSERT_TRUE(pool->reserve(a, 17));
  EXPECT_EQ(a.blocks().size(), 2u);
  EXPECT_EQ(a.capacity_tokens(), 32);
  ASSERT_TRUE(pool->reserve(a, 5));  // room already held is kept
  EXPECT_EQ(a.blocks().size(), 2u);
  const auto refused = pool->reserve(b, 33);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kResource);
  EXPECT_EQ(b.blocks().size(), 0u);
  EXPECT_EQ(pool->free_blocks(), 2);
  ASSERT_TRUE(pool->reserve(b, 32));
  EXPECT_EQ(pool->free_blocks(), 0);
}

TEST(BlockPool, RefusesMoreThanTheTableAskedFor) {
  auto pool = BlockPool::create(small_shape(), 4);
  BlockTable a = pool->make_table(20);
  EXPECT_TRUE(pool->reserve(a, 20));
  EXPECT_FALSE(pool->reserve(a, 21));
}

TEST(BlockPool, TablesGiveTheirBlocksBack) {
  auto pool = BlockPool::create(small_shape(), 4);
  {
    BlockTable a = pool->make_table(64);
    ASSERT_TRUE(pool->reserve(a, 64));
    BlockTable b = std::move(a);
    EXPECT_EQ(b.blocks().size(), 4u);
    EXPECT_EQ(pool->free_blocks(), 0);
    b = pool->make_table(16);  // assignment releases what b held
    EXPECT_EQ(pool->free_blocks(), 4);
    ASSERT_TRUE(pool->reserve(b, 16));
  }
  EXPECT_EQ(pool->free_blocks(), 4);
}

TEST(BlockPool, RejectsShapesThatMakeNoSense) {
  auto shape = small_shape();
  shape.block_tokens = 24;
  EXPECT_EQ(BlockPool::create(shape, 4).error().kind, ErrorKind::kUsage);
  shape = small_shape();
  shape.dtype = tensor::DType::kI8;
  EXPECT_THAT(BlockPool::create(shape, 4).error().message, HasSubstr("i8"));
  EXPECT_FALSE(BlockPool::create(small_shape(), 0));
  shape = small_shape();
  shape.layers = shape.kv_heads = shape.head_dim = 1 << 30;
  EXPECT_FALSE(BlockPool::create(shape, 1 << 30));
}

TEST(BlockPool, LayersAndBlocksDoNotOverlap) {
  auto shape = small_shape();
  shape.dtype = tensor::DType::kBF16;
  auto pool = BlockPool::create(shape, 3);
  const std::size_t bytes = 2 * 16 * 4 * 2;
  std::vector<std::byte*> starts;
  for (int layer = 0; layer < 2; ++layer)
    for (int block = 0; block < 3; ++block) {
      starts.push_back(pool->keys(layer, block));
      starts.push_back(pool->values(layer, block));
      EXPECT_EQ(pool->keys(layer, block), pool->keys(layer) + block * pool->block_step() * static_cast<std::int64_t>(bytes));
    }
  for (std::size_t i = 0; i < starts.size(); ++i) std::memset(starts[i], static_cast<int>(i + 1), bytes);
  for (std::size_t i = 0; i < starts.size(); ++i)
    for (std::size_t j = 0; j < bytes; ++j) ASSERT_EQ(static_cast<std::size_t>(starts[i][j]), i + 1);
  EXPECT_EQ(block_bytes(shape), static_cast<std::int64_t>(4 * bytes));
}

TEST(BlockPool, CopiesAPrefixInEveryLayer) {
  CacheShape shape = small_shape();
  shape.beside_floats = 7;
  EXPECT_EQ(block_bytes(shape), block_bytes(small_shape()) + 2 * 7 * 4);
  auto pool = BlockPool::create(shape, 4);
  BlockTable a = pool->make_table(32), b = pool->make_table(32);
  ASSERT_TRUE(pool->reserve(a, 32));
  const std::size_t block = 2 * 16 * 4;
  for (int layer = 0; layer < 2; ++layer)
    for (std::size_t i = 0; i < 2 * block; ++i) {
      const std::int32_t of = a.blocks()[i / block];
      reinterpret_cast<float*>(pool->keys(layer, of))[i % block] = static_cast<float>(layer * 1000 + static_cast<int>(i));
      reinterpret_cast<float*>(pool->values(layer, of))[i % block] = -static_cast<float>(layer * 1000 + static_cast<int>(i));
    }
  for (int layer = 0; layer < 2; ++layer)
    for (int i = 0; i < 4 * 7; ++i) pool->beside(layer)[i] = static_cast<float>(layer * 100 + i);
  ASSERT_TRUE(pool->copy_prefix(a, 20, b));
  ASSERT_EQ(b.blocks().size(), 2u);
  for (int layer = 0; layer < 2; ++layer)
    for (std::size_t t = 0; t < 2; ++t) {
      const std::int32_t src = a.blocks()[t], dst = b.blocks()[t];
      EXPECT_EQ(0, std::memcmp(pool->keys(layer, src), pool->keys(layer, dst), block * 4));
      EXPECT_EQ(0, std::memcmp(pool->values(layer, src), pool->values(layer, dst), block * 4));
      for (int i = 0; i < 7; ++i)
        EXPECT_EQ(pool->beside(layer)[b.blocks()[t] * 7 + i], static_cast<float>(layer * 100 + a.blocks()[t] * 7 + i));
    }
}

TEST(PoolInvariant, NamesTheBrokenRule) {
  EXPECT_EQ(violation({2, {0}, {{7, {1}}}}), "");
  EXPECT_THAT(violation({2, {0}, {}}), HasSubstr("block 1 is lost"));
  EXPECT_THAT(violation({2, {0, 1, 0}, {}}), HasSubstr("block 0 is held by the free list and by the free list"));
  EXPECT_THAT(violation({2, {0}, {{1, {1}}, {2, {1}}}}), HasSubstr("held by table 2 and by table 1"));
  EXPECT_THAT(violation({2, {0, 1}, {{3, {2}}}}), HasSubstr("does not exist"));
}

TEST(PoolInvariant, HoldsThroughRandomUse) {
  auto pool = BlockPool::create(small_shape(), 23);
  std::vector<BlockTable> tables;
  for (int i = 0; i < 6; ++i) tables.push_back(pool->make_table(200));
  base::Rng rng(5);
  for (int step = 0; step < 2000; ++step) {
    BlockTable& t = tables[rng.below(tables.size())];
    const auto tokens = static_cast<std::int64_t>(rng.below(220));
    const auto before = t.blocks().size();
    switch (rng.below(4)) {
      case 0:
        pool->truncate(t, tokens);
        break;
      case 1:
        t = pool->make_table(200);
        break;
      default:
        if (!pool->reserve(t, tokens)) {
          ASSERT_EQ(t.blocks().size(), before);
        }
    }
    std::vector<const BlockTable*> all;
    for (const auto& table : tables) all.push_back(&table);
    ASSERT_EQ(violation(pool->snapshot(all)), "");
  }
  tables.clear();
  EXPECT_EQ(pool->free_blocks(), 23);
}

TEST(BlockPoolDeath, PoolMustOutliveItsTables) {
  EXPECT_DEATH(
      {
        BlockTable table;
        auto pool = BlockPool::create(small_shape(), 2);
        table = pool->make_table(16);
        pool = fail(ErrorKind::kFailed, "gone");
      },
      "tables_out_ == 0");
}

}  // namespace
}  // namespace qw::kvcache
