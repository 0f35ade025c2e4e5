#include "data/internal/sieve.h"

#include <gtest/gtest.h>
#include <utf8proc.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>

#include "base/file.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "data/internal/test_files.h"
#include "data/internal/units.h"
#include "data/packing.h"

namespace qw::data {
namespace {

namespace fs = std::filesystem;

TEST(Units, AreWordsAndHanCharacters) {
  const auto units = units_of("The moon, the 月亮!");
  ASSERT_EQ(units.size(), 5u);
  EXPECT_EQ(units[0], units[2]);
  EXPECT_NE(units[3], units[4]);
  EXPECT_EQ(units_of("ÉTÉ"), units_of("été"));
  EXPECT_TRUE(units_of("— … 。\n").empty());
  EXPECT_EQ(runs_of(units, 2).size(), 4u);
  EXPECT_EQ(runs_of(units, 9).size(), 1u);
  const CharacterCounts c = count_characters("ab 月亮, 1");
  EXPECT_EQ(c.all, 6);
  EXPECT_EQ(c.letters, 4);
  EXPECT_EQ(c.han, 2);
}

std::string words(std::uint64_t seed, int n) {
  base::Rng rng(seed);
  std::string text;
  for (int i = 0; i < n; ++i) text += "w" + std::to_string(rng.below(5000)) + (i % 12 == 11 ? "\n" : " ");
  return text;
}

TEST(Rules, NameWhatIsWrong) {
  CleaningRules rules;
  EXPECT_EQ(flaw_of("", rules), Flaw::kNone);
  rules.min_characters = 5;
  rules.max_characters = 400;
  EXPECT_EQ(flaw_of("月 亮", rules), Flaw::kShort);
  EXPECT_EQ(flaw_of("明月松间照", rules), Flaw::kNone);
  EXPECT_EQ(flaw_of(std::string(401, 'x'), rules), Flaw::kLong);
  rules = {};
  rules.min_letters = 0.6;
  EXPECT_EQ(flaw_of("12 | 34 | 56 | a", rules), Flaw::kLetters);
  EXPECT_EQ(flaw_of("twelve, and more", rules), Flaw::kNone);
  rules = {};
  rules.max_repeated_lines = 0.3;
  EXPECT_EQ(flaw_of("menu one\nmenu one\nmenu one\nsome text\n", rules), Flaw::kRepetition);
  EXPECT_EQ(flaw_of("menu one\nmenu two\nmenu three\n\n\n", rules), Flaw::kNone);
  rules = {};
  rules.max_repeated_runs = 0.2;
  const std::string once = words(1, 60);
  EXPECT_EQ(flaw_of(once, rules), Flaw::kNone);
  EXPECT_EQ(flaw_of(once + words(2, 60) + once, rules), Flaw::kRepetition);  // a third of it
  rules = {};
  rules.language = Language::kChinese;
  EXPECT_EQ(flaw_of("床前明月光，疑是地上霜。", rules), Flaw::kNone);
  EXPECT_EQ(flaw_of("これは日本語の文章です", rules), Flaw::kLanguage);
  EXPECT_EQ(flaw_of("an English line", rules), Flaw::kLanguage);
  rules.language = Language::kEnglish;
  EXPECT_EQ(flaw_of("an English line", rules), Flaw::kNone);
  EXPECT_EQ(flaw_of("床前明月光", rules), Flaw::kLanguage);
  EXPECT_EQ(flaw_of(once, rules), Flaw::kLanguage);  // sixty words, and none of the commonest
}

// Two words of 300 spoil ten of 296 runs of five: what stays is 0.93 of all that both texts have.
TEST(NearCopiesOf, ATextAreFoundAndOthersAreNot) {
  NearCopies near(0.8);
  int missed = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const std::string text = words(100 + seed, 300);
    EXPECT_FALSE(near.seen(units_of(text)));
    std::string changed = text;
    for (std::size_t at = 0, word = 0; at != std::string::npos && at < changed.size();
         at = changed.find_first_of(" \n", at + 1), ++word)
      if (word % 150 == 75) changed[at + 1] = 'q';
    missed += near.seen(units_of(changed)) ? 0 : 1;
    EXPECT_TRUE(near.seen(units_of(text)));
  }
  EXPECT_EQ(missed, 0);
}

TEST(Runs, OfAllLengthsAreTheSameWhereverTheyStand) {
  const auto units = units_of(words(3, 40));
  for (const std::size_t n : {1u, 5u, 13u, 40u}) {
    const auto runs = runs_of(units, n);
    ASSERT_EQ(runs.size(), 41 - n);
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const auto from = units.begin() + static_cast<std::ptrdiff_t>(i);
      EXPECT_EQ(runs_of({from, from + static_cast<std::ptrdiff_t>(n)}, n)[0], runs[i]);
    }
  }
  EXPECT_NE(runs_of({1, 2, 3}, 3), runs_of({2, 1, 3}, 3));
}

