// Small templates against what Jinja2 makes of them (tests/cases/chat, made by tools/make_template_cases.py), limits,
// and what the interpreter refuses.
#include "chat/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/file.h"
#include "chat/internal/text.h"

namespace qw::chat {
namespace {

using testing::HasSubstr;

Result<Rendered> render(std::string_view source, const json::Object& variables = {}, const RenderLimits& limits = {}) {
  QW_ASSIGN(const Template parsed, Template::parse(source));
  return parsed.render(variables, limits);
}

std::int64_t characters(std::string_view text) { return static_cast<std::int64_t>(internal::char_count(text)); }

void check_spans(const Rendered& rendered, const json::Array& spans) {
  ASSERT_EQ(rendered.generation.size(), spans.size());
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const std::string_view text = rendered.text;
    EXPECT_EQ(characters(text.substr(0, rendered.generation[i].begin)), spans[i].as_array()[0].as_int());
    EXPECT_EQ(characters(text.substr(0, rendered.generation[i].end)), spans[i].as_array()[1].as_int());
  }
}

// `tolerant`: a refusal to print a generator or function, whose text in Python holds an address, is no difference.
void check_case(const json::Value& row, const json::Object& variables, bool tolerant) {
  const std::string source = row.find("template")->as_string();
  SCOPED_TRACE(row.find("name")->as_string() + ": " + source);
  const auto rendered = render(source, variables);
  if (const json::Value* error = row.find("error")) {
    ASSERT_FALSE(rendered) << "rendered as: " << rendered->text;
    EXPECT_THAT(rendered.error().message, HasSubstr(error->as_string()));
    EXPECT_THAT(rendered.error().message, testing::ContainsRegex("^chat template line [0-9]+, column [0-9]+: "));
    EXPECT_EQ(rendered.error().message.find('\n'), std::string::npos);
    return;
  }
  if (tolerant && !rendered && rendered.error().message.find("this value has no text") != std::string::npos) return;
  ASSERT_TRUE(rendered) << rendered.error().message;
  EXPECT_EQ(rendered->text, row.find("text")->as_string());
  if (const json::Value* spans = row.find("spans")) check_spans(*rendered, spans->as_array());
}

// A file of JSON lines; a line with only `variables` sets those of the lines that follow.
int check_file(const std::filesystem::path& path, bool tolerant = false) {
  const auto text = base::read_file(path);
  EXPECT_TRUE(text) << text.error().message;
  if (!text) return 0;
  std::istringstream lines(*text);
  json::Object shared;
  int cases = 0;
  for (std::string line; std::getline(lines, line);) {
    const auto row = json::parse(line);
    EXPECT_TRUE(row) << path << ": " << row.error().message;
    if (!row) return cases;
    const json::Value* variables = row->find("variables");
    if (!row->find("template")) {
      shared = variables->as_object();
      continue;
    }
    check_case(*row, variables ? variables->as_object() : shared, tolerant);
    ++cases;
  }
  return cases;
}

TEST(TemplateCases, EqualJinja2) {
  int cases = 0;
  for (const auto& file : std::filesystem::directory_iterator(std::string(QW_SOURCE_DIR) + "/tests/cases/chat"))
    if (file.path().extension() == ".jsonl") cases += check_file(file.path());
  EXPECT_GE(cases, 400);
}

// tools/fuzz_templates.py writes such a file and runs this test on it.
TEST(TemplateCases, OfGivenFile) {
  const char* path = std::getenv("QW_TEMPLATE_CASES");
  if (!path) GTEST_SKIP() << "QW_TEMPLATE_CASES names no file";
  EXPECT_GT(check_file(path, true), 0);
}

std::string error_of(std::string_view source) {
  const auto rendered = render(source);
  if (rendered) return "no error";
  EXPECT_EQ(rendered.error().kind, ErrorKind::kBadInput);
  return rendered.error().message;
}

TEST(TemplateErrors, NameLineAndColumn) {
  const struct {
    const char *source, *message;
  } cases[] = {
      // Of the tokens, of the grammar, of names, and of the rendering.
      {"a\n春 {{ 1 @ 2 }}", "line 2, column 8: unexpected char '@'"},
      {"{{ 'abc }}", "line 1, column 4: unexpected char \"'\""},
      {"a\n {# never ends", "line 2, column 4: Missing end of comment tag"},
      {"\n  {% raw %}\n{% x", "line 2, column 3: Missing end of raw directive"},
      {"{% raw %}\n{{{% end %}\n{% endraw %}\n {{ ) }}", "line 4, column 5: unexpected ')'"},
      {"a\nb {% if x %}\n{{ 1 + }}", "line 3, column 8: unexpected end of print statement"},
      {"{% if x %}\n春", "line 2, column 2: Unexpected end of template, looking for 'elif' or 'else' or 'endif'"},
      {"a\r\n\r  {% nope %}", "line 3, column 6: Encountered unknown tag 'nope'"},
      {"\n{{ x|nope }}", "line 2, column 6: No filter named 'nope'"},
      {"\n{{ x is nope }}", "line 2, column 6: No test named 'nope'"},
      {"a\n\n{% for x in [1] %}\n{{ x.y.z }}\n{% endfor %}", "line 4, column 6: 'int object' has no attribute 'y'"},
      {"{{ 1 }}{{ nope() }}", "line 1, column 11: 'nope' is undefined"},
      {"{{ nope.x }}", "line 1, column 4: 'nope' is undefined"},
      {"{{ nope['x'] }}", "line 1, column 4: 'nope' is undefined"},
      {"春{{ 1 + (2 / 0) }}", "line 1, column 12: division by zero"},
      {"{{ 2 < 'a' }}", "line 1, column 6: '<' not supported between instances of 'int' and 'str'"},
      {"{{ [1, 'a']|\n  sort }}", "line 2, column 3: '<' not supported between instances of 'str' and 'int'"},
      {"{{ 'x'.split('') }}", "line 1, column 8: empty separator"},
      {"\n{{ raise_exception('two\nlines') }}", "line 2, column 4: two lines"},
  };
  for (const auto& c : cases) EXPECT_EQ(error_of(c.source), std::string("chat template ") + c.message) << c.source;
}

TEST(TemplateErrors, LimitsSayWhere) {
  const auto message = [](std::string_view source, const RenderLimits& limits) {
    const auto rendered = render(source, {}, limits);
    return rendered ? std::string("no error") : rendered.error().message;
  };
  EXPECT_EQ(message("\n{% for i in range(1000) %}{{ i }}{% endfor %}", {.max_steps = 100}),
            "chat template line 2, column 27: template takes too many steps");
  EXPECT_EQ(message("a\n {{ 'aaaaaa' }}{{ 'aaaaaa' }}", {.max_output_bytes = 10}),
            "chat template line 2, column 16: output is too long");
  EXPECT_EQ(message("{% macro f() %}\n {{ f() }}{% endmacro %}{{ f() }}", {.max_depth = 20}),
            "chat template line 2, column 5: expression nests too deeply");
}

TEST(TemplateErrors, WrongBytes) {
  EXPECT_FALSE(render("a\xff"));
  EXPECT_FALSE(render(std::string(kMaxTemplateBytes + 1, 'a')));
  json::Object variables;
  variables.set("x", std::string("\xff\xc3(\x80"));
  const auto rendered = render("{{ x|length }}{{ x[1:2] }}{{ x|upper }}", variables);
  ASSERT_TRUE(rendered) << rendered.error().message;
  EXPECT_EQ(rendered->text, "4\xc3\xff\xc3(\x80");
}

void expect_resource(std::string_view source, const RenderLimits& limits = {}) {
  const auto rendered = render(source, {}, limits);
  ASSERT_FALSE(rendered) << source;
  EXPECT_EQ(rendered.error().kind, ErrorKind::kBadInput) << rendered.error().message;
}

TEST(TemplateLimits, EndlessWorkStops) {
  expect_resource("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}");
  expect_resource("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
  expect_resource("{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}");
  expect_resource("{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}");
  expect_resource("{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}");
  expect_resource("{% set ns = namespace(l=[1]) %}{% for i in range(999) %}{% set ns.l = [ns.l] %}{% endfor %}");
  expect_resource("{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}");
  expect_resource("{{ 'a' * 999999999999 }}");
  expect_resource("{{ [1] * 999999999999 }}");
  expect_resource("{{ 'a'.center(999999999999) }}");
  expect_resource("{{ ('a' * 5000000).replace('', 'bbbb') }}");
  expect_resource("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}");
  RenderLimits small;
  small.max_output_bytes = 10;
  expect_resource("{{ 'aaaaaa' }}{{ 'aaaaaa' }}", small);
  small = {};
  small.max_steps = 100;
  expect_resource("{% for i in range(1000) %}{{ i }}{% endfor %}", small);
}

TEST(TemplateLimits, ManyArgumentsAreRefused) {
  std::string parameters, arguments;
  for (int i = 0; i < 100000; ++i) {
    parameters += "a" + std::to_string(i) + ",";
    arguments += "a" + std::to_string(i) + "=1,";
  }
  expect_resource("{% macro m(" + parameters + "b) %}{% endmacro %}");
  expect_resource("{{ dict(" + arguments + ") }}");
  expect_resource("{% set d = dict(range(99999)|map('string')|batch(2)) %}{{ dict(**d) }}");
}

// Every second "{%" inside may be the end of it.
TEST(TemplateLimits, LongRawBlocksAreReadOnce) {
  std::string source = "{% raw %}";
  while (source.size() < kMaxTemplateBytes - 100) source += "{% ";
  EXPECT_FALSE(render(source));
  const auto closed = render(source + "{% endraw %}");
  ASSERT_TRUE(closed) << closed.error().message;
  EXPECT_EQ(closed->text, source.substr(9));
}

TEST(TemplateLimits, DeepSourcesAreRefused) {
  const auto repeat = [](std::string_view s, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += s;
    return out;
  };
  EXPECT_FALSE(render("{{ " + repeat("(", 50000) + "1" + repeat(")", 50000) + " }}"));
  EXPECT_FALSE(render("{{ " + repeat("[", 50000)));
  EXPECT_FALSE(render("{{ " + repeat("not ", 50000) + "1 }}"));
  EXPECT_FALSE(render("{{ " + repeat("-", 50000) + "1 }}"));
  EXPECT_FALSE(render("{{ 1" + repeat("|abs", 50000) + " }}"));
  EXPECT_FALSE(render("{{ a" + repeat(".a", 50000) + " }}"));
  EXPECT_FALSE(render("{{ 1" + repeat(" if 1 else 1", 50000) + " }}"));
  EXPECT_FALSE(render(repeat("{% if 1 %}", 5000) + repeat("{% endif %}", 5000)));
  const auto sum = render("{{ 1" + repeat(" + 1", 500) + " }}");
  ASSERT_TRUE(sum) << sum.error().message;
  EXPECT_EQ(sum->text, "501");
}

TEST(TemplateValues, NamespacesMayHoldThemselves) {
  EXPECT_FALSE(render("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}"));
  const auto kept = render(
      "{% set ns = namespace() %}{% set ns.me = [ns] %}{% macro m() %}{% endmacro %}{% set ns.m = m %}"
      "{% for i in [1, 2] %}{{ loop.changed(loop) }}{% set ns.l = loop %}{% endfor %}{{ ns.l.last }}");
  ASSERT_TRUE(kept) << kept.error().message;
  EXPECT_EQ(kept->text, "TrueFalseTrue");
}

TEST(TemplateGeneration, CapturedBlocksAreNotLocated) {
  const auto direct = render("a{% generation %}b{% endgeneration %}");
  ASSERT_TRUE(direct);
  EXPECT_TRUE(direct->generation_exact);
  const auto captured = render("{% set x %}a{% generation %}b{% endgeneration %}{% endset %}{{ x }}");
  ASSERT_TRUE(captured);
  EXPECT_EQ(captured->text, "ab");
  EXPECT_FALSE(captured->generation_exact);
}

TEST(TemplateClock, IsInjected) {
  RenderLimits limits;
  limits.local_time = [] {
    std::tm t{};
    t.tm_year = 125;
    t.tm_mon = 1;
    t.tm_mday = 3;
    t.tm_hour = 4;
    return t;
  };
  const auto rendered = render("{{ strftime_now('%Y-%m-%d %H:%M %z%f%%') }}", {}, limits);
  ASSERT_TRUE(rendered) << rendered.error().message;
  EXPECT_EQ(rendered->text, "2025-02-03 04:00 000000%");
}

TEST(TemplateVariables, ShadowBuiltIns) {
  json::Object variables;
  variables.set("range", "mine");
  const auto rendered = render("{{ range }}", variables);
  ASSERT_TRUE(rendered);
  EXPECT_EQ(rendered->text, "mine");
}

}  // namespace
}  // namespace qw::chat
