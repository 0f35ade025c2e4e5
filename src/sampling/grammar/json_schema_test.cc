#include "sampling/grammar/json_schema.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/rng.h"
#include "sampling/constraint.h"
#include "sampling/grammar/matcher.h"
#include "sampling/grammar/token_classes.h"

namespace qw::sampling {
namespace {

const tokenizer::Tokenizer& byte_tokenizer() {
  static const tokenizer::Tokenizer tokenizer = [] {
    tokenizer::TokenizerSpec spec;
    for (int b = 0; b < 256; ++b) spec.tokens.push_back(std::string(1, static_cast<char>(b)));
    spec.added.push_back({"<|im_end|>", 256, true, false});
    spec.stop = {256};
    return std::move(*tokenizer::Tokenizer::create(std::move(spec)));
  }();
  return tokenizer;
}

Result<std::shared_ptr<const grammar::TokenClasses>> compile(const ConstraintSpec& spec) {
  return ConstraintCompiler(byte_tokenizer()).compile(spec);
}

Result<std::shared_ptr<const grammar::TokenClasses>> schema(std::string_view text) {
  ConstraintSpec spec;
  spec.form = ConstraintSpec::Form::kJsonSchema;
  auto value = json::parse(text);
  QW_CHECK(value.has_value());
  spec.schema = std::move(*value);
  return compile(spec);
}

TEST(JsonSchema, AllowsWhatItDescribes) {
  struct Case {
    const char* schema;
    std::vector<std::string> yes, no;
  };
  const std::vector<Case> cases = {
      {"{}",
       {"1", "-0.5e+3", "\"a\\u00e9\\n\"", "[]", "[1, {\"a\":[null,true]}]", "{ }", "{\n  \"a\": 1\n}"},
       {"", "01", "[1,]", "{\"a\"}", "\"\n\"", "\"\\ud800\"", "nul", "{\"a\" : 1}"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},"c":{"type":"null"}},"required":["b"]})",
       {R"({"a":1,"b":"x","c":null})", R"({"b": "x"})", R"({"a": -7, "b": ""})", R"({"b":"","c":null})"},
       {R"({})", R"({"a":1})", R"({"b":1})", R"({"b":"x","a":1})", R"({"b":"x","d":1})", R"({"b":"x",})",
        R"({,"b":"x"})"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"boolean"}})",
       {R"({"a":1,"b":true,"ab":false})", R"({"b":true})", R"({})", R"({"":true})"},
       {R"({"a":true})", R"({"b":1})", R"({"\u0061":true})", R"({"b":true,"a":1})"}},
      {R"({"type":"object","additionalProperties":{"type":"integer"},"minProperties":1,"maxProperties":2})",
       {R"({"x":1})", R"({"x":1,"y":2})"},
       {R"({})", R"({"x":1,"y":2,"z":3})"}},
      {R"({"type":"object","additionalProperties":false})", {"{}"}, {R"({"a":1})"}},
      {R"({"required":["x"]})", {R"({"x":[1]})"}, {"{}", "1"}},
      {R"({"enum":["a",1,{"k":[1,2]},null]})",
       {"\"a\"", "1", R"({"k":[1,2]})", R"({"k": [1, 2]})", "null"},
       {"a", "2", "\"\""}},
      {R"({"type":"string","enum":["a",1]})", {"\"a\""}, {"1"}},
      {R"({"const":"你\"\n"})", {R"("你\"\n")"}, {R"("你")"}},
      {R"({"type":["integer","null"],"minimum":5,"maximum":123})",
       {"5", "9", "99", "123", "null"},
       {"4", "124", "-5", "1000", "05"}},
      {R"({"type":"integer","exclusiveMinimum":-12,"maximum":3.5})", {"-11", "-1", "0", "3"}, {"-12", "4", "-20"}},
      {R"({"type":"integer","minimum":100})", {"100", "999", "1000", "123456789012345678901"}, {"99", "-100", "0"}},
      {R"({"type":"integer","maximum":-3})", {"-3", "-10", "-99999"}, {"-2", "0", "3"}},
      {R"({"type":"number"})", {"0", "-0", "1.50", "2E10", "-0.0e-7"}, {".5", "1.", "+1", "00"}},
      {R"({"type":"number","minimum":0,"maximum":1})", {"0", "0.5", "1", "1.0", "0.999"}, {"1.01", "2", "-0.1", "1e0"}},
      {R"({"type":"number","exclusiveMinimum":0,"exclusiveMaximum":10})",
       {"0.001", "1", "9.99"},
       {"0", "0.0", "10", "10.0", "-1"}},
      {R"({"type":"number","minimum":-2,"maximum":2})",
       {"-2", "-2.0", "-1.99", "-0.5", "0", "1.7", "2.00"},
       {"-2.1", "2.01", "3"}},
      {R"({"type":"string","minLength":2,"maxLength":3})", {R"("ab")", R"("a\n你")"}, {R"("a")", R"("abcd")"}},
      {R"({"type":"string","pattern":"^a+$"})", {R"("aaa")"}, {R"("")", R"("ab")"}},
      {R"({"type":"string","pattern":"a.b"})",
       {R"("xa-bx")", R"("a\"b")", R"("a\\b")"},
       {R"("ab")", R"("a"b")", R"("a\nb")"}},
      {R"({"type":"string","format":"date-time"})",
       {R"("2024-02-28T23:59:59Z")", R"("2024-12-31T00:00:00.5+08:00")"},
       {R"("2024-02-30T00:00:00Z")", R"("2024-13-01T00:00:00Z")", R"("2024-12-31")"}},
      {R"({"type":"string","format":"ipv4"})", {R"("255.0.10.199")"}, {R"("256.0.0.1")", R"("1.2.3")"}},
      {R"({"type":"string","format":"uuid"})", {R"("123e4567-e89b-12d3-a456-426614174000")"}, {R"("123e4567")"}},
      {R"({"type":"string","format":"colour"})", {R"("red")"}, {"red"}},
      {R"({"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":2})",
       {"[true]", "[true, false]"},
       {"[]", "[true,true,true]", "[1]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})",
       {"[]", "[1]", "[1,\"a\"]", "[ 1, \"a\" ]"},
       {"[\"a\"]", "[1,\"a\",2]"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"}],"items":{"type":"null"},"minItems":2,"maxItems":3})",
       {"[1,null]", "[1,null,null]"},
       {"[1]", "[null,null]", "[1,null,null,null]"}},
      {R"({"anyOf":[{"type":"integer"},{"type":"array","items":{"$ref":"#"}}]})",
       {"1", "[]", "[1,[2,[[]]]]"},
       {"\"a\"", "[\"a\"]"}},
      {R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"],"additionalProperties":false}}})",
       {R"({"v":1,"next":{"v":2,"next":null}})"},
       {R"({"v":1})", R"({"v":1,"next":2})"}},
      {R"({"$defs":{"a/b~c":{"type":"null"}},"$ref":"#/$defs/a~1b~0c"})", {"null"}, {"1"}},
      {R"({"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"b":{"type":"null"}},"required":["b"]}]})",
       {R"({"a":1,"b":null})"},
       {R"({"a":1})", R"({"b":null})"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"anyOf":[{"required":["a"]},{"required":["b"]}]})",
       {R"({"a":1})", R"({"b":1})", R"({"a":1,"b":2})"},
       {"{}"}},
      {R"({"type":"number","allOf":[{"minimum":1},{"type":"integer","minimum":3}]})", {"3"}, {"2", "3.5"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.schema);
    const auto g = schema(c.schema);
    ASSERT_TRUE(g.has_value()) << g.error().message;
    for (const auto& t : c.yes) EXPECT_TRUE(matches(*g, t)) << t;
    for (const auto& t : c.no) EXPECT_FALSE(matches(*g, t)) << t;
  }
}

