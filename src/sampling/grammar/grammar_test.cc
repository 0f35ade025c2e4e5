#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/rng.h"
#include "sampling/constraint.h"
#include "sampling/grammar/ebnf.h"
#include "sampling/grammar/matcher.h"
#include "sampling/grammar/regex.h"
#include "sampling/grammar/token_classes.h"
#include "sampling/grammar/token_table.h"

namespace qw::sampling::grammar {
namespace {

// A small vocabulary with tokens that cross the borders of JSON and XML.
const tokenizer::Tokenizer& small_tokenizer() {
  static const tokenizer::Tokenizer tokenizer = [] {
    const std::string text =
        R"({"name": "get_weather", "arguments": {"city": "Bei jing", "days": 3, "list": [1, 2.5, -3e7], "ok": true}}
<tool_call>
{"name": "a", "arguments": {}}
</tool_call> <think> 思考 </think> \n\t \" null false true "},{" "]," 2024-12-31T10:20:30Z <function=get> <parameter=x> </parameter>
)";
    bool given = false;
    tokenizer::TrainOptions options;
    options.vocab = 420;
    options.min_frequency = 1;
    options.added_tokens = {"<|im_end|>", "<tool_call>", "</tool_call>", "<think>", "</think>"};
    std::string many;
    for (int i = 0; i < 5; ++i) many += text;
    auto spec = tokenizer::train_bpe(
        [&]() -> std::optional<std::string_view> {
          if (given) return std::nullopt;
          given = true;
          return many;
        },
        options);
    return std::move(*tokenizer::Tokenizer::create(std::move(*spec)));
  }();
  return tokenizer;
}

std::shared_ptr<const TokenTable> small_table() {
  static const auto table = std::make_shared<const TokenTable>(small_tokenizer());
  return table;
}

std::shared_ptr<const TokenClasses> classes_of(const Source& source) {
  auto grammar = Grammar::compile(source);
  EXPECT_TRUE(grammar.has_value()) << (grammar ? "" : grammar.error().message);
  return std::make_shared<const TokenClasses>(std::move(*grammar), small_table());
}

std::shared_ptr<const TokenClasses> ebnf(std::string_view text) {
  auto source = parse_ebnf(text);
  EXPECT_TRUE(source.has_value()) << (source ? "" : source.error().message);
  return classes_of(*source);
}

std::string ebnf_error(std::string_view text) {
  auto source = parse_ebnf(text);
  if (!source) return source.error().message;
  auto grammar = Grammar::compile(*source);
  return grammar ? "" : grammar.error().message;
}

// What the classes say at every step of a random output, against trying every token.
void check_walk(const std::shared_ptr<const TokenClasses>& classes, std::uint64_t seed, int steps) {
  base::Rng rng(seed, 0);
  Matcher matcher(classes);
  const TokenTable& table = classes->table();
  for (int step = 0; step < steps && !matcher.must_end(); ++step) {
    TokenSet allowed(table.vocab());
    EXPECT_TRUE(matcher.allowed(allowed));
    std::vector<TokenId> may;
    for (TokenId id = 0; id < table.vocab(); ++id) {
      const std::string_view bytes = table.tokenizer().token_bytes(id);
      bool reads = false;
      if (!bytes.empty() && !table.tokenizer().is_special(id)) {
        Matcher copy = matcher;
        reads = copy.accept(bytes);
      }
      ASSERT_EQ(allowed.has(id), reads) << "step " << step << ", token '" << bytes << "'";
      if (reads) may.push_back(id);
    }
    ASSERT_FALSE(may.empty());
    ASSERT_TRUE(matcher.accept(table.tokenizer().token_bytes(may[rng.below(may.size())])));
  }
}

TEST(Grammar, EbnfReadsWhatItDescribes) {
  const auto g = ebnf(
      "root ::= greeting \" \" name+ # a comment\ngreeting ::= \"hello\" | '你好'\n\nname ::= [A-Z]\n  [a-z]{1,3} "
      "\"\\n\"?");
  EXPECT_TRUE(matches(g, "hello Anna"));
  EXPECT_TRUE(matches(g, "你好 Bo\nCal\n"));
  EXPECT_FALSE(matches(g, "hello "));
  EXPECT_FALSE(matches(g, "hello anna"));
  EXPECT_FALSE(matches(g, "hello Annabel"));
  EXPECT_FALSE(matches(g, "你 Anna"));
  EXPECT_TRUE(matches(ebnf("root ::= \"\\x41\\u4f60\\U0001F600\\\"\\]\" [\\x30-\\x39^\\]-]"), "A你😀\"]-"));
  EXPECT_TRUE(matches(ebnf("root ::= (\"a\" | )  [^b]{2} ."), "acd€"));
  EXPECT_TRUE(matches(ebnf("root ::= [^\\u0000-\\u007f]*"), "é€😀"));
  EXPECT_FALSE(matches(ebnf("root ::= [^\\u0000-\\u007f]*"), "é€a"));
}

