#include "chat/output_parser.h"

#include <gtest/gtest.h>

#include <ostream>

namespace qw::chat {

static bool operator==(const ParsedToolCall& a, const ParsedToolCall& b) {
  return a.name == b.name && a.arguments == b.arguments;
}
static void PrintTo(const ParsedToolCall& call, std::ostream* out) { *out << call.name << call.arguments; }

namespace {

struct Case {
  const char* name;
  std::string text;
  std::string reasoning, content;
  std::vector<ParsedToolCall> calls;
  bool starts_in_reasoning = false, tool_calls = true, think = true;
};

json::Value tools() {
  return json::parse(R"([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {
    "s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"},
    "a": {"type": "array"}, "o": {"type": "object"}, "sn": {"type": ["string", "null"]}, "in": {"type": ["integer", "null"]},
    "any": {}, "u": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}}}}])")
      .value();
}

OutputOptions options(const Case& c) { return {c.think, c.starts_in_reasoning, c.tool_calls, tools()}; }

const std::string kCall = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"s\": \"x\"}}\n</tool_call>";

std::vector<Case> cases() {
  const std::string xml = "<tool_call>\n<function=f>\n<parameter=s>\nx\n</parameter>\n</function>\n</tool_call>";
  const ParsedToolCall f{"f", "{\"s\": \"x\"}"};
  return {
      {"plain", "Hello <b>world</b>\n", "", "Hello <b>world</b>\n", {}},
      {"empty", "", "", "", {}},
      {"leading space", "  hi", "", "  hi", {}},
      {"think", "<think>\nwhy\nso\n</think>\n\nanswer", "why\nso", "answer", {}},
      {"think after space", "\n <think>r</think>a", "r", "a", {}},
      {"empty think", "<think>\n\n</think>\n\nanswer\n", "", "answer\n", {}},
      {"open think", "<think>\nnever ends <", "never ends <", "", {}},
      {"think closing cut", "<think>a</thi", "a</thi", "", {}},
      {"prompt opened", "because\n</think>\n\nyes", "because", "yes", {}, true},
      {"prompt opened, model too", "<think>\nbecause\n</think>yes", "because", "yes", {}, true},
      {"prompt opened, never closed", "hm <thinking", "hm <thinking", "", {}, true},
      {"prompt opened, only space", "\n", "", "", {}, true},
      {"reasoning off", "<think>a</think>b", "", "<think>a</think>b", {}, false, true, false},
      {"late think is text", "a <think>b</think>", "", "a <think>b</think>", {}},
      {"inner newlines stay", "<think>a\n\n\nb\n\n</think>\n\n\nc\n\nd", "a\n\n\nb", "c\n\nd", {}},
      {"one call", kCall, "", "", {f}},
      {"text and call", "Let me see.\n\n" + kCall, "", "Let me see.", {f}},
      {"two calls", kCall + "\n" + kCall + "\n", "", "", {f, f}},
      {"call then text", kCall + "\nDone", "", "\nDone", {f}},
      {"think and call", "<think>t</think>\n\n" + kCall, "t", "", {f}},
      {"call in reasoning is reasoning", "<think>" + kCall + "</think>x", kCall, "x", {}},
      {"calls off", "a " + kCall, "", "a " + kCall, {}, false, false},
      {"no closing tag", "<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": \"x\"}}", "", "", {f}},
      {"no closing tag, text", "<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": \"x\"}} ok", "", " ok", {f}},
      {"no arguments", "<tool_call>{\"name\": \"f\"}</tool_call>", "", "", {{"f", "{}"}}},
      {"parameters",
       "<tool_call>{\"name\": \"f\", \"parameters\": {\"i\": 1}}</tool_call>",
       "",
       "",
       {{"f", "{\"i\": 1}"}}},
      {"arguments in a string",
       R"(<tool_call>{"name": "f", "arguments": "{\"i\": 1}"}</tool_call>)",
       "",
       "",
       {{"f", "{\"i\": 1}"}}},
      {"digits are kept",
       "<tool_call>{\"arguments\":{\"i\":123456789012345678901234567890},\"name\":\"f\"}</tool_call>",
       "",
       "",
       {{"f", "{\"i\":123456789012345678901234567890}"}}},
      {"tag inside a string",
       R"(<tool_call>{"name": "f", "arguments": {"s": "a</tool_call>\n}{\"\\"}}</tool_call>!)",
       "",
       "!",
       {{"f", R"({"s": "a</tool_call>\n}{\"\\"})"}}},
      {"raw newline in a string",
       "<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": \"a\nb\"}}</tool_call>",
       "",
       "",
       {{"f", "{\"s\": \"a\\u000ab\"}"}}},
      {"broken json",
       "a <tool_call>\n{\"name\": \"f\", \"arguments\": {]}}\n</tool_call> b",
       "",
       "a <tool_call>\n{\"name\": \"f\", \"arguments\": {]}}\n</tool_call> b",
       {}},
      {"unterminated string",
       "<tool_call>\n{\"name\": \"f}\n</tool_call>\nnext " + kCall,
       "",
       "<tool_call>\n{\"name\": \"f}\n</tool_call>\nnext",
       {f}},
      {"nameless", "<tool_call>{\"arguments\": {}}</tool_call>", "", "<tool_call>{\"arguments\": {}}</tool_call>", {}},
      {"cut call", "x\n<tool_call>\n{\"name\": \"f\", \"argu", "", "x\n<tool_call>\n{\"name\": \"f\", \"argu", {}},
      {"only the tag", "x <tool_call>", "", "x <tool_call>", {}},
      {"only half the tag", "x\n<tool_", "", "x\n<tool_", {}},
      {"tag in prose", "The <tool_call> tag", "", "The <tool_call> tag", {}},
      {"trailing space", "text \n", "", "text \n", {}},
      {"xml", xml, "", "", {f}},
      {"xml twice with text", "I call.\n" + xml + "\n" + xml, "", "I call.", {f, f}},
      {"xml without parameters", "<tool_call>\n<function=f>\n</function>\n</tool_call>", "", "", {{"f", "{}"}}},
      {"xml outer tags missing", "go\n<function=f>\n<parameter=s>\nx\n</parameter>\n</function>", "", "go", {f}},
      {"xml outer opening missing",
       "<function=f>\n<parameter=s>\nx\n</parameter>\n</function>\n</tool_call>after",
       "",
       "after",
       {f}},
      {"xml everything unclosed",
       "<tool_call>\n<function=f>\n<parameter=i>\n4\n<parameter=s>\nx",
       "",
       "",
       {{"f", "{\"i\": 4, \"s\": \"x\"}"}}},
      {"xml function unclosed", "<tool_call>\n<function=f>\n<parameter=s>\nx\n</parameter>\n</tool_call>", "", "", {f}},
      {"xml types",
       "<tool_call><function=f><parameter=i>7</parameter><parameter=n>1.50</parameter><parameter=b>True</parameter>"
       "<parameter=a>[1, 2]</parameter><parameter=o>{\"k\": null}</parameter><parameter=sn>null</parameter>"
       "<parameter=in>None</parameter><parameter=any>5</parameter><parameter=u>6</parameter><parameter=zz>7</"
       "parameter></function></tool_call>",
       "",
       "",
       {{"f",
         "{\"i\": 7, \"n\": 1.50, \"b\": true, \"a\": [1, 2], \"o\": {\"k\": null}, \"sn\": null, \"in\": null, "
         "\"any\": \"5\", \"u\": 6, \"zz\": \"7\"}"}}},
      {"xml wrong type stays text",
       "<function=f><parameter=i>seven</parameter></function>",
       "",
       "",
       {{"f", "{\"i\": \"seven\"}"}}},
      {"xml many lines",
       "<function=f>\n<parameter=s>\n\nif (a < b) {\n  <p>x</p>\n}\n\n</parameter>\n</function>",
       "",
       "",
       {{"f", "{\"s\": \"\\nif (a < b) {\\n  <p>x</p>\\n}\\n\"}"}}},
      {"xml tags in the value",
       "<function=f>\n<parameter=s>\na</parameter>b</function></tool_call>\n</parameter>\n</function>.",
       "",
       ".",
       {{"f", "{\"s\": \"a</parameter>b</function></tool_call>\"}"}}},
      {"xml prose", "write <function=name> to call", "", "write <function=name> to call", {}},
      {"xml no name",
       "<tool_call><function=></function></tool_call>",
       "",
       "<tool_call><function=></function></tool_call>",
       {}},
      {"utf-8", "<think>\n想\n</think>\n\n你好 " + kCall + "再见", "想", "你好再见", {f}},
  };
}

