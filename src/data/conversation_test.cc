#include "data/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qw::data {
namespace {

using testing::HasSubstr;

Result<Conversation> read(const char* line, ConversationForm form) { return conversation_of(*json::parse(line), form); }

std::string shown(const json::Object& chat) {
  std::string out;
  for (const json::Value& m : chat.find("messages")->as_array())
    out += m.find("role")->as_string() + ":" + m.find("content")->as_string() + " ";
  return out;
}

TEST(Conversation, ShareGpt) {
  const auto c = read(R"({"system":"be","conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"},)"
                      R"({"from":"observation","value":"c"},{"from":"gpt","value":"d"}],"tools":[{"x":1}]})",
                      ConversationForm::kShareGpt);
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(shown(c->chat), "system:be user:a assistant:b tool:c assistant:d ");
  EXPECT_EQ(c->chat.find("tools")->as_array().size(), 1u);
  EXPECT_EQ(c->context, 0u);
}

TEST(Conversation, Alpaca) {
  const auto c = read(R"({"instruction":"do","input":"this","output":"done","history":[["p","q"]],"system":null})",
                      ConversationForm::kAlpaca);
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(shown(c->chat), "user:p assistant:q user:do\nthis assistant:done ");
  EXPECT_EQ(shown(read(R"({"instruction":"do","output":"done"})", ConversationForm::kAlpaca)->chat),
            "user:do assistant:done ");
}

TEST(Conversation, PromptCompletion) {
  const auto text = read(R"({"prompt":"p","completion":"c"})", ConversationForm::kPromptCompletion);
  EXPECT_EQ(shown(text->chat), "user:p assistant:c ");
  EXPECT_EQ(text->context, 1u);
  const auto messages = read(
      R"({"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],)"
      R"("completion":[{"role":"assistant","content":"d"}]})",
      ConversationForm::kPromptCompletion);
  EXPECT_EQ(shown(messages->chat), "user:a assistant:b user:c assistant:d ");
  EXPECT_EQ(messages->context, 3u);
}

TEST(Conversation, Preference) {
  const char* lines[] = {
      R"({"prompt":"p","chosen":"w","rejected":"l"})",
      R"({"chosen":[{"role":"user","content":"p"},{"role":"assistant","content":"w"}],)"
      R"("rejected":[{"role":"user","content":"p"},{"role":"assistant","content":"l"}]})",
      R"({"input":{"messages":[{"role":"user","content":"p"}]},"preferred_output":[{"role":"assistant","content":"w"}],)"
      R"("non_preferred_output":[{"role":"assistant","content":"l"}]})"};
  for (const char* line : lines) {
    const auto c = read(line, ConversationForm::kPreference);
    ASSERT_TRUE(c) << c.error().message;
    EXPECT_EQ(shown(c->chat), "user:p assistant:w ");
    EXPECT_EQ(shown(c->rejected), "user:p assistant:l ");
    EXPECT_EQ(c->context, 1u);
  }
}

TEST(Conversation, Rated) {
  const auto c = read(R"({"prompt":"p","completion":"c","label":true})", ConversationForm::kRated);
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(shown(c->chat), "user:p assistant:c ");
  EXPECT_EQ(c->context, 1u);
  EXPECT_EQ(c->value, 1.0f);
  EXPECT_EQ(read(R"({"prompt":"p","completion":"c","label":false})", ConversationForm::kRated)->value, 0.0f);
  EXPECT_EQ(read(R"({"prompt":"p","completion":"c","label":1})", ConversationForm::kRated)->value, 1.0f);
}

TEST(Conversation, Classified) {
  const auto text = read(R"({"text":"p","label":"good"})", ConversationForm::kClassified);
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(shown(text->chat), "user:p ");
  EXPECT_EQ(text->label, json::Value("good"));
  const auto talk = read(R"({"messages":[{"role":"user","content":"p"},{"role":"assistant","content":"a"}],"label":2})",
                         ConversationForm::kClassified);
  EXPECT_EQ(shown(talk->chat), "user:p assistant:a ");
  EXPECT_EQ(talk->label, json::Value(2));
}

