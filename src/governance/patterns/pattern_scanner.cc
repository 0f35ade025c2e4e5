#include "governance/patterns/pattern_scanner.h"

#include <algorithm>

#include "base/utf8.h"

namespace qw::governance {
namespace {

constexpr std::size_t kPieceBytes = 1024;  // that are looked at together, which bounds what one search may read in vain

}  // namespace

PatternScanner::PatternScanner(const PatternList& list)
    : list_(&list), stream_(list.folding()), next_(list.size(), 0) {}

void PatternScanner::push(std::string_view bytes, std::vector<PatternHit>& found) {
  for (; !bytes.empty(); bytes.remove_prefix(std::min(bytes.size(), kPieceBytes))) {
    stream_.push(bytes.substr(0, kPieceBytes), [&](Symbol symbol, std::uint64_t begin, std::uint64_t end) {
      places_.push_back({static_cast<std::uint32_t>(text_.size()), begin, end});
      base::append_utf8(text_, symbol.code());
    });
    look(false, found);
  }
}

void PatternScanner::finish(std::vector<PatternHit>& found) {
  stream_.finish([&](Symbol symbol, std::uint64_t begin, std::uint64_t end) {
    places_.push_back({static_cast<std::uint32_t>(text_.size()), begin, end});
    base::append_utf8(text_, symbol.code());
  });
  look(true, found);
}

std::uint64_t PatternScanner::settled() const {
  const std::size_t first = *std::min_element(next_.begin(), next_.end());
  return first < places_.size() ? places_[first].begin : stream_.taken();
}

void PatternScanner::look(bool finished, std::vector<PatternHit>& found) {
  const bool any = list_->any(text_);
  for (std::uint32_t p = 0; p < next_.size(); ++p)
    next_[p] = any ? scan(p, next_[p], finished, found) : undecided(p, next_[p], finished);
  forget();
}

// The first place from `from` on at which what comes may decide whether a match begins, and where it ends.
std::size_t PatternScanner::undecided(std::uint32_t pattern, std::size_t from, bool finished) const {
  const std::size_t known = places_.size(), longest = list_->longest();
  if (finished) return known;
  // Of what begins before, all its characters are here, and the one behind them.
  std::size_t place = std::max(from, known > longest ? known - longest : 0);
  while (place < known && !list_->may_begin(pattern, std::string_view(text_).substr(at(place)))) ++place;
  return place;
}

std::size_t PatternScanner::scan(std::uint32_t pattern, std::size_t from, bool finished,
                                 std::vector<PatternHit>& found) const {
  while (true) {
    const std::size_t open = undecided(pattern, from, finished);
    PatternList::Span span;
    if (from >= open || !list_->first(pattern, text_, at(from), span) || span.begin >= at(open))
      return std::max(from, open);
    const std::size_t first = place_of(span.begin), last = first + list_->longest();
    if (span.end == span.begin || span.end > at(last))
      span.end = list_->longest_at(pattern, text_, span.begin, at(last));
    if (span.end == 0) {
      from = first + 1;
      continue;
    }
    from = place_of(span.end);
    found.push_back({places_[first].begin, places_[from - 1].end, pattern});
  }
}

// The one that begins at a byte of the folded text.
std::size_t PatternScanner::place_of(std::size_t at) const {
  const auto found = std::lower_bound(places_.begin(), places_.end(), at,
                                      [](const Place& place, std::size_t sought) { return place.at < sought; });
  return static_cast<std::size_t>(found - places_.begin());
}

void PatternScanner::forget() {
  const std::size_t first = *std::min_element(next_.begin(), next_.end());
  if (first < 2) return;
  const std::size_t gone = first - 1;  // \b looks at the character in front
  const std::uint32_t bytes = places_[gone].at;
  text_.erase(0, bytes);
  places_.erase(places_.begin(), places_.begin() + static_cast<std::ptrdiff_t>(gone));
  for (Place& place : places_) place.at -= bytes;
  for (std::size_t& next : next_) next -= gone;
}

}  // namespace qw::governance
