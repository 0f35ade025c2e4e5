// Methods of str. A markup string gives markup back and escapes what is put into it, as markupsafe does.
#include <string.h>

#include <algorithm>

#include "chat/internal/interpreter.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

namespace {

Result<Value> make(Interpreter& in, const Value& self, std::string text) {
  return in.string(std::move(text), self.is_markup());
}

Status no_args(Interpreter& in, const char* name, Args& args) { return take_args(in, name, args, {}, 0, nullptr); }

Result<std::string> string_arg(Interpreter& in, const char* name, const Value& v) {
  if (v.is_undefined()) return in.fail(v.text());
  if (!v.is_string()) return in.fail(std::string(name) + "(): argument must be str, not " + python_type(v));
  return v.text();
}

// Text that goes into a markup string is escaped unless it is markup.
std::string put_into(const Value& self, const Value& v) {
  return self.is_markup() && !v.is_markup() ? escape_html(v.text()) : v.text();
}

template <std::string (*kConvert)(std::string_view)>
Result<Value> convert(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(no_args(in, "str method", args));
  QW_TRY(in.characters(self.text()));
  QW_TRY(in.room(self.text().size()));
  return make(in, self, kConvert(self.text()));
}

template <Side kSide>
Result<Value> strip_method(Interpreter& in, const Value& self, Args& args) {
  Value chars;
  QW_TRY(take_args(in, "strip", args, {"chars"}, 0, &chars));
  const bool spaces = chars.is_missing() || chars.is(Kind::kNone);
  std::string set;
  if (!spaces) {
    QW_ASSIGN(set, string_arg(in, "strip", chars));
  }
  const std::string_view view = set, left = strip(self.text(), kSide, spaces ? nullptr : &view);
  const auto gone = static_cast<double>(self.text().size() - left.size());  // only that much was looked at
  QW_TRY(in.work(gone / 16 * (1 + static_cast<double>(set.size()) / 16)));
  return make(in, self, std::string(left));
}

template <bool kFromRight>
Result<Value> split_method(Interpreter& in, const Value& self, Args& args) {
  Value out[2];
  QW_TRY(take_args(in, "split", args, {"sep", "maxsplit"}, 0, out));
  QW_ASSIGN(const std::int64_t limit, int_arg(in, "split", out[1], -1));
  const std::string& text = self.text();
  QW_TRY(in.characters(text));
  QW_TRY(in.room(text.size()));
  if (out[0].is_missing() || out[0].is(Kind::kNone))
    return in.strings(kFromRight ? rsplit_space(text, limit) : split_space(text, limit), self.is_markup());
  QW_ASSIGN(const std::string separator, string_arg(in, "split", out[0]));
  if (separator.empty()) return in.fail("empty separator");
  QW_TRY(in.work(static_cast<double>(text.size()) / 256 * static_cast<double>(separator.size())));
  return in.strings(kFromRight ? rsplit_on(text, separator, limit) : split_on(text, separator, limit),
                    self.is_markup());
}

Result<Value> splitlines_method(Interpreter& in, const Value& self, Args& args) {
  Value keep;
  QW_TRY(take_args(in, "splitlines", args, {"keepends"}, 0, &keep));
  QW_TRY(in.characters(self.text()));
  QW_TRY(in.room(self.text().size()));
  return in.strings(split_lines(self.text(), truthy(keep)), self.is_markup());
}

template <bool kFromRight>
Result<Value> partition_method(Interpreter& in, const Value& self, Args& args) {
  Value sep;
  QW_TRY(take_args(in, "partition", args, {"sep"}, 1, &sep));
  QW_ASSIGN(const std::string separator, string_arg(in, "partition", sep));
  if (separator.empty()) return in.fail("empty separator");
  const std::string& text = self.text();
  QW_TRY(in.work(static_cast<double>(text.size()) / 256 * static_cast<double>(separator.size())));
  const std::size_t hit = kFromRight ? text.rfind(separator) : text.find(separator);
  std::string before, middle, after;
  if (hit != std::string::npos) {
    before = text.substr(0, hit);
    middle = separator;
    after = text.substr(hit + separator.size());
  } else {
    (kFromRight ? after : before) = text;
  }
  QW_TRY(in.room(text.size()));
  const bool markup = self.is_markup();
  return in.tuple({Value::string(before, markup), Value::string(middle, markup), Value::string(after, markup)});
}

// The part of the text that optional start and end positions select; false if start lies behind the text.
Result<bool> window(Interpreter& in, const char* name, const Value& self, const Value& start, const Value& end,
                    std::string_view* out, std::int64_t* first) {
  std::int64_t from = 0;
  *out = self.text();
  *first = 0;
  const bool has_start = !start.is_missing() && !start.is(Kind::kNone);
  const bool has_end = !end.is_missing() && !end.is(Kind::kNone);
  if (!has_start && !has_end) return true;
  QW_ASSIGN(const std::int64_t n, in.length(self));
  std::int64_t to = n;
  if (has_start) {
    QW_ASSIGN(from, int_arg(in, name, start, 0));
  }
  if (has_end) {
    QW_ASSIGN(to, int_arg(in, name, end, n));
  }
  if (from < 0) from = std::max<std::int64_t>(from < -n ? 0 : from + n, 0);
  if (to < 0) to = std::max<std::int64_t>(to < -n ? 0 : to + n, 0);
  to = std::min(to, n);
  if (from > n || from > to) return false;
  const std::size_t at = byte_offset(*out, static_cast<std::size_t>(from));
  *out = out->substr(at);
  *out = out->substr(0, byte_offset(*out, static_cast<std::size_t>(to - from)));
  *first = from;
  return true;
}

template <bool kEnd>
Result<Value> affix_method(Interpreter& in, const Value& self, Args& args) {
  const char* name = kEnd ? "endswith" : "startswith";
  Value out[3];
  QW_TRY(take_args(in, name, args, {"prefix", "start", "end"}, 1, out));
  std::string_view text;
  std::int64_t first = 0;
  QW_ASSIGN(const bool valid, window(in, name, self, out[1], out[2], &text, &first));
  const Values choices = out[0].is(Kind::kTuple) ? out[0].items() : Values{out[0]};
  for (const Value& choice : choices) {
    QW_ASSIGN(const std::string affix, string_arg(in, name, choice));
    if (valid && (kEnd ? text.ends_with(affix) : text.starts_with(affix))) return Value::boolean(true);
  }
  return Value::boolean(false);
}

template <bool kFromRight, bool kMustFind>
Result<Value> find_method(Interpreter& in, const Value& self, Args& args) {
  Value out[3];
  QW_TRY(take_args(in, "find", args, {"sub", "start", "end"}, 1, out));
  QW_ASSIGN(const std::string needle, string_arg(in, "find", out[0]));
  std::string_view text;
  std::int64_t first = 0;
  QW_ASSIGN(const bool valid, window(in, "find", self, out[1], out[2], &text, &first));
  QW_TRY(in.work(static_cast<double>(text.size()) / 256 * static_cast<double>(needle.size() + 1)));
  const std::size_t hit = !valid ? std::string_view::npos : kFromRight ? text.rfind(needle) : text.find(needle);
  if (hit != std::string_view::npos)
    return Value::integer(first + static_cast<std::int64_t>(char_count(text.substr(0, hit))));
  if (kMustFind) return in.fail("substring not found");
  return Value::integer(-1);
}

Result<Value> count_method(Interpreter& in, const Value& self, Args& args) {
  Value out[3];
  QW_TRY(take_args(in, "count", args, {"sub", "start", "end"}, 1, out));
  QW_ASSIGN(const std::string needle, string_arg(in, "count", out[0]));
  std::string_view text;
  std::int64_t first = 0;
  QW_ASSIGN(const bool valid, window(in, "count", self, out[1], out[2], &text, &first));
  if (!valid) return Value::integer(0);
  QW_TRY(in.work(static_cast<double>(text.size()) / 256 * static_cast<double>(needle.size() + 1)));
  if (needle.empty()) return Value::integer(static_cast<std::int64_t>(char_count(text)) + 1);
  std::int64_t n = 0;
  for (std::size_t at = 0; (at = text.find(needle, at)) != std::string_view::npos; at += needle.size()) ++n;
  return Value::integer(n);
}

Result<Value> replace_method(Interpreter& in, const Value& self, Args& args) {
  Value out[3];
  QW_TRY(take_args(in, "replace", args, {"old", "new", "count"}, 2, out));
  QW_ASSIGN(const std::string from, string_arg(in, "replace", out[0]));
  QW_TRY(string_arg(in, "replace", out[1]).map([](const std::string&) {}));
  QW_ASSIGN(const std::int64_t limit, int_arg(in, "replace", out[2], -1));
  const std::string to = put_into(self, out[1]);
  const std::string& text = self.text();
  QW_TRY(in.work(static_cast<double>(text.size()) / 256 * static_cast<double>(from.size() + 1)));
  std::size_t hits = from.empty() ? text.size() + 1 : 0;
  if (!from.empty())
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += from.size()) ++hits;
  if (limit >= 0) hits = std::min(hits, static_cast<std::size_t>(limit));
  QW_TRY(in.room(text.size() + hits * to.size()));
  return make(in, self, replace(text, from, to, limit));
}

