#include "chat/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qw::chat {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

json::Value parsed(std::string_view text) {
  auto value = json::parse(text);
  EXPECT_TRUE(value) << value.error().message;
  return value ? *value : json::Value();
}

std::string converted(std::string_view messages) {
  const auto out = template_messages(parsed(messages).as_array());
  return out ? json::dump(json::Value(*out)) : "error: " + out.error().message;
}

TEST(Messages, RolesAndContent) {
  EXPECT_EQ(converted(R"([{"role": "developer", "content": "d"}, {"role": "user", "content": "u", "name": "n"}])"),
            R"([{"role": "system", "content": "d"}, {"role": "user", "content": "u", "name": "n"}])");
  EXPECT_EQ(
      converted(
          R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}, {"text": "c"}]}])"),
      R"([{"role": "user", "content": "a\nb\nc"}])");
  EXPECT_EQ(converted(R"([{"role": "assistant", "content": null}])"), R"([{"role": "assistant", "content": ""}])");
  EXPECT_EQ(converted(R"([{"role": "assistant"}])"), R"([{"role": "assistant", "content": ""}])");
  EXPECT_EQ(converted(R"([{"role": "user", "content": []}])"), R"([{"role": "user", "content": ""}])");
  EXPECT_EQ(converted(R"([{"role": "function", "name": "f", "content": "r"}])"),
            R"([{"role": "tool", "name": "f", "content": "r"}])");
}

TEST(Messages, ReasoningIsFoundUnderItsOtherNames) {
  EXPECT_EQ(converted(R"([{"role": "assistant", "content": "a", "reasoning": "r"}])"),
            R"([{"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": "r"}])");
  EXPECT_EQ(converted(R"([{"role": "assistant", "content": "a", "reasoning_content": null, "thinking": "r"}])"),
            R"([{"role": "assistant", "content": "a", "reasoning_content": "r", "thinking": "r"}])");
}

TEST(Messages, ToolCallArgumentsBecomeObjects) {
  EXPECT_EQ(
      converted(R"([{"role": "assistant", "tool_calls": [
              {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1.0, \"a\": \"é\"}"}},
              {"function": {"name": "g", "arguments": {"x": 1}}}, {"function": {"name": "h", "arguments": ""}},
              {"function": {"name": "i"}}]}])"),
      R"([{"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"b": 1.0, "a": "é"}}}, )"
      R"({"function": {"name": "g", "arguments": {"x": 1}}}, {"function": {"name": "h", "arguments": {}}}, )"
      R"({"function": {"name": "i", "arguments": {}}}], "content": ""}])");
  EXPECT_EQ(converted(R"([{"role": "user", "content": "a", "tool_calls": null}])"),
            R"([{"role": "user", "content": "a"}])");
}

TEST(Messages, WrongOnesAreNamed) {
  const auto error = [](std::string_view messages) { return converted(messages); };
  EXPECT_THAT(error("[]"), StartsWith("error: messages: at least one"));
  EXPECT_THAT(error("[1]"), HasSubstr("messages[0]: an object"));
  EXPECT_THAT(error(R"([{"content": "a"}])"), HasSubstr("messages[0].role"));
  EXPECT_THAT(error(R"([{"role": "user", "content": "a"}, {"role": "king", "content": "a"}])"),
              HasSubstr("messages[1].role: unknown role \"king\""));
  EXPECT_THAT(error(R"([{"role": "user"}])"), HasSubstr("messages[0].content: text is required"));
  EXPECT_THAT(error(R"([{"role": "user", "content": 5}])"), HasSubstr("messages[0].content: a string or a list"));
  EXPECT_THAT(error(R"([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])"),
              HasSubstr("messages[0].content[0]: part type \"image_url\" is not supported"));
  EXPECT_THAT(error(R"([{"role": "user", "content": [{"type": "text"}]}])"), HasSubstr("messages[0].content[0].text"));
  EXPECT_THAT(error(R"([{"role": "user", "content": "a", "tool_calls": []}])"), HasSubstr("only an assistant"));
  const auto call = [&](const char* text) {
    return error(std::string(R"([{"role": "assistant", "tool_calls": [)") + text + "]}]");
  };
  EXPECT_THAT(call("1"), HasSubstr("messages[0].tool_calls[0]: an object"));
  EXPECT_THAT(call(R"({"type": "custom"})"), HasSubstr("tool_calls[0].type"));
  EXPECT_THAT(call(R"({"function": {}})"), HasSubstr("function.name"));
  EXPECT_THAT(call(R"({"function": {"name": "f", "arguments": "{"}})"), HasSubstr("function.arguments: not JSON"));
  EXPECT_THAT(call(R"({"function": {"name": "f", "arguments": "[1]"}})"),
              HasSubstr("a JSON object is required, not array"));
  EXPECT_THAT(error(R"([{"role": "assistant", "content": "", "reasoning": 3}])"), HasSubstr("messages[0].reasoning"));
}

TEST(Tools, AreCheckedAndPassThrough) {
  const json::Value tools =
      parsed(R"([{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": 2}, "strict": true}}])");
  const auto out = template_tools(tools);
  ASSERT_TRUE(out) << out.error().message;
  EXPECT_EQ(json::Value(*out), tools);
  EXPECT_TRUE(template_tools(nullptr)->empty());
  EXPECT_FALSE(template_tools(parsed("{}")));
  EXPECT_FALSE(template_tools(parsed("[1]")));
  EXPECT_FALSE(template_tools(parsed(R"([{"type": "custom"}])")));
  EXPECT_FALSE(template_tools(parsed(R"([{"type": "function", "function": {"name": ""}}])")));
  EXPECT_FALSE(template_tools(parsed(R"([{"type": "function", "function": {"name": "f", "parameters": 1}}])")));
}

TEST(Variables, AreThoseTransformersGives) {
  Conversation c;
  c.messages = parsed(R"([{"role": "user", "content": "a"}])").as_array();
  c.variables.set("enable_thinking", false);
  const auto out = template_variables(c);
  ASSERT_TRUE(out) << out.error().message;
  EXPECT_EQ(json::dump(json::Value(*out)),
            R"({"messages": [{"role": "user", "content": "a"}], "tools": null, "documents": null, )"
            R"("add_generation_prompt": true, "enable_thinking": false})");
  c.variables.set("messages", 1);
  EXPECT_FALSE(template_variables(c));
}

}  // namespace
}  // namespace qw::chat
