// The counting rules, with values worked out by hand (those of Python's re, statistics and the scripts named noted
// where they were run).
#include <gtest/gtest.h>

#include <cmath>

#include "eval/answer_rule.h"
#include "eval/pattern.h"
#include "eval/internal/words.h"
#include "eval/statistics.h"

namespace qw::eval {
namespace {

using Groups = std::vector<std::vector<std::string>>;
using Words = std::vector<std::string>;

Pattern pattern(std::string_view source) {
  auto p = Pattern::compile(source);
  EXPECT_TRUE(p) << (p ? "" : p.error().message);
  return std::move(*p);
}

AnswerRule rule_with(Step step) {
  AnswerRule rule;
  rule.steps = {std::move(step)};
  return rule;
}

Step regex(std::string_view source, std::int64_t pick = 0) {
  Step step;
  step.kind = Step::Kind::kRegex;
  step.pattern = std::make_shared<const Pattern>(pattern(source));
  step.pick = pick;
  return step;
}

TEST(Pattern, FindsWhatPythonFinds) {
  EXPECT_EQ(*pattern("[0-9]+").find_all("a1b22"), (Groups{{"1"}, {"22"}}));
  EXPECT_EQ(*pattern("(a)|(b)").find_all("ab"), (Groups{{"a", ""}, {"", "b"}}));
  EXPECT_EQ(*pattern("x*").find_all("axb"), (Groups{{""}, {"x"}, {""}, {""}}));  // re.findall("x*", "axb")
  EXPECT_EQ(*pattern("x*").find_all("é"), (Groups{{""}, {""}}));
  EXPECT_EQ(*pattern("(?s).*#### ").replace_all("a\nb #### 5", ""), "5");
  EXPECT_EQ(*pattern(R"(\(\s*([^\)]*?)\s*\))").replace_all("f ( x )", R"((\1))"), "f (x)");
  EXPECT_EQ(pattern("a").replace_all("b\xff"
                                     "a",
                                     "c"),
            "b\xff"
            "c");
}

TEST(Pattern, ErrorsSayWhereAndStepsAreLimited) {
  EXPECT_EQ(Pattern::compile("a(").error().message.rfind("the expression is wrong at byte 2: ", 0), 0u);
  const auto slow = pattern("(a+)+$").find_all(std::string(40, 'a') + "b");
  ASSERT_FALSE(slow);
  EXPECT_EQ(slow.error().kind, ErrorKind::kResource);
}

TEST(Words, AsPythonHasThem) {
  EXPECT_EQ(strip(" \t\u3000a b\u00a0\n"), "a b");
  EXPECT_EQ(strip("\u3000"), "");
  EXPECT_EQ(strip_end("答案："), "答案：");
  EXPECT_EQ(lower("ÀΣß中"), "àσß中");
  EXPECT_EQ(characters("a中\xff"), 3u);
  EXPECT_EQ(count_words(""), 1u);         // len(re.split(r"\s+", ""))
  EXPECT_EQ(count_words(" a  b\n"), 4u);  // ['', 'a', 'b', '']
  EXPECT_EQ(squad_words("The cat's  A hat."), (Words{"cats", "hat"}));
  EXPECT_EQ(mixed_words("光荣和ω-force 3.5！", Marks::kCmrc), (Words{"光", "荣", "和", "ω", "force", "3.5"}));
  EXPECT_EQ(mixed_words("3.5，第1", Marks::kAll), (Words{"3", "5", "第", "1"}));
  EXPECT_EQ(mixed_text(" A，b-中 ", Marks::kCmrc), "ab中");
}

TEST(F1, CountsBagsAndRuns) {
  EXPECT_DOUBLE_EQ(bag_f1({"a", "b", "b"}, {"b", "c"}), 2 * (1.0 / 3) * 0.5 / (1.0 / 3 + 0.5));
  EXPECT_DOUBLE_EQ(bag_f1({"a"}, {"b"}), 0);
  EXPECT_DOUBLE_EQ(run_f1({"x", "a", "b", "y"}, {"a", "b", "z", "y"}), 0.5);  // "a b": precision and recall 2/4
  EXPECT_DOUBLE_EQ(run_f1({}, {"a"}), 0);
  EXPECT_DOUBLE_EQ(run_f1({"a", "b"}, {"a", "b"}), 1);
}

TEST(AnswerRule, TakesAnswersOut) {
  const AnswerRule strict = rule_with(regex(R"(#### (\-?[0-9\.\,]+))"));
  EXPECT_EQ(*extracted(strict, "so 9 + 9 = 18\n#### 1,018"), "1,018");
  EXPECT_EQ(*extracted(strict, "18"), "[invalid]");
  const AnswerRule flexible = rule_with(regex("(-?[$0-9.,]{2,})|(-?[0-9]+)", -1));
  EXPECT_EQ(*extracted(flexible, "first 3, then $18 and 7"), "7");
  EXPECT_EQ(*extracted(flexible, "It is $18.50"), "$18.50");
  EXPECT_EQ(*extracted(rule_with({Step::Kind::kCodeBlock, nullptr, 0, ""}), "Here:\n```python\nx = 1\n```\nDone"),
            "x = 1\n");
  EXPECT_EQ(*extracted(rule_with({Step::Kind::kCodeBlock, nullptr, 0, ""}), "x = 1"), "x = 1");
  EXPECT_EQ(*extracted(rule_with({Step::Kind::kFirstLine, nullptr, 0, ""}), "a\nb"), "a");
  EXPECT_EQ(without_thinking("<think>\nhm\n</think>\n\n42"), "42");
  EXPECT_EQ(without_thinking("42"), "42");
}

TEST(AnswerRule, ComparesAsAsked) {
  AnswerRule rule;
  const std::vector<std::string> target{"x\n#### 1018."};
  EXPECT_EQ(*score(rule, "1018", target), 0);
  for (const char* source : {",", "\\$", "(?s).*#### ", "\\.$"})
    rule.ignore.push_back(std::make_shared<const Pattern>(pattern(source)));
  EXPECT_EQ(*score(rule, "$1,018", target), 1);
  rule = {};
  const std::vector<std::string> two{"Paris!", "Rome"};
  EXPECT_EQ(*score(rule, "rome", two), 0);
  rule.ignore_case = rule.ignore_punctuation = true;
  EXPECT_EQ(*score(rule, "rome", two), 1);
  EXPECT_EQ(*score(rule, "paris", two), 1);
  rule.metric = Metric::kMixedExact;
  EXPECT_EQ(*score(rule, "《战国无双》。", std::vector<std::string>{"战国无双"}), 1);
  rule.metric = Metric::kSquadF1;
  EXPECT_DOUBLE_EQ(*score(rule, "the big cat", std::vector<std::string>{"dog", "a cat"}), 2.0 / 3);
}

TEST(Statistics, MeansAndTheirErrors) {
  const std::vector<double> v{1, 0, 1, 1};
  const Estimate e = mean_of(v, 0, 1);
  EXPECT_DOUBLE_EQ(e.value, 0.75);
  EXPECT_DOUBLE_EQ(e.stderr_, 0.25);  // statistics.stdev([1, 0, 1, 1]) / 2
  EXPECT_NEAR(e.low, 0.75 - 1.96 * 0.25, 1e-4);
  EXPECT_EQ(e.high, 1);
  EXPECT_EQ(mean_of(std::vector<double>{1}, 0, 1).stderr_, 0);
  const Estimate p = perplexity_of(std::vector<double>{-1, -3});
  EXPECT_DOUBLE_EQ(p.value, std::exp(2.0));
  EXPECT_DOUBLE_EQ(p.stderr_, std::exp(2.0));  // the mean's is 1
  const Estimate r = ratio_of(std::vector<double>{2, 4}, std::vector<double>{1, 3});
  EXPECT_DOUBLE_EQ(r.value, 1.5);
  EXPECT_DOUBLE_EQ(r.stderr_, std::sqrt((0.25 + 0.25) * 2) / 4);
  EXPECT_DOUBLE_EQ(ratio_perplexity_of(std::vector<double>{-2, -4}, std::vector<double>{1, 3}).value, std::exp(1.5));
}

TEST(Statistics, TwoModelsOverTheSameItems) {
  const std::vector<double> a{1, 1, 0, 0, 0, 0, 1, 0}, b{1, 0, 1, 1, 1, 1, 1, 1};
  const PairedEstimate c = compare(a, b);
  EXPECT_DOUBLE_EQ(c.difference, 0.5);
  EXPECT_EQ(c.better, 5);
  EXPECT_EQ(c.worse, 1);
  EXPECT_NEAR(c.p, 2 * 7.0 / 64, 1e-12);  // (1 + 6) / 2^6 in each tail
  EXPECT_LT(c.low, 0.5);
  EXPECT_GT(c.high, 0.5);
  EXPECT_EQ(compare(a, b).low, c.low);
  const PairedEstimate same = compare(a, a);
  EXPECT_EQ(same.p, 1);
  EXPECT_EQ(same.low, 0);
  EXPECT_EQ(same.high, 0);
}

}  // namespace
}  // namespace qw::eval
