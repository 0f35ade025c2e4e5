#include "api/internal/case_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "json/value.h"

namespace qw::api::test {
namespace {

// Logits of other processors differ in the last digits.
constexpr double kNear = 1e-4;

std::string until_newline(std::string_view text, std::size_t& at) {
  const auto end = std::min(text.find('\n', at), text.size());
  std::string line(text.substr(at, end - at));
  at = end + 1;
  return line;
}

bool starts(const std::string& line, const char* word) { return line.starts_with(word); }

// Where JSON begins in a line of a stream ("data: {...}"), or its length.
std::size_t json_begin(const std::string& line) {
  if (line.starts_with("{") || line.starts_with("[")) return 0;
  const std::size_t at = line.find('{');
  return line.starts_with("data:") && at != std::string::npos ? at : line.size();
}

// The digits of an id (api/exchange.h), of something that is named after one, or of a request.
constexpr std::size_t kIdDigits = 24;

std::size_t id_at(std::string_view text, std::size_t at) {  // how many digits of an id stand there
  const auto end = std::min(text.find_first_not_of("0123456789abcdef", at), text.size());
  return end - at == kIdDigits ? kIdDigits : 0;
}

bool is_time(const std::string& s) {  // 2026-11-28T..., or with a blank as DashScope has it
  return s.size() >= 19 && s[4] == '-' && s[7] == '-' && (s[10] == 'T' || s[10] == ' ') && s[13] == ':';
}

constexpr std::int64_t kLongAgo = 1'500'000'000;  // 2017: no count of a test is that large

json::Value placeholders(const json::Value& value, std::string_view key, const Variables& variables) {
  if (value.is_string()) {
    return is_time(value.as_string()) ? "<time>" : text_placeholders(value.as_string(), variables);
  }
  if (value.is_int() && value.as_int() > kLongAgo) return key.ends_with("duration") ? "<number>" : "<time>";
  if (value.is_number() && key.ends_with("duration")) return "<number>";
  if (value.is_array()) {
    json::Array out;
    for (const json::Value& item : value.as_array()) out.push_back(placeholders(item, key, variables));
    return out;
  }
  if (value.is_object()) {
    json::Object out;
    for (const auto& [name, item] : value.as_object()) out.set(name, placeholders(item, name, variables));
    return out;
  }
  return value;
}

bool fits_placeholder(const std::string& what, const json::Value& got) {
  if (what == "<*>") return true;
  if (what == "<number>") return got.is_number();
  if (what == "<time>")
    return (got.is_int() && got.as_int() > kLongAgo) || (got.is_string() && is_time(got.as_string()));
  return got.is_string() && text_fits(what, got.as_string());
}

std::string differs(const json::Value& expected, const json::Value& got, const std::string& place) {
  if (expected.is_string() && fits_placeholder(expected.as_string(), got)) return {};
  if (expected.is_double() && got.is_number()) {
    const double a = expected.as_double(), b = got.as_double();
    if (std::fabs(a - b) <= kNear * std::max(1.0, std::fabs(a))) return {};
  }
  if (expected.is_array() && got.is_array() && expected.as_array().size() == got.as_array().size()) {
    for (std::size_t i = 0; i < expected.as_array().size(); ++i)
      if (auto d = differs(expected.as_array()[i], got.as_array()[i], place + "[" + std::to_string(i) + "]");
          !d.empty())
        return d;
    return {};
  }
  if (expected.is_object() && got.is_object()) {
    auto a = expected.as_object().begin(), b = got.as_object().begin();
    for (; a != expected.as_object().end() && b != got.as_object().end(); ++a, ++b) {
      if (a->first != b->first) return place + ": '" + b->first + "' where '" + a->first + "' is expected";
      if (auto d = differs(a->second, b->second, place + "." + a->first); !d.empty()) return d;
    }
    if (a != expected.as_object().end()) return place + ": there is no '" + a->first + "'";
    if (b != got.as_object().end()) return place + ": '" + b->first + "' is not expected";
    return {};
  }
  if (expected == got) return {};
  return place + ": " + json::dump(got) + " where " + json::dump(expected) + " is expected";
}

std::string line_differs(const std::string& expected, const std::string& got, const std::string& place) {
  const auto a = json::parse(expected.substr(json_begin(expected))), b = json::parse(got.substr(json_begin(got)));
  if (!a || !b)
    return text_fits(expected, got) ? "" : place + ": \"" + got + "\" where \"" + expected + "\" is expected";
  if (expected.substr(0, json_begin(expected)) != got.substr(0, json_begin(got))) return place + ": \"" + got + "\"";
  return differs(*a, *b, place);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size();) out.push_back(until_newline(text, at));
  while (!out.empty() && out.back().empty()) out.pop_back();
  return out;
}

// "field: value" lines until an empty one.
std::vector<std::string> head(std::string_view text, std::size_t& at) {
  std::vector<std::string> out;
  while (at < text.size()) {
    std::string line = until_newline(text, at);
    if (line.empty()) break;
    out.push_back(std::move(line));
  }
  return out;
}

std::string body(std::string_view text, std::size_t& at) {
  std::string out;
  while (at < text.size()) {
    const std::size_t before = at;
    const std::string line = until_newline(text, at);
    if (starts(line, "<<< ") || starts(line, ">>> ") || starts(line, "# ")) {
      at = before;
      break;
    }
    out += line + "\n";
  }
  while (out.ends_with("\n\n")) out.pop_back();
  if (out == "\n") out.clear();
  return out;
}

}  // namespace