ParsedOutput joined(const std::vector<OutputEvent>& events) {
  ParsedOutput out;
  int open = -1;
  for (const OutputEvent& e : events) {
    switch (e.kind) {
      case OutputEvent::Kind::kReasoning:
        EXPECT_EQ(open, -1);
        EXPECT_FALSE(e.text.empty());
        out.reasoning += e.text;
        break;
      case OutputEvent::Kind::kContent:
        EXPECT_EQ(open, -1);
        EXPECT_FALSE(e.text.empty());
        out.content += e.text;
        break;
      case OutputEvent::Kind::kToolCallBegin:
        EXPECT_EQ(open, -1);
        EXPECT_EQ(e.index, static_cast<int>(out.tool_calls.size()));
        open = e.index;
        out.tool_calls.push_back({e.text, {}});
        break;
      case OutputEvent::Kind::kToolCallArguments:
        EXPECT_EQ(e.index, open);
        out.tool_calls.back().arguments += e.text;
        break;
      case OutputEvent::Kind::kToolCallEnd:
        EXPECT_EQ(e.index, open);
        open = -1;
        break;
    }
  }
  EXPECT_EQ(open, -1);
  return out;
}

void expect(const Case& c, const ParsedOutput& out) {
  EXPECT_EQ(out.reasoning, c.reasoning);
  EXPECT_EQ(out.content, c.content);
  EXPECT_EQ(out.tool_calls, c.calls);
  for (const ParsedToolCall& call : out.tool_calls) EXPECT_TRUE(json::parse(call.arguments)) << call.arguments;
}

