// The pre-tokenisers of the Qwen family, written by hand.
//
// qwen2 is, one alternative a line,
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)
//   [^\r\n\p{L}\p{N}]?\p{L}+
//   \p{N}
//   " "?[^\s\p{L}\p{N}]+[\r\n]*
//   \s*[\r\n]+
//   \s+(?!\S)
//   \s+
// and qwen35 the same with [\p{L}\p{M}]+ for \p{L}+ and no \p{M} in the class of the fourth.
//
// Every byte of the text is in exactly one piece. A byte that belongs to no UTF-8 character counts as one character
// that is neither letter, number nor space. Linear time.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "tokenizer/internal/unicode.h"

namespace qw::tokenizer {

enum class PreTokenizer : std::uint8_t { kQwen2, kQwen35 };

std::optional<PreTokenizer> pre_tokenizer_named(std::string_view name);
std::string_view pre_tokenizer_name(PreTokenizer kind);
// The regex as it stands in tokenizer.json.
std::string_view pre_tokenizer_regex(PreTokenizer kind);
std::optional<PreTokenizer> pre_tokenizer_by_regex(std::string_view regex);

class PieceScanner {
 public:
  PieceScanner(PreTokenizer kind, std::string_view text)
      : tables_(&Unicode::tables()),
        at_(text.data()),
        end_(text.data() + text.size()),
        marks_join_(kind == PreTokenizer::kQwen35) {}
  // The next piece; empty at the end.
  std::string_view next();

 private:
  enum class Kind : std::uint8_t { kOther, kWord, kNumber, kSpace, kNewline };
  struct Char {
    Kind kind;
    const char* end;
  };
  Char char_at(const char* at) const;
  Char wide_char_at(const char* at) const;
  // Where the run of word characters, of others (and newlines behind them), that goes on at `at` ends.
  const char* word_end(const char* at) const;
  const char* other_end(const char* at) const;
  const char* contraction_end(const char* at) const;
  const char* space_end(const char* at) const;
  const char* piece_end(const char* at) const;

  const Unicode* tables_;
  const char *at_, *end_;
  bool marks_join_;
};

}  // namespace qw::tokenizer
