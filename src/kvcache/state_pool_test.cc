#include "kvcache/state_pool.h"

#include <gtest/gtest.h>

namespace qw::kvcache {
namespace {

TEST(StatePool, HandsOutEverySlotOnceAndTakesThemBack) {
  auto pool = *StatePool::create(3, 2);
  EXPECT_EQ(pool.bytes(), 24);
  {
    auto a = *pool.acquire(), b = *pool.acquire();
    EXPECT_NE(a.index(), b.index());
    EXPECT_EQ(pool.free_slots(), 0);
    const auto none = pool.acquire();
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().kind, ErrorKind::kResource);
    a = std::move(b);  // what a held goes back
    EXPECT_EQ(pool.free_slots(), 1);
    EXPECT_FALSE(b.held());  // NOLINT(bugprone-use-after-move): an empty slot by contract
    a.release();
    a.release();
    EXPECT_EQ(pool.free_slots(), 2);
  }
  EXPECT_EQ(pool.free_slots(), 2);
  EXPECT_FALSE(StatePool::create(0, 1));
  EXPECT_FALSE(StatePool::create(1, 0));
  EXPECT_FALSE(StatePool::create(std::int64_t{1} << 62, 1 << 20));
}

TEST(StatePool, CopiesAreSnapshotAndRestore) {
  auto pool = *StatePool::create(2, 2);
  const auto live = *pool.acquire(), kept = *pool.acquire();
  float* x = pool.data() + live.index() * 2;
  x[0] = 1, x[1] = 2;
  pool.tokens()[static_cast<std::size_t>(live.index())] = 7;
  pool.copy(live, kept);
  x[0] = x[1] = 9;
  pool.tokens()[static_cast<std::size_t>(live.index())] = 8;
  pool.copy(kept, live);
  EXPECT_EQ(x[0], 1);
  EXPECT_EQ(x[1], 2);
  EXPECT_EQ(pool.tokens(live), 7);
}

TEST(StatePool, ANewSlotHasSeenNothing) {
  auto pool = *StatePool::create(2, 1);
  auto slot = *pool.acquire();
  pool.tokens()[0] = 5;
  slot.release();
  slot = *pool.acquire();
  EXPECT_EQ(pool.tokens(slot), 0);
}

}  // namespace
}  // namespace qw::kvcache
