#include "json/value.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "json/text_writer.h"

namespace qw::json {
namespace {

// ---- cases written by Python's json (tools/make_json_cases.py) ------------------------------------------------------

// Undoes the table's spelling: \\, \t, \n and \xNN.
std::string unescape(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '\\') {
      out += s[i];
      continue;
    }
    const char c = s[++i];
    if (c == 't') {
      out += '\t';
    } else if (c == 'n') {
      out += '\n';
    } else if (c == 'x') {
      out += static_cast<char>(std::stoi(std::string(s.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      out += c;
    }
  }
  return out;
}

std::vector<std::string> split_tabs(const std::string& line) {
  std::vector<std::string> fields;
  std::size_t begin = 0;
  for (std::size_t tab; (tab = line.find('\t', begin)) != std::string::npos; begin = tab + 1) {
    fields.push_back(unescape(std::string_view(line).substr(begin, tab - begin)));
  }
  fields.push_back(unescape(std::string_view(line).substr(begin)));
  return fields;
}

TEST(JsonCases, AgreeWithPython) {
  std::ifstream table(std::string(QW_SOURCE_DIR) + "/tests/cases/json/python_json.tsv");
  ASSERT_TRUE(table);
  int accepted = 0, refused = 0;
  for (std::string line; std::getline(table, line);) {
    if (line.starts_with('#')) continue;
    const auto fields = split_tabs(line);
    ASSERT_EQ(fields.size(), 6u) << line;
    SCOPED_TRACE(line);
    const auto value = parse(fields[1]);
    if (fields[0] == "error") {
      ++refused;
      EXPECT_FALSE(value) << "accepted";
      continue;
    }
    ++accepted;
    ASSERT_TRUE(value) << value.error().message;
    EXPECT_EQ(dump(*value), fields[2]);
    EXPECT_EQ(dump(*value, {.ensure_ascii = true}), fields[3]);
    EXPECT_EQ(dump(*value, {.indent = 2}), fields[4]);
    EXPECT_EQ(dump(*value, WriteStyle::compact()), fields[5]);
    EXPECT_EQ(*parse(dump(*value)), *value);
  }
  EXPECT_GT(accepted, 150);
  EXPECT_GT(refused, 60);
}

TEST(JsonCases, FloatsSpelledAsPythonRepr) {
  std::ifstream table(std::string(QW_SOURCE_DIR) + "/tests/cases/json/python_floats.tsv");
  ASSERT_TRUE(table);
  int count = 0;
  for (std::string line; std::getline(table, line); ++count) {
    const std::size_t tab = line.find('\t');
    const double d = __builtin_bit_cast(double, std::uint64_t{std::stoull(line.substr(0, tab), nullptr, 16)});
    EXPECT_EQ(python_float(d), line.substr(tab + 1)) << line;
    if (std::isfinite(d)) {
      const auto back = parse(line.substr(tab + 1));
      ASSERT_TRUE(back && back->is_double()) << line;
      EXPECT_EQ(__builtin_bit_cast(std::uint64_t, back->as_double()), __builtin_bit_cast(std::uint64_t, d)) << line;
    }
  }
  EXPECT_GT(count, 400);
}

// ---- numbers
// ---------------------------------------------------------------------------------------------------------

TEST(JsonNumber, IntegersBeyondInt64BecomeDoubles) {
  EXPECT_EQ(parse("9223372036854775807")->as_int(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(parse("-9223372036854775808")->as_int(), std::numeric_limits<std::int64_t>::min());
  ASSERT_TRUE(parse("9223372036854775808")->is_double());
  EXPECT_EQ(parse("9223372036854775808")->as_double(), 0x1.0p63);
  EXPECT_EQ(parse("-123456789012345678901234567890")->as_double(), -123456789012345678901234567890.0);
  EXPECT_TRUE(Value(std::uint64_t{1} << 63).is_double());
  EXPECT_TRUE(Value((std::uint64_t{1} << 63) - 1).is_int());
}

TEST(JsonNumber, OutOfRange) {
  for (const char* text : {"1e309", "-1e309", "1e999999999999999999999", "[1, 2e400]"}) {
    const auto value = parse(text);
    ASSERT_FALSE(value) << text;
    EXPECT_NE(value.error().message.find("number too large"), std::string::npos) << value.error().message;
  }
  EXPECT_FALSE(parse("1" + std::string(400, '0')));
  EXPECT_EQ(parse("1e-400")->as_double(), 0.0);
  EXPECT_TRUE(std::signbit(parse("-1e-400")->as_double()));
  EXPECT_EQ(parse("0." + std::string(500, '0') + "1")->as_double(), 0.0);
  EXPECT_EQ(parse("0." + std::string(500, '0') + "1e501")->as_double(), 1.0);
  EXPECT_EQ(parse("5e-324")->as_double(), std::numeric_limits<double>::denorm_min());
}

TEST(JsonNumber, NotFiniteSpelledAsPython) {
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(dump(Value(Array{inf, -inf, std::nan("")})), "[Infinity, -Infinity, NaN]");
  EXPECT_EQ(python_float(inf), "inf");
  EXPECT_EQ(python_float(-inf), "-inf");
  EXPECT_EQ(python_float(std::nan("")), "nan");
}

// ---- errors
// ----------------------------------------------------------------------------------------------------------

struct ErrorCase {
  const char* text;
  const char* where;
  const char* why;
};

TEST(JsonError, NamesPlaceAndReason) {
  const ErrorCase cases[] = {
      {"", "byte 0:", "unexpected end"},
      {"{\"a\": 1", "byte 7:", "unexpected end"},
      {"[1, 2] x", "byte 7:", "more text after"},
      {"{\"a\": tru}", "byte 6:", "syntax error near 't'"},
      {"\"a\nb\"", "byte 2:", "near byte 0x0a"},
      {"\"\\ud800\"", "byte 7:", "syntax error near '\"'"},
      {"\"\\ud800\\ud801\"", "byte ", "unpaired surrogate"},
      {"\"\\udc00\"", "byte ", "unpaired surrogate"},
  };
  for (const ErrorCase& c : cases) {
    const auto value = parse(c.text);
    ASSERT_FALSE(value) << c.text;
    EXPECT_EQ(value.error().kind, ErrorKind::kBadInput);
    EXPECT_NE(value.error().message.find(c.where), std::string::npos) << c.text << ": " << value.error().message;
    EXPECT_NE(value.error().message.find(c.why), std::string::npos) << c.text << ": " << value.error().message;
    EXPECT_EQ(value.error().message.find('\n'), std::string::npos);
  }
}

TEST(JsonError, EveryPrefixOfADocumentIsRefused) {
  const std::string text = R"({"a": [1.5e3, true, null, "x\u00e9\ud83d\ude00é"], "b": {"c": -12}})";
  ASSERT_TRUE(parse(text));
  for (std::size_t n = 0; n < text.size(); ++n) EXPECT_FALSE(parse(text.substr(0, n))) << n;
}

TEST(JsonLimits, DepthAndSize) {
  const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_TRUE(parse(nested(64)));
  const auto deep = parse(nested(65));
  ASSERT_FALSE(deep);
  EXPECT_NE(deep.error().message.find("nested too deeply"), std::string::npos) << deep.error().message;
  EXPECT_FALSE(parse(std::string(1 << 20, '[')));
  EXPECT_FALSE(parse("[[1]]", {.max_depth = 1}));
  EXPECT_TRUE(parse("[1]", {.max_depth = 1}));
  EXPECT_TRUE(parse("1", {.max_depth = 0}));
  EXPECT_FALSE(parse("[1, 2]", {.max_bytes = 5}));
}

// ---- values
// ----------------------------------------------------------------------------------------------------------

TEST(JsonObject, KeepsOrderAndPlaces) {
  Object o{{"b", 1}, {"a", 2}};
  o.set("c", 3);
  o.set("b", 4);
  EXPECT_EQ(dump(o), R"({"b": 4, "a": 2, "c": 3})");
  EXPECT_TRUE(o.erase("a"));
  EXPECT_FALSE(o.erase("a"));
  EXPECT_EQ(dump(o), R"({"b": 4, "c": 3})");
  EXPECT_EQ(o.find("a"), nullptr);
  EXPECT_EQ(dump(*parse(R"({"x": 1, "y": 2, "x": 3})")), R"({"x": 3, "y": 2})");
}

TEST(JsonObject, ManyKeys) {
  Object o;
  constexpr int kKeys = 20000;
  for (int i = 0; i < kKeys; ++i) o.set("key" + std::to_string(i), i);
  for (int i = 0; i < kKeys; i += 7) o.set("key" + std::to_string(i), -i);
  EXPECT_EQ(o.size(), std::size_t{kKeys});
  for (int i = 0; i < kKeys; ++i) {
    const Value* v = o.find("key" + std::to_string(i));
    ASSERT_NE(v, nullptr);
    EXPECT_EQ(v->as_int(), i % 7 == 0 ? -i : i);
    EXPECT_EQ((o.begin() + i)->first, "key" + std::to_string(i));
  }
  EXPECT_EQ(o.find("key20000"), nullptr);
  for (int i = 17; i < 60; ++i) EXPECT_TRUE(o.erase("key" + std::to_string(i)));
  EXPECT_EQ(o.find("key17"), nullptr);
  EXPECT_EQ(o.find("key60")->as_int(), 60);
}

TEST(JsonObject, EraseAcrossTheIndexThreshold) {
  Object o;
  for (int i = 0; i < 18; ++i) o.set(std::to_string(i), i);
  for (int i = 0; i < 18; ++i) {
    ASSERT_TRUE(o.erase(std::to_string(i)));
    for (int j = 0; j < 18; ++j) EXPECT_EQ(o.find(std::to_string(j)) != nullptr, j > i);
  }
  EXPECT_TRUE(o.empty());
  o.set("again", 1);
  EXPECT_EQ(o.find("again")->as_int(), 1);
}

TEST(JsonObject, CopiesAreIndependent) {
  Object a{{"k", Array{1, 2}}};
  Object b = a;
  b.find("k")->as_array().push_back(3);
  EXPECT_EQ(a.find("k")->as_array().size(), 2u);
  Object c = std::move(b);
  EXPECT_EQ(c.find("k")->as_array().size(), 3u);
  a = a;
  EXPECT_EQ(a.size(), 1u);
  EXPECT_EQ(Object().begin(), Object().end());
}

TEST(JsonValue, EqualityIsByMeaning) {
  EXPECT_EQ(*parse(R"({"a": 1, "b": [2, "x"]})"), *parse(R"({"b": [2.0, "x"], "a": 1.0})"));
  EXPECT_FALSE(*parse(R"({"a": 1})") == *parse(R"({"a": 1, "b": 1})"));
  EXPECT_FALSE(Value(true) == Value(1));
  EXPECT_FALSE(Value(std::int64_t{9007199254740993}) == Value(9007199254740992.0));
  EXPECT_FALSE(Value(std::numeric_limits<std::int64_t>::max()) == Value(0x1.0p63));
  EXPECT_EQ(Value(), Value(nullptr));
}

TEST(JsonValue, TypeNames) {
  EXPECT_STREQ(Value().type_name(), "null");
  EXPECT_STREQ(Value(true).type_name(), "boolean");
  EXPECT_STREQ(Value(1).type_name(), "integer");
  EXPECT_STREQ(Value(1.0).type_name(), "number");
  EXPECT_STREQ(Value("s").type_name(), "string");
  EXPECT_STREQ(Value(Array{}).type_name(), "array");
  EXPECT_STREQ(Value(Object{}).type_name(), "object");
}

TEST(JsonDump, IllFormedUtf8IsReplaced) {
  EXPECT_EQ(dump(Value("a\xff"
                       "b")),
            "\"a\xef\xbf\xbd"
            "b\"");
  EXPECT_EQ(dump(Value("\xe4\xbd")), "\"\xef\xbf\xbd\"");
  EXPECT_EQ(dump(Value("\xed\xa0\x80"), {.ensure_ascii = true}), "\"\\ufffd\\ufffd\\ufffd\"");
  EXPECT_EQ(dump(Value("\xf0\x9f\x98"), {.ensure_ascii = true}), "\"\\ufffd\"");
  EXPECT_EQ(dump(Value(std::string("\0", 1))), "\"\\u0000\"");
}

// ---- text without values
// ---------------------------------------------------------------------------------------------

TEST(TextWriter, SpellsAsDumpDoes) {
  std::string bytes;  // every byte, so that most of it is no UTF-8, then characters of all lengths
  for (int c = 0; c < 256; ++c) bytes += static_cast<char>(c);
  for (const std::string& text :
       {bytes, std::string("\"\\/\x7f\u00e9\u2028\U0001f600"), std::string(700, 'x'), std::string()}) {
    TextWriter out;
    out.open_object();
    out.member("text", text);
    out.key("list");
    out.open_array();
    out.integer(std::numeric_limits<std::int64_t>::min());
    out.boolean(true);
    out.null();
    out.open_object();
    out.close_object();
    out.open_array();
    out.close_array();
    out.value(Array{1, 0.5, text});
    out.string(text);
    out.close_array();
    out.member("n", std::int64_t{0});
    out.member("word", "a");
    out.close_object();
    const Value same = Object{{"text", text},
                              {"list", Array{std::numeric_limits<std::int64_t>::min(), true, nullptr, Object{}, Array{},
                                             Array{1, 0.5, text}, text}},
                              {"n", 0},
                              {"word", "a"}};
    EXPECT_EQ(out.take(), dump(same, WriteStyle::compact()));
  }
}

}  // namespace
}  // namespace qw::json
