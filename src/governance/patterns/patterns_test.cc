// Patterns in texts: as a search by hand finds them, wherever the text is cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/rng.h"
#include "governance/guard/text_guard.h"

namespace qw::governance {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Patterns : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto made = PatternList::parse("a b");
    if (!made && made.error().kind == ErrorKind::kUsage) GTEST_SKIP() << "built without RE2";
  }
  static PatternList list_of(std::string_view file) {
    auto made = PatternList::parse(file);
    EXPECT_TRUE(made.has_value()) << made.error().message;
    return std::move(*made);
  }
  static std::vector<PatternHit> hits_in(const PatternList& list, std::string_view text, std::size_t size) {
    std::vector<PatternHit> out;
    PatternScanner scanner(list);
    for (std::size_t at = 0; at < text.size(); at += size) scanner.push(text.substr(at, size), out);
    scanner.finish(out);
    std::sort(out.begin(), out.end());
    return out;
  }
  static std::vector<std::string> found(const PatternList& list, std::string_view text) {
    std::vector<std::string> out;
    for (const auto& hit : hits_in(list, text, text.size() + 1))
      out.push_back(list.categories()[list.category_of(hit.pattern)] + ":" +
                    std::string(text.substr(hit.begin, hit.end - hit.begin)));
    return out;
  }
};

TEST_F(Patterns, AreFoundInTextsAsKeywordsAre) {
  const auto list = list_of(
      "# what leaks\nkey AKIA[0-9A-Z]{4}\nproject \\bproject [a-z]+\\b\nplate [京沪][a-z][0-9]{5}\n"
      "first ^hello\nlast bye$\n");
  EXPECT_THAT(found(list, "an akiaAB12 and ＡＫＩＡ００ＸＹ"), ElementsAre("key:akiaAB12", "key:ＡＫＩＡ００ＸＹ"));
  EXPECT_THAT(found(list, "a\xE2\x80\x8Bkia1234 ákia1234"), ElementsAre("key:a\xE2\x80\x8Bkia1234", "key:ákia1234"));
  EXPECT_THAT(found(list, "my Project \n zebra, not projects x"), ElementsAre("project:Project \n zebra"));
  EXPECT_THAT(found(list, "subproject x"), IsEmpty());
  EXPECT_THAT(found(list, "车牌京A12345。"), ElementsAre("plate:京A12345"));
  EXPECT_THAT(found(list, "hello hello bye bye"), ElementsAre("first:hello", "last:bye"));
  EXPECT_THAT(found(list, ""), IsEmpty());
}

TEST_F(Patterns, OfAFileThatMakesNoSenseTheLineAndTheExpressionAreNamed) {
  const auto error = [](std::string_view file) {
    const auto made = PatternList::parse(file);
    return made ? std::string("fine") : made.error().message;
  };
  EXPECT_EQ(error("# nothing\n"), "line 1: there are no expressions");
  EXPECT_EQ(error("word\n"), "line 1: a category, blanks and an expression are needed");
  EXPECT_EQ(error("a b\n@longest 9"), "line 2: what begins with @ stands before the first expression");
  EXPECT_EQ(error("@longest 1000\na b"), "line 1: @longest is a number from 1 to 256");
  EXPECT_EQ(error("@fast\na b"), "line 1: known are @longest and @traditional");
  EXPECT_EQ(error("a b\na x(y\n"), "line 2: x(y: missing ): x(y");
  EXPECT_EQ(error("a (.)\\1"), "line 1: (.)\\1: invalid escape sequence: \\1");
  EXPECT_EQ(error("a x*"), "line 1: x*: it matches where there is nothing");
  EXPECT_EQ(error("a caf\xC3\xA9"), "line 1: caf\xC3\xA9: \xC3\xA9 is compared as e, so it would never be found");
  EXPECT_EQ(error("a \xFF"), "line 1: this is no UTF-8");
  EXPECT_EQ(error("a x\\C"), "line 1: x\\C: \\C is half a character");
  EXPECT_THAT(error("a (?:[a-z]{1,40}[0-9]){1,25}(?:[a-z]{1,40}[0-9]){1,25}"),
              HasSubstr("line 1: (?:[a-z]{1,40}[0-9]){1,25}"));
  EXPECT_EQ(error("a " + std::string(1001, 'x')), "line 1: an expression has 1 to 1000 bytes");
}

TEST_F(Patterns, LittleIsHeldBack) {
  const auto list = list_of("@longest 10\na akia[0-9]+\n");
  PatternScanner scanner(list);
  std::vector<PatternHit> hits;
  const auto settled = [&](std::string_view text) {
    scanner.push(text, hits);
    return scanner.settled();
  };
  EXPECT_EQ(settled("hello wor"), 9u);
  EXPECT_EQ(settled("ld ak"), 12u);  // "ak" may be one
  EXPECT_EQ(settled("in 中"), 20u);
  EXPECT_EQ(settled(" akia12345"), 21u);
  EXPECT_THAT(hits, IsEmpty());
  EXPECT_EQ(settled("67890"), 35u);  // ten characters are one, and what follows is known
  EXPECT_THAT(hits, ElementsAre(PatternHit{21, 31, 0}));
}