ParsedOutput in_pieces(const Case& c, const std::vector<std::string_view>& pieces) {
  OutputParser parser(options(c));
  std::vector<OutputEvent> events;
  for (std::string_view piece : pieces)
    for (OutputEvent& e : parser.push(piece)) events.push_back(std::move(e));
  for (OutputEvent& e : parser.finish()) events.push_back(std::move(e));
  return joined(events);
}

TEST(OutputParser, WholeText) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    expect(c, parse_output(c.text, options(c)));
  }
}

// How long a name may be is not a matter of whether its end has come.
TEST(OutputParser, NamesAreLimitedInAnyPieces) {
  const std::string rest = ">\n<parameter=s>\nx\n</parameter>\n</function>\n</tool_call>";
  for (const std::size_t length : {256, 257}) {
    const std::string name(length, 'n'), text = "<tool_call>\n<function=" + name + rest;
    const bool call = length == 256;
    Case c{"", text, "", call ? "" : text, {}};
    if (call) c.calls.push_back({name, "{\"s\": \"x\"}"});
    expect(c, parse_output(text, options(c)));
    for (const std::size_t cut : {100, 277, 278, 279, 280, 290})
      expect(c, in_pieces(c, {std::string_view(text).substr(0, cut), std::string_view(text).substr(cut)}));
  }
}

TEST(OutputParser, EverySplitGivesTheSame) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const std::string_view text = c.text;
    for (std::size_t i = 0; i <= text.size(); ++i) {
      SCOPED_TRACE(i);
      expect(c, in_pieces(c, {text.substr(0, i), text.substr(i)}));
      if (testing::Test::HasFailure()) return;
    }
    for (std::size_t size = 1; size <= 4; ++size) {
      std::vector<std::string_view> pieces;
      for (std::size_t at = 0; at < text.size(); at += size) pieces.push_back(text.substr(at, size));
      expect(c, in_pieces(c, pieces));
    }
  }
}