TEST(JsonSchema, RefusesByNameAndPlace) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({"type":"object","properties":{"a":{"type":"array","items":{"not":{}}}}})",
       "#/properties/a/items: 'not' is not supported"},
      {R"({"type":"text"})", "#: 'type' names no type of JSON"},
      {R"({"type":"array","uniqueItems":true})", "#: 'uniqueItems' is not supported"},
      {R"({"type":"number","multipleOf":0.5})", "#: 'multipleOf' is not supported"},
      {R"({"type":"number","minimum":0.5})", "#: bounds of numbers must be whole"},
      {R"({"type":"integer","minimum":5,"maximum":4})", "#: no integer is between the bounds"},
      {R"({"$ref":"other.json"})", "#: '$ref' to 'other.json': only places in the same document"},
      {R"({"$ref":"#/$defs/x"})", "#: '$ref' to '#/$defs/x', which is not there"},
      {R"({"$ref":"#"})", "the grammar matches nothing"},
      {R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})", "rule '#' calls itself before any text (left recursion)"},
      {R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", "the grammar matches nothing"},
      {R"({"type":"object","properties":{"a":{}},"required":["b"],"additionalProperties":false})",
       "#: 'b' is required and not among the properties"},
      {R"_({"type":"string","pattern":"(?=a)"})_",
       "#: 'pattern': regular expression, byte 2: look-around and flags are not supported"},
      {R"({"type":"string","pattern":"a","maxLength":3})",
       "#: only one of 'pattern', 'format' and lengths at a time is supported"},
      {R"([1])", "#: a schema must be an object, true or false"},
      {R"(false)", "#: false allows nothing"},
      {R"({"allOf":[{"$ref":"#/$defs/a"},{"type":"object"}],"$defs":{"a":{"$ref":"#/$defs/a","type":"object"}}})",
       "#: references go round in a circle"},
  };
  for (const auto& [text, error] : cases) {
    const auto g = schema(text);
    ASSERT_FALSE(g.has_value()) << text;
    EXPECT_EQ(g.error().message, error) << text;
  }
}

