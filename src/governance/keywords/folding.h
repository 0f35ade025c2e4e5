// Characters as keywords are compared: each code point becomes no, one or several symbols, by itself, so that a text
// may be cut anywhere and folds to the same symbols.
//
// Folded away: compatibility forms (full and half width, ligatures: NFKC), case, accents, characters that do not show
// (zero width, direction, variation selectors), letters of other alphabets that look like Latin ones (a small table
// after UTS #39), and, if asked for, traditional for simplified Chinese (ICU).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace qw::governance {

enum class SymbolKind : std::uint8_t {
  kWord,       // a letter of a script that puts blanks between words, or a digit
  kIdeograph,  // a character of a script that puts none: Han, kana, Hangul
  kLetter,     // of any other script; like a sign, it has no neighbours
  kBlank,      // white space or a control
  kGap,        // a sign that stands between characters to hide a word: * _ . | - and the like, emoji
  kSign,       // every other
};

// The code point and its kind. Every blank is the same symbol.
struct Symbol {
  std::uint32_t bits = 0;
  static constexpr Symbol of(std::uint32_t code, SymbolKind kind) {
    return {code | static_cast<std::uint32_t>(kind) << 24};
  }
  constexpr SymbolKind kind() const { return static_cast<SymbolKind>(bits >> 24); }
  constexpr std::uint32_t code() const { return bits & 0xFFFFFF; }
  friend constexpr bool operator==(Symbol, Symbol) = default;
  friend constexpr auto operator<=>(Symbol, Symbol) = default;
};

class Folding {
 public:
  // The two tables there are, each made when it is first asked for. `simplify`: traditional characters become
  // simplified ones; kUsage in a program built without ICU. Any number of threads.
  static Result<const Folding*> get(bool simplify);

  // What one code point becomes where that is one symbol, as nearly always; else a symbol with bits 0.
  Symbol one(std::uint32_t code) const { return code < one_.size() ? one_[code] : kBeyond; }
  // Every other: none, or several. Valid as long as this object.
  std::span<const Symbol> several(std::uint32_t code) const;

 private:
  Folding() = default;
  static Result<Folding> make(bool simplify);
  void add(std::uint32_t code, std::uint32_t simplified);

  struct Entry {
    std::uint32_t code, begin, count;
  };
  static constexpr Symbol kBeyond = Symbol::of(0xFFFD, SymbolKind::kSign);  // private use, tags, no characters
  std::vector<Symbol> one_, parts_;
  std::vector<Entry> several_;  // ascending
};

}  // namespace qw::governance
