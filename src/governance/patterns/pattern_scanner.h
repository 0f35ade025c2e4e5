// Finds the patterns of a list in a text that comes in pieces, cut anywhere: the same ones however it is cut.
//
// Of each expression, by itself: from the left, the longest match of at most PatternList::longest() characters at the
// first place that has one, then from its end on. What may still become one begins at or after settled(): at most so
// many characters and one more, and only if an expression may begin as the text ends.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "governance/keywords/symbol_stream.h"
#include "governance/patterns/pattern_list.h"

namespace qw::governance {

struct PatternHit {
  std::uint64_t begin = 0, end = 0;  // bytes since the text began
  std::uint32_t pattern = 0;
  friend bool operator==(const PatternHit&, const PatternHit&) = default;
  friend auto operator<=>(const PatternHit&, const PatternHit&) = default;
};

class PatternScanner {
 public:
  explicit PatternScanner(const PatternList& list);  // which must outlive this object
  // Appends what is certain to be found, of each pattern in order.
  void push(std::string_view bytes, std::vector<PatternHit>& found);
  void finish(std::vector<PatternHit>& found);
  std::uint64_t settled() const;

 private:
  struct Place {
    std::uint32_t at;          // in text_
    std::uint64_t begin, end;  // in what was pushed
  };
  void look(bool finished, std::vector<PatternHit>& found);
  std::size_t scan(std::uint32_t pattern, std::size_t from, bool finished, std::vector<PatternHit>& found) const;
  std::size_t undecided(std::uint32_t pattern, std::size_t from, bool finished) const;
  std::size_t place_of(std::size_t at) const;
  std::size_t at(std::size_t place) const { return place < places_.size() ? places_[place].at : text_.size(); }
  void forget();

  const PatternList* list_;
  SymbolStream stream_;
  std::string text_;  // folded: what is undecided and, of the rest, the character in front
  std::vector<Place> places_;
  std::vector<std::size_t> next_;  // of each pattern, the first place at which a match may yet begin
};

}  // namespace qw::governance
