#include <charconv>
#include <cmath>

#include "json/internal/spelling.h"
#include "json/value.h"

namespace qw::json {
namespace {

class Writer {
 public:
  explicit Writer(const WriteStyle& style)
      : style_(style), item_separator_(style.item_separator), key_separator_(style.key_separator) {
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
      internal::append_integer(out_, v.as_int());
    } else if (v.is_double()) {
      number(v.as_double());
    } else if (v.is_string()) {
      internal::append_string(out_, v.as_string(), style_.ensure_ascii);
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
      internal::append_string(out_, m.first, style_.ensure_ascii);
      out_ += key_separator_;
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

  const WriteStyle& style_;
  std::string_view item_separator_, key_separator_;
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
