// Forms of output behind a thinking block: the block is free, ends by its budget, and what follows has the form.
#include "api/internal/test_service.h"

namespace qw::api {
namespace {

// A model whose template opens a thinking block; left alone it thinks through the alphabet and never stops.
class ThinkingFormsTest : public test::ServiceTest {
 protected:
  void SetUp() override {
    ServedModel served = *models_.find("alphabet");
    served.id = "thinker";
    served.thinks = true;
    served.chat_template = &thinking_;
    EXPECT_TRUE(models_.add(served));
    test::ServiceTest::SetUp();
  }
  ~ThinkingFormsTest() override { models_.remove("thinker"); }
  static std::string body(const std::string& more) {
    return R"({"model":"thinker","messages":[{"role":"user","content":"abc"}],"max_tokens":120,"thinking_budget":9)" +
           more + "}";
  }
  // What the deltas of a stream put together: reasoning, content, arguments of calls.
  struct Told {
    std::string reasoning, content, arguments, reason;
  };
  Told stream(const std::string& more) {
    Told out;
    const auto answer = ask("POST", "/v1/chat/completions", body(R"(,"stream":true)" + more));
    for (std::size_t at_byte = 0; (at_byte = answer.body.find("data: {", at_byte)) != std::string::npos; ++at_byte) {
      const auto chunk = json::parse(answer.body.substr(at_byte + 6, answer.body.find('\n', at_byte) - at_byte - 6));
      const json::Value& choice = at(*chunk, "choices").as_array()[0];
      const json::Value& delta = at(choice, "delta");
      const auto add = [&](const char* key, std::string& to) {
        if (const json::Value* text = delta.find(key); text != nullptr && text->is_string()) to += text->as_string();
      };
      add("reasoning_content", out.reasoning);
      add("content", out.content);
      if (const json::Value* calls = delta.find("tool_calls"))
        for (const json::Value& call : calls->as_array())
          out.arguments += at(at(call, "function"), "arguments").as_string();
      if (!at(choice, "finish_reason").is_null()) out.reason = at(choice, "finish_reason").as_string();
    }
    return out;
  }
  chat::Template thinking_ = *chat::Template::parse("{{ messages[-1].content }}<think>\n");
};

constexpr const char* kSchema =
    R"({"type":"object","properties":{"a":{"const":1},"b":{"enum":["x"]}},"required":["a","b"],"additionalProperties":false})";

TEST_F(ThinkingFormsTest, WhatFollowsTheBlockHasTheForm) {
  const std::string schema =
      R"(,"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":)" +
      std::string(kSchema) + "}}";
  const struct {
    std::string more, wanted;
  } kForms[] = {{schema, ""},
                {R"j(,"guided_regex":"[0-9]{3}-(ja|nein)")j", ""},
                {R"(,"guided_grammar":"root ::= \"one\" | \"two\"")", ""},
                {R"(,"guided_choice":["spring"])", "spring"}};
  for (const auto& form : kForms) {
    const json::Value answer = ask_json("/v1/chat/completions", body(form.more));
    const json::Value& choice = at(answer, "choices").as_array()[0];
    const std::string content = at(at(choice, "message"), "content").as_string();
    // After "\n" comes byte 11: the block is free text, of nine tokens; its last line end is none of it.
    EXPECT_EQ(at(at(choice, "message"), "reasoning_content").as_string().size(), 9u) << json::dump(choice);
    EXPECT_EQ(at(choice, "finish_reason").as_string(), "stop") << content;
    if (form.more == schema) {
      const auto value = json::parse(content);
      ASSERT_TRUE(value && value->is_object()) << content;
      EXPECT_EQ(value->find("a")->as_int(), 1);
      EXPECT_EQ(value->find("b")->as_string(), "x");
      EXPECT_EQ(value->as_object().size(), 2u);
    }
    if (!form.wanted.empty()) {
      EXPECT_EQ(content, form.wanted);
    }
    const Told told = stream(form.more);
    EXPECT_EQ(told.content, content);
    EXPECT_EQ(told.reason, "stop");
    EXPECT_EQ(told.reasoning, at(at(choice, "message"), "reasoning_content").as_string());
  }
}

TEST_F(ThinkingFormsTest, ACallThatMustBeMadeComesAfterIt) {
  const std::string tools =
      R"(,"tool_choice":"required","parallel_tool_calls":false,"tools":[{"type":"function","function":{"name":"note","strict":true,"parameters":)" +
      std::string(kSchema) + "}}]";
  const Told told = stream(tools);
  EXPECT_FALSE(told.reasoning.empty());
  EXPECT_EQ(told.reason, "tool_calls");
  const auto arguments = json::parse(told.arguments);
  ASSERT_TRUE(arguments.has_value()) << told.arguments;
  EXPECT_EQ(arguments->find("a")->as_int(), 1);
  EXPECT_EQ(arguments->find("b")->as_string(), "x");
}

TEST_F(ThinkingFormsTest, ThinkingThatRepeatsItselfIsEndedWithoutABudget) {
  ServedModel served = *models_.find("thinker");
  models_.remove("thinker");
  served.loops = {8, 4, 32, 64};
  ASSERT_TRUE(models_.add(served));
  const std::string z = std::to_string(*tokenizer_.find("z"));
  const json::Value answer =
      ask_json("/v1/chat/completions",
               R"({"model":"thinker","messages":[{"role":"user","content":"abc"}],"max_tokens":200,"logit_bias":{")" +
                   z + R"(":100},"guided_choice":["spring"]})");
  const json::Value& message = at(at(answer, "choices").as_array()[0], "message");
  EXPECT_EQ(at(message, "content").as_string(), "spring");
  EXPECT_EQ(at(message, "reasoning_content").as_string(), std::string(32, 'z'));
}

}  // namespace
}  // namespace qw::api