// Stretch by stretch as the library maps a whole text at once.
TEST(Normalisation, OfStretchesIsThatOfTheWhole) {
  const std::uint32_t codes[] = {'a',    'e',    ' ',    '\n',   0x00E9,  0x0301,  0x0323, 0x0308, 0x200B, 0x1100,
                                 0x1161, 0x11A8, 0xAC00, 0x6708, 0xF900,  0x212B,  0x2126, 0x00BD, 0xFF21, 0x01,
                                 0x85,   0x0344, 0x09C7, 0x09BE, 0x1D15E, 0x1F600, 0x0F71, 0x0F72, 0x3000};
  base::Rng rng(4);
  for (int n = 0; n < 20000; ++n) {
    std::string text, plain;
    for (std::uint64_t i = rng.below(12); i-- > 0;) {
      const std::uint32_t code = codes[rng.below(std::size(codes))];
      base::append_utf8(text, code);
      if (code != 0x200B && code != 0x01 && code != 0x85) base::append_utf8(plain, code);
    }
    for (const auto form : {Normalisation::kNfc, Normalisation::kNfkc}) {
      utf8proc_uint8_t* made = form == Normalisation::kNfc
                                   ? utf8proc_NFC(reinterpret_cast<const utf8proc_uint8_t*>(plain.c_str()))
                                   : utf8proc_NFKC(reinterpret_cast<const utf8proc_uint8_t*>(plain.c_str()));
      std::string ours = text;
      normalise(ours, form);
      ASSERT_EQ(ours, reinterpret_cast<const char*>(made)) << text;
      std::free(made);
    }
  }
}

TEST(LinesOfDocuments, AreCountedExactlyUntilThereAreMoreThanFit) {
  LineCounts counts(64);
  for (int i = 0; i < 20; ++i)
    counts.add("all rights reserved\nshort\nall rights reserved\ntext " + std::to_string(1000 + i) + "\n");
  std::string text = "  all rights reserved\nshort\ntext 1003\n all rights reserved";
  EXPECT_EQ(counts.drop(text, 21), 0u);
  EXPECT_EQ(counts.drop(text, 20), 2u);
  EXPECT_EQ(text, "short\ntext 1003");
  for (int i = 0; i < 3000; ++i)
    counts.add("another line " + std::to_string(i) + (i % 2 == 0 ? "\nall rights reserved" : ""));
  text = "all rights reserved\nanother line 2999";
  EXPECT_EQ(counts.drop(text, 1521), 0u);  // never more than there were
  EXPECT_EQ(counts.drop(text, 1520 - 4540 / 32 - 1), 1u);
  EXPECT_EQ(text, "another line 2999");
}

class SieveTest : public test::DataTest {};

TEST_F(SieveTest, DropsAndReplacesAndTellsTheLedger) {
  const std::string secret = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen";
  fs::create_directories(folder_ / "eval");
  write("eval/test.jsonl", R"({"question":")" + secret + R"(","answer":7})");
  const std::string kept = words(7, 200);
  std::string near = kept;
  near.replace(near.find("w"), 1, "q");
  fs::create_directories(folder_ / "texts/more");
  write("texts/a.txt", kept + "\n\nas it says, " + secret + ", and so on\n\nok\n\n" + near + "\n\n");
  const std::string second = words(8, 100) + "\nwrite to a@b.org\x01 or to c@d.org";
  std::vector<Bytef> packed(second.size() + 1024);
  z_stream z{};
  ASSERT_EQ(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(second.data()));
  z.avail_in = static_cast<uInt>(second.size());
  z.next_out = packed.data();
  z.avail_out = static_cast<uInt>(packed.size());
  ASSERT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  write("texts/more/b.txt.gz", {reinterpret_cast<const char*>(packed.data()), z.total_out});
  // Cut short, it is no shorter text.
  write("cut.gz", {reinterpret_cast<const char*>(packed.data()), z.total_out / 2});
  deflateEnd(&z);
  EXPECT_FALSE([&] {
    auto reader = *DocumentReader::open(folder_ / "cut.gz", {});
    Document document;
    for (;;) {
      const auto more = reader.next(document);
      if (!more) return false;
      if (!*more) return true;
    }
  }());
  const auto object =
      config_of("near_copies = 0.8\nkeep_out = ['" + (folder_ / "eval").string() + "']\n", 280, R"([[source]]
name = "texts"
path = "texts"
licence = "CC0"
origin = "test"
[source.clean]
unicode = "nfc"
min_characters = 5
personal_data = "mail"
)");
  auto config = *data_config(object, folder_);
  EXPECT_FALSE(build_data(config, {}));  // nobody finds personal data
  config.scrubber = [](const std::string& kinds) -> Result<Scrubber> {
    EXPECT_EQ(kinds, "mail");
    return [](std::string& text) -> std::uint64_t {
      std::uint64_t n = 0;
      for (const char* mail : {"a@b.org", "c@d.org"})
        if (const auto at = text.find(mail); at != std::string::npos) text.replace(at, 7, "[mail]"), ++n;
      return n;
    };
  };
  const auto ledger = build_data(config, {});
  ASSERT_TRUE(ledger) << ledger.error().message;
  const json::Value& source = ledger->find("sources")->as_array()[0];
  EXPECT_EQ(source.find("files")->as_array().size(), 2u);
  const json::Value* dropped = source.find("dropped");
  ASSERT_NE(dropped, nullptr);
  EXPECT_EQ(dropped->find("held_out_elsewhere")->as_int(), 1);
  EXPECT_EQ(dropped->find("near_copies")->as_int(), 1);
  EXPECT_EQ(dropped->find("too_short")->as_int(), 1);
  EXPECT_EQ(source.find("personal_data_replaced")->as_int(), 2);
  EXPECT_EQ(source.find("train")->find("documents")->as_int(), 2);
  const auto dataset = *open_dataset(folder_ / "out");
  const auto tokenizer = *tokenizer::Tokenizer::create(*tokenizer::load_tokenizer_folder(folder_ / "tok"));
  const auto& shard = dataset.train[0].shard;
  std::vector<TokenId> ids;
  for (auto at = shard.begin(1); at + 1 < shard.end(1); ++at) ids.push_back(shard.token(at));
  const std::string text = tokenizer.decode(ids);
  EXPECT_TRUE(text.ends_with("\nwrite to [mail] or to [mail]")) << text;
}

