#include "chat/internal/lexer.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "base/utf8.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

namespace {

constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                           "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};

bool digit(char c) { return c >= '0' && c <= '9'; }

// Line ends become "\n", and one at the very end is dropped.
std::string normalized(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}
  Result<std::vector<Token>> run();

 private:
  tl::unexpected<Error> fail_here(std::string_view message) { return template_error(place_, message); }
  bool at(std::string_view what) const { return std::string_view(source_).substr(pos_, what.size()) == what; }
  char peek(std::size_t ahead = 0) const { return pos_ + ahead < source_.size() ? source_[pos_ + ahead] : '\0'; }
  void advance(std::size_t n);
  void skip_space();
  void skip_one_newline();
  Token& push(TokenKind kind, std::string text = {});
  void push_data(std::string_view data, char sign, bool may_lstrip);

  Status comment();
  Result<bool> raw(std::string_view data, char sign);
  Status inside(bool block);
  bool close_tag(bool block);
  Status one_token();
  Status number();
  Status string();
  Status op();
  Status unescape(std::string_view body, std::string* out);

  std::string source_;
  std::size_t pos_ = 0;
  Place place_;  // of pos_
  bool line_starting_ = true;
  std::vector<char> open_;  // closing brackets still expected in this tag
  std::vector<Token> tokens_;
};

void Lexer::advance(std::size_t n) {
  for (; n > 0 && pos_ < source_.size(); --n) {
    const char c = source_[pos_++];
    if (c == '\n')
      place_ = {place_.line + 1, 1};
    else
      place_.column += (c & 0xC0) != 0x80;  // a character's first byte
  }
}

void Lexer::skip_space() {
  while (pos_ < source_.size()) {
    std::size_t next = pos_;
    if (!is_space(decode_char(source_, &next))) return;
    advance(next - pos_);
  }
}

void Lexer::skip_one_newline() {
  if (peek() == '\n') advance(1);
}

Token& Lexer::push(TokenKind kind, std::string text) {
  tokens_.push_back({kind, place_, std::move(text), 0, 0});
  return tokens_.back();
}

// Emits the text before a tag, shortened as the tag's sign says: '-' strips all white space; otherwise a block or
// comment that only white space precedes on its line takes that white space away, unless its sign is '+'.
void Lexer::push_data(std::string_view data, char sign, bool may_lstrip) {
  const bool line_starting = line_starting_;
  if (sign == '-') {
    data = strip(data, Side::kRight);
  } else if (sign != '+' && may_lstrip) {
    const std::size_t newline = data.rfind('\n');
    const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    // White space alone must follow; Jinja's pattern needs at least one character of it.
    if ((begin > 0 || line_starting) && strip(data.substr(begin), Side::kBoth).empty()) data = data.substr(0, begin);
  }
  if (!data.empty()) push(TokenKind::kData, std::string(data));
}

Result<std::vector<Token>> Lexer::run() {
  while (pos_ < source_.size()) {
    std::size_t tag = pos_;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) break;
      if (source_[tag + 1] == '%' || source_[tag + 1] == '{' || source_[tag + 1] == '#') break;
    }
    if (tag == std::string::npos || tag + 1 >= source_.size()) {
      push(TokenKind::kData, source_.substr(pos_));
      advance(source_.size() - pos_);
      break;
    }
    const std::string data = source_.substr(pos_, tag - pos_);
    const char type = source_[tag + 1];
    const char next = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const char sign = next == '-' || next == '+' ? next : '\0';
    push_data(data, sign, type != '{');
    advance(tag - pos_);
    const std::size_t header = sign ? 3 : 2;
    if (type == '%') {
      QW_ASSIGN(const bool was_raw, raw(data, sign));
      if (was_raw) continue;
    }
    if (type == '#') {
      advance(header);
      QW_TRY(comment());
      continue;
    }
    push(type == '%' ? TokenKind::kBlockBegin : TokenKind::kVariableBegin);
    advance(header);
    QW_TRY(inside(type == '%'));
  }
  push(TokenKind::kEnd);
  return std::move(tokens_);
}

Status Lexer::comment() {
  const std::size_t end = source_.find("#}", pos_);
  if (end == std::string::npos) {
    if (pos_ == source_.size()) return {};  // Jinja lets a comment begin at the very end
    return fail_here("Missing end of comment tag");
  }
  const char sign = end > pos_ ? source_[end - 1] : '\0';
  advance(end + 2 - pos_);
  if (sign == '-') {
    skip_space();
  } else if (sign != '+') {
    skip_one_newline();
  }
  line_starting_ = source_[pos_ - 1] == '\n';
  return {};
}

