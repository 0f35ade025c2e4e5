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

#include "tokenizer/internal/byte_masks.h"
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

  // Many pieces at once: where they begin in the next kMarkBytes, bit i for the byte i after position(). Bit 0 is
  // always set. All beginnings up to the last are there; where the piece ends that begins there is not known yet.
  static constexpr std::size_t kMarkBytes = ByteMasks::kBytes;
  struct Marks {
    std::uint64_t starts;
    std::uint64_t words;   // letters, and marks if they join words: where text is cut in front of one, both sides are
                           // cut further as if nothing had been
    std::uint64_t threes;  // first bytes of characters of three bytes
  };
  // At least kMarkBytes must be left.
  Marks marks() const;
  const char* position() const { return at_; }
  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
  void skip(std::size_t bytes) { at_ += bytes; }

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
  // Bits of bytes by what their characters are. Those from `end` on are not told: a character that the window cuts, or
  // bytes that are none.
  struct Kinds {
    std::uint64_t words, numbers, spaces, threes;
    int end;
  };
  Kinds kinds_of(const ByteMasks& bytes) const;
  int put_wide_char(int at, Kinds& kinds) const;

  const Unicode* tables_;
  const char *at_, *end_;
  bool marks_join_;
};

}  // namespace qw::tokenizer
