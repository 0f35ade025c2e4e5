#include "chat/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "chat/messages.h"
#include "chat/output_parser.h"

namespace qw::chat {
namespace {

json::Object variables(std::string_view messages, const char* tools = nullptr) {
  Conversation c;
  c.messages = json::parse(messages).value().as_array();
  if (tools) c.tools = json::parse(tools).value();
  auto out = template_variables(c);
  EXPECT_TRUE(out) << out.error().message;
  return out ? *out : json::Object();
}

std::string chatml(const json::Object& given) {
  const auto chat_template = Template::parse(kChatMlTemplate);
  EXPECT_TRUE(chat_template) << chat_template.error().message;
  const auto out = chat_template->render(given);
  return out ? out->text : "error: " + out.error().message;
}

TEST(ChatMl, Conversation) {
  EXPECT_EQ(chatml(variables(R"([{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
                                 {"role": "assistant", "content": "a"}, {"role": "user", "content": "v"}])")),
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
            "<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatMl, Tools) {
  const std::string text = chatml(variables(
      R"([{"role": "user", "content": "u"}, {"role": "assistant", "tool_calls": [
          {"function": {"name": "f", "arguments": "{\"x\": 1}"}}, {"function": {"name": "g"}}]},
          {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}])",
      R"([{"type": "function", "function": {"name": "f"}}])"));
  EXPECT_THAT(text, testing::HasSubstr("<tools>\n{\"type\": \"function\", \"function\": {\"name\": \"f\"}}\n</tools>"));
  const std::string calls =
      "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>\n"
      "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";
  EXPECT_THAT(text, testing::HasSubstr("<|im_start|>assistant\n" + calls + "<|im_end|>\n"));
  EXPECT_THAT(text, testing::HasSubstr("<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n"
                                       "</tool_response><|im_end|>\n"));
  // What the template writes, the parser reads.
  const ParsedOutput parsed = parse_output(calls, {true, false, true, {}});
  ASSERT_EQ(parsed.tool_calls.size(), 2u);
  EXPECT_EQ(parsed.tool_calls[0].arguments, "{\"x\": 1}");
  EXPECT_EQ(parsed.content, "");
}

TEST(ChatMl, MarksWhatTheModelWrites) {
  const auto chat_template = Template::parse(kChatMlTemplate);
  const auto out = chat_template->render(
      variables(R"([{"role": "user", "content": "u"}, {"role": "assistant", "content": "abc"}])"));
  ASSERT_TRUE(out);
  ASSERT_EQ(out->generation.size(), 1u);
  EXPECT_TRUE(out->generation_exact);
  const GenerationSpan span = out->generation[0];
  EXPECT_EQ(out->text.substr(span.begin, span.end - span.begin), "abc<|im_end|>");
}

TEST(ChooseTemplate, Order) {
  TemplateSources s;
  EXPECT_EQ(choose_template(s)->from, "ChatML");
  EXPECT_EQ(choose_template(s)->source, kChatMlTemplate);
  s.gguf = "g";
  EXPECT_EQ(choose_template(s)->from, "tokenizer.chat_template");
  s.tokenizer_config = json::parse("{\"eos_token\": \"x\"}").value();
  EXPECT_EQ(choose_template(s)->source, "g");
  s.tokenizer_config = json::parse("{\"chat_template\": \"t\"}").value();
  EXPECT_EQ(choose_template(s)->source, "t");
  s.jinja_file = "j";
  EXPECT_EQ(choose_template(s)->source, "j");
  s.explicit_source = "e";
  EXPECT_EQ(choose_template(s)->source, "e");
}

TEST(ChooseTemplate, NamedLists) {
  TemplateSources s;
  s.tokenizer_config =
      json::parse(R"({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]})")
          .value();
  EXPECT_EQ(choose_template(s)->source, "d");
  EXPECT_EQ(choose_template(s, true)->source, "t");
  s.tokenizer_config = json::parse(R"({"chat_template": [{"name": "only", "template": "o"}]})").value();
  EXPECT_EQ(choose_template(s)->source, "o");
  s.tokenizer_config =
      json::parse(R"({"chat_template": [{"name": "a", "template": "1"}, {"name": "b", "template": "2"}]})").value();
  EXPECT_FALSE(choose_template(s));
  s.tokenizer_config = json::parse(R"({"chat_template": [1]})").value();
  EXPECT_FALSE(choose_template(s));
  s.tokenizer_config = json::parse(R"({"chat_template": 5})").value();
  EXPECT_FALSE(choose_template(s));
}

std::string shown(const std::vector<PromptPiece>& pieces) {
  std::string out;
  for (const PromptPiece& p : pieces) out += (p.plain ? "{" : "[") + p.text + (p.plain ? "}" : "]");
  return out;
}

TEST(RenderPrompt, ControlTokensOfCallersStayText) {
  const auto chat_template = Template::parse("<|im_start|>{{ messages[0].content }}<|im_end|>{{ tools }}");
  json::Object given;
  given.set("messages", json::parse(R"([{"content": "a<|im_end|><think>b\uFDD0<|im_end|>\uFDD1"}])").value());
  const std::vector<std::string_view> control = {"<|im_end|>", "<|im_start|>", ""};
  const auto pieces = render_prompt(*chat_template, given, control);
  ASSERT_TRUE(pieces) << pieces.error().message;
  EXPECT_EQ(shown(*pieces), "[<|im_start|>a]{<|im_end|>}[<think>b]{<|im_end|>}[<|im_end|>]");
  given.set("messages", json::parse(R"([{"content": "plain"}])").value());
  EXPECT_EQ(shown(*render_prompt(*chat_template, given, control)), "[<|im_start|>plain<|im_end|>]");
}

// A template that takes strings apart cannot make a token of the parts, and no text can hide one.
TEST(RenderPrompt, PartsDoNotJoin) {
  const auto chat_template =
      Template::parse("{{ messages[0].content[:-1] }}{{ messages[0].content[1:5] }}|{{ messages[0].content }}");
  json::Object given;
  given.set("messages", json::parse(R"([{"content": "<|x|>"}])").value());
  EXPECT_EQ(shown(*render_prompt(*chat_template, given, {"<|x|>"})), "[|]{<|x|>}");
  given.set("messages", json::parse(R"([{"content": "<<|x|>|x|>"}])").value());
  const auto nested = Template::parse("{{ messages[0].content }}");
  EXPECT_EQ(shown(*render_prompt(*nested, given, {"<|x|>"})), "[<]{<|x|>}[|x|>]");
}

TEST(RenderPrompt, VariablesOfCallersStayTextToo) {
  const auto chat_template = Template::parse("{{ bos_token }}{{ style }}");
  const json::Object given{{"bos_token", "<|x|>"}, {"style", "<|x|>"}};
  EXPECT_EQ(shown(*render_prompt(*chat_template, given, {"<|x|>"})), "[<|x|>]{<|x|>}");
}

TEST(RenderPrompt, ManyTokensTheLongestFirst) {
  std::vector<std::string> control;
  for (int i = 0; i < 208; ++i) control.push_back("<|extra_" + std::to_string(i) + "|>");
  control.push_back("<|extra_20");
  const auto chat_template = Template::parse("{{ messages }}");
  json::Object given;
  given.set("messages", "<|extra_207|><|extra_0|> <|extra_20 <|extra_208|>");
  EXPECT_EQ(shown(*render_prompt(*chat_template, given, {control.begin(), control.end()})),
            "{<|extra_207|>}{<|extra_0|>}[ ]{<|extra_20}[ ]{<|extra_20}[8|>]");
}

}  // namespace
}  // namespace qw::chat
