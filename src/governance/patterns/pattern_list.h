// Regular expressions that an operator gives, ready to be looked for in texts (pattern_scanner.h). Needs RE2, whose
// searches take a time that is linear in the text (Cox, "Regular Expression Matching in the Wild", 2010).
//
// The file: lines of UTF-8, each a category, blanks, and an expression up to the end of the line; lines that are empty
// or begin with "#" say nothing. Before the first, "@longest N" says how many characters one match has at most (64
// unless given), and "@traditional" makes traditional and simplified Chinese one (needs ICU).
//
// Compared is what keywords are compared with (keywords/folding.h): small letters without accents, narrow forms, white
// space of any length as one blank, nothing that does not show, and no blanks or signs such as * between characters of
// a script without blanks. Expressions match capital letters of ASCII too; one that holds a character which no text is
// compared with is refused. ^ and $ are the text's ends.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "governance/keywords/folding.h"

namespace qw::governance {

class PatternList {
 public:
  static constexpr std::size_t kMostPatterns = 256;
  static constexpr std::size_t kMostBytes = 1000;  // of an expression
  static constexpr int kMostSteps = 10'000;        // of what one is compiled to
  static constexpr std::uint32_t kLongest = 64, kMostLongest = 256;

  // kBadInput with the line and the expression: it is none, is larger than this bounds, matches nothing at all, or what
  // it names never occurs. kUsage: it needs what this program was built without.
  static Result<PatternList> parse(std::string_view file);
  // Those of one category, as a profile has them; messages name the number of the expression, from 1.
  static Result<PatternList> of(const std::string& category, const std::vector<std::string>& expressions,
                                std::uint32_t longest);
  PatternList(PatternList&&) noexcept;
  PatternList& operator=(PatternList&&) noexcept;
  ~PatternList();

  const Folding& folding() const { return *folding_; }
  std::uint32_t longest() const { return longest_; }  // characters of a match, as compared
  const std::vector<std::string>& categories() const { return categories_; }
  std::size_t size() const { return patterns_.size(); }
  std::uint32_t category_of(std::uint32_t pattern) const;
  std::uint32_t line_of(std::uint32_t pattern) const;  // in its file, or the number of the expression

  // What pattern_scanner.h asks. Texts are folded; places are bytes. Any number of threads.
  struct Span {
    std::size_t begin = 0, end = 0;
  };
  // The first match that begins at `from` or later, of those that begin there the longest; what stands before `from` is
  // seen by \b. None: false.
  bool first(std::uint32_t pattern, std::string_view text, std::size_t from, Span& out) const;
  // The longest match that begins at `from` and ends at or before `until`, and is not empty; its end, or 0.
  std::size_t longest_at(std::uint32_t pattern, std::string_view text, std::size_t from, std::size_t until) const;
  // False: no expression matches anywhere in it.
  bool any(std::string_view text) const;
  // False: no text that begins with this one is a match.
  bool may_begin(std::uint32_t pattern, std::string_view rest) const;

 private:
  struct Pattern;
  struct Screen;  // all of them as one automaton
  class Reader;
  PatternList();

  const Folding* folding_ = nullptr;
  std::uint32_t longest_ = kLongest;
  std::vector<std::string> categories_;
  std::vector<std::unique_ptr<const Pattern>> patterns_;
  std::unique_ptr<const Screen> screen_;  // null: there is none
};

}  // namespace qw::governance