// More documents than fit a batch, of which some are copies, near copies, boilerplate and others' texts.
TEST_F(SieveTest, AnyNumberOfThreadsMakesTheSameBytes) {
  fs::create_directories(folder_ / "eval");
  std::string secret = words(5003, 20);  // of two lines
  std::replace(secret.begin(), secret.end(), '\n', ' ');
  write("eval/test.txt", secret);
  std::string text, rest;
  for (int i = 0; i < 5000; ++i) {
    const int like = i % 10 == 9 ? i - 5 : i;
    std::string one = words(static_cast<std::uint64_t>(like), 13 + like % 10);
    if (like % 50 == 3) one = words(static_cast<std::uint64_t>(like), 5) + secret;
    one += "mail a@b.org " + std::to_string(like);
    if (i % 7 == 0) one += "\nall rights of this page are reserved";
    (i < 4800 ? text : rest) += one + "\n\n";
  }
  write("a.txt", text);
  write_xz("b.txt.xz", rest);
  const auto object =
      config_of("near_copies = 0.7\nkeep_out = ['" + (folder_ / "eval").string() + "']\n", 300, R"([[source]]
name = "first"
path = ["a.txt", "b.txt.xz"]
licence = "CC0"
origin = "test"
heldout_tail = 0.1
max_documents = 4300
[source.clean]
unicode = "nfkc"
max_repeated_runs = 0.5
boilerplate_documents = 20
personal_data = "mail"
[[source]]
name = "second"
path = "b.txt.xz"
licence = "CC0"
origin = "test"
in_tokenizer = false
)");
  std::vector<std::string> files;
  for (const int threads : {1, 3}) {
    fs::remove_all(folder_ / "out");
    auto config = *data_config(object, folder_);
    config.threads = threads;
    config.scrubber = [](const std::string&) -> Result<Scrubber> {
      return [](std::string& in) -> std::uint64_t {
        const auto at = in.find("a@b.org");
        if (at == std::string::npos) return 0;
        in.replace(at, 7, "[mail]");
        return 1;
      };
    };
    const auto ledger = build_data(config, {});
    ASSERT_TRUE(ledger) << ledger.error().message;
    const json::Value& source = ledger->find("sources")->as_array()[0];
    EXPECT_EQ(source.find("train")->find("documents")->as_int() + source.find("heldout")->find("documents")->as_int(),
              4300);
    for (const char* flaw : {"near_copies", "held_out_elsewhere"}) {
      const json::Value* dropped = source.find("dropped") == nullptr ? nullptr : source.find("dropped")->find(flaw);
      EXPECT_GT(dropped == nullptr ? 0 : dropped->as_int(), 10) << flaw;
    }
    EXPECT_GT(source.find("duplicates_dropped")->as_int(), 10);
    EXPECT_EQ(source.find("personal_data_replaced")->as_int(), 4300);
    EXPECT_GT(source.find("boilerplate_lines_dropped")->as_int(), 500);
    for (const char* name : {"first.train.shard", "first.heldout.shard", "second.train.shard", "ledger.json"})
      files.push_back(*base::read_file(folder_ / "out" / name));
  }
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(files[i], files[i + 4]) << i;
}

}  // namespace
}  // namespace qw::data
