#include "tokenizer/internal/pre_tokenizer.h"

#include <array>

#include "tokenizer/internal/utf8.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {
namespace {

struct Known {
  PreTokenizer kind;
  std::string_view name, regex;
};

constexpr std::array<Known, 2> kKnown = {{
    {PreTokenizer::kQwen2, "qwen2",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {PreTokenizer::kQwen35, "qwen35",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
}};

}  // namespace

std::optional<PreTokenizer> pre_tokenizer_named(std::string_view name) {
  for (const Known& k : kKnown) {
    if (k.name == name) return k.kind;
  }
  return std::nullopt;
}

std::string_view pre_tokenizer_name(PreTokenizer kind) { return kKnown[static_cast<std::size_t>(kind)].name; }
std::string_view pre_tokenizer_regex(PreTokenizer kind) { return kKnown[static_cast<std::size_t>(kind)].regex; }

std::optional<PreTokenizer> pre_tokenizer_by_regex(std::string_view regex) {
  for (const Known& k : kKnown) {
    if (k.regex == regex) return k.kind;
  }
  return std::nullopt;
}

PieceScanner::Char PieceScanner::char_at(std::size_t at) const {
  std::uint32_t code = static_cast<unsigned char>(text_[at]);
  std::size_t size = 1;
  if (code >= 0x80) {
    const Utf8Char c = utf8_at(text_, at);
    code = c.code;
    if (code != kInvalidCode) size = c.size;  // invalid bytes are taken one by one
  }
  switch (tables_->class_of(code)) {
    case CharClass::kLetter:
      return {Kind::kWord, at + size, false};
    case CharClass::kMark:
      return {marks_join_ ? Kind::kWord : Kind::kOther, at + size, true};
    case CharClass::kNumber:
      return {Kind::kNumber, at + size, false};
    case CharClass::kSpace:
      if (code == '\n' || code == '\r') return {Kind::kNewline, at + size, false};
      return {Kind::kSpace, at + size, true};
    case CharClass::kOther:
      break;
  }
  return {Kind::kOther, at + size, true};
}

std::size_t PieceScanner::skip(std::size_t at, Kind kind) const {
  while (at < text_.size()) {
    const Char c = char_at(at);
    if (c.kind != kind) break;
    at = c.end;
  }
  return at;
}

// End of 's 't 're 've 'm 'll 'd at `at`, in any case, or `at`. The long s (U+017F) is an s in another case.
std::size_t PieceScanner::contraction_end(std::size_t at) const {
  if (text_[at] != '\'' || at + 1 == text_.size()) return at;
  const auto lower = [&](std::size_t i) -> char {
    if (i >= text_.size()) return '\0';
    const char c = text_[i];
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  const char a = lower(at + 1), b = lower(at + 2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
  return text_.substr(at + 1, 2) == "\xC5\xBF" ? at + 3 : at;
}

// White space at `at`: up to and with its last newline if it has one (fifth alternative), else all of it at the end of
// the text, else all but its last character, which goes to the next piece, unless it is the only one.
std::size_t PieceScanner::space_end(std::size_t at) const {
  std::size_t end = at, newline_end = at, last_start = at;
  while (end < text_.size()) {
    const Char c = char_at(end);
    if (c.kind != Kind::kSpace && c.kind != Kind::kNewline) break;
    last_start = end;
    end = c.end;
    if (c.kind == Kind::kNewline) newline_end = end;
  }
  if (newline_end > at) return newline_end;
  return end == text_.size() || last_start == at ? end : last_start;
}

std::size_t PieceScanner::piece_end(std::size_t at) const {
  if (const std::size_t end = contraction_end(at); end != at) return end;
  const Char c = char_at(at);
  if (c.kind == Kind::kWord) return skip(c.end, Kind::kWord);
  if (c.prefix && c.end < text_.size()) {
    const Char next = char_at(c.end);
    if (next.kind == Kind::kWord) return skip(next.end, Kind::kWord);
    if (text_[at] == ' ' && next.kind == Kind::kOther) {
      return skip(skip(next.end, Kind::kOther), Kind::kNewline);
    }
  }
  if (c.kind == Kind::kNumber) return c.end;
  if (c.kind == Kind::kOther) return skip(skip(c.end, Kind::kOther), Kind::kNewline);
  return space_end(at);
}

std::string_view PieceScanner::next() {
  if (at_ == text_.size()) return {};
  const std::size_t end = piece_end(at_);
  const std::string_view piece = text_.substr(at_, end - at_);
  at_ = end;
  return piece;
}

void pre_tokenize(std::string_view name, std::string_view text, const std::function<void(std::string_view)>& piece) {
  const auto kind = pre_tokenizer_named(name);
  QW_CHECK(kind.has_value());
  PieceScanner scanner(*kind, text);
  for (std::string_view p = scanner.next(); !p.empty(); p = scanner.next()) piece(p);
}

}  // namespace qw::tokenizer
