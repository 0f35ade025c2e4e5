#include "chat/internal/text.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/utf8.h"
#include "chat/internal/case_tables.h"

namespace qw::chat::internal {

namespace {

utf8proc_category_t category(std::uint32_t c) {
  if (c & kBadByte) return UTF8PROC_CATEGORY_CN;
  return static_cast<utf8proc_category_t>(utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->category);
}

// Characters whose upper, lower or title form is longer than one character.
bool append_special(std::string* out, std::uint32_t c, const SpecialCase* begin, const SpecialCase* end) {
  const auto* it = std::lower_bound(begin, end, c, [](const SpecialCase& a, std::uint32_t b) { return a.from < b; });
  if (it == end || it->from != c) return false;
  out->append(it->to);
  return true;
}

void append_upper(std::string* out, std::uint32_t c) {
  if (c < 0x80) return out->push_back(static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c));
  if ((c & kBadByte) == 0 && append_special(out, c, std::begin(kSpecialUpper), std::end(kSpecialUpper))) return;
  append_char(out, c & kBadByte ? c : static_cast<std::uint32_t>(utf8proc_toupper(static_cast<int>(c))));
}

void append_title(std::string* out, std::uint32_t c) {
  if (c < 0x80) return append_upper(out, c);
  if ((c & kBadByte) == 0 && append_special(out, c, std::begin(kSpecialTitle), std::end(kSpecialTitle))) return;
  append_char(out, c & kBadByte ? c : static_cast<std::uint32_t>(utf8proc_totitle(static_cast<int>(c))));
}

bool case_ignorable(std::uint32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x387 || c == 0x55F || c == 0x5F4 || c == 0x2018 ||
             c == 0x2019 || c == 0x2024 || c == 0x2027 || c == 0xFE13 || c == 0xFE52 || c == 0xFE55 || c == 0xFF07 ||
             c == 0xFF0E || c == 0xFF1A;
  }
}

bool cased(std::uint32_t c) { return is_upper(c) || is_lower(c) || is_title(c); }

// Greek capital sigma becomes a final sigma at the end of a word (Unicode 3.13, Final_Sigma).
bool final_sigma(const std::vector<std::uint32_t>& s, std::size_t i) {
  std::size_t j = i;
  while (j > 0 && case_ignorable(s[j - 1])) --j;
  if (j == 0 || !cased(s[j - 1])) return false;
  for (j = i + 1; j < s.size() && case_ignorable(s[j]);) ++j;
  return j == s.size() || !cased(s[j]);
}

void append_lower(std::string* out, const std::vector<std::uint32_t>& s, std::size_t i) {
  const std::uint32_t c = s[i];
  if (c < 0x80) return out->push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
  if (c & kBadByte) return append_char(out, c);
  if (c == 0x3A3) return append_char(out, final_sigma(s, i) ? 0x3C2 : 0x3C3);
  if (c == 0x130) return static_cast<void>(out->append("i\xCC\x87"));  // the only lower-case expansion in Unicode
  append_char(out, static_cast<std::uint32_t>(utf8proc_tolower(static_cast<int>(c))));
}

}  // namespace

std::uint32_t decode_char(std::string_view text, std::size_t* at) {
  const base::Utf8Char c = base::utf8_at(text, *at);
  if (c.code == base::kInvalidCode) return kBadByte | static_cast<std::uint8_t>(text[(*at)++]);
  *at += c.size;
  return c.code;
}

void append_char(std::string* out, std::uint32_t c) {
  if (c & kBadByte) return out->push_back(static_cast<char>(c & 0xFF));
  base::append_utf8(*out, c);
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<std::uint8_t>(c) < 0x80; });
}

std::vector<std::uint32_t> to_chars(std::string_view text) {
  std::vector<std::uint32_t> out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) out.push_back(decode_char(text, &at));
  return out;
}