TEST(Grammar, RulesMayNestWithoutEnd) {
  const auto g = ebnf("root ::= \"(\" root* \")\" | \"[\" root \"]\"");
  EXPECT_TRUE(matches(g, "([()]()(()))"));
  EXPECT_FALSE(matches(g, "([()]()(())"));
  EXPECT_FALSE(matches(g, "([(])"));
  std::string deep(20000, '(');
  EXPECT_TRUE(matches(g, deep + std::string(20000, ')')));
  // A list written by recursion at the end takes no stack.
  const auto list = ebnf("root ::= [0-9] rest\nrest ::= \"\" | \",\" root");
  std::string numbers = "1";
  for (int i = 0; i < 100000; ++i) numbers += ",2";
  EXPECT_TRUE(matches(list, numbers));
}

TEST(Grammar, ErrorsSayWhere) {
  EXPECT_EQ(ebnf_error("root ::= \"a"), "grammar, line 1, column 12: a text does not end");
  EXPECT_EQ(ebnf_error("a ::= \"x\""), "grammar, line 1, column 10: there is no rule 'root'");
  EXPECT_EQ(ebnf_error("root ::= a"), "grammar: rule 'a' is used but not defined");
  EXPECT_EQ(ebnf_error("root ::= \"a\"\nroot ::= \"b\""), "grammar, line 2, column 1: rule 'root' is defined twice");
  EXPECT_EQ(ebnf_error("root ::= root \"a\" | \"b\""), "rule 'root' calls itself before any text (left recursion)");
  EXPECT_EQ(ebnf_error("root ::= n a\nn ::= \"\" | \"x\"\na ::= root | \"b\""),
            "rule 'root' calls itself before any text (left recursion)");
  EXPECT_EQ(ebnf_error("root ::= \"a\" root"), "the grammar matches nothing");
  EXPECT_EQ(ebnf_error("root ::= [^\\x00-\\U0010FFFF]"), "the grammar matches nothing");
  EXPECT_NE(ebnf_error("root ::= ((\"a\"{1000}){1000}){1000}").find("too large"), std::string::npos);
  EXPECT_NE(ebnf_error("root ::= " + std::string(200, '(') + "\"a\"" + std::string(200, ')')).find("nested too deep"),
            std::string::npos);
}

// Each part reaches all that follow it: without a bound this takes a minute and gigabytes.
TEST(Grammar, ManyPartsThatMayBeLeftOutAreFewOrRefusedSoon) {
  const auto parts = [](int n) {
    std::string text = "root ::= ";
    for (int i = 0; i < n; ++i) text += "(\"a\" | \"b\" | \"c\")? ";
    return text + "\"!\"";
  };
  EXPECT_TRUE(matches(ebnf(parts(500)), "abcabc!"));
  const auto began = std::chrono::steady_clock::now();
  EXPECT_NE(ebnf_error(parts(20000)).find("too large"), std::string::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(20));  // with sanitizers; else a second
}

TEST(Grammar, SetsOfCodePointsAreTheSameHoweverMade) {
  base::Rng rng(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::pair<char32_t, char32_t>> ranges;
    CodePoints one_by_one, without = CodePoints::all();
    for (int i = 0; i < 12; ++i) {
      const auto first = static_cast<char32_t>(rng.below(round % 2 == 0 ? 60 : CodePoints::kLast));
      const char32_t last = std::min<char32_t>(CodePoints::kLast, first + static_cast<char32_t>(rng.below(9)));
      ranges.emplace_back(first, last);
      one_by_one.add(first, last);
      without.remove(first, last);
    }
    const CodePoints at_once = CodePoints::of(ranges);
    EXPECT_EQ(at_once.ranges(), one_by_one.ranges());
    EXPECT_EQ(at_once.complement().ranges(), without.ranges());
    EXPECT_EQ(at_once.complement().complement().ranges(), at_once.ranges());
  }
  EXPECT_TRUE(CodePoints::all().complement().empty());
}

