#include "tokenizer/internal/pre_tokenizer.h"

#include <array>
#include <bit>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/utf8.h"
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

// PieceScanner::Kind of the first 128 characters.
constexpr std::array<std::uint8_t, 128> make_ascii_kinds() {
  constexpr std::uint8_t kWord = 1, kNumber = 2, kSpace = 3, kNewline = 4;
  std::array<std::uint8_t, 128> kinds{};
  for (std::size_t c = 0; c < kinds.size(); ++c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) kinds[c] = kWord;
    if (c >= '0' && c <= '9') kinds[c] = kNumber;
    if (c == ' ' || (c >= '\t' && c <= '\r')) kinds[c] = kSpace;
    if (c == '\n' || c == '\r') kinds[c] = kNewline;
  }
  return kinds;
}

constexpr std::array<std::uint8_t, 128> kAsciiKinds = make_ascii_kinds();

bool is_ascii_letter(char c) { return static_cast<unsigned char>((c | 0x20) - 'a') < 26; }

// Where the run of letters a-z and A-Z at `at` ends; at least one is not worth a loop, sixteen at a time are.
const char* skip_ascii_letters(const char* at, const char* end) {
#ifdef __SSE2__
  while (end - at >= 16) {
    const __m128i text = _mm_or_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)), _mm_set1_epi8(0x20));
    // Moves 'a'..'z' to the 26 lowest of the signed bytes.
    const __m128i moved = _mm_add_epi8(text, _mm_set1_epi8(static_cast<char>(0x80 - 'a')));
    const auto letters = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmplt_epi8(moved, _mm_set1_epi8(-128 + 26))));
    if (letters != 0xFFFF) return at + std::countr_one(letters);
    at += 16;
  }
#endif
  while (at != end && is_ascii_letter(*at)) ++at;
  return at;
}

const char* skip_blanks(const char* at, const char* end) {
#ifdef __SSE2__
  while (end - at >= 16) {
    const __m128i text = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const auto blanks = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(text, _mm_set1_epi8(' '))));
    if (blanks != 0xFFFF) return at + std::countr_one(blanks);
    at += 16;
  }
#endif
  while (at != end && *at == ' ') ++at;
  return at;
}

// U+4E00 to U+9FFF, which the tables have as letters, all of them three bytes from E4 B8 80 to E9 BF BF.
const char* skip_ideographs(const char* at, const char* end) {
  while (end - at >= 3) {
    const auto first = static_cast<unsigned char>(at[0]), second = static_cast<unsigned char>(at[1]);
    if (first < 0xE4 || first > 0xE9 || (second & 0xC0) != 0x80 || (at[2] & 0xC0) != 0x80) break;
    if (first == 0xE4 && second < 0xB8) break;
    at += 3;
  }
  return at;
}

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

PieceScanner::Char PieceScanner::char_at(const char* at) const {
  const auto byte = static_cast<unsigned char>(*at);
  return byte < 0x80 ? Char{static_cast<Kind>(kAsciiKinds[byte]), at + 1} : wide_char_at(at);
}

PieceScanner::Char PieceScanner::wide_char_at(const char* at) const {
  const base::Utf8Char c = base::utf8_at({at, static_cast<std::size_t>(end_ - at)}, 0);
  if (c.code == base::kInvalidCode) return {Kind::kOther, at + 1};  // invalid bytes are taken one by one
  switch (tables_->class_of(c.code)) {
    case CharClass::kLetter:
      return {Kind::kWord, at + c.size};
    case CharClass::kMark:
      return {marks_join_ ? Kind::kWord : Kind::kOther, at + c.size};
    case CharClass::kNumber:
      return {Kind::kNumber, at + c.size};
    case CharClass::kSpace:
      return {Kind::kSpace, at + c.size};
    case CharClass::kOther:
      break;
  }
  return {Kind::kOther, at + c.size};
}

const char* PieceScanner::word_end(const char* at) const {
  for (;;) {
    at = skip_ascii_letters(at, end_);
    if (at == end_ || static_cast<unsigned char>(*at) < 0x80) return at;
    const char* const ideographs = skip_ideographs(at, end_);
    if (ideographs != at) {
      at = ideographs;
      continue;
    }
    const Char c = wide_char_at(at);
    if (c.kind != Kind::kWord) return at;
    at = c.end;
  }
}

const char* PieceScanner::other_end(const char* at) const {
  for (; at != end_;) {
    const Char c = char_at(at);
    if (c.kind != Kind::kOther) break;
    at = c.end;
  }
  while (at != end_ && (*at == '\n' || *at == '\r')) ++at;
  return at;
}

// End of 's 't 're 've 'm 'll 'd at `at`, in any case, or `at`. The long s (U+017F) is an s in another case.
const char* PieceScanner::contraction_end(const char* at) const {
  const auto lower = [&](std::ptrdiff_t i) -> char {
    if (i >= end_ - at) return '\0';
    const char c = at[i];
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  const char a = lower(1), b = lower(2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
  return a == '\xC5' && b == '\xBF' ? at + 3 : at;
}

// White space at `at`: up to and with its last newline if it has one (fifth alternative), else all of it at the end of
// the text, else all but its last character, which goes to the next piece, unless it is the only one.
const char* PieceScanner::space_end(const char* at) const {
  const char *end = at, *newline_end = at, *last_start = at;
  while (end != end_) {
    if (const char* blanks = skip_blanks(end, end_); blanks != end) {
      end = blanks;
      last_start = end - 1;
      continue;
    }
    const Char c = char_at(end);
    if (c.kind != Kind::kSpace && c.kind != Kind::kNewline) break;
    last_start = end;
    end = c.end;
    if (c.kind == Kind::kNewline) newline_end = end;
  }
  if (newline_end > at) return newline_end;
  return end == end_ || last_start == at ? end : last_start;
}

// A mark that joins words may also stand in front of one; the piece is the same.
const char* PieceScanner::piece_end(const char* at) const {
  const Char c = char_at(at);
  if (c.kind == Kind::kWord) return word_end(c.end);
  if (c.kind == Kind::kNumber) return c.end;
  if (*at == '\'') {
    if (const char* end = contraction_end(at); end != at) return end;
  }
  if (c.kind != Kind::kNewline && c.end != end_) {
    const Char next = char_at(c.end);
    if (next.kind == Kind::kWord) return word_end(next.end);
    if (*at == ' ' && next.kind == Kind::kOther) return other_end(next.end);
  }
  return c.kind == Kind::kOther ? other_end(c.end) : space_end(at);
}

std::string_view PieceScanner::next() {
  const char* const begin = at_;
  if (begin != end_) at_ = piece_end(begin);
  return {begin, static_cast<std::size_t>(at_ - begin)};
}

void pre_tokenize(std::string_view name, std::string_view text, const std::function<void(std::string_view)>& piece) {
  const auto kind = pre_tokenizer_named(name);
  QW_CHECK(kind.has_value());
  PieceScanner scanner(*kind, text);
  for (std::string_view p = scanner.next(); !p.empty(); p = scanner.next()) piece(p);
}

}  // namespace qw::tokenizer
