// Lists of words, and what POST /v1/moderations makes of them.
#include "api/internal/test_service.h"
#include "api/keyword_moderator.h"

namespace qw::api {
namespace {

std::unique_ptr<KeywordModerator> lists(std::string_view file) {
  auto made = KeywordModerator::parse(file);
  EXPECT_TRUE(made.has_value()) << made.error().message;
  return std::move(*made);
}

TEST(KeywordModerator, SaysOfEveryCategoryWhetherAWordOfItWasFound) {
  const auto m = lists("[hate]\nass\n[except]\nwild ass\n[violence]\n杀人\n");
  const auto judgement = m->judge("An ASS, a wild ass.");
  ASSERT_EQ(judgement.size(), 2u);
  EXPECT_EQ(judgement[0].name, "hate");
  EXPECT_TRUE(judgement[0].flagged);
  EXPECT_EQ(judgement[1].name, "violence");
  EXPECT_FALSE(judgement[1].flagged);
  EXPECT_FALSE(m->judge("A wild ass.")[0].flagged);
  EXPECT_EQ(KeywordModerator::parse("word").error().message, "line 1: a word before the first [category]");
}

class ModerationsTest : public test::ServiceTest {
 protected:
  void SetUp() override {
    words_ = lists("[hate]\nvile\n[self-made]\nspam\n");
    start_service(nullptr, {}, words_.get());
  }
  std::unique_ptr<KeywordModerator> words_;
};

TEST_F(ModerationsTest, AnswersInOpenAiShapeAndSaysWhatWasLookedFor) {
  const auto answer = ask_json("/v1/moderations", R"({"input":["nice","Vile!"],"model":"omni-moderation-latest"})");
  EXPECT_EQ(at(answer, "model").as_string(), "keyword-list");
  EXPECT_TRUE(at(answer, "id").as_string().starts_with("modr-"));
  const auto& results = at(answer, "results").as_array();
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(dump(results[0].find("flagged")), "false");
  EXPECT_EQ(dump(results[1].find("flagged")), "true");
  const json::Value& categories = at(results[1], "categories");
  EXPECT_EQ(categories.as_object().size(), 14u);  // OpenAI's thirteen, and one of the file's own
  EXPECT_EQ(dump(categories.find("hate")), "true");
  EXPECT_EQ(dump(categories.find("self-made")), "false");
  EXPECT_EQ(at(at(results[1], "category_scores"), "hate").as_double(), 1.0);
  const json::Value& applied = at(results[1], "category_applied_input_types");
  EXPECT_EQ(dump(applied.find("hate")), R"(["text"])");
  EXPECT_EQ(dump(applied.find("violence")), "[]");  // nobody looked for it
  EXPECT_EQ(
      at(ask_json("/v1/moderations", R"({"input":[{"type":"text","text":"spam"}]})"), "results").as_array().size(), 1u);
}

TEST_F(ModerationsTest, WhatCannotBeJudgedIsRefused) {
  for (const char* body :
       {"{}", R"({"input":[]})", R"({"input":3})", R"({"input":[{"type":"image_url","image_url":{"url":"x"}}]})"})
    EXPECT_EQ(at(at(ask_json("/v1/moderations", body, 400), "error"), "param").as_string(), "input") << body;
  EXPECT_EQ(
      at(at(ask_json("/v1/moderations", R"({"input":"x","model":"alphabet"})", 404), "error"), "code").as_string(),
      "model_not_found");
  const auto answer = ask("POST", "/v1/moderations", R"({"input":"x","colour":1})");
  EXPECT_NE(answer.head.find("X-Ignored-Params: colour"), std::string::npos);
  EXPECT_EQ(ask("GET", "/v1/moderations", "").status, 405);
}

class UnmoderatedTest : public test::ServiceTest {};

TEST_F(UnmoderatedTest, WithoutListsNothingIsSaidToBeFine) {
  const auto error = at(ask_json("/v1/moderations", R"({"input":"x"})", 501), "error");
  EXPECT_EQ(at(error, "code").as_string(), "no_moderator");
}

TEST_F(UnmoderatedTest, TextsBecomeTokensAndBack) {
  const auto tokens =
      ask_json("/v1/tokenize", R"({"model":"alphabet","prompt":"ab<|im_end|>","return_token_strs":true})");
  EXPECT_EQ(dump(tokens.find("count")), "3");
  EXPECT_EQ(dump(tokens.find("max_model_len")), "512");
  EXPECT_EQ(dump(tokens.find("token_strs")), R"(["a", "b", "<|im_end|>"])");
  const auto text = ask_json("/detokenize", R"({"model":"alphabet","tokens":)" + dump(tokens.find("tokens")) + "}");
  EXPECT_EQ(dump(&text), R"({"prompt": "ab<|im_end|>"})");
  const auto chat = ask_json("/tokenize", R"({"messages":[{"role":"user","content":"ab"}]})");
  EXPECT_EQ(dump(chat.find("count")), "2");  // the template of this model is the last message
  EXPECT_EQ(dump(chat.find("token_strs")), "null");
  const auto begun = ask_json(
      "/tokenize",
      R"({"messages":[{"role":"user","content":"ab"},{"role":"assistant","content":"cde"}],"continue_final_message":true,"add_generation_prompt":false})");
  EXPECT_EQ(dump(begun.find("count")), "5");
  for (const char* body : {"{}", R"({"prompt":"a","messages":[]})", R"({"prompt":"a","chat_template":"x"})",
                           R"({"messages":[{"role":"x"}]})"})
    ask_json("/v1/tokenize", body, 400);
  for (const char* body :
       {"{}", R"({"tokens":[1.5]})", R"({"tokens":[-1]})", R"({"tokens":[260]})", R"({"tokens":"1"})"})
    ask_json("/v1/detokenize", body, 400);
  ask_json("/v1/tokenize", R"({"prompt":"a","model":"none"})", 404);
}

TEST_F(UnmoderatedTest, ScoresArePairsOfTexts) {
  const auto one = ask_json("/v1/score", R"({"model":"vectors","text_1":"q","text_2":["a","b"]})");
  EXPECT_EQ(at(one, "object").as_string(), "list");
  ASSERT_EQ(at(one, "data").as_array().size(), 2u);
  const auto ranked = ask_json("/v1/rerank", R"({"model":"vectors","query":"q","documents":["b"]})");
  EXPECT_EQ(dump(at(one, "data").as_array()[1].find("score")),
            dump(at(ranked, "results").as_array()[0].find("relevance_score")));
  EXPECT_EQ(dump(at(one, "data").as_array()[1].find("index")), "1");
  const auto each = ask_json("/score", R"({"model":"vectors","queries":["q","r"],"documents":["a","b"]})");
  EXPECT_EQ(at(each, "data").as_array().size(), 2u);
  EXPECT_GT(at(at(each, "usage"), "prompt_tokens").as_int(), 0);
  for (const char* body :
       {R"({"model":"vectors","text_1":"q"})", R"({"model":"vectors","text_1":["a","b"],"text_2":["a"]})",
        R"({"model":"vectors","text_1":[1],"text_2":"a"})", R"({"model":"alphabet","text_1":"q","text_2":"a"})"})
    ask_json("/v1/score", body, 400);
}

TEST_F(UnmoderatedTest, ModelsThatOnlyEmbedScoreByCosine) {
  ServedModel only = *models_.find("vectors");
  only.id = "cosines";
  only.ranking.reset();
  // Without <|endoftext|>, whose row would be all that this model tells of a text.
  const std::function<std::optional<std::string_view>()> nothing = [] { return std::nullopt; };
  const auto plain = tokenizer::Tokenizer::create(*tokenizer::train_bpe(nothing, {.vocab = 256}));
  only.tokenizer = &*plain;
  ASSERT_TRUE(models_.add(std::move(only)));
  const auto scores = ask_json("/v1/score", R"({"model":"cosines","text_1":"abc","text_2":["abc","xyz"]})");
  EXPECT_NEAR(at(at(scores, "data").as_array()[0], "score").as_double(), 1.0, 1e-6);
  EXPECT_NEAR(at(at(scores, "data").as_array()[1], "score").as_double(), 0.0, 1e-6);  // other places of the row
}

}  // namespace
}  // namespace qw::api
