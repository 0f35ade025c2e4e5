#include "tokenizer/internal/char_pairs.h"

#include <gtest/gtest.h>

#include "base/utf8.h"

namespace qw::tokenizer {
namespace {

bool joins(const CharPairs& pairs, std::string_view two) { return pairs.may_join(two.data() + 3); }

TEST(CharPairs, PairsInsideTokensJoinOthersDoNot) {
  const std::vector<std::string> tokens = {"a", "春", "春風", "x黃河海流y", "風a", "é春"};
  const CharPairs pairs = CharPairs::of(tokens);
  for (const char* two : {"春風", "黃河", "河海", "海流"}) EXPECT_TRUE(joins(pairs, two)) << two;
  for (const char* two : {"風春", "流黃", "春春", "黃海", "。春"}) EXPECT_FALSE(joins(pairs, two)) << two;
}

// Every pair of characters that a token's bytes fit, of a few thousand of all kinds.
TEST(CharPairs, PartsOfCharactersJoinAllThatTheyFit) {
  const std::vector<std::string> tokens = {"\xA5\xE6\x98\xA5", "\x98\xA5\xE9\xBB\x83", "河\xE6\xB5", "\xA4\xED"};
  const CharPairs pairs = CharPairs::of(tokens);
  std::size_t joined = 0, compared = 0;
  for (std::uint32_t a = 0x800; a < 0x10000; a += 0x35) {
    for (std::uint32_t b = 0x801; b < 0x10000; b += 0x101) {
      if ((a >= 0xD800 && a < 0xE000) || (b >= 0xD800 && b < 0xE000)) continue;
      for (const std::uint32_t first : {a, std::uint32_t{0x6625}, std::uint32_t{0x6CB3}}) {
        for (const std::uint32_t second : {b, std::uint32_t{0x6625}, std::uint32_t{0x9EC3}, std::uint32_t{0x6D41}}) {
          std::string two;
          base::append_utf8(two, first);
          base::append_utf8(two, second);
          bool fits = false;
          for (const std::string& token : tokens) {
            for (std::size_t at = 0; at < 6; ++at) fits = fits || two.compare(at, token.size(), token) == 0;
          }
          ASSERT_TRUE(joins(pairs, two) || !fits) << two;
          if (first != a || second != b) continue;
          ++compared;
          joined += joins(pairs, two);
        }
      }
    }
  }
  EXPECT_LT(joined, compared / 10);  // and it tells most apart
}

}  // namespace
}  // namespace qw::tokenizer
