// Jinja's filters on single values.
#include "chat/internal/filters.h"

#include <algorithm>
#include <cfenv>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "chat/internal/parser.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

namespace {

// soft_str: markup stays markup.
Result<Value> soft(Interpreter& in, const Value& v) {
  if (v.is_string()) return v;
  QW_ASSIGN(std::string text, in.text(v));
  return Value::string(std::move(text));
}

Result<Value> call_method(Interpreter& in, const char* method, const Value& v, Args args = {}) {
  QW_ASSIGN(const Value text, soft(in, v));
  return find_string_method(method)(in, text, args);
}

Result<Value> upper_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "upper", args, {}, 0, nullptr));
  return call_method(in, "upper", v);
}
Result<Value> lower_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "lower", args, {}, 0, nullptr));
  return call_method(in, "lower", v);
}
Result<Value> capitalize_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "capitalize", args, {}, 0, nullptr));
  return call_method(in, "capitalize", v);
}

Result<Value> trim_filter(Interpreter& in, const Value& v, Args& args) {
  Value chars;
  QW_TRY(take_args(in, "trim", args, {"chars"}, 0, &chars));
  return call_method(in, "strip", v, chars.is_missing() ? Args{} : Args{{chars}, {}});
}

Result<Value> center_filter(Interpreter& in, const Value& v, Args& args) {
  Value width;
  QW_TRY(take_args(in, "center", args, {"width"}, 0, &width));
  return call_method(in, "center", v, Args{{width.is_missing() ? Value::integer(80) : width}, {}});
}

Result<Value> title_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "title", args, {}, 0, nullptr));
  QW_ASSIGN(const std::string text, in.text(v));
  QW_TRY(in.characters(text));
  QW_TRY(in.room(text.size()));
  // Words begin after white space, hyphens and opening brackets, not after apostrophes as str.title() has it.
  std::string out, word;
  const auto flush = [&] {
    std::size_t at = 0;
    if (!word.empty()) decode_char(word, &at);
    out += upper(word.substr(0, at)) + lower(word.substr(at));
    word.clear();
  };
  for (const std::uint32_t c : to_chars(text)) {
    if (is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<') {
      flush();
      append_char(&out, c);
    } else {
      append_char(&word, c);
    }
  }
  flush();
  return in.string(std::move(out));
}

Result<Value> string_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "string", args, {}, 0, nullptr));
  return soft(in, v);
}

Result<Value> safe_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "safe", args, {}, 0, nullptr));
  QW_ASSIGN(std::string text, in.text(v));
  return in.string(std::move(text), true);
}

template <bool kForce>
Result<Value> escape_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "escape", args, {}, 0, nullptr));
  if (v.is_markup() && !kForce) return v;
  QW_ASSIGN(const std::string text, in.text(v));
  QW_TRY(in.room(text.size() * 5));
  return in.string(escape_html(text), true);
}

Result<Value> length_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "length", args, {}, 0, nullptr));
  QW_ASSIGN(const std::int64_t n, in.length(v));
  return Value::integer(n);
}

Result<Value> default_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[2];
  QW_TRY(take_args(in, "default", args, {"default_value", "boolean"}, 0, out));
  if (!v.is_undefined() && !(truthy(out[1]) && !truthy(v))) return v;
  return out[0].is_missing() ? Value::string("") : out[0];
}

Result<Value> replace_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[3];
  QW_TRY(take_args(in, "replace", args, {"old", "new", "count"}, 2, out));
  Args call;
  for (int i = 0; i < 2; ++i) {
    QW_ASSIGN(std::string text, in.text(out[i]));
    call.positional.push_back(Value::string(std::move(text)));
  }
  if (!out[2].is_missing() && !out[2].is(Kind::kNone)) call.positional.push_back(out[2]);
  QW_ASSIGN(std::string text, in.text(v));
  return find_string_method("replace")(in, Value::string(std::move(text)), call);
}

Result<Value> format_filter(Interpreter& in, const Value& v, Args& args) {
  if (!args.positional.empty() && !args.named.empty())
    return in.fail("can't handle positional and keyword arguments at the same time");
  QW_ASSIGN(const Value format, soft(in, v));
  if (args.named.empty()) return format_percent(in, format, Value::tuple(args.positional));
  auto dict = std::make_shared<Dict>();
  for (auto& [name, value] : args.named) dict->set(Value::string(name), std::move(value));
  return format_percent(in, format, Value::dict(std::move(dict)));
}