// Each of these took minutes, gigabytes, or the stack. What a document of some megabytes may cost is bounded.
TEST(JsonSchema, WhatWouldTakeTooLongIsRefused) {
  const auto members = [](int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += (i > 0 ? ",\"m" : "\"m") + std::to_string(i) + "\":{\"type\":\"null\"}";
    return out;
  };
  const auto numbers = [](int n, int from) {
    std::string out;
    for (int i = 0; i < n; ++i) out += (i > 0 ? "," : "") + std::to_string(2 * i + from);
    return out;
  };
  std::string choices, nested = "{\"type\":\"null\"}";
  for (int i = 0; i < 20'000; ++i) choices += (i > 0 ? ",{\"const\":" : "{\"const\":") + std::to_string(i) + "}";
  for (int i = 0; i < 25; ++i)
    nested = R"({"type":"object","properties":{")" + std::string(1'000, 'n') + "\":" + nested + "}}";
  std::string needs;
  for (int i = 0; i < 4'000; ++i)
    needs += (i > 0 ? ",{\"required\":[\"m" : "{\"required\":[\"m") + std::to_string(i % 3'000) + "\"]}";
  const struct {
    const char* what;
    std::string schema;
  } kCases[] = {
      {"a long name beside which others are allowed",
       R"({"properties":{")" + std::string(4'000'000, 'a') + R"(":{}},"additionalProperties":true})"},
      {"lists that are compared with each other",
       R"({"allOf":[{"enum":[)" + numbers(100'000, 0) + R"(]},{"enum":[)" + numbers(100'000, 1) + "]}]}"},
      {"places with long names",
       R"({"properties":{")" + std::string(1'000'000, 'p') + R"(":{"properties":{)" + members(10'000) + "}}}}"},
      {"copies of the rest for each choice", R"({"anyOf":[)" + needs + R"(],"properties":{)" + members(3'000) + "}}"},
      {"many choices", R"({"anyOf":[)" + choices + "]}"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.what);
    const auto g = schema(c.schema);
    ASSERT_FALSE(g.has_value());
    EXPECT_EQ(g.error().kind, ErrorKind::kBadInput);
    EXPECT_LT(g.error().message.size(), 1000u);
    EXPECT_TRUE(g.error().message.find("too long") != std::string::npos ||
                g.error().message.find("alternatives") != std::string::npos ||
                g.error().message.find("too large") != std::string::npos)
        << g.error().message;
  }
  EXPECT_TRUE(schema(nested).has_value());
}

TEST(Constraint, NobodyNeedWaitForAGrammar) {
  ConstraintSpec spec;
  spec.form = ConstraintSpec::Form::kEbnf;
  spec.text = "root ::=";
  for (int i = 0; i < 200; ++i) spec.text += " r" + std::to_string(i);
  for (int i = 0; i < 200; ++i) spec.text += "\nr" + std::to_string(i) + " ::= ((\"a\" | \"b\")?){700}";
  ConstraintCompiler compiler(byte_tokenizer());
  grammar::Effort patient({}, grammar::Effort::kMost / 8);  // a quarter of a second; five under a sanitizer
  const auto too_much = compiler.compile(spec, patient);
  ASSERT_FALSE(too_much.has_value());
  EXPECT_EQ(too_much.error().kind, ErrorKind::kBadInput);
  EXPECT_NE(too_much.error().message.find("too long"), std::string::npos) << too_much.error().message;

  int asked = 0;
  grammar::Effort gone([&asked] { return ++asked == 3; });
  const auto left = compiler.compile(spec, gone);
  ASSERT_FALSE(left.has_value());
  EXPECT_EQ(left.error().kind, ErrorKind::kInterrupted);
  EXPECT_EQ(asked, 3);  // and never again

  EXPECT_FALSE(compiler.knows(spec));
  spec.text = "root ::= \"a\"";
  EXPECT_FALSE(compiler.knows(spec));
  EXPECT_TRUE(compiler.compile(spec).has_value());
  EXPECT_TRUE(compiler.knows(spec));
}

ConstraintSpec tools(ToolDialect dialect, ConstraintSpec::ToolUse use) {
  ConstraintSpec spec;
  spec.tool_use = use;
  spec.dialect = dialect;
  spec.tools.push_back(
      {"add",
       *json::parse(
           R"({"type":"object","properties":{"a":{"type":"integer"},"note":{"type":"string"}},"required":["a"]})")});
  spec.tools.push_back({"now", nullptr});
  return spec;
}

TEST(Constraint, ToolCallsInBothDialects) {
  using Use = ConstraintSpec::ToolUse;
  const auto hermes = *compile(tools(ToolDialect::kHermes, Use::kRequired));
  const std::string one = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>";
  const std::string two = "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"zone\": [1]}}\n</tool_call>";
  EXPECT_TRUE(matches(hermes, one));
  EXPECT_TRUE(matches(hermes, one + "\n" + two));
  EXPECT_FALSE(matches(hermes, "Sure. " + one));
  // Arguments stand in a line, as templates write them; and there is an end to calls that must be made.
  EXPECT_FALSE(matches(hermes, "<tool_call>\n{\"name\": \"add\", \"arguments\": {\n\"a\": 1}}\n</tool_call>"));
  std::string sixteen = one;
  for (int i = 1; i < 16; ++i) sixteen += "\n" + two;
  EXPECT_TRUE(matches(hermes, sixteen));
  EXPECT_FALSE(matches(hermes, sixteen + "\n" + two));
  EXPECT_TRUE(matches(*compile(tools(ToolDialect::kHermes, Use::kAllowed)), sixteen + "\n" + two));
  EXPECT_FALSE(matches(hermes, "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": \"1\"}}\n</tool_call>"));
  EXPECT_FALSE(matches(hermes, "<tool_call>\n{\"name\": \"sub\", \"arguments\": {}}\n</tool_call>"));

  auto single = tools(ToolDialect::kHermes, Use::kAllowed);
  single.parallel_calls = false;
  const auto free = *compile(single);
  EXPECT_TRUE(matches(free, "No tool is needed, <tool is fine."));
  EXPECT_TRUE(matches(free, "Let me see.\n" + one));
  EXPECT_FALSE(matches(free, one + "\n" + two));
  EXPECT_FALSE(matches(free, "Let me see.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {}}\n</tool_call>"));

  const auto xml = *compile(tools(ToolDialect::kXml, Use::kRequired));
  EXPECT_TRUE(matches(xml,
                      "<tool_call>\n<function=add>\n<parameter=a>\n12\n</parameter>\n<parameter=note>\na < "
                      "b\n\n\"c\"\n</parameter>\n</function>\n</tool_call>"));
  EXPECT_FALSE(matches(xml, "<tool_call>\n<function=add>\n<parameter=a>\nx\n</parameter>\n</function>\n</tool_call>"));
  EXPECT_FALSE(matches(xml, "<tool_call>\n<function=add>\n</function>\n</tool_call>"));
}

TEST(Constraint, ThinkingIsFree) {
  ConstraintSpec spec;
  spec.form = ConstraintSpec::Form::kJsonObject;
  spec.reasoning = ConstraintSpec::Reasoning::kOpen;
  const auto open = *compile(spec);
  EXPECT_TRUE(matches(open, "hm, {\"no\": json</think>\n\n{\"a\": 1}"));
  EXPECT_FALSE(matches(open, "{\"a\": 1}"));
  spec.reasoning = ConstraintSpec::Reasoning::kPossible;
  const auto possible = *compile(spec);
  EXPECT_TRUE(matches(possible, "<think>well</think>{\"a\": 1}"));
  EXPECT_TRUE(matches(possible, "{\"a\": 1}"));
  EXPECT_FALSE(matches(possible, "<think>well"));
}

// A model that wants anything at random: with the constraint every text it ends is what was asked for.
// Texts of bounded length that begin alike: each has states of its own, so that every token would cost as many walks
// through the vocabulary as there are alternatives.
TEST(Constraint, WhatCanBeReadInManyWaysAtOnceIsEndedSoon) {
  tokenizer::TokenizerSpec many;
  for (int b = 0; b < 256; ++b) many.tokens.push_back(std::string(1, static_cast<char>(b)));
  for (char a = 'a'; a <= 'z'; ++a)
    for (char b = 'a'; b <= 'z'; ++b)
      for (char c = 'a'; c <= 'z'; ++c) many.tokens.push_back({a, b, c});
  const auto tokens = *tokenizer::Tokenizer::create(std::move(many));
  ConstraintCompiler compiler(tokens);
  const auto compile_ways = [&](int ways, const std::string& before) {
    ConstraintSpec spec;
    spec.form = ConstraintSpec::Form::kEbnf;
    spec.text = "root ::= " + before + " (a0";
    for (int i = 1; i < ways; ++i) spec.text += " | a" + std::to_string(i);
    spec.text += ")\n";
    for (int i = 0; i < ways; ++i)
      spec.text += "a" + std::to_string(i) + " ::= [a-z]{0,20} \"" + std::to_string(i) + "!\"\n";
    return compiler.compile(spec);
  };
  // At the first token it is said at once; later the answer ends, and whoever tries again gets no further.
  const auto refused = compile_ways(1000, "");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kBadInput);
  EXPECT_NE(refused.error().message.find("too many ways"), std::string::npos);
  const auto classes = compile_ways(1000, "\"?\"");
  ASSERT_TRUE(classes.has_value()) << classes.error().message;
  for (int attempt = 0; attempt < 4; ++attempt) {
    auto processor = make_constraint(*classes, {});
    std::vector<float> logits(static_cast<std::size_t>(tokens.vocab_size()));
    ASSERT_TRUE(processor->apply(logits, {}).has_value());
    ASSERT_TRUE(processor->accept('?').has_value());
    const auto ended = processor->apply(logits, {});
    ASSERT_FALSE(ended.has_value());
    EXPECT_NE(ended.error().message.find("too many ways"), std::string::npos) << ended.error().message;
  }
  const auto few = compile_ways(60, "\"?\"");
  ASSERT_TRUE(few.has_value());
  EXPECT_TRUE(matches(*few, "?abcdefghij7!"));
  auto processor = make_constraint(*few, {});
  std::vector<float> logits(static_cast<std::size_t>(tokens.vocab_size()));
  ASSERT_TRUE(processor->accept('?').has_value());
  ASSERT_TRUE(processor->apply(logits, {}).has_value());
  EXPECT_FALSE(std::isinf(logits[256])) << "aaa";
  EXPECT_TRUE(std::isinf(logits['!']));

  // In pieces it is the same, and a piece is not much more than was asked for.
  const auto again = compile_ways(61, "\"?\"");
  ASSERT_TRUE(again.has_value());
  grammar::Matcher matcher(*again);
  ASSERT_TRUE(matcher.accept("?"));
  grammar::TokenSet pieced((*again)->table().vocab()), whole = pieced;
  auto search = matcher.search(pieced);
  constexpr std::size_t kPiece = 200'000;
  int pieces = 0;
  std::size_t left = search->left();
  auto state = grammar::TokenClasses::Search::State::kGoesOn;
  for (; state == grammar::TokenClasses::Search::State::kGoesOn; ++pieces, left = search->left()) {
    state = search->run(kPiece);
    EXPECT_LE(left - search->left(), kPiece + 10'000) << pieces;
  }
  EXPECT_EQ(state, grammar::TokenClasses::Search::State::kDone);
  EXPECT_GT(pieces, 10);
  EXPECT_TRUE(matcher.allowed(whole));
  EXPECT_TRUE(std::equal(pieced.words().begin(), pieced.words().end(), whole.words().begin()));
  // Whoever comes later finds it worked out: it counts the same, and takes a piece or two.
  grammar::TokenSet later((*again)->table().vocab());
  auto known = matcher.search(later);
  EXPECT_EQ(known->run(2 * kPiece), grammar::TokenClasses::Search::State::kDone);
  EXPECT_LE(known->left(), left + 61 * 64) << "but for finding what is kept";
  auto worker = make_constraint(*again, {});
  ASSERT_TRUE(worker->accept('?').has_value());
  std::vector<float> now(logits.size()), ahead(logits.size());
  ASSERT_TRUE(worker->apply(now, {}).has_value());
  auto other = make_constraint(*compile_ways(62, "\"?\""), {});
  ASSERT_TRUE(other->accept('?').has_value());
  int calls = 1;
  while (!other->work_ahead(kPiece)) ++calls;
  EXPECT_GT(calls, 10);
  ASSERT_TRUE(other->apply(ahead, {}).has_value());
  EXPECT_EQ(now, ahead) << "the tokens of one letter and three are the same for 61 ways and 62";
}

TEST(Constraint, GuidesAnyModel) {
  ConstraintSpec spec;
  spec.form = ConstraintSpec::Form::kJsonSchema;
  spec.schema = *json::parse(
      R"({"type":"object","properties":{"n":{"type":"integer","minimum":-5,"maximum":500},"s":{"type":"string","maxLength":5},
      "l":{"type":"array","items":{"enum":["x","y"]},"maxItems":3}},"required":["n","l"],"additionalProperties":false})");
  const auto classes = *compile(spec);
  int ended = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    auto processor = make_constraint(classes, {256});
    ASSERT_TRUE(processor->prepare({}, 300).has_value());
    base::Rng rng(seed, 1);
    std::string text;
    for (int i = 0; i < 400; ++i) {
      std::vector<float> logits(300);
      for (float& l : logits) l = rng.next_float();
      ASSERT_TRUE(processor->apply(logits, {}).has_value());
      const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
      ASSERT_GT(logits[static_cast<std::size_t>(best)], -1);
      ASSERT_TRUE(processor->accept(static_cast<TokenId>(best)).has_value());
      if (best == 256) {
        ++ended;
        EXPECT_TRUE(matches(classes, text)) << text;
        const auto value = json::parse(text);
        ASSERT_TRUE(value.has_value()) << text;
        EXPECT_LE(value->find("n")->as_int(), 500);
        EXPECT_GE(value->find("n")->as_int(), -5);
        break;
      }
      text += static_cast<char>(best);
    }
  }
  EXPECT_EQ(ended, 40);
}

TEST(Constraint, TheSameWordsAreCompiledOnce) {
  ConstraintCompiler compiler(byte_tokenizer());
  ConstraintSpec spec;
  spec.form = ConstraintSpec::Form::kRegex;
  spec.text = "[a-z]+";
  const auto first = *compiler.compile(spec);
  EXPECT_EQ(first, *compiler.compile(spec));
  for (int i = 0; i < 70; ++i) {
    spec.text = "a{" + std::to_string(i) + "}";
    ASSERT_TRUE(compiler.compile(spec).has_value());
  }
  spec.text = "[a-z]+";
  EXPECT_NE(first, *compiler.compile(spec));  // it made room
}

}  // namespace
}  // namespace qw::sampling
