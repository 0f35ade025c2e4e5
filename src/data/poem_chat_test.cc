#include "data/poem_chat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/rng.h"

namespace qw::data {
namespace {

using testing::ElementsAre;

TEST(PoemChat, ReadsPoemsAndLeavesOutWhatIsNone) {
  const auto poem = parse_poem("《静夜思》李白\n床前明月光，疑是地上霜。\n举头望明月，低头思故乡。");
  ASSERT_TRUE(poem);
  EXPECT_EQ(poem->title, "静夜思");
  EXPECT_EQ(poem->author, "李白");
  EXPECT_THAT(poem->lines, ElementsAre("床前明月光，疑是地上霜。", "举头望明月，低头思故乡。"));
  for (const char* bad : {"", "《》x\na\nb", "静夜思\na\nb", "《a》b", "《a》b\none line", "《a》b\nx□y\nz", "《a"})
    EXPECT_FALSE(parse_poem(bad)) << bad;
}

TEST(PoemChat, AnswersAreVerseOfThePoemAndNeverNameAnAuthor) {
  const auto poem = *parse_poem("《静夜思》李白\n床前明月光，疑是地上霜。\n举头望明月，低头思故乡。");
  std::set<std::string> requests;
  for (std::uint64_t i = 0; i < 300; ++i) {
    base::Rng rng(1, i);
    const auto chat = poem_conversation(poem, rng, {});
    const auto& messages = chat.find("messages")->as_array();
    ASSERT_EQ(messages.size(), 2u);
    EXPECT_EQ(messages[0].find("role")->as_string(), "user");
    const std::string& answer = messages[1].find("content")->as_string();
    EXPECT_EQ(answer.find("李白"), std::string::npos);
    EXPECT_TRUE(answer.find("低头思故乡") != std::string::npos || answer.find("疑是地上霜") != std::string::npos) << answer;
    EXPECT_EQ(messages[0].find("content")->as_string().find('@'), std::string::npos);
    requests.insert(messages[0].find("content")->as_string());
  }
  EXPECT_GT(requests.size(), 15u);
}

}  // namespace
}  // namespace qw::data
