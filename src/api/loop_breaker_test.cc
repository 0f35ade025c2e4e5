// Answers that repeat themselves, in every protocol.
#include "api/internal/test_service.h"

namespace qw::api {
namespace {

// A model that can be made to say one letter for ever, and for which 64 of them are enough.
class LoopBreakerTest : public test::ServiceTest {
 protected:
  void SetUp() override {
    ServedModel served = *models_.find("alphabet");
    served.id = "patient";
    served.breaks_loops = false;
    served.loops = {8, 4, 32, 64};
    EXPECT_TRUE(models_.add(served));
    served.id = "quick";
    served.breaks_loops = true;
    EXPECT_TRUE(models_.add(served));
    test::ServiceTest::SetUp();
  }
  // ..., "max_tokens": 100 and a bias that makes the letter z come, always
  std::string endless(const std::string& model, const std::string& more = "") {
    return R"({"model":")" + model +
           R"(","messages":[{"role":"user","content":"abc"}],"max_tokens":100,"logit_bias":{")" +
           std::to_string(*tokenizer_.find("z")) + R"(":100})" + more + "}";
  }
  const json::Value& choice_of(const json::Value& answer) { return at(answer, "choices").as_array()[0]; }
};

constexpr const char* kChat = "/v1/chat/completions";

TEST_F(LoopBreakerTest, EndsAnAnswerAndSaysWhy) {
  const json::Value answer = ask_json(kChat, endless("quick"));
  const json::Value& choice = choice_of(answer);
  EXPECT_EQ(at(at(choice, "message"), "content").as_string(), std::string(64, 'z'));
  EXPECT_EQ(at(choice, "finish_reason").as_string(), "length");
  EXPECT_EQ(at(choice, "cut_by").as_string(), "repetition");
  EXPECT_EQ(at(at(answer, "usage"), "completion_tokens").as_int(), 64);
  const auto stream = ask("POST", kChat, endless("quick", R"(,"stream":true)"));
  EXPECT_NE(stream.body.find(R"("cut_by":"repetition","finish_reason":"length")"), std::string::npos) << stream.body;
}

TEST_F(LoopBreakerTest, TheRequestHasTheLastWord) {
  const json::Value off = ask_json(kChat, endless("quick", R"(,"loop_breaker":false)"));
  EXPECT_EQ(at(at(choice_of(off), "message"), "content").as_string(), std::string(100, 'z'));
  EXPECT_EQ(choice_of(off).find("cut_by"), nullptr);
  const json::Value kept = ask_json(kChat, endless("patient"));
  EXPECT_EQ(at(at(kept, "usage"), "completion_tokens").as_int(), 100);
  const json::Value on = ask_json(kChat, endless("patient", R"(,"loop_breaker":true)"));
  EXPECT_EQ(at(at(on, "usage"), "completion_tokens").as_int(), 64);
  // Who wants no end of an answer gets none.
  const json::Value endless_one = ask_json(kChat, endless("quick", R"(,"ignore_eos":true)"));
  EXPECT_EQ(at(at(endless_one, "usage"), "completion_tokens").as_int(), 100);
  ask_json(kChat, endless("quick", R"(,"loop_breaker":"yes")"), 400);
}

TEST_F(LoopBreakerTest, EveryProtocolMarksIt) {
  const std::string bias = R"("logit_bias":{")" + std::to_string(*tokenizer_.find("z")) + R"(":100})";
  const json::Value completed =
      ask_json("/v1/completions", R"({"model":"quick","prompt":"abc","max_tokens":100,)" + bias + "}");
  EXPECT_EQ(at(choice_of(completed), "cut_by").as_string(), "repetition");
  const json::Value dashscope =
      ask_json("/api/v1/services/aigc/text-generation/generation",
               R"({"model":"quick","input":{"prompt":"abc"},"parameters":{"max_tokens":100,)" + bias + "}}");
  EXPECT_EQ(at(at(dashscope, "output"), "cut_by").as_string(), "repetition");
  EXPECT_EQ(at(at(dashscope, "output"), "finish_reason").as_string(), "length");
}

TEST_F(LoopBreakerTest, WhatDoesNotRepeatIsLeftAlone) {
  const json::Value answer =
      ask_json(kChat, R"({"model":"quick","messages":[{"role":"user","content":"abc"}],"max_tokens":100})");
  EXPECT_EQ(at(at(answer, "usage"), "completion_tokens").as_int(), 100);
  EXPECT_EQ(choice_of(answer).find("cut_by"), nullptr);
}

}  // namespace
}  // namespace qw::api
