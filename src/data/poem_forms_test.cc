#include "data/poem_forms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "data/build.h"
#include "data/clean_text.h"
#include "data/config_table.h"
#include "data/internal/test_files.h"
#include "data/packing.h"

namespace qw::data {
namespace {

using testing::HasSubstr;

constexpr std::string_view kQuatrain = "《靜夜思》李白\n床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。";

std::optional<PoemForm> form_of(std::string_view text) {
  const auto poem = parse_poem(text);
  return poem ? poem_form(*poem) : std::nullopt;
}

// A poem of so many lines, two phrases of so many characters each.
std::string shaped(std::size_t characters, std::size_t lines, std::string_view mark) {
  std::string phrase, text = "《" + std::string(mark) + "》某";
  for (std::size_t i = 0; i < characters; ++i) phrase += mark;
  for (std::size_t i = 0; i < lines; ++i) text += "\n" + phrase + "，" + phrase + (i % 2 == 0 ? "。" : "？");
  return text;
}

TEST(PoemForms, AreToldByShape) {
  EXPECT_EQ(form_of(kQuatrain), PoemForm::kFiveQuatrain);
  EXPECT_EQ(form_of(shaped(5, 2, "山")), PoemForm::kFiveQuatrain);
  EXPECT_EQ(form_of(shaped(7, 2, "山")), PoemForm::kSevenQuatrain);
  EXPECT_EQ(form_of(shaped(5, 4, "山")), PoemForm::kFiveOctave);
  EXPECT_EQ(form_of(shaped(7, 4, "𠮷")), PoemForm::kSevenOctave);  // outside the basic plane
  for (const auto& text : {shaped(6, 2, "山"), shaped(5, 3, "山"), shaped(5, 6, "山"), shaped(5, 2, "a"),
                           std::string("《a》b\n山山山山山，山山山山山。\n山山山山山，山山山山。"),
                           std::string("《a》b\n山山山山山，山山山山山，山山山山山。\n山山山山山，山山山山山。"),
                           std::string("《a》b\n山山山山山山山山山山。\n山山山山山，山山山山山。")})
    EXPECT_EQ(form_of(text), std::nullopt) << text;
}

TEST(PoemForms, RequestsNameTheFormAndAnswersAreTheVerse) {
  const auto poem = *parse_poem(kQuatrain);
  std::set<std::string> requests;
  for (std::uint64_t i = 0; i < 500; ++i) {
    base::Rng rng(1, i);
    const auto chat = form_conversation(poem, PoemForm::kFiveQuatrain, rng, {});
    const auto& messages = chat.find("messages")->as_array();
    ASSERT_EQ(messages.size(), 2u);
    EXPECT_EQ(messages[1].find("content")->as_string(), "床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。");
    const std::string& request = messages[0].find("content")->as_string();
    EXPECT_TRUE(request.find("五") != std::string::npos || request.find("five-character") != std::string::npos) << request;
    EXPECT_EQ(request.find_first_of("@#"), std::string::npos) << request;
    EXPECT_EQ(request.find("李白"), std::string::npos);
    requests.insert(request);
  }
  EXPECT_GT(requests.size(), 200u);
}

TEST(PoemForms, RequestsComeInBothScripts) {
  auto simplified = HanConverter::create(HanScript::kSimplified);
  auto traditional = HanConverter::create(HanScript::kTraditional);
  if (!simplified) GTEST_SKIP() << simplified.error().message;
  const RequestScripts scripts{&*simplified, &*traditional};
  const auto poem = *parse_poem(kQuatrain);
  int in_simplified = 0, in_traditional = 0;
  for (std::uint64_t i = 0; i < 300; ++i) {
    base::Rng rng(2, i);
    const auto chat = form_conversation(poem, PoemForm::kFiveQuatrain, rng, scripts);
    const std::string& request = chat.find("messages")->as_array()[0].find("content")->as_string();
    in_simplified += request.find("绝") != std::string::npos ? 1 : 0;
    in_traditional += request.find("絕") != std::string::npos ? 1 : 0;
  }
  EXPECT_GT(in_traditional, 40);
  EXPECT_GT(in_simplified, 2 * in_traditional);
}

class PoemSources : public test::DataTest {
 protected:
  json::Object config_object() {
    return config_of("dedup = 'within'\n", 400, R"([[source]]
name = "text"
path = "poems.txt"
licence = "CC0"
origin = "test"
heldout_tail = 0.1
[[source]]
name = "forms"
path = "poems.txt"
format = "poems"
exercises = "forms"
licence = "CC0"
origin = "test"
heldout_tail = 0.1
)");
  }
};

// 400 poems: 10 % are five-character octaves, 30 % seven-character quatrains, the rest nothing of the four; the last
// tenth of the file is octaves only.
std::string mixed_poems() {
  static const char* kMarks[] = {"山", "水", "月", "風", "花", "雪", "雲", "雨"};
  std::string text;
  for (std::size_t i = 0; i < 400; ++i) {
    const bool tail = i >= 360;
    const std::size_t kind = i % 10;
    const std::string mark = std::string(kMarks[i % 8]) + kMarks[i / 8 % 8] + kMarks[i / 64];
    std::string poem = tail || kind == 0 ? shaped(5, 4, "山") : kind < 4 ? shaped(7, 2, "水") : shaped(6, 2, "月");
    poem.replace(poem.find("》某"), 3, "》" + mark);  // no two are the same
    text += poem + "\n\n";
  }
  return text;
}

TEST_F(PoemSources, FormsAreEquallyFrequentAndTheTailOfTheFileStaysUnseen) {
  write("poems.txt", mixed_poems());
  const auto config = data_config(config_object(), folder_);
  ASSERT_TRUE(config) << config.error().message;
  ASSERT_TRUE(build_data(*config, {}));
  const auto dataset = *open_dataset(folder_ / "out");
  const auto tokenizer = *tokenizer::Tokenizer::create(*tokenizer::load_tokenizer_folder(folder_ / "tok"));
  const auto count = [&](const TokenShard& shard) {
    std::map<std::string, int> forms;
    for (std::uint64_t d = 0; d < shard.documents(); ++d) {
      std::vector<TokenId> kept;
      for (auto at = shard.begin(d); at < shard.end(d); ++at)
        if (shard.kept(at)) kept.push_back(shard.token(at));
      ++forms[tokenizer.decode(kept, false).substr(0, 3)];
    }
    return forms;
  };
  ASSERT_EQ(dataset.train.size(), 2u);
  auto train = count(dataset.train[1].shard), heldout = count(dataset.heldout[1].shard);
  EXPECT_EQ(train["山"], 36);                 // 76 octaves in all are the rarest form: every one is used
  EXPECT_EQ(heldout["山"], 40);               // the 40 of the tail, though they are more than a tenth of the exercises
  EXPECT_NEAR(train["水"], 108 * 76 / 108, 15);  // so many of 108 are drawn
  EXPECT_EQ(heldout["水"], 0);
}

TEST_F(PoemSources, ExercisesOfOtherFormatsAreAnError) {
  write("poems.txt", mixed_poems());
  auto object = config_object();
  object = *parse_toml("output = 'x'\n[tokenizer]\nfolder = 't'\n[[source]]\nname = 'a'\npath = 'b'\nlicence = 'c'\n"
                       "origin = 'd'\nexercises = 'forms'\n", "config");
  const auto config = data_config(object, folder_);
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message, HasSubstr("exercises"));
}

}  // namespace
}  // namespace qw::data