// {% raw %} ... {% endraw %}: true if one stood here and was consumed. The opening tag never trims its newline.
Result<bool> Lexer::raw(std::string_view, char sign) {
  const std::size_t start = pos_;
  const Place start_place = place_;
  const auto word = [&](std::string_view name) {
    skip_space();
    if (!at(name)) return false;
    advance(name.size());
    skip_space();
    return true;
  };
  advance(sign ? 3 : 2);
  bool opened = word("raw") && (at("-%}") || at("%}"));
  if (!opened) {
    pos_ = start;
    place_ = start_place;
    return false;
  }
  if (peek() == '-') {
    advance(3);
    skip_space();
  } else {
    advance(2);
  }
  line_starting_ = source_[pos_ - 1] == '\n';
  const std::size_t begin = pos_;
  const Place begin_place = place_;
  if (begin == source_.size()) return true;  // as with comments
  for (std::size_t end = pos_; (end = source_.find("{%", end)) != std::string::npos; ++end) {
    advance(end - pos_);
    const Place tag_place = place_;
    const char end_sign = peek(2) == '-' || peek(2) == '+' ? peek(2) : '\0';
    advance(end_sign ? 3 : 2);
    if (word("endraw") && (at("%}") || at("-%}") || at("+%}"))) {
      const char close = peek() == '%' ? '\0' : peek();
      advance(close ? 3 : 2);
      const Place after = std::exchange(place_, begin_place);
      push_data(std::string_view(source_).substr(begin, end - begin), end_sign, true);
      place_ = after;
      if (close == '-') skip_space();
      if (close == '\0') skip_one_newline();
      line_starting_ = source_[pos_ - 1] == '\n';
      return true;
    }
    pos_ = end;
    place_ = tag_place;
  }
  return template_error(start_place, "Missing end of raw directive");
}

// If the tag ends here, consumes its end and what its white-space rule takes away.
bool Lexer::close_tag(bool block) {
  const std::string_view end = block ? "%}" : "}}";
  if (at(end)) {
    push(block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd);
    advance(2);
    if (block) skip_one_newline();
  } else if ((peek() == '-' || (block && peek() == '+')) && std::string_view(source_).substr(pos_ + 1, 2) == end) {
    push(block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd);
    const bool strips = peek() == '-';
    advance(3);
    if (strips) skip_space();
  } else {
    return false;
  }
  line_starting_ = source_[pos_ - 1] == '\n';
  return true;
}

Status Lexer::inside(bool block) {
  open_.clear();
  while (pos_ < source_.size()) {
    if (open_.empty() && close_tag(block)) return {};
    QW_TRY(one_token());
  }
  return {};  // the parser sees the end inside a tag and says what is missing
}

Status Lexer::one_token() {
  std::size_t next = pos_;
  const std::uint32_t c = decode_char(source_, &next);
  if (is_space(c)) {
    skip_space();
    return {};
  }
  if (c < 0x80 && digit(static_cast<char>(c))) return number();
  if (is_word(c)) {
    const std::size_t start = pos_;
    std::size_t end = pos_;
    while (next <= source_.size()) {
      end = next;
      if (next == source_.size() || !is_word(decode_char(source_, &next))) break;
    }
    push(TokenKind::kName, source_.substr(start, end - start));
    advance(end - start);
    return {};
  }
  if (c == '\'' || c == '"') return string();
  return op();
}

// Length of a run of digits (of `base`) in which single underscores may separate; 0 if none starts at `text`.
std::size_t digit_run(std::string_view text, int base, bool leading_underscore) {
  const auto ok = [&](char c) {
    if (base == 16) return digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f');
    return c >= '0' && c < '0' + base;
  };
  std::size_t n = 0;
  if (leading_underscore && text.size() > 1 && text[0] == '_' && ok(text[1])) ++n;
  if (n >= text.size() || !ok(text[n])) return 0;
  while (n < text.size() && (ok(text[n]) || (text[n] == '_' && n + 1 < text.size() && ok(text[n + 1])))) ++n;
  return n;
}

// Length of a floating-point literal at the start of `text`, 0 if it is none.
std::size_t float_length(std::string_view text) {
  std::size_t n = digit_run(text, 10, false);
  bool is_float = false;
  if (n < text.size() && text[n] == '.') {
    if (const std::size_t fraction = digit_run(text.substr(n + 1), 10, false)) {
      n += 1 + fraction;
      is_float = true;
    }
  }
  if (n < text.size() && (text[n] | 32) == 'e') {
    std::size_t e = n + 1;
    if (e < text.size() && (text[e] == '+' || text[e] == '-')) ++e;
    if (const std::size_t exponent = digit_run(text.substr(e), 10, false)) {
      n = e + exponent;
      is_float = true;
    }
  }
  return is_float ? n : 0;
}