// What answers are judged by stands where the assistant would answer.
TEST(Conversation, Verified) {
  const auto c = read(R"({"prompt":"2+3?","answer":"so #### 5"})", ConversationForm::kVerified);
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(shown(c->chat), "user:2+3? assistant:so #### 5 ");
  EXPECT_EQ(c->context, 1u);
  EXPECT_EQ(shown(read(R"({"prompt":"p","answer":-7})", ConversationForm::kVerified)->chat), "user:p assistant:-7 ");
  EXPECT_EQ(shown(read(R"({"prompt":"p"})", ConversationForm::kVerified)->chat), "user:p assistant: ");
}

TEST(Conversation, Retrieval) {
  const auto c = read(R"({"query":"q","positive":"p","negatives":["a","b"]})", ConversationForm::kRetrieval);
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->texts, (std::vector<std::string>{"q", "p", "a", "b"}));
  EXPECT_EQ(read(R"({"query":"q","positive":"p"})", ConversationForm::kRanking)->texts.size(), 2u);
}

TEST(Conversation, WhatIsWrongIsNamed) {
  using enum ConversationForm;
  const std::tuple<const char*, ConversationForm, const char*> cases[] = {
      {R"([1])", kAlpaca, "is not an object"},
      {R"({"output":"x"})", kAlpaca, "\"instruction\" is missing"},
      {R"({"instruction":"x","output":3})", kAlpaca, "\"output\" is not a text"},
      {R"({"instruction":"x","output":"y","history":[["a"]]})", kAlpaca, "\"history\""},
      {R"({"conversations":[]})", kShareGpt, "\"conversations\""},
      {R"({"conversations":[{"from":"martian","value":"x"}]})", kShareGpt, "'martian'"},
      {R"({"prompt":"x"})", kPromptCompletion, "\"completion\" is missing"},
      {R"({"prompt":1,"completion":"x"})", kPromptCompletion, "neither a text nor messages"},
      {R"({"prompt":"x","chosen":"y"})", kPreference, "\"rejected\" is missing"},
      {R"({"chosen":"y","rejected":"z"})", kPreference, "needs a prompt"},
      {R"({"chosen":[{"role":"user","content":"p"}],"rejected":[{"role":"user","content":"p"}]})", kPreference,
       "differ"},
      {R"({"prompt":"x","completion":"y"})", kRated, "\"label\" is neither true nor false"},
      {R"({"prompt":"x","completion":"y","label":2})", kRated, "\"label\""},
      {R"({"prompt":"x","chosen":"y","rejected":"z","margin":"big"})", kPreference, "\"margin\" is not a number"},
      {R"({"prompt":"x","chosen":"y","rejected":"z","margin":1e300})", kPreference, "\"margin\""},
      {R"({"text":"x"})", kClassified, "\"label\" is neither a name nor a number"},
      {R"({"label":"x"})", kClassified, "\"messages\" is missing"},
      {R"({"query":"x"})", kRetrieval, "\"positive\" is missing"},
      {R"({"query":"x","positive":""})", kRanking, "\"positive\" is empty"},
      {R"({"query":"x","positive":"y","negatives":[1]})", kRetrieval, "\"negatives\" must hold texts"},
      {R"({"answer":"x"})", kVerified, "\"prompt\" is missing"},
      {R"({"prompt":[],"answer":"x"})", kVerified, "\"prompt\" is empty"},
      {R"({"prompt":"x","answer":["y"]})", kVerified, "\"answer\" is not a text"},
      {R"({"prompt":"x","completion":[],"label":true})", kRated, "needs a prompt and an answer"}};
  for (const auto& [line, form, why] : cases) {
    const auto c = read(line, form);
    ASSERT_FALSE(c) << line;
    EXPECT_THAT(c.error().message, HasSubstr(why));
  }
}

}  // namespace
}  // namespace qw::data