Result<Value> join_method(Interpreter& in, const Value& self, Args& args) {
  Value iterable;
  QW_TRY(take_args(in, "join", args, {"iterable"}, 1, &iterable));
  QW_ASSIGN(const Values items, in.iterate(iterable));
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is_string()) {
      if (!self.is_markup())
        return in.fail("sequence item " + std::to_string(i) + ": expected str instance, " + python_type(items[i]) +
                       " found");
    }
    QW_ASSIGN(std::string piece, in.text(items[i]));
    if (self.is_markup() && !items[i].is_markup()) piece = escape_html(piece);
    if (i > 0) out += self.text();
    out += piece;
    QW_TRY(in.room(piece.size() + self.text().size()));
  }
  return make(in, self, std::move(out));
}

// 'l'just, 'r'just, 'c'enter.
template <char kWhere>
Result<Value> pad_method(Interpreter& in, const Value& self, Args& args) {
  Value out[2];
  QW_TRY(take_args(in, "center", args, {"width", "fillchar"}, 1, out));
  QW_ASSIGN(const std::int64_t width, int_arg(in, "center", out[0], 0));
  std::string fill = " ";
  if (!out[1].is_missing()) {
    QW_ASSIGN(fill, string_arg(in, "center", out[1]));
    if (char_count(fill) != 1) return in.fail("The fill character must be exactly one character long");
    fill = put_into(self, out[1]);
  }
  QW_ASSIGN(const std::int64_t n, in.length(self));
  if (width <= n) return make(in, self, self.text());
  const std::int64_t pad = width - n;
  if (pad > static_cast<std::int64_t>(in.limits().max_output_bytes / 4))
    return in.fail("template makes too much text");
  // CPython puts the odd character to the left only when the width is odd too.
  const std::int64_t left = kWhere == 'l' ? 0 : kWhere == 'r' ? pad : pad / 2 + (pad & width & 1);
  std::string text;
  for (std::int64_t i = 0; i < left; ++i) text += fill;
  text += self.text();
  for (std::int64_t i = left; i < pad; ++i) text += fill;
  return make(in, self, std::move(text));
}

