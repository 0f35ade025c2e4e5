#include "tokenizer/internal/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "base/utf8.h"
#include "tokenizer/test_texts.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> pieces(std::string_view text, std::string_view name = "qwen2") {
  std::vector<std::string> out;
  pre_tokenize(name, text, [&](std::string_view p) { out.emplace_back(p); });
  return out;
}

// What the scanner and the NFC check pass over without asking the tables.
TEST(PreTokenizer, ShortCutsAgreeWithTheTables) {
  const Unicode& tables = Unicode::tables();
  for (std::uint32_t code = 0x4E00; code < 0xA000; ++code) ASSERT_EQ(tables.class_of(code), CharClass::kLetter) << code;
  for (std::uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text(code % 40, 'x');
    base::append_utf8(text, code);
    ASSERT_EQ(surely_nfc(text), !tables.unstable(code)) << code;
    ASSERT_EQ(surely_nfc(text + std::string(20, 'x')), !tables.unstable(code)) << code;
  }
}

TEST(PreTokenizer, RunsOfAllLengthsEndWhereTheyEnd) {
  for (std::size_t n = 1; n < 70; ++n) {
    for (const std::string end : {"", ".", "@", "[", "`", "{", "1", "\x80", "\xC3"}) {
      const std::string letters(n, n % 2 == 0 ? 'z' : 'A');
      ASSERT_EQ(pieces(letters + end).front(), letters) << end;
      const std::string blanks(n, ' ');
      ASSERT_EQ(pieces(blanks + "1"),
                n == 1 ? (std::vector<std::string>{" ", "1"}) : (std::vector<std::string>{blanks.substr(1), " ", "1"}));
      std::string han;
      for (std::size_t i = 0; i < n; ++i) han += i % 3 == 0 ? "\u4E00" : i % 3 == 1 ? "\u9FFF" : "\u6625";
      ASSERT_EQ(pieces(han + end).front(), han) << end;
      ASSERT_EQ(pieces(letters + han + letters + end).front(), letters + han + letters) << end;
    }
  }
}

TEST(PreTokenizer, DigitsStandAlone) { EXPECT_THAT(pieces("a12 3"), ElementsAre("a", "1", "2", " ", "3")); }

TEST(PreTokenizer, LettersTakeOneCharacterInFront) {
  EXPECT_THAT(pieces(" the (cat"), ElementsAre(" the", " (", "cat"));
  EXPECT_THAT(pieces("(cat"), ElementsAre("(cat"));
  EXPECT_THAT(pieces("\tx"), ElementsAre("\tx"));
  EXPECT_THAT(pieces("\nx"), ElementsAre("\n", "x"));
  EXPECT_THAT(pieces("，白日依山尽，黄河"), ElementsAre("，白日依山尽", "，黄河"));
}

TEST(PreTokenizer, ContractionsInAnyCase) {
  EXPECT_THAT(pieces("it's I'LL don'T"), ElementsAre("it", "'s", " I", "'LL", " don", "'T"));
  EXPECT_THAT(pieces("x'\u017F"), ElementsAre("x", "'\u017F"));
  EXPECT_THAT(pieces("'v 'x"), ElementsAre("'v", " '", "x"));
}

TEST(PreTokenizer, SpaceLeavesItsLastCharacterToTheNextPiece) {
  EXPECT_THAT(pieces("a   b"), ElementsAre("a", "  ", " b"));
  EXPECT_THAT(pieces("a   1"), ElementsAre("a", "  ", " ", "1"));
  EXPECT_THAT(pieces("a   "), ElementsAre("a", "   "));
  EXPECT_THAT(pieces("a \n \n  b"), ElementsAre("a", " \n \n", " ", " b"));
  EXPECT_THAT(pieces("x !\n\n y"), ElementsAre("x", " !\n\n", " y"));
}

TEST(PreTokenizer, MarksJoinWordsInQwen35Only) {
  EXPECT_THAT(pieces("e\u0338f"), ElementsAre("e", "\u0338f"));
  EXPECT_THAT(pieces("e\u0338f", "qwen35"), ElementsAre("e\u0338f"));
  EXPECT_THAT(pieces("\u0338\u0338", "qwen35"), ElementsAre("\u0338\u0338"));
  EXPECT_THAT(pieces(" \u0338!", "qwen2"), ElementsAre(" \u0338!"));
  EXPECT_THAT(pieces(" \u0338!", "qwen35"), ElementsAre(" \u0338", "!"));
}

TEST(PreTokenizer, InvalidBytesCountAsPunctuation) {
  EXPECT_THAT(pieces("a\xFF\xE6\x98 b"), ElementsAre("a", "\xFF\xE6\x98", " b"));
  EXPECT_THAT(pieces("\xED\xA0\x80x"), ElementsAre("\xED\xA0\x80", "x"));
}