std::string from_chars(const std::vector<std::uint32_t>& chars) {
  std::string out;
  out.reserve(chars.size());
  for (std::uint32_t c : chars) append_char(&out, c);
  return out;
}

std::size_t char_count(std::string_view text) {
  if (is_ascii(text)) return text.size();
  std::size_t n = 0;
  for (std::size_t at = 0; at < text.size(); ++n) decode_char(text, &at);
  return n;
}

std::size_t byte_offset(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  for (; index > 0 && at < text.size(); --index) decode_char(text, &at);
  return at;
}

bool is_space(std::uint32_t c) {
  if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_alpha(std::uint32_t c) {
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal(std::uint32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_digit(std::uint32_t c) {
  // Beyond decimal digits: superscripts, subscripts and circled digits (Numeric_Type=Digit).
  return is_decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
         (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468) || (c >= 0x2474 && c <= 0x247C) ||
         (c >= 0x2488 && c <= 0x2490);
}
bool is_numeric(std::uint32_t c) {
  const auto k = category(c);
  if (k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO) return true;
  return std::binary_search(std::begin(kNumericLetters), std::end(kNumericLetters), c);
}
bool is_upper(std::uint32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z';
  return category(c) == UTF8PROC_CATEGORY_LU || (c >= 0x2160 && c <= 0x216F) || (c >= 0x24B6 && c <= 0x24CF);
}
bool is_lower(std::uint32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  return category(c) == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA || (c >= 0x2170 && c <= 0x217F) ||
         (c >= 0x24D0 && c <= 0x24E9);
}
bool is_title(std::uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }
bool is_printable(std::uint32_t c) {
  if (c < 0x80) return c >= 0x20 && c < 0x7F;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}
bool is_word(std::uint32_t c) { return c == '_' || is_alpha(c) || is_numeric(c); }

std::string upper(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) append_upper(&out, decode_char(text, &at));
  return out;
}

std::string lower(std::string_view text) {
  const auto s = to_chars(text);
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) append_lower(&out, s, i);
  return out;
}

std::string title(std::string_view text) {
  const auto s = to_chars(text);
  std::string out;
  bool inside = false;
  for (std::size_t i = 0; i < s.size(); ++i) {
    inside ? append_lower(&out, s, i) : append_title(&out, s[i]);
    inside = cased(s[i]);
  }
  return out;
}

std::string capitalize(std::string_view text) {
  const auto s = to_chars(text);
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) i == 0 ? append_title(&out, s[i]) : append_lower(&out, s, i);
  return out;
}

std::string swapcase(std::string_view text) {
  const auto s = to_chars(text);
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (is_upper(s[i])) {
      append_lower(&out, s, i);
    } else if (is_lower(s[i])) {
      append_upper(&out, s[i]);
    } else {
      append_char(&out, s[i]);
    }
  }
  return out;
}

std::string_view strip(std::string_view text, Side side, const std::string_view* chars) {
  const std::vector<std::uint32_t> set = chars ? to_chars(*chars) : std::vector<std::uint32_t>();
  const auto strippable = [&](std::uint32_t c) {
    return chars ? std::find(set.begin(), set.end(), c) != set.end() : is_space(c);
  };
  std::size_t begin = 0, end = text.size();
  if (side != Side::kRight) {
    while (begin < end) {
      std::size_t next = begin;
      if (!strippable(decode_char(text, &next))) break;
      begin = next;
    }
  }
  if (side != Side::kLeft) {
    while (end > begin) {
      std::size_t start = end - 1;
      while (start > begin && end - start < 4 && (static_cast<std::uint8_t>(text[start]) & 0xC0) == 0x80) --start;
      std::size_t next = start;
      std::uint32_t c = decode_char(text.substr(0, end), &next);
      if (next != end) {  // the last byte stands alone
        start = end - 1;
        c = kBadByte | static_cast<std::uint8_t>(text[start]);
      }
      if (!strippable(c)) break;
      end = start;
    }
  }
  return text.substr(begin, end - begin);
}