Result<Value> indent_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[3];
  QW_TRY(take_args(in, "indent", args, {"width", "first", "blank"}, 0, out));
  if (v.is_undefined()) return in.fail(v.text());
  if (!v.is_string()) return in.fail(std::string("indent needs a string, not ") + python_type(v));
  std::string by;
  if (out[0].is_string()) {
    by = v.is_markup() ? escape_html(out[0].text()) : out[0].text();
  } else {
    QW_ASSIGN(const std::int64_t width, int_arg(in, "indent", out[0], 4));
    if (width > 10000) return in.fail("indent is too wide");
    by.assign(static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), ' ');
  }
  QW_TRY(in.characters(v.text()));
  const std::vector<std::string> lines = split_lines(v.text() + "\n", false);
  QW_TRY(in.room(v.text().size() + lines.size() * by.size()));
  std::string text = truthy(out[1]) ? by : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) text += '\n';
    if (i > 0 && (truthy(out[2]) || !lines[i].empty())) text += by;
    text += lines[i];
  }
  return in.string(std::move(text), v.is_markup());
}

Result<Value> truncate_filter(Interpreter& in, const Value& v, Args& args) {
  constexpr std::int64_t kLeeway = 5;  // Jinja's policy
  Value out[4];
  QW_TRY(take_args(in, "truncate", args, {"length", "killwords", "end", "leeway"}, 0, out));
  QW_ASSIGN(const std::int64_t limit, int_arg(in, "truncate", out[0], 255));
  QW_ASSIGN(const std::int64_t leeway, int_arg(in, "truncate", out[3].is(Kind::kNone) ? Value() : out[3], kLeeway));
  const Value end = out[2].is_missing() ? Value::string("...") : out[2];
  QW_ASSIGN(const std::int64_t end_n, in.length(end));
  if (limit < end_n || leeway < 0) return in.fail("truncate: length is shorter than the end mark");
  QW_ASSIGN(const std::int64_t n, in.length(v));
  if (n <= limit + leeway) return v;
  if (!v.is_string() || !end.is_string()) return in.fail("truncate needs strings");
  QW_ASSIGN(Value head, slice(in, v, Value::none(), Value::integer(limit - end_n), Value::none()));
  if (!truthy(out[1])) {
    const std::size_t space = head.text().rfind(' ');
    if (space != std::string::npos) head = Value::string(head.text().substr(0, space), head.is_markup());
  }
  return in.binary("+", head, end);
}

Result<Value> wordcount_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "wordcount", args, {}, 0, nullptr));
  QW_ASSIGN(const std::string text, in.text(v));
  QW_TRY(in.characters(text));
  std::int64_t n = 0;
  bool inside = false;
  for (const std::uint32_t c : to_chars(text)) {
    const bool word = is_word(c);
    n += word && !inside;
    inside = word;
  }
  return Value::integer(n);
}

// float(str): white space around, underscores between digits, inf and nan.
bool parse_float(std::string_view text, double* out) {
  std::string s;
  const std::string_view core = strip(text, Side::kBoth);
  for (std::size_t i = 0; i < core.size(); ++i) {
    if (core[i] != '_') {
      s += core[i];
      continue;
    }
    const auto digit = [&](std::size_t k) { return k < core.size() && core[k] >= '0' && core[k] <= '9'; };
    if (i == 0 || !digit(i - 1) || !digit(i + 1)) return false;
  }
  if (s.empty() || s.find_first_of("xXpP(") != std::string::npos) return false;
  if (static_cast<unsigned char>(s[0]) <= ' ') return false;
  char* end = nullptr;
  *out = std::strtod(s.c_str(), &end);
  return end == s.c_str() + s.size();
}

// int(str, base); base 0 reads prefixes.
bool parse_int(std::string_view text, int base, std::int64_t* out, bool* too_large) {
  std::string_view s = strip(text, Side::kBoth);
  const bool negative = s.starts_with("-");
  if (negative || s.starts_with("+")) s.remove_prefix(1);
  const auto prefixed = [&](char c) { return s.size() > 2 && s[0] == '0' && (s[1] | 32) == c; };
  const int found = prefixed('x') ? 16 : prefixed('o') ? 8 : prefixed('b') ? 2 : 0;
  if (found && (base == 0 || base == found)) {
    base = found;
    s.remove_prefix(2);
    if (s.starts_with("_")) s.remove_prefix(1);
  } else if (base == 0) {
    if (s.size() > 1 && s[0] == '0' && s.find_first_not_of("0_") != std::string_view::npos) return false;
    base = 10;
  }
  std::string digits;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '_') {
      digits += s[i];
    } else if (i == 0 || i + 1 == s.size() || s[i + 1] == '_') {
      return false;
    }
  }
  if (digits.empty() || digits[0] == '-' || digits[0] == '+') return false;
  if (negative) digits.insert(digits.begin(), '-');
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *out, base);
  *too_large = error == std::errc::result_out_of_range && end == digits.data() + digits.size();
  return error == std::errc() && end == digits.data() + digits.size();
}