std::vector<Transcript> parse_cases(std::string_view text, const std::string& where) {
  std::vector<Transcript> out;
  std::vector<std::string> comments;
  for (std::size_t at = 0; at < text.size();) {
    const std::string line = until_newline(text, at);
    if (line.empty()) continue;
    if (starts(line, "#")) {
      comments.push_back(line);
      continue;
    }
    Transcript one;
    const auto blank = line.find(' ', 4);
    if (!starts(line, ">>> ") || blank == std::string::npos) {
      ADD_FAILURE() << where << ": expected '>>> METHOD PATH', not: " << line;
      return out;
    }
    one.comments = std::exchange(comments, {});
    one.method = line.substr(4, blank - 4);
    one.path = line.substr(blank + 1);
    for (std::string& field : head(text, at)) {
      if (starts(field, "@")) {
        const auto colon = field.find(": ");
        one.directives.emplace_back(field.substr(1, colon - 1), field.substr(colon + 2));
      } else {
        one.headers.push_back(std::move(field));
      }
    }
    one.body = body(text, at);
    if (one.body.ends_with("\n") && one.body.find("--") != 0) one.body.pop_back();
    const std::size_t before = at;
    const std::string status = until_newline(text, at);
    if (starts(status, "<<< ")) {
      one.status = std::atoi(status.c_str() + 4);
      one.answer_headers = head(text, at);
      one.answer = body(text, at);
    } else {
      at = before;
    }
    out.push_back(std::move(one));
  }
  return out;
}

std::string write_cases(const std::vector<Transcript>& cases) {
  std::string out;
  for (const Transcript& one : cases) {
    if (!out.empty()) out += "\n";
    for (const std::string& line : one.comments) out += line + "\n";
    out += ">>> " + one.method + " " + one.path + "\n";
    for (const auto& [name, value] : one.directives) out += "@" + name + ": " + value + "\n";
    for (const std::string& line : one.headers) out += line + "\n";
    out += "\n";
    if (!one.body.empty()) out += one.body + (one.body.ends_with("\n") ? "" : "\n");
    out += "<<< " + std::to_string(one.status) + "\n";
    for (const std::string& line : one.answer_headers) out += line + "\n";
    out += "\n" + one.answer + (one.answer.empty() || one.answer.ends_with("\n") ? "" : "\n");
  }
  return out;
}

std::string with_variables(std::string text, const Variables& variables) {
  for (const auto& [name, value] : variables) {
    const std::string mark = "{{" + name + "}}";
    for (std::size_t at = 0; (at = text.find(mark, at)) != std::string::npos; at += value.size())
      text.replace(at, mark.size(), value);
  }
  return text;
}

bool text_fits(std::string_view expected, std::string_view got) {
  const auto mark = expected.find('<');
  if (mark == std::string_view::npos) return expected == got;
  if (expected.substr(0, mark) != got.substr(0, mark)) return false;
  const std::string_view rest = expected.substr(mark);
  if (rest.starts_with("<id>")) {
    const std::size_t digits = id_at(got, mark);
    return digits > 0 && text_fits(rest.substr(4), got.substr(mark + digits));
  }
  if (rest.starts_with("<*>")) {
    for (std::size_t at = mark; at <= got.size(); ++at)
      if (text_fits(rest.substr(3), got.substr(at))) return true;
    return false;
  }
  return got.size() > mark && got[mark] == '<' && text_fits(rest.substr(1), got.substr(mark + 1));
}

