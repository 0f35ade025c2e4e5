#include "json/internal/spelling.h"

#include <array>
#include <charconv>

#include "base/utf8.h"

namespace qw::json::internal {
namespace {

// What stands in quotes as it is, whatever the style.
constexpr auto kPlain = [] {
  std::array<bool, 256> plain{};
  for (int c = 0x20; c < 0x7f; ++c) plain[static_cast<std::size_t>(c)] = c != '"' && c != '\\';
  return plain;
}();

void append_unit(std::string& out, char32_t unit) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out += kHex[(unit >> shift) & 15];
}

// "" if it has no short escape.
std::string_view short_escape(char32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\f':
      return "\\f";
    case '\b':
      return "\\b";
    default:
      return {};
  }
}

// One code point, which `bytes` is; ill-formed bytes give U+FFFD over the maximal subpart (Unicode 15, 3.9 D93b).
void append_char(std::string& out, std::string_view bytes, char32_t code, bool ensure_ascii) {
  const bool valid = code != base::kInvalidCode;
  const char32_t c = valid ? code : 0xfffd;
  if (const std::string_view escape = short_escape(c); !escape.empty()) {
    out += escape;
  } else if (c < 0x20 || (ensure_ascii && c >= 0x7f)) {
    if (c > 0xffff) {
      append_unit(out, 0xd800u + ((c - 0x10000u) >> 10));
      append_unit(out, 0xdc00u + ((c - 0x10000u) & 0x3ffu));
    } else {
      append_unit(out, c);
    }
  } else {
    out += valid ? bytes : std::string_view("\xef\xbf\xbd");
  }
}

}  // namespace

void append_string(std::string& out, std::string_view text, bool ensure_ascii) {
  out += '"';
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && kPlain[static_cast<unsigned char>(text[end])]) ++end;
    if (end > at) out.append(text.data() + at, end - at);
    at = end;
    if (at == text.size()) break;
    const base::Utf8Char c = base::utf8_at(text, at);
    append_char(out, text.substr(at, c.size), c.code, ensure_ascii);
    at += c.size;
  }
  out += '"';
}

void append_integer(std::string& out, std::int64_t number) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof(digits), number).ptr;
  out.append(digits, static_cast<std::size_t>(end - digits));
}

}  // namespace qw::json::internal
