#include "ops/internal/arena.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace qw::ops {
namespace {

TEST(Arena, BuffersAliveTogetherNeverOverlap) {
  struct Want {
    std::int64_t bytes;
    std::int32_t begin, end;
  };
  base::Rng rng(3);
  for (int round = 0; round < 50; ++round) {
    Arena arena;
    std::vector<Want> wants;
    for (int i = 0; i < 60; ++i) {
      const auto begin = static_cast<std::int32_t>(rng.below(40));
      const Want w{static_cast<std::int64_t>(rng.below(5000)), begin, begin + static_cast<std::int32_t>(rng.below(12))};
      ASSERT_EQ(arena.add(w.bytes, w.begin, w.end), i);
      wants.push_back(w);
    }
    arena.solve();
    std::int64_t peak = 0;
    for (std::int32_t t = 0; t < 52; ++t) {
      std::int64_t alive = 0;
      for (const Want& w : wants) alive += w.begin <= t && t <= w.end ? w.bytes : 0;
      peak = std::max(peak, alive);
    }
    EXPECT_GE(arena.bytes(), peak);
    for (int i = 0; i < 60; ++i) {
      const Want& a = wants[static_cast<std::size_t>(i)];
      EXPECT_EQ(arena.offset(i) % 64, 0);
      EXPECT_LE(arena.offset(i) + a.bytes, arena.bytes());
      for (int j = 0; j < i; ++j) {
        const Want& b = wants[static_cast<std::size_t>(j)];
        if (a.end < b.begin || b.end < a.begin || a.bytes == 0 || b.bytes == 0) continue;
        EXPECT_TRUE(arena.offset(i) + a.bytes <= arena.offset(j) || arena.offset(j) + b.bytes <= arena.offset(i));
      }
    }
  }
}

TEST(Arena, ReusesMemoryThatIsFreeAgain) {
  Arena arena;
  for (std::int32_t t = 0; t < 10; ++t) arena.add(640, t, t);
  arena.solve();
  EXPECT_EQ(arena.bytes(), 640);
}

}  // namespace
}  // namespace qw::ops