Result<Value> int_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[2];
  QW_TRY(take_args(in, "int", args, {"default", "base"}, 0, out));
  const Value otherwise = out[0].is_missing() ? Value::integer(0) : out[0];
  QW_ASSIGN(const std::int64_t base, int_arg(in, "int", out[1], 10));
  if (v.is_undefined()) return in.fail(v.text());
  if (v.is_integral()) return Value::integer(v.as_int());
  double d = 0;
  if (v.is_string()) {
    std::int64_t i = 0;
    bool too_large = false;
    const bool base_ok = base == 0 || (base >= 2 && base <= 36);
    if (base_ok && parse_int(v.text(), static_cast<int>(base), &i, &too_large)) return Value::integer(i);
    if (too_large) return in.fail("integer does not fit 64 bits");
    if (!parse_float(v.text(), &d)) return otherwise;
  } else if (v.is(Kind::kFloat)) {
    d = v.as_double();
  } else {
    return otherwise;
  }
  if (!std::isfinite(d)) return otherwise;
  if (std::fabs(d) >= 9.2e18) return in.fail("integer does not fit 64 bits");
  return Value::integer(static_cast<std::int64_t>(d));
}

Result<Value> float_filter(Interpreter& in, const Value& v, Args& args) {
  Value out;
  QW_TRY(take_args(in, "float", args, {"default"}, 0, &out));
  if (v.is_undefined()) return in.fail(v.text());
  double d = 0;
  if (v.is_number()) return Value::real(v.as_double());
  if (v.is_string() && parse_float(v.text(), &d)) return Value::real(d);
  return out.is_missing() ? Value::real(0) : out;
}

Result<Value> abs_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "abs", args, {}, 0, nullptr));
  if (v.is_undefined()) return in.fail(v.text());
  if (v.is(Kind::kFloat)) return Value::real(std::fabs(v.as_double()));
  if (!v.is_integral()) return in.fail(std::string("bad operand type for abs(): '") + python_type(v) + "'");
  if (v.as_int() >= 0) return Value::integer(v.as_int());
  return in.binary("-", Value::integer(0), v);
}

// round(x, n) of a float: exact decimal rounding of the binary value, halves to even.
double round_decimal(double x, std::int64_t digits) {
  if (!std::isfinite(x) || digits > 400) return x;
  if (digits < -308) return std::copysign(0.0, x);
  if (digits >= 0) {
    char buffer[800];
    std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(digits), x);
    return std::strtod(buffer, nullptr);
  }
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(x / scale) * scale;
}