TEST(PreTokenizer, EveryByteIsInOnePiece) {
  base::Rng rng(1);
  for (int i = 0; i < 5000; ++i) {
    const std::string text = random_bytes(rng, 20);
    for (const char* name : {"qwen2", "qwen35"}) {
      std::string joined;
      for (const auto& p : pieces(text, name)) joined += p;
      ASSERT_EQ(joined, text);
    }
  }
}

// PCRE2 as an oracle. Its Unicode version is another, so characters on whose class the two disagree are left out.
class Regex {
 public:
  explicit Regex(std::string_view pattern) {
    int error = 0;
    PCRE2_SIZE at = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error,
                          &at, nullptr);
    QW_CHECK(code_ != nullptr);
    match_ = pcre2_match_data_create(1, nullptr);
  }
  ~Regex() {
    pcre2_match_data_free(match_);
    pcre2_code_free(code_);
  }
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  std::vector<std::string> all(const std::string& text) const {
    std::vector<std::string> out;
    for (std::size_t at = 0; at < text.size();) {
      if (pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, 0, match_, nullptr) < 0) break;
      const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match_);
      out.push_back(text.substr(bounds[0], bounds[1] - bounds[0]));
      at = bounds[1];
    }
    return out;
  }
  bool matches(const std::string& text) const { return all(text).size() == 1; }

 private:
  pcre2_code* code_;
  pcre2_match_data* match_;
};

std::string utf8(std::uint32_t code) {
  std::string out;
  base::append_utf8(out, code);
  return out;
}

std::vector<bool> classes_agree() {
  const Regex letter(R"(\A\p{L}\z)"), number(R"(\A\p{N}\z)"), space(R"(\A\s\z)"), mark(R"(\A\p{M}\z)");
  std::vector<bool> agree(0x110000);
  for (std::uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    const std::string c = utf8(code);
    const CharClass ours = Unicode::tables().class_of(code);
    agree[code] = letter.matches(c) == (ours == CharClass::kLetter) &&
                  number.matches(c) == (ours == CharClass::kNumber) &&
                  space.matches(c) == (ours == CharClass::kSpace) && mark.matches(c) == (ours == CharClass::kMark);
  }
  return agree;
}

TEST(PreTokenizer, AgreesWithTheRegex) {
  const std::vector<bool> agree = classes_agree();
  // 0x110000 - 2048 code points; Unicode 15 and 16, which PCRE2 may lack, added 4489 + 5185 characters.
  EXPECT_LT(std::count(agree.begin(), agree.end(), false), 2048 + 10000);
  for (const PreTokenizer kind : {PreTokenizer::kQwen2, PreTokenizer::kQwen35}) {
    const Regex regex(pre_tokenizer_regex(kind));
    base::Rng rng(7, static_cast<std::uint64_t>(kind));
    int compared = 0;
    for (int i = 0; i < 30000; ++i) {
      const std::string text = random_text(rng, 12);
      bool known = true;
      for (std::size_t at = 0; at < text.size();) {
        const base::Utf8Char c = base::utf8_at(text, at);
        known = known && agree[c.code];
        at += c.size;
      }
      if (!known) continue;
      ++compared;
      ASSERT_EQ(pieces(text, pre_tokenizer_name(kind)), regex.all(text)) << text;
    }
    EXPECT_GT(compared, 20000);
  }
}

// Where pieces begin by marks(), and by next() where marks() tells nothing.
std::vector<std::size_t> marked_starts(PreTokenizer kind, std::string_view text) {
  std::vector<std::size_t> starts;
  PieceScanner scanner(kind, text);
  while (scanner.left() >= PieceScanner::kMarkBytes) {
    const auto at = static_cast<std::size_t>(scanner.position() - text.data());
    const PieceScanner::Marks marks = scanner.marks();
    QW_CHECK((marks.starts & 1) != 0);
    starts.push_back(at);
    if (marks.starts == 1) {
      scanner.next();
      continue;
    }
    const int last = std::bit_width(marks.starts) - 1;
    for (int i = 1; i < last; ++i) {
      if (((marks.starts >> i) & 1) != 0) starts.push_back(at + static_cast<std::size_t>(i));
    }
    scanner.skip(static_cast<std::size_t>(last));
  }
  for (; scanner.left() > 0; scanner.next()) {
    starts.push_back(static_cast<std::size_t>(scanner.position() - text.data()));
  }
  return starts;
}

std::vector<std::size_t> starts_one_by_one(PreTokenizer kind, std::string_view text) {
  std::vector<std::size_t> starts;
  for (PieceScanner scanner(kind, text); scanner.left() > 0; scanner.next()) {
    starts.push_back(static_cast<std::size_t>(scanner.position() - text.data()));
  }
  return starts;
}

