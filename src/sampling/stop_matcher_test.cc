#include "sampling/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"

namespace qw::sampling {
namespace {

struct Found {
  std::string text;
  int matched = -1;
};

// The contract said naively: try every end position, take the longest stop string that ends there.
Found naive(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    int best = -1;
    for (std::size_t i = 0; i < stops.size(); ++i) {
      const std::string& s = stops[i];
      if (s.empty() || s.size() > end || text.compare(end - s.size(), s.size(), s) != 0) continue;
      if (best < 0 || s.size() > stops[static_cast<std::size_t>(best)].size()) best = static_cast<int>(i);
    }
    if (best >= 0) return {text.substr(0, end - stops[static_cast<std::size_t>(best)].size()), best};
  }
  return {text, -1};
}

Found streamed(const std::string& text, const std::vector<std::string>& stops, base::Rng& rng) {
  StopMatcher matcher(stops);
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t n = std::min<std::size_t>(text.size() - i, rng.below(4));
    out += matcher.push(std::string_view(text).substr(i, n));
    i += n;
  }
  out += matcher.finish();
  return {out, matcher.matched()};
}

TEST(StopMatcher, EqualsNaiveSearchOnArbitraryCuts) {
  base::Rng rng(11);
  int matches = 0;
  for (int round = 0; round < 20000; ++round) {
    // Two letters and short strings: overlaps, prefixes of each other and suffix links all occur.
    const auto word = [&](std::uint64_t longest) {
      std::string s;
      for (std::uint64_t n = rng.below(longest + 1); n > 0; --n) s += rng.below(3) == 0 ? 'b' : 'a';
      return s;
    };
    std::vector<std::string> stops;
    for (std::uint64_t n = rng.below(4); n > 0; --n) stops.push_back(word(6));
    const std::string text = word(24);
    const Found expected = naive(text, stops);
    ASSERT_EQ(streamed(text, stops, rng).text, expected.text) << round;
    ASSERT_EQ(streamed(text, stops, rng).matched, expected.matched) << round;
    matches += expected.matched >= 0;
  }
  EXPECT_GT(matches, 5000);
}

TEST(StopMatcher, HoldsBackOnlyWhatCouldStop) {
  StopMatcher matcher({"\nUser:", "###"});
  EXPECT_EQ(matcher.push("Hello"), "Hello");
  EXPECT_EQ(matcher.push(" there\nUs"), " there");
  EXPECT_EQ(matcher.held_bytes(), 3u);
  EXPECT_EQ(matcher.push("ing #"), "\nUsing ");
  EXPECT_EQ(matcher.push("#"), "");
  EXPECT_EQ(matcher.push("# rest"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.matched(), 1);
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, FinishGivesTheTail) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.push("the EN"), "the ");
  EXPECT_EQ(matcher.finish(), "EN");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, PiecesAreWholeCharacters) {
  const std::string text = "通义千问😀é结束tail";
  for (std::size_t cut = 1; cut < 6; ++cut) {
    StopMatcher matcher({"结束"});
    std::string all;
    for (std::size_t i = 0; i < text.size(); i += cut) {
      const std::string piece = matcher.push(std::string_view(text).substr(i, cut));
      // A piece never begins with a continuation byte and never ends inside a character.
      if (!piece.empty()) {
        ASSERT_NE(static_cast<unsigned char>(piece[0]) & 0xC0, 0x80);
      }
      all += piece;
    }
    EXPECT_EQ(all, "通义千问😀é");
    EXPECT_EQ(matcher.matched(), 0);
  }
}

TEST(StopMatcher, NoStringsPassEverything) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.push("abc"), "abc");
  EXPECT_EQ(matcher.push(std::string("\xff\xfe", 2)), std::string("\xff\xfe", 2));
  EXPECT_EQ(matcher.finish(), "");
}

}  // namespace
}  // namespace qw::sampling