// What is found of one expression, by trying every place and every length.
std::vector<PatternHit> by_hand(const PatternList& list, std::string_view text) {
  std::string folded;
  std::vector<std::size_t> at;
  std::vector<std::uint64_t> begins, ends;
  SymbolStream stream(list.folding());
  const auto take = [&](Symbol symbol, std::uint64_t begin, std::uint64_t end) {
    at.push_back(folded.size());
    begins.push_back(begin);
    ends.push_back(end);
    base::append_utf8(folded, symbol.code());
  };
  stream.push(text, take);
  stream.finish(take);
  at.push_back(folded.size());
  std::vector<PatternHit> out;
  for (std::uint32_t p = 0; p < list.size(); ++p) {
    for (std::size_t i = 0; i + 1 < at.size();) {
      std::size_t length = std::min<std::size_t>(list.longest(), at.size() - 1 - i);
      while (length > 0 && list.longest_at(p, folded, at[i], at[i + length]) != at[i + length]) --length;
      if (length > 0) out.push_back({begins[i], ends[i + length - 1], p});
      i += length > 0 ? length : 1;
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

TEST_F(Patterns, AreThoseFoundByHandHoweverTheTextIsCut) {
  base::Rng rng(5);
  const std::vector<std::string> letters = {"a", "b", "ab",           "1", "2", " ", "甲", "乙",
                                            "-", "É", "\xE2\x80\x8B", "ﬃ", "😀"};
  const std::vector<std::string> atoms = {"a",      "b",  "[ab]", "\\d",     ".",  "\\b",  "\\B",       "甲",
                                          "[甲乙]", "a+", "b{2}", "(?:ab)*", "1?", "a|b",  "^",         "$",
                                          "\\s",    "e",  "ffi",  "[^a]",    "-",  "\\w+", "(?:a|甲)+", "\\bb"};
  const auto draw = [&](const std::vector<std::string>& of, std::size_t most) {
    std::string out;
    for (std::size_t n = 1 + rng.below(most); n > 0; --n) out += of[rng.below(of.size())];
    return out;
  };
  std::size_t hits = 0;
  for (int round = 0; round < 150; ++round) {
    std::string file = "@longest " + std::to_string(1 + rng.below(6)) + "\n";
    for (std::size_t want = 1 + rng.below(5), have = 0; have < want;) {
      const std::string line = "x " + draw(atoms, 4) + "\n";
      if (!PatternList::parse(line)) continue;
      file += line;
      ++have;
    }
    const PatternList list = list_of(file);
    const std::string text = draw(letters, 40);
    const auto expected = by_hand(list, text);
    hits += expected.size();
    ASSERT_EQ(hits_in(list, text, text.size() + 1), expected) << file << text;
    ASSERT_EQ(hits_in(list, text, 1), expected) << file << text;
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      PatternScanner scanner(list);
      std::vector<PatternHit> pieces;
      scanner.push(std::string_view(text).substr(0, cut), pieces);
      const std::size_t before = pieces.size();
      const std::uint64_t settled = scanner.settled();
      scanner.push(std::string_view(text).substr(cut), pieces);
      scanner.finish(pieces);
      for (std::size_t i = before; i < pieces.size(); ++i) ASSERT_GE(pieces[i].begin, settled) << file << text;
      std::sort(pieces.begin(), pieces.end());
      ASSERT_EQ(pieces, expected) << file << text << " cut at " << cut;
    }
  }
  EXPECT_GT(hits, 500u);
}

TEST_F(Patterns, OfAGuardTheTextAndTheVerdictAreTheSameHoweverItIsCut) {
  const auto list = list_of("key akia\\d{4,8}\ncode project [a-z]{3,9}\\b\nkilled kill-\\d\n");
  const GuardRules rules{.patterns = {{&list, {GuardAction::kCover, GuardAction::kFlag, GuardAction::kBlock}}}};
  const std::string_view text = "Use AKIA12345 for Project  Zebra; then akia99 and KILL-9 it. Project done";
  for (std::size_t size = 1; size <= text.size(); ++size) {
    TextGuard guard(rules);
    std::vector<GuardFinding> findings;
    std::string out, told;
    for (std::size_t at = 0; at < text.size(); at += size) out += guard.push(text.substr(at, size), findings);
    out += guard.finish(findings);
    for (const auto& one : findings) told += one.kind + " " + one.text + " " + std::to_string(one.line) + ";";
    EXPECT_EQ(out, "Use ********* for Project  Zebra; then akia99 and ");
    EXPECT_EQ(told, "pattern/key AKIA12345 1;pattern/code Project  Zebra 2;pattern/killed KILL-9 3;");
    EXPECT_TRUE(guard.blocked());
  }
}

}  // namespace
}  // namespace qw::governance
