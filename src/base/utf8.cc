#include "base/utf8.h"

namespace qw::base {

bool is_valid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_at(text, at);
    if (c.code == kInvalidCode) return false;
    at += c.size;
  }
  return true;
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

std::size_t append_valid_utf8(std::string& out, std::string_view bytes, bool final) {
  std::size_t at = 0, copied = 0;
  while (at < bytes.size()) {
    const Utf8Char c = utf8_at(bytes, at);
    if (c.code == kInvalidCode) {
      out.append(bytes.substr(copied, at - copied));
      if (c.cut && !final) return at;
      out += "\xEF\xBF\xBD";
      copied = at + c.size;
    }
    at += c.size;
  }
  out.append(bytes.substr(copied));
  return bytes.size();
}

}  // namespace qw::base