TEST(Grammar, TokensAreThoseThatReadOn) {
  const std::vector<std::string> grammars = {
      "root ::= \"{\" pair (\", \" pair)* \"}\"\npair ::= str \": \" val\nstr ::= \"\\\"\" [^\"\\\\\\x00-\\x1f]* "
      "\"\\\"\"\nval ::= str | [0-9]+ | root | \"[\" (val (\", \" val)*)? \"]\"",
      "root ::= [a-z]{0,5} (\"\\n\" [a-z ]{2,9})* \"}\"?",
      "root ::= a | b\na ::= \"<tool_call>\\n\" b\nb ::= [^<]* \"</\" (\"tool\" | \"think\") [a-z_]* \">\" root?",
      "root ::= x{0,3} \"\\n\"*\nx ::= y | \"{\" x \"}\"\ny ::= [\\u4e00-\\u9fff]+ | \"\\\"\" y \"\\\"\"",
      "root ::= .*"};
  for (std::size_t g = 0; g < grammars.size(); ++g)
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      SCOPED_TRACE(grammars[g]);
      check_walk(ebnf(grammars[g]), seed, 30);
    }
}

TEST(Grammar, RollingBackRestores) {
  const auto g = ebnf("root ::= \"(\" root* \")\"");
  Matcher m(g);
  ASSERT_TRUE(m.accept("(("));
  ASSERT_TRUE(m.accept(")"));
  EXPECT_FALSE(m.accept("x"));
  EXPECT_EQ(m.steps(), 2u);
  ASSERT_TRUE(m.accept(")"));
  EXPECT_TRUE(m.may_end());
  EXPECT_TRUE(m.must_end());
  m.roll_back(2);
  EXPECT_FALSE(m.may_end());
  EXPECT_TRUE(m.accept("))"));
}

TEST(Grammar, SearchesForMarks) {
  Source s;
  s.set_root(s.add_rule("root", s.sequence({s.until("abab"), s.without("<x>")})));
  const auto g = classes_of(s);
  EXPECT_TRUE(matches(g, "zzabaabab"));
  EXPECT_TRUE(matches(g, "abab<x<x"));
  EXPECT_FALSE(matches(g, "aba"));
  EXPECT_FALSE(matches(g, "abab <x>"));
  EXPECT_TRUE(matches(g, "ababab"));  // only the first occurrence counts
  check_walk(g, 3, 40);
}

TEST(Grammar, RegularExpressions) {
  struct Case {
    const char* pattern;
    std::vector<std::string> yes, no;
  };
  const std::vector<Case> cases = {
      {"a|b*c", {"a", "c", "bbc"}, {"", "b", "ac"}},
      {"^\\d{3}-[a-fA-F\\d]+$", {"123-aF0"}, {"12-a", "123-", "123-g"}},
      {"(?:ab){2,}?x?", {"abab", "ababab", "ababx"}, {"ab", "ababxx"}},
      {"[^\\w\\s]", {"!", "你"}, {"a", " ", "_"}},
      {"\\u4f60\\x41\\u{1F600}\\uD83D\\uDE00", {"你A😀😀"}, {"你A😀"}},
      {"(?<year>\\d{4})\\.", {"2024."}, {"2024x"}},
      {"a{,2}", {"a{,2}"}, {"a"}},
      {"[]a]", {}, {"]", "a"}},
      {".", {"é", "\r"}, {"\n", ""}},
      {"[a\\-z-]+", {"a-z"}, {"b"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.pattern);
    Source s;
    auto node = parse_regex(c.pattern, s);
    ASSERT_TRUE(node.has_value()) << node.error().message;
    s.set_root(s.add_rule("root", *node));
    if (c.yes.empty()) {
      EXPECT_FALSE(Grammar::compile(s).has_value());
      continue;
    }
    const auto g = classes_of(s);
    for (const auto& t : c.yes) EXPECT_TRUE(matches(g, t)) << t;
    for (const auto& t : c.no) EXPECT_FALSE(matches(g, t)) << t;
  }
  for (const auto& [pattern, error] :
       std::vector<std::pair<std::string, std::string>>{{"a(", "byte 2: a group does not end"},
                                                        {"a)", "byte 1: unmatched ')'"},
                                                        {"(?=a)", "byte 2: look-around and flags are not supported"},
                                                        {"\\1", "byte 2: back-references are not supported"},
                                                        {"a\\b", "byte 3: \\b is not supported"},
                                                        {"[a", "byte 2: a class does not end"},
                                                        {"*", "byte 0: nothing to repeat"},
                                                        {"a{3,2}", "byte 6: the numbers in braces are out of order"},
                                                        {"a|b$", "byte 4: ^ or $ beside | needs a group"}}) {
    Source s;
    auto node = parse_regex(pattern, s);
    ASSERT_FALSE(node.has_value()) << pattern;
    EXPECT_EQ(node.error().message, "regular expression, " + error) << pattern;
  }
}

}  // namespace
}  // namespace qw::sampling::grammar
