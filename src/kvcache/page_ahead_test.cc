#include "kvcache/page_ahead.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <chrono>
#include <cstring>
#include <thread>

namespace qw::kvcache {
namespace {

// Two layers of 256 blocks of 64 KiB of keys and as much of values.
const CacheShape kShape{2, 8, 128, 32, tensor::DType::kF16};
constexpr std::int32_t kBlocks = 256;

bool in_memory(const std::byte* p) {
  unsigned char state = 0;
  const auto page = reinterpret_cast<std::uintptr_t>(p) / 4096 * 4096;
  return mincore(reinterpret_cast<void*>(page), 1, &state) == 0 && (state & 1) != 0;
}

bool comes_to(const PageAhead& pages, std::int32_t blocks) {
  for (int i = 0; i < 20000 && pages.touched() < blocks; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return pages.touched() >= blocks;
}

std::int64_t half_block() { return block_bytes(kShape) / (2 * kShape.layers); }

#if defined(MADV_POPULATE_WRITE)

TEST(PageAhead, StaysAheadOfWhatIsTakenAndChangesNothing) {
  BlockPool pool = *BlockPool::create(kShape, kBlocks);
  std::memset(pool.values(1), 7, 100);
  if (!pool.touch(0, 1)) GTEST_SKIP() << "this system cannot be asked for pages";
  {
    const std::byte* const last = pool.keys(1, kBlocks - 1);
    const bool before = in_memory(last);  // with sanitizers everything is
    PageAhead pages(pool, 32 * block_bytes(kShape));
    ASSERT_TRUE(comes_to(pages, 32));
    EXPECT_EQ(pages.touched(), 32);
    for (std::int32_t layer = 0; layer < kShape.layers; ++layer)
      for (std::int32_t block = 0; block < 32; ++block) {
        EXPECT_TRUE(in_memory(pool.keys(layer, block))) << layer << ' ' << block;
        EXPECT_TRUE(in_memory(pool.values(layer, block) + half_block() - 1)) << layer << ' ' << block;
      }
    EXPECT_EQ(in_memory(last), before);
    EXPECT_EQ(static_cast<int>(*pool.values(1)), 7);
    EXPECT_EQ(static_cast<int>(pool.values(1)[99]), 7);
    EXPECT_EQ(static_cast<int>(pool.values(1)[100]), 0);

    BlockTable table = pool.make_table(kBlocks * 32);
    ASSERT_TRUE(pool.reserve(table, 100 * 32));
    ASSERT_TRUE(comes_to(pages, 132));
    EXPECT_TRUE(in_memory(pool.keys(1, 131)));
    ASSERT_TRUE(pool.reserve(table, kBlocks * 32));  // to the end and no further
    ASSERT_TRUE(comes_to(pages, kBlocks));
    pool.release(table);
    ASSERT_TRUE(pool.reserve(table, 32));  // what was used before is nothing new
  }
  BlockTable later = pool.make_table(32);
  EXPECT_TRUE(pool.reserve(later, 32));  // nobody is told any more
}

TEST(PageAhead, EndsInTheMiddle) {
  BlockPool pool = *BlockPool::create(kShape, kBlocks);
  for (int i = 0; i < 20; ++i) PageAhead pages(pool, kBlocks * block_bytes(kShape));
}

#endif

}  // namespace
}  // namespace qw::kvcache
