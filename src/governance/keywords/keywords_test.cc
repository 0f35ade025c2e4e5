// Keywords in texts: found however they are written, in pieces as in one, and as a plain search finds them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "base/rng.h"
#include "governance/keywords/keyword_scanner.h"

namespace qw::governance {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

KeywordList list_of(std::string_view file) {
  auto list = KeywordList::parse(file);
  EXPECT_TRUE(list.has_value()) << list.error().message;
  return std::move(*list);
}

std::vector<KeywordHit> hits_in(const KeywordList& list, std::string_view text) {
  std::vector<KeywordHit> out;
  KeywordScanner scanner(list);
  scanner.push(text, out);
  scanner.finish(out);
  return out;
}
// "category:what was found" of each hit.
std::vector<std::string> found(const KeywordList& list, std::string_view text) {
  std::vector<std::string> out;
  for (const auto& hit : hits_in(list, text))
    out.push_back(list.categories()[hit.category] + ":" + std::string(text.substr(hit.begin, hit.end - hit.begin)));
  return out;
}

TEST(Keywords, AreFoundWholeAndWhateverTheirCaseOrForm) {
  const auto list = list_of("# a comment\n[hate]\nass\nBad  Phrase\n\n[violence]\n杀人\nстрела\n[hate]\nnumber 9\n");
  EXPECT_THAT(found(list, "an ASS."), ElementsAre("hate:ASS"));
  EXPECT_THAT(found(list, "a class of assets"), IsEmpty());
  EXPECT_THAT(found(list, "ａｓｓ"), ElementsAre("hate:ａｓｓ"));
  EXPECT_THAT(found(list, "a\xE2\x80\x8Bs\xC2\xADs"), ElementsAre("hate:a\xE2\x80\x8Bs\xC2\xADs"));  // zero width
  EXPECT_THAT(found(list, "àśs"), ElementsAre("hate:àśs"));
  EXPECT_THAT(found(list, "аѕѕ"), ElementsAre("hate:аѕѕ"));  // Cyrillic
  EXPECT_THAT(found(list, "bad\n\t phrase"), ElementsAre("hate:bad\n\t phrase"));
  EXPECT_THAT(found(list, "badphrase"), IsEmpty());
  EXPECT_THAT(found(list, "他要杀人了"), ElementsAre("violence:杀人"));
  EXPECT_THAT(found(list, "СТРЕЛА"), ElementsAre("violence:СТРЕЛА"));
  EXPECT_THAT(found(list, "застрелала"), IsEmpty());
  EXPECT_THAT(found(list, "number 9, number 99"), ElementsAre("hate:number 9"));
  EXPECT_THAT(found(list, "\xFF ass \xC3"), ElementsAre("hate:ass"));  // what is no UTF-8 hides nothing
  EXPECT_THAT(found(list, "杀人ass"), ElementsAre("violence:杀人", "hate:ass"));
  EXPECT_THAT(found(list, ""), IsEmpty());
}

TEST(Keywords, HideBehindNothingThatStandsBetweenTheirCharacters) {
  const auto list = list_of("[x]\n炸药\nbomb\n");
  for (const char* text : {"炸 药", "炸*药", "炸😀药", "炸.\n药", "炸_-|药", "炸\xE2\x80\x8D药"})
    EXPECT_EQ(hits_in(list, text).size(), 1u) << text;
  EXPECT_THAT(found(list, "说炸，药"), IsEmpty());     // two clauses
  EXPECT_THAT(found(list, "炸 . . . 药"), IsEmpty());  // too far apart
  for (const char* text : {"b o m b", "b.o.m.b", "a b-o_m*b", "B  O  M  B!"})
    EXPECT_EQ(hits_in(list, text).size(), 1u) << text;
  EXPECT_THAT(found(list, "plan b o m g"), IsEmpty());
  EXPECT_THAT(found(list, "xb o m b"), IsEmpty());
  EXPECT_THAT(found(list, "b, o, m, b"), ElementsAre("x:b, o, m, b"));
}

TEST(Keywords, OfOneCategoryTheLongestIsFoundAndExceptionsHide) {
  const auto list = list_of("[a]\n一二三四\n二三\n三四五\n[b]\n二三\n[except]\nbomb squad\n十一二三四\n[c]\nbomb\n");
  EXPECT_THAT(found(list, "一二三四五"), ElementsAre("a:一二三四", "b:二三", "a:三四五"));
  EXPECT_THAT(found(list, "一二三五"), ElementsAre("a:二三", "b:二三"));
  EXPECT_THAT(found(list, "十一二三四"), IsEmpty());
  EXPECT_THAT(found(list, "the bomb squad, the bomb squads, a bomb"), ElementsAre("c:bomb", "c:bomb"));
}

TEST(Keywords, TraditionalAndPinyinAreViewsThatAreAskedFor) {
  const auto made = KeywordList::parse("@traditional\n@pinyin\n[x]\n法轮车\n");
  if (!made && made.error().kind == ErrorKind::kUsage) GTEST_SKIP() << "built without ICU";
  ASSERT_TRUE(made.has_value()) << made.error().message;
  EXPECT_THAT(found(*made, "法輪車。fa lun che, FALUNCHE, falunchen"),
              ElementsAre("x:法輪車", "x:fa lun che", "x:FALUNCHE"));
  EXPECT_THAT(found(list_of("[x]\n法轮车\n"), "法輪車 falunche"), IsEmpty());
}

TEST(Keywords, FilesThatMakeNoSenseNameTheLine) {
  const auto error = [](std::string_view file) {
    const auto made = KeywordList::parse(file);
    return made ? std::string("fine") : made.error().message;
  };
  EXPECT_EQ(error(""), "line 0: there are no words");
  EXPECT_EQ(error("word\n"), "line 1: a word before the first [category]");
  EXPECT_EQ(error("[a]\n[b]\nw\n"), "line 2: the list before has no words");
  EXPECT_EQ(error("[a]\nw\n[b]\n"), "line 3: there are no words");
  EXPECT_EQ(error("[]\nw"), "line 1: a category is written as [name]");
  EXPECT_EQ(error("[a]\n\xFF\n"), "line 2: this is no UTF-8");
  EXPECT_EQ(error("[a]\n\xE2\x80\x8B\n"), "line 2: nothing of this word is compared");
  EXPECT_EQ(error("[a]\n" + std::string(300, 'x')), "line 2: a word has at most 256 characters");
  EXPECT_EQ(error("@fast\n[a]\nb"), "line 1: known are @traditional and @pinyin");
  EXPECT_EQ(error("[a]\nb\n@pinyin"), "line 3: what begins with @ stands before the first list");
}

// Symbols of a text and where they begin and end.
struct Spelt {
  std::vector<Symbol> symbols;
  std::vector<std::uint64_t> begins, ends;
};
Spelt spelt(const KeywordList& list, std::string_view text) {
  Spelt out;
  SymbolStream stream(list.folding());
  const auto take = [&](Symbol symbol, std::uint64_t begin, std::uint64_t end) {
    out.symbols.push_back(symbol);
    out.begins.push_back(begin);
    out.ends.push_back(end);
  };
  stream.push(text, take);
  stream.finish(take);
  return out;
}

// Every keyword at every place, without the ones inside longer ones.
std::vector<KeywordHit> plainly(const KeywordList& list, const std::vector<std::string>& keywords,
                                std::string_view text) {
  const Spelt in = spelt(list, text);
  const auto word = [&](std::size_t i) { return i < in.symbols.size() && in.symbols[i].kind() == SymbolKind::kWord; };
  std::vector<KeywordHit> all;
  for (std::uint32_t k = 0; k < keywords.size(); ++k) {
    const Spelt sought = spelt(list, keywords[k]);
    const std::size_t n = sought.symbols.size();
    for (std::size_t at = 0; at + n <= in.symbols.size(); ++at) {
      if (!std::equal(sought.symbols.begin(), sought.symbols.end(),
                      in.symbols.begin() + static_cast<std::ptrdiff_t>(at)))
        continue;
      if (at > 0 && word(at - 1) && word(at)) continue;
      if (word(at + n - 1) && word(at + n)) continue;
      all.push_back({in.begins[at], in.ends[at + n - 1], list.category_of(k), k});
    }
  }
  std::vector<KeywordHit> out;
  for (const auto& one : all)
    if (std::none_of(all.begin(), all.end(), [&](const auto& other) {
          return other.begin <= one.begin && other.end >= one.end && other.end - other.begin > one.end - one.begin;
        }))
      out.push_back(one);
  return out;
}

TEST(Keywords, AreThoseOfAPlainSearchHoweverTheTextIsCut) {
  base::Rng rng(7);
  const KeywordList plain = list_of("[x]\nq");
  std::size_t hits = 0;
  for (int round = 0; round < 200; ++round) {
    // With letters that stand alone, keywords of two symbols; without, of up to eight.
    const bool alone = round % 2 == 0;
    const std::vector<std::string> letters =
        alone ? std::vector<std::string>{"a", "b", "c", "ab", " ", "甲", "乙", "丙", ".", "，", "É", "\xE2\x80\x8B"}
              : std::vector<std::string>{"ab", "ba", "abaab", "bb", " ", "甲", "乙", "，", "甲乙"};
    const auto draw = [&](std::size_t most) {
      std::string out;
      for (std::size_t n = 1 + rng.below(most); n > 0; --n) out += letters[rng.below(letters.size())];
      return out;
    };
    std::vector<std::string> keywords;
    std::string file = "[x]\n";
    while (keywords.size() < 6) {
      const std::string word = draw(3);
      // Blanks at its ends are no part of a word; one twice is found once.
      const auto symbols = spelt(plain, word).symbols;
      if (symbols.empty() || (alone && symbols.size() != 2) || symbols.front().code() == ' ' ||
          symbols.back().code() == ' ' || std::find(keywords.begin(), keywords.end(), word) != keywords.end())
        continue;
      keywords.push_back(word);
      file += word + "\n";
    }
    const KeywordList list = list_of(file);
    const std::string text = draw(80);
    const auto whole = hits_in(list, text);
    auto expected = plainly(list, keywords, text), sorted = whole;
    const auto place = [](const KeywordHit& a, const KeywordHit& b) {
      return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
    };
    std::sort(expected.begin(), expected.end(), place);
    std::sort(sorted.begin(), sorted.end(), place);
    const auto same = [](const KeywordHit& a, const KeywordHit& b) { return a.begin == b.begin && a.end == b.end; };
    expected.erase(std::unique(expected.begin(), expected.end(), same), expected.end());
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), sorted.begin(), sorted.end(), same)) << file << "\n"
                                                                                                  << text;
    hits += whole.size();
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      KeywordScanner scanner(list);
      std::vector<KeywordHit> pieces;
      scanner.push(std::string_view(text).substr(0, cut), pieces);
      const std::size_t before = pieces.size();
      const std::uint64_t settled = scanner.settled();
      scanner.push(std::string_view(text).substr(cut), pieces);
      scanner.finish(pieces);
      ASSERT_EQ(pieces, whole) << file << "\n" << text << " cut at " << cut;
      for (std::size_t i = before; i < pieces.size(); ++i) ASSERT_GE(pieces[i].begin, settled);
    }
  }
  EXPECT_GT(hits, 100u);
}

