// "..." % values and "...".format(...): the conversions templates use, with Python's results.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "chat/internal/interpreter.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

namespace {

// Width and precision beyond which a template only wants to exhaust memory.
constexpr int kMaxWidth = 4096;

struct Spec {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^', '='
  bool plus = false, space = false, alternate = false, zero = false;
  bool thousands = false;
  int width = 0;
  int precision = -1;
  char type = 0;
};

std::string padded(const Spec& spec, const std::string& text, char default_align) {
  const auto n = static_cast<int>(char_count(text));
  if (n >= spec.width) return text;
  const int pad = spec.width - n;
  const char align = spec.align ? spec.align : default_align;
  if (align == '=') {
    const std::size_t sign = !text.empty() && (text[0] == '+' || text[0] == '-' || text[0] == ' ') ? 1 : 0;
    std::string out = text.substr(0, sign);
    for (int i = 0; i < pad; ++i) out += spec.fill;
    return out + text.substr(sign);
  }
  const int left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
  std::string out;
  for (int i = 0; i < left; ++i) out += spec.fill;
  out += text;
  for (int i = left; i < pad; ++i) out += spec.fill;
  return out;
}

std::string with_thousands(std::string digits) {
  const std::size_t sign = !digits.empty() && (digits[0] < '0' || digits[0] > '9') ? 1 : 0;
  std::size_t end = digits.find_first_of(".e", sign);
  if (end == std::string::npos) end = digits.size();
  for (std::size_t i = end; i > sign + 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string signed_text(const Spec& spec, std::string text) {
  if (text[0] != '-' && spec.plus) return "+" + text;
  if (text[0] != '-' && spec.space) return " " + text;
  return text;
}

std::string integer_text(const Spec& spec, std::int64_t value) {
  const std::uint64_t size = value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
  char buffer[80];
  std::string digits;
  switch (spec.type) {
    case 'x':
      std::snprintf(buffer, sizeof buffer, "%lx", static_cast<unsigned long>(size));
      digits = buffer;
      break;
    case 'X':
      std::snprintf(buffer, sizeof buffer, "%lX", static_cast<unsigned long>(size));
      digits = buffer;
      break;
    case 'o':
      std::snprintf(buffer, sizeof buffer, "%lo", static_cast<unsigned long>(size));
      digits = buffer;
      break;
    case 'b':
      for (std::uint64_t v = size; v > 0 || digits.empty(); v >>= 1) digits.insert(digits.begin(), v & 1 ? '1' : '0');
      break;
    default:
      digits = std::to_string(size);
  }
  while (static_cast<int>(digits.size()) < spec.precision) digits.insert(digits.begin(), '0');
  const char* prefix = !spec.alternate    ? ""
                       : spec.type == 'x' ? "0x"
                       : spec.type == 'X' ? "0X"
                       : spec.type == 'o' ? "0o"
                       : spec.type == 'b' ? "0b"
                                          : "";
  std::string text = (value < 0 ? "-" : "") + std::string(prefix) + digits;
  if (spec.thousands) text = with_thousands(std::move(text));
  return signed_text(spec, std::move(text));
}

std::string float_text(const Spec& spec, double value) {
  if (!std::isfinite(value)) return signed_text(spec, std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
  const char format[] = {'%',
                         spec.alternate ? '#' : '.',
                         spec.alternate ? '.' : '*',
                         spec.alternate ? '*' : spec.type,
                         spec.alternate ? spec.type : '\0',
                         '\0'};
  const int precision = spec.precision < 0 ? 6 : spec.precision;
  std::string text(static_cast<std::size_t>(precision) + 400, '\0');  // 309 digits before the point at most
  text.resize(static_cast<std::size_t>(std::snprintf(text.data(), text.size(), format, precision, value)));
  if (spec.thousands) text = with_thousands(std::move(text));
  return signed_text(spec, std::move(text));
}

bool is_float_type(char c) { return c == 'f' || c == 'F' || c == 'e' || c == 'E' || c == 'g' || c == 'G'; }

std::string cut(const Spec& spec, const std::string& text) {
  if (spec.precision < 0) return text;
  return text.substr(0, byte_offset(text, static_cast<std::size_t>(spec.precision)));
}

// One %-conversion.
Result<std::string> percent_one(Interpreter& in, Spec spec, const Value& value, bool markup) {
  const char align = spec.align == '<' ? '<' : '>';
  if (spec.type == 's' || spec.type == 'r') {
    std::string text;
    if (spec.type == 's') {
      QW_ASSIGN(text, in.text(value));
    } else {
      QW_ASSIGN(text, in.repr(value));
    }
    if (markup && !value.is_markup()) text = escape_html(text);
    return padded(spec, cut(spec, text), align);
  }
  if (spec.type == 'c') {
    if (value.is_string() && char_count(value.text()) == 1) return padded(spec, value.text(), align);
    return in.fail("%c requires a single character");
  }
  if (value.is_undefined()) return in.fail(value.text());
  if (!value.is_number())
    return in.fail(std::string("%") + spec.type + " format: a number is required, not " + python_type(value));
  std::string text;
  if (is_float_type(spec.type)) {
    text = float_text(spec, value.as_double());
  } else {
    const bool whole_only = spec.type == 'x' || spec.type == 'X' || spec.type == 'o';
    if (value.is(Kind::kFloat) && whole_only) return in.fail("%x format: an integer is required, not float");
    const double d = value.as_double();
    if (value.is(Kind::kFloat) && !(std::fabs(d) < 9e18)) return in.fail("cannot convert float to integer");
    text = integer_text(spec, value.is(Kind::kFloat) ? static_cast<std::int64_t>(d) : value.as_int());
  }
  if (spec.zero && spec.align != '<') {
    spec.fill = "0";
    return padded(spec, text, '=');
  }
  return padded(spec, text, align);
}

int read_number(std::string_view s, std::size_t* at) {
  int n = 0;
  for (; *at < s.size() && s[*at] >= '0' && s[*at] <= '9'; ++*at) n = std::min(n * 10 + (s[*at] - '0'), kMaxWidth + 1);
  return n;
}

}  // namespace

Result<Value> format_percent(Interpreter& in, const Value& format, const Value& value) {
  const std::string& s = format.text();
  const Values given = value.is(Kind::kTuple) ? value.items() : Values{value};
  std::size_t used = 0;
  bool by_name = false;
  std::string out;
  for (std::size_t at = 0; at < s.size();) {
    if (s[at] != '%') {
      out += s[at++];
      continue;
    }
    if (++at >= s.size()) return in.fail("incomplete format");
    Value item;
    if (s[at] == '(') {
      const std::size_t close = s.find(')', at);
      if (close == std::string::npos) return in.fail("incomplete format key");
      if (!value.is(Kind::kDict)) return in.fail("format requires a mapping");
      const Value* found = value.dict().find(std::string_view(s).substr(at + 1, close - at - 1));
      if (!found) return in.fail("format key is missing");
      item = *found;
      by_name = true;
      at = close + 1;
    }
    Spec spec;
    for (; at < s.size() && std::string_view("-+ #0").find(s[at]) != std::string_view::npos; ++at) {
      if (s[at] == '-') spec.align = '<';
      if (s[at] == '+') spec.plus = true;
      if (s[at] == ' ') spec.space = true;
      if (s[at] == '#') spec.alternate = true;
      if (s[at] == '0') spec.zero = true;
    }
    spec.width = read_number(s, &at);
    if (at < s.size() && s[at] == '.') {
      ++at;
      spec.precision = read_number(s, &at);
    }
    if (spec.width > kMaxWidth || spec.precision > kMaxWidth) return in.fail("format width is too large");
    while (at < s.size() && (s[at] == 'l' || s[at] == 'h' || s[at] == 'L')) ++at;
    if (at >= s.size()) return in.fail("incomplete format");
    spec.type = s[at++];
    if (spec.type == '%') {
      out += '%';
      continue;
    }
    if (spec.type == 'd' || spec.type == 'i' || spec.type == 'u') spec.type = 'd';
    if (spec.type == 'a') spec.type = 'r';
    if (std::string_view("srcdxXofFeEgG").find(spec.type) == std::string_view::npos)
      return in.fail("unsupported format character");
    if (item.is_missing()) {
      if (by_name || used >= given.size()) return in.fail("not enough arguments for format string");
      item = given[used++];
    }
    QW_ASSIGN(const std::string piece, percent_one(in, spec, item, format.is_markup()));
    QW_TRY(in.room(piece.size()));
    out += piece;
  }
  // Python lets anything with subscripts, save tuples and strings, go unused.
  const bool accepts_rest =
      by_name || value.is(Kind::kDict) || value.is(Kind::kList) || value.is(Kind::kRange) || value.is_undefined();
  if (used < given.size() && !accepts_rest) return in.fail("not all arguments converted during string formatting");
  return in.string(std::move(out), format.is_markup());
}

namespace {

Result<Spec> parse_spec(Interpreter& in, std::string_view s) {
  Spec spec;
  std::size_t at = 0;
  const auto aligns = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  std::size_t second = 0;
  if (!s.empty()) decode_char(s, &second);
  if (second > 0 && second < s.size() && aligns(s[second])) {
    spec.fill = s.substr(0, second);
    spec.align = s[second];
    at = second + 1;
  } else if (!s.empty() && aligns(s[0])) {
    spec.align = s[at++];
  }
  if (at < s.size() && (s[at] == '+' || s[at] == '-' || s[at] == ' ')) {
    spec.plus = s[at] == '+';
    spec.space = s[at] == ' ';
    ++at;
  }
  if (at < s.size() && s[at] == '#') spec.alternate = true, ++at;
  if (at < s.size() && s[at] == '0') spec.zero = true, ++at;
  spec.width = read_number(s, &at);
  if (at < s.size() && s[at] == ',') spec.thousands = true, ++at;
  if (at < s.size() && s[at] == '.') {
    ++at;
    spec.precision = read_number(s, &at);
  }
  if (spec.width > kMaxWidth || spec.precision > kMaxWidth) return in.fail("format width is too large");
  if (at < s.size()) spec.type = s[at++];
  if (at < s.size()) return in.fail("Invalid format specifier");
  return spec;
}

Result<std::string> format_one(Interpreter& in, const Value& value, std::string_view spec_text) {
  QW_ASSIGN(Spec spec, parse_spec(in, spec_text));
  if (spec_text.empty()) return in.text(value);
  if (value.is_string()) {
    if ((spec.type && spec.type != 's') || spec.align == '=') return in.fail("Invalid format specifier for a string");
    if (spec.zero && !spec.align) spec.fill = "0";
    return padded(spec, cut(spec, value.text()), '<');
  }
  if (!value.is_number()) return in.fail(std::string("unsupported format string for ") + python_type(value));
  std::string text;
  const bool whole =
      value.is_integral() && (!spec.type || std::string_view("dxXob").find(spec.type) != std::string_view::npos);
  if (whole && spec.precision >= 0) return in.fail("Precision not allowed in integer format specifier");
  if (value.is(Kind::kBool) && !spec.type) {
    QW_ASSIGN(text, in.text(value));
  } else if (whole) {
    if (!spec.type) spec.type = 'd';
    text = integer_text(spec, value.as_int());
  } else if (spec.type == '%') {
    spec.type = 'f';
    text = float_text(spec, value.as_double() * 100) + "%";
  } else if (is_float_type(spec.type)) {
    text = float_text(spec, value.as_double());
  } else if (!spec.type && spec.precision < 0) {
    QW_ASSIGN(text, in.text(value));
    text = signed_text(spec, text);
  } else {
    return in.fail("Unknown format code");
  }
  if (spec.zero && !spec.align) {
    spec.fill = "0";
    return padded(spec, text, '=');
  }
  return padded(spec, text, '>');
}

// "name", "0", "", followed by .attribute and [item] parts.
Result<Value> field_value(Interpreter& in, std::string_view field, const Args& args, int* next) {
  std::size_t at = std::min(field.find_first_of(".["), field.size());
  const std::string first(field.substr(0, at));
  const bool number = std::all_of(first.begin(), first.end(), [](char c) { return c >= '0' && c <= '9'; });
  Value value;
  if (number) {
    if (first.empty() ? *next < 0 : *next > 0)
      return in.fail("cannot switch between automatic and manual field numbering");
    std::size_t zero = 0;
    const int index = first.empty() ? (*next)++ : read_number(first, &zero);
    if (!first.empty()) *next = -1;
    if (static_cast<std::size_t>(index) >= args.positional.size())
      return in.fail("Replacement index " + std::to_string(index) + " out of range for positional args tuple");
    value = args.positional[static_cast<std::size_t>(index)];
  } else {
    const auto it = std::find_if(args.named.begin(), args.named.end(), [&](const auto& n) { return n.first == first; });
    if (it == args.named.end()) return in.fail("format() has no argument '" + first + "'");
    value = it->second;
  }
  while (at < field.size()) {
    const bool bracket = field[at] == '[';
    std::size_t end = bracket ? field.find(']', at) : std::min(field.find_first_of(".[", at + 1), field.size());
    if (end == std::string_view::npos) return in.fail("Missing ']' in format string");
    const std::string key(field.substr(at + 1, end - at - 1));
    if (bracket) {
      const bool index =
          !key.empty() && std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
      std::size_t zero = 0;
      QW_ASSIGN(value, in.item(value, index ? Value::integer(read_number(key, &zero)) : Value::string(key)));
      ++end;
    } else {
      QW_ASSIGN(value, in.attribute(value, key));
    }
    at = end;
  }
  return value;
}

}  // namespace

Result<Value> format_braces(Interpreter& in, const Value& format, const Args& args) {
  const std::string& s = format.text();
  std::string out;
  int next = 0;  // next automatic position; -1 once explicit numbers are used
  for (std::size_t at = 0; at < s.size();) {
    const char c = s[at++];
    if (c != '{' && c != '}') {
      out += c;
      continue;
    }
    if (at < s.size() && s[at] == c) {
      out += c;
      ++at;
      continue;
    }
    if (c == '}') return in.fail("Single '}' encountered in format string");
    const std::size_t close = s.find('}', at);
    if (close == std::string::npos) return in.fail("expected '}' before end of string");
    std::string_view field = std::string_view(s).substr(at, close - at);
    if (field.find('{') != std::string_view::npos) return in.fail("nested replacement fields are not supported");
    at = close + 1;
    std::string_view spec;
    if (const std::size_t colon = field.find(':'); colon != std::string_view::npos) {
      spec = field.substr(colon + 1);
      field = field.substr(0, colon);
    }
    char conversion = 0;
    if (const std::size_t bang = field.find('!'); bang != std::string_view::npos) {
      if (bang + 2 != field.size() || (field[bang + 1] != 'r' && field[bang + 1] != 's'))
        return in.fail("unknown conversion in format string");
      conversion = field[bang + 1];
      field = field.substr(0, bang);
    }
    QW_ASSIGN(Value value, field_value(in, field, args, &next));
    if (conversion) {
      QW_ASSIGN(std::string text, conversion == 'r' ? in.repr(value) : in.text(value));
      value = Value::string(std::move(text));
    }
    QW_ASSIGN(std::string piece, format_one(in, value, spec));
    if (format.is_markup() && !value.is_markup()) piece = escape_html(piece);
    QW_TRY(in.room(piece.size()));
    out += piece;
  }
  return in.string(std::move(out), format.is_markup());
}

}  // namespace qw::chat::internal