TEST(PreTokenizer, MarksAreWherePiecesBegin) {
  base::Rng rng(19);
  for (int i = 0; i < 40000; ++i) {
    std::string text;
    // Few kinds of characters make long runs and many seams of the same two.
    if (i % 4 == 0) {
      text = random_bytes(rng, 80);
    } else if (i % 4 == 1) {
      text = random_text(rng, 80);
    } else {
      const std::string few[] = {random_text(rng, 1), random_text(rng, 1), random_text(rng, 1)};
      while (text.size() < 200) text += few[rng.below(i % 4)];
    }
    for (const PreTokenizer kind : {PreTokenizer::kQwen2, PreTokenizer::kQwen35}) {
      ASSERT_EQ(marked_starts(kind, text), starts_one_by_one(kind, text)) << text;
    }
  }
}

// What lies behind a beginning of a word has no say in what is found from there on.
TEST(PreTokenizer, WordsMayBeCutAnywhere) {
  base::Rng rng(20);
  for (int i = 0; i < 5000; ++i) {
    const std::string text = random_text(rng, 60);
    for (const PreTokenizer kind : {PreTokenizer::kQwen2, PreTokenizer::kQwen35}) {
      PieceScanner scanner(kind, text);
      if (scanner.left() < PieceScanner::kMarkBytes) continue;
      const PieceScanner::Marks marks = scanner.marks();
      const auto starts = starts_one_by_one(kind, text);
      for (std::uint64_t bits = marks.words & marks.threes & ~marks.starts; bits != 0; bits &= bits - 1) {
        const auto at = static_cast<std::size_t>(std::countr_zero(bits));
        if (at > static_cast<std::size_t>(std::bit_width(marks.starts))) break;
        std::vector<std::size_t> rest(std::upper_bound(starts.begin(), starts.end(), at), starts.end());
        for (std::size_t& start : rest) start -= at;
        rest.insert(rest.begin(), 0);
        ASSERT_EQ(starts_one_by_one(kind, std::string_view(text).substr(at)), rest) << text << " at " << at;
      }
    }
  }
}

std::string nfc_by_utf8proc(const std::string& text) {
  utf8proc_uint8_t* out = nullptr;
  const auto size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &out, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  QW_CHECK(size >= 0);
  std::string result(reinterpret_cast<const char*>(out), static_cast<std::size_t>(size));
  std::free(out);
  return result;
}

// utf8proc as an oracle, on the characters that both know.
TEST(Nfc, AgreesWithUtf8proc) {
  std::vector<bool> agree(0x110000);
  for (std::uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    const std::string c = utf8(code), around = "x\u0345" + c + "\u0334";
    agree[code] = to_nfc(c) == nfc_by_utf8proc(c) && to_nfc(around) == nfc_by_utf8proc(around);
    ASSERT_TRUE(!surely_nfc(c) || to_nfc(c) == c);
  }
  // The reference's tables are of Unicode 9; since then some 120 marks were added (and Unicode 16 is not in utf8proc).
  EXPECT_LT(std::count(agree.begin(), agree.end(), false), 2048 + 300);
  base::Rng rng(3);
  for (int i = 0; i < 30000; ++i) {
    std::string text;
    for (std::uint64_t n = 1 + rng.below(8); n > 0; --n) {
      std::string part = random_text(rng, 2);
      bool known = true;
      for (std::size_t at = 0; at < part.size(); at += base::utf8_at(part, at).size)
        known = known && agree[base::utf8_at(part, at).code];
      if (known) text += part;
    }
    ASSERT_EQ(to_nfc(text), nfc_by_utf8proc(text)) << text;
    ASSERT_TRUE(!surely_nfc(text) || to_nfc(text) == text);
  }
}

TEST(Nfc, InvalidBytesStayAndSeparate) {
  EXPECT_EQ(to_nfc("e\xFF\u0301"), "e\xFF\u0301");
  EXPECT_EQ(to_nfc("e\u0301\xE6\x98"), "\u00E9\xE6\x98");
  EXPECT_EQ(to_nfc("\u0301\xFF"
                   "e\u0301"),
            "\u0301\xFF\u00E9");
}

TEST(Nfc, MarksInReverseOrderTakeNoQuadraticTime) {
  std::string text = "a", sorted = "a";
  for (int i = 0; i < 100000; ++i) text += "\u0308", sorted += "\u0316";
  for (int i = 0; i < 100000; ++i) text += "\u0316";
  const std::string out = to_nfc(text);  // a + 200000 marks: the lower class first, then a-umlaut is blocked no more
  EXPECT_EQ(out.substr(0, 6), "\u00E4\u0316\u0316");
  EXPECT_EQ(out.size(), text.size() - 1);
}

TEST(Utf8, ReplacesMaximalSubparts) {
  const auto valid = [](std::string_view bytes) {
    std::string out;
    EXPECT_EQ(base::append_valid_utf8(out, bytes, true), bytes.size());
    return out;
  };
  // Examples of the Unicode standard, tables 3-8 to 3-11.
  EXPECT_EQ(valid("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
            "A");
  EXPECT_EQ(valid("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
            "A");
  EXPECT_EQ(valid("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
            "A\uFFFD\uFFFD"
            "B");
  EXPECT_EQ(valid("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD"
            "A");
}

}  // namespace
}  // namespace qw::tokenizer