Result<Value> zfill_method(Interpreter& in, const Value& self, Args& args) {
  Value out;
  QW_TRY(take_args(in, "zfill", args, {"width"}, 1, &out));
  QW_ASSIGN(const std::int64_t width, int_arg(in, "zfill", out, 0));
  QW_ASSIGN(const std::int64_t n, in.length(self));
  const std::string& text = self.text();
  if (width <= n) return make(in, self, text);
  if (width > static_cast<std::int64_t>(in.limits().max_output_bytes))
    return in.fail("template makes too much text");
  const bool sign = !text.empty() && (text[0] == '+' || text[0] == '-');
  return make(in, self,
              text.substr(0, sign) + std::string(static_cast<std::size_t>(width - n), '0') + text.substr(sign));
}

template <bool kSuffix>
Result<Value> remove_method(Interpreter& in, const Value& self, Args& args) {
  Value out;
  QW_TRY(take_args(in, "removeprefix", args, {"prefix"}, 1, &out));
  QW_ASSIGN(const std::string affix, string_arg(in, "removeprefix", out));
  std::string_view text = self.text();
  if (kSuffix ? text.ends_with(affix) && !affix.empty() : text.starts_with(affix)) {
    kSuffix ? text.remove_suffix(affix.size()) : text.remove_prefix(affix.size());
  }
  return make(in, self, std::string(text));
}

