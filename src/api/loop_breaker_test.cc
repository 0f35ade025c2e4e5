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
    served.id = "hasty";  // takes any token for a loop
    served.breaks_loops = true;
    served.loops = {8, 1, 1, 1};
    EXPECT_TRUE(models_.add(served));
    served.loops = {8, 4, 32, 64};
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
  const auto cut_by = [](const json::Value& where) { return dump(where.find("cut_by")); };
  const std::string wanted = "\"repetition\"";
  const json::Value completed = ask_json("/v1/completions", R"({"model":"hasty","prompt":"abc","max_tokens":9})");
  EXPECT_EQ(cut_by(choice_of(completed)), wanted);
  const json::Value response = ask_json("/v1/responses", R"({"model":"hasty","input":"abc","max_output_tokens":9})");
  EXPECT_EQ(cut_by(at(response, "incomplete_details")), wanted);
  const std::string dashscope = "/api/v1/services/aigc/text-generation/generation";
  const json::Value native =
      ask_json(dashscope, R"({"model":"hasty","input":{"prompt":"abc"},"parameters":{"max_tokens":9}})");
  EXPECT_EQ(cut_by(at(native, "output")), wanted);
  EXPECT_EQ(at(at(native, "output"), "finish_reason").as_string(), "length");
  EXPECT_NE(ask("POST", dashscope,
                R"({"model":"hasty","input":{"prompt":"abc"},"parameters":{"max_tokens":9,"result_format":"message"}})",
                "X-DashScope-SSE: enable\r\n")
                .body.find(R"("cut_by":"repetition")"),
            std::string::npos);
  const std::string messages = R"("messages":[{"role":"user","content":"abc"}])";
  const json::Value message = ask_json("/v1/messages", R"({"model":"hasty","max_tokens":9,)" + messages + "}");
  EXPECT_EQ(cut_by(message), wanted);
  EXPECT_EQ(at(message, "stop_reason").as_string(), "max_tokens");
  const json::Value chat = ask_json("/api/chat", R"({"model":"hasty","stream":false,)" + messages + "}");
  EXPECT_EQ(cut_by(chat), wanted);
  const json::Value off =
      ask_json("/v1/messages", R"({"model":"hasty","max_tokens":9,"loop_breaker":false,)" + messages + "}");
  EXPECT_EQ(cut_by(off), "(absent)");
}

TEST_F(LoopBreakerTest, WhatDoesNotRepeatIsLeftAlone) {
  const json::Value answer =
      ask_json(kChat, R"({"model":"quick","messages":[{"role":"user","content":"abc"}],"max_tokens":100})");
  EXPECT_EQ(at(at(answer, "usage"), "completion_tokens").as_int(), 100);
  EXPECT_EQ(choice_of(answer).find("cut_by"), nullptr);
}

}  // namespace
}  // namespace qw::api
