#include "data/internal/sieve.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/internal/test_files.h"
#include "data/internal/units.h"
#include "data/packing.h"

namespace qw::data {
namespace {

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

}  // namespace
}  // namespace qw::data