std::vector<std::string> split_space(std::string_view text, std::int64_t limit) {
  std::vector<std::string> out;
  text = strip(text, Side::kLeft);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(out.size()) == limit) {
      out.emplace_back(text);
      break;
    }
    std::size_t at = 0, end = 0;
    while (at < text.size() && !is_space(decode_char(text, &at))) end = at;
    out.emplace_back(text.substr(0, end));
    text = strip(text.substr(end), Side::kLeft);
  }
  return out;
}

std::vector<std::string> rsplit_space(std::string_view text, std::int64_t limit) {
  std::vector<std::string> words = split_space(text, -1);
  if (limit < 0 || static_cast<std::int64_t>(words.size()) <= limit) return words;
  // The first piece keeps its inner white space: cut the last `limit` words off the end.
  text = strip(text, Side::kRight);
  const auto keep = words.size() - static_cast<std::size_t>(limit);
  for (std::size_t i = words.size(); i > keep; --i)
    text = strip(text.substr(0, text.size() - words[i - 1].size()), Side::kRight);
  words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(keep));
  words.insert(words.begin(), std::string(text));
  return words;
}

std::vector<std::string> split_on(std::string_view text, std::string_view separator, std::int64_t limit) {
  std::vector<std::string> out;
  for (std::size_t at = 0;;) {
    const bool full = limit >= 0 && static_cast<std::int64_t>(out.size()) == limit;
    const std::size_t hit = full ? std::string_view::npos : text.find(separator, at);
    if (hit == std::string_view::npos) return out.emplace_back(text.substr(at)), out;
    out.emplace_back(text.substr(at, hit - at));
    at = hit + separator.size();
  }
}

std::vector<std::string> rsplit_on(std::string_view text, std::string_view separator, std::int64_t limit) {
  std::vector<std::string> out;
  while (limit < 0 || static_cast<std::int64_t>(out.size()) < limit) {
    const std::size_t hit = text.rfind(separator);
    if (hit == std::string_view::npos) break;
    out.emplace_back(text.substr(hit + separator.size()));
    text = text.substr(0, hit);
  }
  out.emplace_back(text);
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> out;
  std::size_t start = 0, at = 0;
  while (at < text.size()) {
    const std::size_t before = at;
    const std::uint32_t c = decode_char(text, &at);
    const bool breaks = (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    out.emplace_back(text.substr(start, (keep_ends ? at : before) - start));
    start = at;
  }
  if (start < text.size()) out.emplace_back(text.substr(start));
  return out;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to, std::int64_t limit) {
  std::string out;
  std::size_t at = 0;
  if (from.empty()) {  // between all characters, as Python does
    for (std::int64_t n = 0; limit < 0 || n < limit; ++n) {
      out.append(to);
      if (at >= text.size()) return out;
      const std::size_t before = at;
      decode_char(text, &at);
      out.append(text.substr(before, at - before));
    }
    return out.append(text.substr(at));
  }
  for (std::int64_t n = 0; limit < 0 || n < limit; ++n) {
    const std::size_t hit = text.find(from, at);
    if (hit == std::string_view::npos) break;
    out.append(text.substr(at, hit - at)).append(to);
    at = hit + from.size();
  }
  return out.append(text.substr(at));
}

std::string quoted(std::string_view text) {
  const bool use_double = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = use_double ? '"' : '\'';
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const std::uint32_t c = decode_char(text, &at);
    if (c == static_cast<std::uint32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      append_char(&out, c);
    } else {
      const std::uint32_t v = c & ~kBadByte;
      const int digits = v < 0x100 ? 2 : v < 0x10000 ? 4 : 8;
      out += digits == 2 ? "\\x" : digits == 4 ? "\\u" : "\\U";
      for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4) out += kHex[v >> shift & 15];
    }
  }
  return out += quote;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace qw::chat::internal