// Long pieces take another way through the text than short ones, and may end anywhere.
TEST(Keywords, LongPiecesGiveWhatSymbolsOneByOneGive) {
  base::Rng rng(11);
  const std::vector<std::string> letters = {"a", "b", "ab", "ba",           "abaab", "bb", "longer",
                                            " ", " ", "甲", "乙",           "丙",    "，", "甲乙丙丁",
                                            ".", "*", "É",  "\xE2\x80\x8B", "ﬃ",     "2",  "c "};
  const auto draw = [&](std::size_t count) {
    std::string out;
    for (; count > 0; --count) out += letters[rng.below(letters.size())];
    return out;
  };
  std::size_t hits = 0;
  for (int round = 0; round < 60; ++round) {
    std::string file = "[x]\nabaab bb\n";
    for (int i = 0; i < 30; ++i)
      file += (i == 10   ? "[y]\n"
               : i == 25 ? "[except]\n"
                         : "") +
              ("甲" + draw(1 + rng.below(6))) + "\n" + "ab" + draw(rng.below(5)) + "x\n";
    file += "[z]\nabb\na b\n甲\n乙丙\n.乙\n";
    const KeywordList list = list_of(file);
    const std::string text = draw(round % 4 == 0 ? 6000 : 1500);
    std::vector<KeywordHit> expected;
    KeywordScanner slow(list);
    for (const char byte : text) slow.push({&byte, 1}, expected);
    slow.finish(expected);
    for (const std::size_t most : {100, 700, 15000}) {
      std::vector<KeywordHit> got, one_by_one;
      KeywordScanner scanner(list), beside(list);
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t size = std::min(1 + rng.below(most), text.size() - at);
        scanner.push(std::string_view(text).substr(at, size), got);
        for (std::size_t i = at; i < at + size; ++i) beside.push(std::string_view(text).substr(i, 1), one_by_one);
        at += size;
        ASSERT_EQ(scanner.settled(), beside.settled()) << file << "\n" << text.substr(0, at);
        ASSERT_EQ(got, one_by_one) << file << "\n" << text.substr(0, at);
      }
      scanner.finish(got);
      ASSERT_EQ(got, expected) << file << "\n" << text;
    }
    hits += expected.size();
  }
  EXPECT_GT(hits, 1000u);
}

TEST(Keywords, NothingIsHeldBackThatBeginsNoKeyword) {
  const auto list = list_of("[x]\n炸药\nbomb\n");
  std::vector<KeywordHit> hits;
  KeywordScanner scanner(list);
  const auto settled = [&](std::string_view text) {
    scanner.push(text, hits);
    return scanner.settled();
  };
  EXPECT_EQ(settled("hello wor"), 9u);
  EXPECT_EQ(settled("ld bo"), 12u);  // "bo" may be one
  EXPECT_EQ(settled("at 中"), 20u);
  EXPECT_EQ(settled("炸"), 20u);
  EXPECT_EQ(settled("鱼"), 26u);
  EXPECT_EQ(settled(" bomb"), 27u);
  EXPECT_THAT(hits, IsEmpty());  // "bombs" would be none
  EXPECT_EQ(settled("!"), 32u);
  EXPECT_EQ(hits.size(), 1u);
}

}  // namespace
}  // namespace qw::governance