std::string text_placeholders(std::string text, const Variables& variables) {
  for (const auto& [name, value] : variables)
    for (std::size_t at = 0; (at = text.find(value, at)) != std::string::npos; at += name.size() + 4)
      text.replace(at, value.size(), "{{" + name + "}}");
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const bool begins = at == 0 || std::strchr("0123456789abcdef", text[at - 1]) == nullptr;
    if (const std::size_t digits = begins ? id_at(text, at) : 0; digits > 0) {
      out += "<id>";
      at += digits;
    } else {
      out += text[at++];
    }
  }
  return out;
}

std::string difference(const std::string& expected, const std::string& got, const Variables& variables) {
  const std::string wanted = with_variables(expected, variables);
  const auto whole = json::parse(wanted), answer = json::parse(got);
  if (whole && answer) return differs(*whole, *answer, "$");
  const auto a = lines_of(wanted), b = lines_of(got);
  for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string place = "line " + std::to_string(i + 1);
    if (i >= a.size()) return place + " is not expected: " + b[i];
    if (i >= b.size()) return place + " is missing: " + a[i];
    if (auto d = line_differs(a[i], b[i], place); !d.empty()) return d;
  }
  return {};
}

std::string with_placeholders(const std::string& got, const Variables& variables) {
  if (const auto whole = json::parse(got))
    return json::dump(placeholders(*whole, "", variables), {2, false, ",", ": "}) + "\n";
  std::string out;
  for (const std::string& line : lines_of(got)) {
    const std::size_t at = json_begin(line);
    const auto value = json::parse(line.substr(at));
    out += value ? line.substr(0, at) + json::dump(placeholders(*value, "", variables)) : line;
    out += "\n";
  }
  return out;
}

namespace {

TEST(CaseFile, WhatIsWrittenIsReadAgain) {
  const std::string text =
      "# one\n>>> POST /a\n@keep: x = id\nA: b\n\n{\"q\": 1}\n<<< 200\nC: d\n\n{\n  \"id\": \"<id>\"\n}\n\n"
      "# two\n>>> GET /b\n\n<<< 404\n\ndata: {\"a\": 1}\n\ndata: [DONE]\n";
  const auto cases = parse_cases(text, "here");
  ASSERT_EQ(cases.size(), 2u);
  EXPECT_EQ(cases[0].body, "{\"q\": 1}");
  EXPECT_EQ(cases[0].directives[0].second, "x = id");
  EXPECT_EQ(write_cases(cases), text);
}

TEST(CaseFile, DifferencesAreFound) {
  const Variables v{{"x", "xyz"}};
  EXPECT_EQ(difference(R"({"a": "r-<id>", "b": "{{x}}", "t": "<time>", "n": 0.5})",
                       R"({"a":"r-0123456789abcdef01234567","b":"xyz","t":1790000000,"n":0.50001})", v),
            "");
  EXPECT_NE(difference(R"({"a": 1, "b": 2})", R"({"b":2,"a":1})", v), "");
  EXPECT_NE(difference(R"({"a": 1})", R"({"a":1,"c":0})", v), "");
  EXPECT_NE(difference(R"({"a": 0.5})", R"({"a":0.51})", v), "");
  EXPECT_NE(difference(R"({"a": "<id>"})", R"({"a":"short"})", v), "");
  EXPECT_TRUE(text_fits("a <id> of <*>!", "a 0123456789abcdef01234567 of any!"));
  EXPECT_FALSE(text_fits("a <id> of <*>!", "a 0123456789abcdef0123456 of any!"));
  EXPECT_TRUE(text_fits("1 < 2", "1 < 2"));
  EXPECT_EQ(text_placeholders("no file-0123456789abcdef01234567, xyz", v), "no file-<id>, {{x}}");
  EXPECT_EQ(difference("data: {\"a\": 1}\n\ndata: [DONE]\n", "data: {\"a\":1}\n\ndata: [DONE]\n\n", v), "");
  EXPECT_NE(difference("data: {\"a\": 1}\n", "data: {\"a\":1}\n\ndata: [DONE]\n\n", v), "");
}

}  // namespace
}  // namespace qw::api::test