// What is certain goes out at once.
TEST(OutputParser, HoldsBackOnlyPossibleMarkers) {
  OutputParser parser({true, false, true, {}});
  const auto pushed = [&](std::string_view piece) {
    std::string out;
    for (const OutputEvent& e : parser.push(piece)) out += e.text;
    return out;
  };
  EXPECT_EQ(pushed("Hello"), "Hello");
  EXPECT_EQ(pushed(" wor"), " wor");
  EXPECT_EQ(pushed("ld \n"), "ld");
  EXPECT_EQ(pushed("<"), "");
  EXPECT_EQ(pushed("b>"), " \n<b>");
  EXPECT_EQ(pushed("<tool_ca"), "");
  EXPECT_EQ(pushed("ke>"), "<tool_cake>");
  EXPECT_EQ(pushed("see <function=f> and"), "see <function=f> and");
}

TEST(OutputParser, StreamsReasoning) {
  OutputParser parser({true, true, false, {}});
  const auto first = parser.push("one ");
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].kind, OutputEvent::Kind::kReasoning);
  EXPECT_EQ(first[0].text, "one ");
  EXPECT_TRUE(parser.push("\n</thi").empty());
  const auto second = parser.push("s");
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].text, "\n</this");
}

// Cut anywhere: what is finished is a call, what is not is a beginning of one, and no markup is ever text.
TEST(OutputParser, AnOutputThatIsCutOffShowsNoMarkup) {
  const std::string xml =
      "<tool_call>\n<function=f>\n<parameter=s>\nx "
      "y\n</parameter>\n<parameter=i>\n12\n</parameter>\n</function>\n</tool_call>";
  const std::string json =
      "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"s\": \"x}\\\" y\", \"i\": 12}}\n</tool_call>";
  const struct {
    std::string call, arguments;
  } kForms[] = {{xml, R"({"s": "x y", "i": 12})"}, {json, R"({"s": "x}\" y", "i": 12})"}};
  for (const bool certain : {false, true})
    for (const auto& form : kForms) {
      const std::string text = "Well.\n" + form.call + "\n" + form.call;
      std::size_t most = 0;
      for (std::size_t length = 0; length < text.size(); ++length) {
        SCOPED_TRACE(text.substr(0, length));
        OutputParser parser({true, false, true, tools(), certain});
        std::vector<OutputEvent> events;
        for (std::size_t at = 0; at < length; at += 5)
          for (OutputEvent& e : parser.push(std::string_view(text).substr(at, std::min<std::size_t>(5, length - at))))
            events.push_back(std::move(e));
        for (OutputEvent& e : parser.finish(true)) events.push_back(std::move(e));
        const ParsedOutput out = joined(events);
        EXPECT_EQ(out.content, text.substr(0, std::min<std::size_t>(length, out.content.ends_with("\n") ? 6 : 5)));
        std::size_t cut = 0;
        for (const OutputEvent& e : events) cut += e.cut && e.kind == OutputEvent::Kind::kToolCallEnd ? 1 : 0;
        ASSERT_LE(cut, 1u);
        for (std::size_t i = 0; i < out.tool_calls.size(); ++i) {
          EXPECT_EQ(out.tool_calls[i].name, "f");
          const std::string& arguments = out.tool_calls[i].arguments;
          if (i + 1 == out.tool_calls.size() && cut == 1)
            EXPECT_TRUE(form.arguments.starts_with(arguments)) << arguments;
          else
            EXPECT_EQ(arguments, form.arguments);
        }
        // Where a whole call is there, it is one; where nothing but its closing tag is missing, too.
        const std::size_t closing = std::string("\n</tool_call>").size();
        const std::size_t first = std::string("Well.\n").size() + form.call.size();
        EXPECT_EQ(out.tool_calls.size() - cut,
                  (length >= first - closing ? 1u : 0u) + (length >= text.size() - closing ? 1u : 0u));
        EXPECT_GE(out.tool_calls.size(), most);
        most = std::max(most, out.tool_calls.size());
      }
      EXPECT_EQ(most, 2u);
    }
  // An answer that ends by itself is shown as it is, and so is text that only looks a little like a call.
  OutputParser whole({true, false, true, {}});
  whole.push("<tool_call>\n{");
  EXPECT_EQ(joined(whole.finish()).content, "<tool_call>\n{");
  OutputParser less({true, false, true, {}});
  std::vector<OutputEvent> events = less.push("a <");
  for (OutputEvent& e : less.finish(true)) events.push_back(std::move(e));
  EXPECT_EQ(joined(events).content, "a <");
}