Result<Value> round_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[2];
  QW_TRY(take_args(in, "round", args, {"precision", "method"}, 0, out));
  QW_ASSIGN(const std::int64_t precision, int_arg(in, "round", out[0], 0));
  const std::string method = out[1].is_string() ? out[1].text() : out[1].is_missing() ? "common" : "";
  if (method != "common" && method != "ceil" && method != "floor")
    return in.fail("method must be common, ceil or floor");
  if (v.is_undefined()) return in.fail(v.text());
  if (!v.is_number()) return in.fail(std::string("round needs a number, not ") + python_type(v));
  if (method == "common") {
    if (v.is(Kind::kFloat)) return Value::real(round_decimal(v.as_double(), precision));
    if (precision >= 0) return Value::integer(v.as_int());
    if (precision < -18) return Value::integer(0);
    std::int64_t scale = 1;
    for (std::int64_t i = 0; i > precision; --i) scale *= 10;
    std::int64_t rest = v.as_int() % scale;
    if (rest < 0) rest += scale;
    const std::int64_t down = v.as_int() - rest;
    const bool up = rest * 2 > scale || (rest * 2 == scale && down / scale % 2 != 0);
    return in.binary("+", Value::integer(down), Value::integer(up ? scale : 0));
  }
  if (precision > 300 || precision < -300) return in.fail("round: precision is out of range");
  // math.ceil gives an int, and int / int a float; so does int / float.
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = v.as_double() * scale;
  return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Result<Value> tojson_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[4];
  QW_TRY(take_args(in, "tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0, out));
  JsonStyle style;
  style.ensure_ascii = truthy(out[0]);
  style.sort_keys = truthy(out[3]);
  if (!out[1].is_missing() && !out[1].is(Kind::kNone)) {
    style.has_indent = true;
    if (out[1].is_string()) {
      style.indent = out[1].text();
    } else {
      QW_ASSIGN(const std::int64_t width, int_arg(in, "tojson", out[1], 0));
      style.indent.assign(static_cast<std::size_t>(std::clamp<std::int64_t>(width, 0, 1000)), ' ');
    }
    style.item_separator = ",";
  }
  if (!out[2].is_missing() && !out[2].is(Kind::kNone)) {
    QW_ASSIGN(const Values two, in.iterate(out[2]));
    if (two.size() != 2 || !two[0].is_string() || !two[1].is_string())
      return in.fail("tojson: separators must be two strings");
    style.item_separator = two[0].text();
    style.key_separator = two[1].text();
  }
  QW_TRY(in.work(v.weight() / 2));
  std::string text;
  const TextResult result = append_json(&text, v, style, in.limits().max_output_bytes);
  if (!result.ok) return in.fail(std::string("tojson: ") + result.why + " (" + python_type(v) + ")");
  return in.string(std::move(text));
}

Result<Value> attr_filter(Interpreter& in, const Value& v, Args& args) {
  Value name;
  QW_TRY(take_args(in, "attr", args, {"name"}, 1, &name));
  QW_ASSIGN(const std::string text, in.text(name));
  if (v.is(Kind::kDict) && !find_dict_method(text))
    return Value::undefined("'dict object' has no attribute '" + text + "'");
  return in.attribute(v, text);
}

Result<Value> urlencode_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "urlencode", args, {}, 0, nullptr));
  const auto quote = [&](const Value& part, bool keep_slash) -> Result<std::string> {
    QW_ASSIGN(const std::string text, in.text(part));
    QW_TRY(in.characters(text));
    static constexpr char kHex[] = "0123456789ABCDEF";
    std::string out;
    for (const char c : text) {
      const auto b = static_cast<unsigned char>(c);
      const bool plain = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || b == '_' ||
                         b == '.' || b == '-' || b == '~' || (b == '/' && keep_slash);
      if (plain) {
        out += c;
      } else if (b == ' ' && !keep_slash) {
        out += '+';
      } else {
        out += {'%', kHex[b >> 4], kHex[b & 15]};
      }
    }
    QW_TRY(in.room(out.size()));
    return out;
  };
  const bool pairs = v.is(Kind::kDict) || v.is_sequence() || v.is(Kind::kIterator) || v.is(Kind::kView) ||
                     v.is(Kind::kRange) || v.is_undefined();
  if (!pairs) {
    QW_ASSIGN(std::string text, quote(v, true));
    return in.string(std::move(text));
  }
  QW_ASSIGN(const Values items, in.iterate(v.is(Kind::kDict) ? Value::view(v, 'i') : v));
  std::string out;
  for (const Value& item : items) {
    QW_ASSIGN(const Values kv, in.iterate(item));
    if (kv.size() != 2) return in.fail("urlencode needs pairs");
    QW_ASSIGN(const std::string key, quote(kv[0], false));
    QW_ASSIGN(const std::string value, quote(kv[1], false));
    out += (out.empty() ? "" : "&") + key + "=" + value;
  }
  return in.string(std::move(out));
}

constexpr NamedFilter kFilters[] = {
    {"abs", abs_filter},
    {"attr", attr_filter},
    {"capitalize", capitalize_filter},
    {"center", center_filter},
    {"count", length_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"e", escape_filter<false>},
    {"escape", escape_filter<false>},
    {"float", float_filter},
    {"forceescape", escape_filter<true>},
    {"format", format_filter},
    {"indent", indent_filter},
    {"int", int_filter},
    {"length", length_filter},
    {"lower", lower_filter},
    {"replace", replace_filter},
    {"round", round_filter},
    {"safe", safe_filter},
    {"string", string_filter},
    {"title", title_filter},
    {"tojson", tojson_filter},
    {"trim", trim_filter},
    {"truncate", truncate_filter},
    {"upper", upper_filter},
    {"urlencode", urlencode_filter},
    {"wordcount", wordcount_filter},
};

}  // namespace

Builtin find_filter(std::string_view name) {
  for (const NamedFilter& f : kFilters)
    if (f.name == name) return f.filter;
  return find_sequence_filter(name);
}

bool known_filter(std::string_view name) { return find_filter(name) != nullptr; }

}  // namespace qw::chat::internal