Status Lexer::number() {
  const std::string_view rest = std::string_view(source_).substr(pos_);
  const auto without_underscores = [](std::string_view s) {
    std::string out(s);
    std::erase(out, '_');
    return out;
  };
  const bool after_dot = pos_ > 0 && source_[pos_ - 1] == '.';
  if (const std::size_t n = after_dot ? 0 : float_length(rest); n > 0) {
    push(TokenKind::kFloat).real = std::strtod(without_underscores(rest.substr(0, n)).c_str(), nullptr);
    advance(n);
    return {};
  }
  int base = 10;
  std::size_t prefix = 0, n = 0;
  if (rest.size() > 2 && rest[0] == '0') {
    const char kind = static_cast<char>(rest[1] | 32);
    base = kind == 'b' ? 2 : kind == 'o' ? 8 : kind == 'x' ? 16 : 10;
    if (base != 10) {
      n = digit_run(rest.substr(2), base, true);
      prefix = n > 0 ? 2 : 0;
      if (n == 0) base = 10;
    }
  }
  if (n == 0) n = rest[0] == '0' ? digit_run(rest, 1, false) : digit_run(rest, 10, false);
  const std::string digits = without_underscores(rest.substr(prefix, n));
  std::int64_t value = 0;
  if (std::from_chars(digits.data(), digits.data() + digits.size(), value, base).ec != std::errc())
    return fail_here("integer " + std::string(rest.substr(0, std::min<std::size_t>(prefix + n, 40))) +
                     " does not fit 64 bits");
  push(TokenKind::kInteger).integer = value;
  advance(prefix + n);
  return {};
}

Status Lexer::string() {
  const char quote = peek();
  std::size_t end = pos_ + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) return fail_here(std::string("unexpected char ") + quoted(std::string(1, quote)));
  std::string text;
  QW_TRY(unescape(std::string_view(source_).substr(pos_ + 1, end - pos_ - 1), &text));
  push(TokenKind::kString, std::move(text));
  advance(end + 1 - pos_);
  return {};
}

Status Lexer::unescape(std::string_view s, std::string* out) {
  for (std::size_t i = 0; i < s.size();) {
    if (s[i] != '\\') {
      *out += s[i++];
      continue;
    }
    if (++i >= s.size()) return fail_here("\\ at end of string");
    const char c = s[i];
    static constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
    if (const std::size_t k = kFrom.find(c); k != std::string_view::npos) {
      *out += kTo[k];
      ++i;
    } else if (c == '\n') {
      ++i;
    } else if (c >= '0' && c <= '7') {
      std::uint32_t code = 0;
      for (int n = 0; n < 3 && i < s.size() && s[i] >= '0' && s[i] <= '7'; ++n) code = code * 8 + (s[i++] - '0');
      append_char(out, code);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      std::uint32_t code = 0;
      const char* first = s.data() + i + 1;
      if (i + 1 + digits > s.size()) return fail_here(std::string("truncated \\") + c + " escape");
      const auto [end, error] = std::from_chars(first, first + digits, code, 16);
      if (error != std::errc() || end != first + digits) return fail_here(std::string("truncated \\") + c + " escape");
      if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return fail_here("illegal Unicode character");
      append_char(out, code);
      i += 1 + digits;
    } else if (c == 'N') {
      return fail_here("\\N{...} escapes are not understood");
    } else if (static_cast<std::uint8_t>(c) < 0x80) {
      *out += '\\';
      *out += c;
      ++i;
    } else {
      // Jinja turns the character into its own escape first, so the backslash before it hides that escape.
      std::string one;
      std::size_t next = i;
      append_char(&one, decode_char(s, &next));
      const std::uint32_t code = to_chars(one)[0];
      char buffer[16];
      std::snprintf(buffer, sizeof buffer, code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", code);
      *out += buffer;
      i = next;
    }
  }
  return {};
}

Status Lexer::op() {
  for (std::string_view name : kOperators) {
    if (!at(name)) continue;
    const char c = name[0];
    if (c == '{') open_.push_back('}');
    if (c == '(') open_.push_back(')');
    if (c == '[') open_.push_back(']');
    if (c == '}' || c == ')' || c == ']') {
      if (open_.empty()) return fail_here("unexpected '" + std::string(name) + "'");
      if (open_.back() != c)
        return fail_here("unexpected '" + std::string(name) + "', expected '" + open_.back() + "'");
      open_.pop_back();
    }
    push(TokenKind::kOperator, std::string(name));
    advance(name.size());
    return {};
  }
  std::size_t next = pos_;
  decode_char(source_, &next);
  return fail_here("unexpected char " + quoted(source_.substr(pos_, next - pos_)));
}

}  // namespace

tl::unexpected<Error> template_error(Place place, std::string_view message) {
  std::string text = "chat template line " + std::to_string(place.line) + ", column " + std::to_string(place.column) +
                     ": " + std::string(message);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return fail(ErrorKind::kBadInput, std::move(text));
}

Result<std::vector<Token>> tokenize(std::string_view source) {
  if (!base::is_valid_utf8(source)) return template_error({}, "template is not valid UTF-8");
  return Lexer(normalized(source)).run();
}

}  // namespace qw::chat::internal
