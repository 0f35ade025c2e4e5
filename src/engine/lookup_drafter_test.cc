#include "engine/lookup_drafter.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"

namespace qw::engine {
namespace {

// By trying every place.
SuffixIndex::Match by_force(std::span<const TokenId> tokens) {
  const auto n = static_cast<std::int64_t>(tokens.size());
  SuffixIndex::Match best;
  for (std::int64_t end = n - 2; end >= 0; --end) {
    std::int64_t length = 0;
    while (length < SuffixIndex::kLongest && length <= end &&
           tokens[static_cast<std::size_t>(end - length)] == tokens[static_cast<std::size_t>(n - 1 - length)])
      ++length;
    if (length >= SuffixIndex::kGram && length > best.length) best = {end, length};
  }
  return best;
}

TEST(SuffixIndex, FindsTheLongestAndLatestEnding) {
  base::Rng rng(3);
  int found = 0, longer = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<TokenId> tokens;
    SuffixIndex index;
    const std::uint64_t ids =
        40 + rng.below(400);  // few enough to recur, so many that no chain is longer than what is searched
    while (tokens.size() < 900) {
      if (tokens.size() > 50 && rng.below(30) == 0) {  // quote something
        const std::size_t from = rng.below(tokens.size() - 20);
        for (std::size_t i = 0; i < 5 + rng.below(15); ++i) tokens.push_back(tokens[from + i]);
      } else {
        tokens.push_back(static_cast<TokenId>(rng.below(ids)));
      }
      if (rng.below(3) != 0) continue;  // not asked at every token
      const auto wanted = by_force(tokens), got = index.find(tokens);
      ASSERT_EQ(got.length, wanted.length) << tokens.size();
      if (wanted.length == 0) continue;
      ASSERT_EQ(got.end, wanted.end) << tokens.size();
      ++found;
      longer += wanted.length > 6;
    }
  }
  EXPECT_GT(found, 100);
  EXPECT_GT(longer, 30);
}

TEST(SuffixIndex, IsBoundedOnOneTokenRepeated) {
  std::vector<TokenId> tokens;
  SuffixIndex index;
  for (int i = 0; i < 5000; ++i) {
    tokens.push_back(7);
    const auto match = index.find(tokens);
    if (i >= 3) {
      ASSERT_EQ(match.end, i - 1);
    }
  }
}

std::vector<TokenId> propose(LookupDrafter& drafter, const std::vector<TokenId>& prompt, std::int64_t most) {
  const sampling::Sampler sampler({}, prompt);
  std::vector<TokenId> out;
  DraftJob job{1, &sampler, most, &out};
  EXPECT_TRUE(drafter.propose({&job, 1}));
  drafter.forget(1);
  return out;
}

TEST(LookupDrafter, GoesOnAsBefore) {
  LookupDrafter drafter;
  EXPECT_EQ(propose(drafter, {1, 2, 3, 4, 5, 6, 9, 2, 3, 4}, 3), (std::vector<TokenId>{5, 6, 9}));
  EXPECT_EQ(propose(drafter, {1, 2, 3, 4, 5, 6}, 3), (std::vector<TokenId>{}));
}

TEST(LookupDrafter, GoesRoundWhatRecursAtAShortDistance) {
  LookupDrafter drafter;
  EXPECT_EQ(propose(drafter, {8, 1, 2, 1, 2, 1, 2}, 7), (std::vector<TokenId>{1, 2, 1, 2, 1, 2, 1}));
}

}  // namespace
}  // namespace qw::engine
