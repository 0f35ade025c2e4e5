// The pre-tokenisers of the Qwen family, written by hand.
//
// qwen2:  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ qwen35: the same with [\p{L}\p{M}]+ for \p{L}+ and no \p{M} in the
// class of the fourth alternative.
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
      : tables_(&Unicode::tables()), text_(text), marks_join_(kind == PreTokenizer::kQwen35) {}
  // The next piece; empty at the end.
  std::string_view next();

 private:
  enum class Kind : std::uint8_t { kOther, kWord, kNumber, kSpace, kNewline };
  struct Char {
    Kind kind;
    std::size_t end;
    bool prefix;  // may stand in front of a run of letters
  };
  Char char_at(std::size_t at) const;
  // End of the run of characters of `kind` that starts at `at`.
  std::size_t skip(std::size_t at, Kind kind) const;
  std::size_t contraction_end(std::size_t at) const;
  std::size_t space_end(std::size_t at) const;
  std::size_t piece_end(std::size_t at) const;

  const Unicode* tables_;
  std::string_view text_;
  std::size_t at_ = 0;
  bool marks_join_;
};

}  // namespace qw::tokenizer
