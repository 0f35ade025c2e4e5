#include "base/huge_vector.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace qw::base {
namespace {

struct alignas(64) Line {
  std::uint64_t value = 7;
  std::uint64_t rest[7] = {};
};

bool aligned(const void* memory, std::size_t to) { return reinterpret_cast<std::uintptr_t>(memory) % to == 0; }

TEST(HugeVector, IsAVectorOfAnySize) {
  HugeVector<Line> lines;
  for (std::uint64_t i = 0; i < 40000; ++i) {  // from a few bytes to more than a huge page
    lines.push_back({i, {}});
    ASSERT_TRUE(aligned(lines.data(), alignof(Line)));
  }
  HugeVector<Line> copy = lines;
  lines.assign(3, Line{});
  lines.shrink_to_fit();
  for (std::uint64_t i = 0; i < 40000; ++i) ASSERT_EQ(copy[i].value, i);
  lines.swap(copy);
  EXPECT_EQ(lines.size(), 40000u);
  EXPECT_EQ(copy.back().value, 7u);
}

TEST(HugeVector, LargeOnesBeginAtAHugePage) {
  if (!kAskForHugePages) GTEST_SKIP() << "no huge pages under the address sanitizer";
  // Two of them: one alone may lie there by chance.
  const HugeVector<char> first(HugePageAllocator<char>::kLeast), second(HugePageAllocator<char>::kLeast);
  EXPECT_TRUE(aligned(first.data(), HugePageAllocator<char>::kPage));
  EXPECT_TRUE(aligned(second.data(), HugePageAllocator<char>::kPage));
}

}  // namespace
}  // namespace qw::base
