#include <charconv>
#include <cmath>
#include <cstring>

#include "base/utf8.h"
#include "json/value.h"

namespace qw::json {
namespace {

// One decoded code point and its length. Ill-formed bytes give U+FFFD over the maximal subpart (Unicode 15, 3.9 D93b),
// as Python's errors="replace" does; `valid` tells them from a U+FFFD that stands in the text.
struct CodePoint {
  char32_t value;
  std::size_t length;
  bool valid;
};

CodePoint decode_utf8(std::string_view s) {
  const base::Utf8Char c = base::utf8_at(s, 0);
  if (c.code == base::kInvalidCode) return {0xfffd, c.size, false};
  return {c.code, c.size, true};
}

class Writer {
 public:
  explicit Writer(const WriteStyle& style) : style_(style), item_separator_(style.item_separator) {
    // Python drops the blank after the comma when it breaks lines.
    if (style.indent >= 0 && item_separator_ == ", ") item_separator_ = ",";
  }
  std::string take() { return std::move(out_); }

  void value(const Value& v, int level) {
    if (v.is_null()) {
      out_ += "null";
    } else if (v.is_bool()) {
      out_ += v.as_bool() ? "true" : "false";
    } else if (v.is_int()) {
      out_ += std::to_string(v.as_int());
    } else if (v.is_double()) {
      number(v.as_double());
    } else if (v.is_string()) {
      string(v.as_string());
    } else if (v.is_array()) {
      array(v.as_array(), level);
    } else {
      object(v.as_object(), level);
    }
  }

 private:
  void number(double d) {
    if (std::isnan(d)) {
      out_ += "NaN";
    } else if (std::isinf(d)) {
      out_ += d > 0 ? "Infinity" : "-Infinity";
    } else {
      out_ += python_float(d);
    }
  }

  void array(const Array& items, int level) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += item_separator_;
      line(level + 1);
      value(items[i], level + 1);
    }
    line(level);
    out_ += ']';
  }

  void object(const Object& members, int level) {
    if (members.empty()) {
      out_ += "{}";
      return;
    }
    out_ += '{';
    bool first = true;
    for (const Member& m : members) {
      if (!first) out_ += item_separator_;
      first = false;
      line(level + 1);
      string(m.first);
      out_ += style_.key_separator;
      value(m.second, level + 1);
    }
    line(level);
    out_ += '}';
  }

  void line(int level) {
    if (style_.indent < 0) return;
    out_ += '\n';
    out_.append(static_cast<std::size_t>(style_.indent) * static_cast<std::size_t>(level), ' ');
  }

  void string(std::string_view s) {
    out_ += '"';
    while (!s.empty()) {
      std::size_t plain = 0;
      while (plain < s.size() && is_plain(static_cast<unsigned char>(s[plain]))) ++plain;
      out_.append(s.substr(0, plain));
      s.remove_prefix(plain);
      if (s.empty()) break;
      const CodePoint c = decode_utf8(s);
      code_point(c, s.substr(0, c.length));
      s.remove_prefix(c.length);
    }
    out_ += '"';
  }

  static bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }

  void code_point(const CodePoint& c, std::string_view bytes) {
    switch (c.value) {
      case '"':
        out_ += "\\\"";
        return;
      case '\\':
        out_ += "\\\\";
        return;
      case '\n':
        out_ += "\\n";
        return;
      case '\r':
        out_ += "\\r";
        return;
      case '\t':
        out_ += "\\t";
        return;
      case '\f':
        out_ += "\\f";
        return;
      case '\b':
        out_ += "\\b";
        return;
      default:
        break;
    }
    if (c.value < 0x20 || (style_.ensure_ascii && c.value >= 0x7f)) {
      if (c.value > 0xffff) {
        escape(0xd800u + ((c.value - 0x10000u) >> 10));
        escape(0xdc00u + ((c.value - 0x10000u) & 0x3ffu));
      } else {
        escape(c.value);
      }
    } else if (c.valid) {
      out_.append(bytes);
    } else {
      out_ += "\xef\xbf\xbd";
    }
  }

  void escape(char32_t unit) {
    static constexpr char kHex[] = "0123456789abcdef";
    out_ += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out_ += kHex[(unit >> shift) & 15];
  }

  const WriteStyle& style_;
  std::string_view item_separator_;
  std::string out_;
};

}  // namespace

std::string python_float(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), d, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = text.find('e');
  int exponent = 0;
  std::string_view exponent_text = text.substr(e + 1);
  if (exponent_text.starts_with('+')) exponent_text.remove_prefix(1);
  std::from_chars(exponent_text.data(), exponent_text.data() + exponent_text.size(), exponent);
  // float_repr_style "short": positional for 1e-4 <= |d| < 1e16, otherwise exponent form with at least two digits,
  // which is how to_chars already spells it.
  if (exponent < -4 || exponent >= 16) return std::string(text);

  std::string out = std::signbit(d) ? "-" : "";
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  if (exponent < 0) {
    return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  }
  const std::size_t whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string dump(const Value& value, const WriteStyle& style) {
  Writer writer(style);
  writer.value(value, 0);
  return writer.take();
}

}  // namespace qw::json
