// Finds the keywords of a list in a text that comes in pieces, cut anywhere: the same ones however it is cut.
//
// What is open - the beginning of a keyword that the text ends with, a word whose end is not seen yet - begins at or
// after settled(): text before it can be let go of, and holds no part of a keyword that is found later. Nothing more is
// held back than that.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "governance/keywords/keyword_list.h"
#include "governance/keywords/symbol_stream.h"

namespace qw::governance {

struct KeywordHit {
  std::uint64_t begin = 0, end = 0;  // bytes since the text began
  std::uint32_t category = 0;        // KeywordList::categories()
  std::uint32_t keyword = 0;
  friend bool operator==(const KeywordHit&, const KeywordHit&) = default;
};

class KeywordScanner {
 public:
  // `list` must outlive this object.
  explicit KeywordScanner(const KeywordList& list);

  // Appends what is certain to be found, where it begins in order; of keywords of one category the longest.
  void push(std::string_view bytes, std::vector<KeywordHit>& found);
  // No more comes.
  void finish(std::vector<KeywordHit>& found);
  std::uint64_t settled() const;

 private:
  // Where the last symbols began: as many as a keyword has, twice over.
  using Starts = std::array<std::uint64_t, 2 * KeywordList::kLongest>;
  struct Way {  // through the index, and where its symbols began
    std::uint32_t node = KeywordIndex::kRoot;
    std::uint64_t count = 0;
    Starts starts{};
    std::uint64_t start(std::uint64_t symbols) const { return starts[(count - symbols) % Starts{}.size()]; }
  };
  struct Found {
    KeywordHit hit;
    bool waits = false;    // for the symbol behind it: the keyword may be a part of a word
    bool decided = false;  // but may hide others
  };

  // Symbols of a piece of a text and where they are, so that places can be passed over at which no keyword begins.
  struct Block;

  std::size_t push_block(std::string_view bytes, std::vector<KeywordHit>& found);  // how many bytes it took
  std::size_t read(std::string_view bytes, Block& block);
  bool is_live(const Block& block, std::size_t at, std::size_t& next) const;
  bool walk_from(const Block& block, std::size_t at, const KeywordIndex::Start& start);
  std::size_t walk(const Block& block, std::size_t next, std::vector<KeywordHit>& found);
  void take(Symbol symbol, std::uint64_t begin, std::uint64_t end);
  void look_at_word_end(Symbol next);
  void note(Way& way, Symbol last, std::uint64_t end, std::uint32_t shortest, bool whole_words);
  void spaced(Symbol symbol, std::uint64_t begin, std::uint64_t end);
  void leave_spaced();
  std::uint64_t open_from(std::uint64_t from) const;
  void decide(std::vector<KeywordHit>& found, std::uint64_t taken);
  bool is_hidden(const Found& one) const;

  const KeywordList* list_;
  SymbolStream stream_;
  Way text_, spaced_;
  Symbol before_ = Symbol::of(' ', SymbolKind::kBlank);
  // A letter that may stand alone, and how many signs are behind the one before it.
  Symbol letter_{};
  std::uint64_t letter_begin_ = 0, letter_end_ = 0;
  std::uint32_t spaced_gaps_ = 0;
  std::uint32_t waiting_ = 0;
  std::vector<Found> found_;
};

}  // namespace qw::governance