Result<Value> expandtabs_method(Interpreter& in, const Value& self, Args& args) {
  Value out;
  QW_TRY(take_args(in, "expandtabs", args, {"tabsize"}, 0, &out));
  QW_ASSIGN(const std::int64_t size, int_arg(in, "expandtabs", out, 8));
  const std::int64_t tab = std::clamp<std::int64_t>(size, 0, 1000);
  if (tab != size && size > 0) return in.fail("tab size is too large");
  const auto tabs = std::count(self.text().begin(), self.text().end(), '\t');
  QW_TRY(in.room(self.text().size() + static_cast<std::size_t>(tabs * tab)));
  std::string text;
  std::int64_t column = 0;
  for (const std::uint32_t c : to_chars(self.text())) {
    if (c == '\t') {
      for (std::int64_t k = tab > 0 ? tab - column % tab : 0; k > 0; --k, ++column) text += ' ';
    } else {
      append_char(&text, c);
      column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
  }
  return make(in, self, std::move(text));
}

// Every character satisfies the predicate, and there is one.
template <bool (*kIs)(std::uint32_t)>
Result<Value> all_method(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(no_args(in, "str method", args));
  QW_TRY(in.characters(self.text()));
  const auto chars = to_chars(self.text());
  return Value::boolean(!chars.empty() && std::all_of(chars.begin(), chars.end(), kIs));
}

bool alnum(std::uint32_t c) { return is_alpha(c) || is_numeric(c); }

// isupper and islower: no cased character of the other kind, and at least one of this.
template <bool (*kWanted)(std::uint32_t), bool (*kOther)(std::uint32_t)>
Result<Value> case_method(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(no_args(in, "str method", args));
  QW_TRY(in.characters(self.text()));
  bool any = false;
  for (const std::uint32_t c : to_chars(self.text())) {
    if (kOther(c) || is_title(c)) return Value::boolean(false);
    any = any || kWanted(c);
  }
  return Value::boolean(any);
}

Result<Value> istitle_method(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(no_args(in, "istitle", args));
  QW_TRY(in.characters(self.text()));
  bool any = false, inside = false;
  for (const std::uint32_t c : to_chars(self.text())) {
    const bool starts = is_upper(c) || is_title(c);
    if (starts ? inside : is_lower(c) && !inside) return Value::boolean(false);
    inside = starts || is_lower(c);
    any = any || inside;
  }
  return Value::boolean(any);
}

Result<Value> isascii_method(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(no_args(in, "isascii", args));
  return Value::boolean(is_ascii(self.text()));
}

Result<Value> isprintable_method(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(no_args(in, "isprintable", args));
  QW_TRY(in.characters(self.text()));
  const auto chars = to_chars(self.text());
  return Value::boolean(std::all_of(chars.begin(), chars.end(), is_printable));
}

Result<Value> isidentifier_method(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(no_args(in, "isidentifier", args));
  QW_TRY(in.characters(self.text()));
  const auto chars = to_chars(self.text());
  return Value::boolean(!chars.empty() && (chars[0] == '_' || is_alpha(chars[0])) &&
                        std::all_of(chars.begin(), chars.end(), is_word));
}

Result<Value> format_method(Interpreter& in, const Value& self, Args& args) { return format_braces(in, self, args); }

struct Named {
  std::string_view name;
  Builtin method;
};

constexpr Named kMethods[] = {
    {"strip", strip_method<Side::kBoth>},
    {"lstrip", strip_method<Side::kLeft>},
    {"rstrip", strip_method<Side::kRight>},
    {"split", split_method<false>},
    {"rsplit", split_method<true>},
    {"splitlines", splitlines_method},
    {"partition", partition_method<false>},
    {"rpartition", partition_method<true>},
    {"startswith", affix_method<false>},
    {"endswith", affix_method<true>},
    {"find", find_method<false, false>},
    {"rfind", find_method<true, false>},
    {"index", find_method<false, true>},
    {"rindex", find_method<true, true>},
    {"count", count_method},
    {"replace", replace_method},
    {"join", join_method},
    {"upper", convert<upper>},
    {"lower", convert<lower>},
    {"title", convert<title>},
    {"capitalize", convert<capitalize>},
    {"swapcase", convert<swapcase>},
    {"ljust", pad_method<'l'>},
    {"rjust", pad_method<'r'>},
    {"center", pad_method<'c'>},
    {"zfill", zfill_method},
    {"removeprefix", remove_method<false>},
    {"removesuffix", remove_method<true>},
    {"expandtabs", expandtabs_method},
    {"format", format_method},
    {"isalpha", all_method<is_alpha>},
    {"isalnum", all_method<alnum>},
    {"isdigit", all_method<is_digit>},
    {"isdecimal", all_method<is_decimal>},
    {"isnumeric", all_method<is_numeric>},
    {"isspace", all_method<is_space>},
    {"isupper", case_method<is_upper, is_lower>},
    {"islower", case_method<is_lower, is_upper>},
    {"istitle", istitle_method},
    {"isascii", isascii_method},
    {"isprintable", isprintable_method},
    {"isidentifier", isidentifier_method},
};

}  // namespace

Builtin find_string_method(std::string_view name) {
  for (const Named& m : kMethods)
    if (m.name == name) return m.method;
  return nullptr;
}

}  // namespace qw::chat::internal