// What a grammar holds to its form need not be waited for.
TEST(OutputParser, ACertainCallGoesOutWhileItIsWritten) {
  using Kind = OutputEvent::Kind;
  OutputParser parser({true, false, true, {}, true});
  const auto pushed = [&](std::string_view piece) {
    std::string out;
    for (const OutputEvent& e : parser.push(piece))
      out += (e.kind == Kind::kToolCallBegin       ? "b:"
              : e.kind == Kind::kToolCallArguments ? "a:"
              : e.kind == Kind::kToolCallEnd       ? "e:"
                                                   : "t:") +
             std::to_string(e.index) + e.text + (e.cut ? "cut" : "") + " ";
    return out;
  };
  EXPECT_EQ(pushed("Well.\n<tool_call>\n{\"name\": \"f"), "t:-1Well. ");
  EXPECT_EQ(pushed("\", \"arguments\": "), "");
  EXPECT_EQ(pushed("{\"s\": \"x} "), "b:0f a:0{\"s\": \"x}  ");
  EXPECT_EQ(pushed("\\"), "a:0\\ ");
  EXPECT_EQ(pushed("\"]"), "a:0\"] ");
  EXPECT_EQ(pushed("\"}"), "a:0\"} ");
  EXPECT_EQ(pushed("}\n</tool"), "e:0 ");
  EXPECT_EQ(pushed("_call>\n<tool_call>\n{\"name\":\"g\",\"arguments\":{}}\n</tool_call>"), "b:1g a:1{} e:1 ");
  EXPECT_TRUE(parser.finish().empty());
  // What ends within is no call to be made, however it ends.
  for (const bool cut : {false, true}) {
    OutputParser ended({true, false, true, {}, true});
    std::vector<OutputEvent> events = ended.push("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": ");
    ASSERT_EQ(events.size(), 2u);
    events = ended.finish(cut);
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].kind, Kind::kToolCallEnd);
    EXPECT_TRUE(events[0].cut);
  }
  // What turns out to be no such call is looked at as a whole.
  EXPECT_EQ(joined(OutputParser({true, false, true, {}, true}).push("<tool_call>see</tool_call>")).content,
            "<tool_call>see</tool_call>");
}

TEST(OutputParser, LongCallsCostLinearTime) {
  std::string text = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"s\": \"";
  for (int i = 0; i < 200000; ++i) text += "x<y";
  text += "\"}}\n</tool_call>";
  OutputParser parser({true, false, true, {}});
  std::vector<OutputEvent> events;
  for (std::size_t at = 0; at < text.size(); at += 3)
    for (OutputEvent& e : parser.push(std::string_view(text).substr(at, 3))) events.push_back(std::move(e));
  EXPECT_EQ(joined(events).tool_calls.size(), 1u);
}

TEST(OutputParser, PromptThatOpensReasoning) {
  EXPECT_TRUE(prompt_opens_reasoning("<|im_start|>assistant\n<think>\n"));
  EXPECT_FALSE(prompt_opens_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
  EXPECT_FALSE(prompt_opens_reasoning("<|im_start|>assistant\n"));
}

}  // namespace
}  // namespace qw::chat
