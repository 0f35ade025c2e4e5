#include "governance/keywords/keyword_scanner.h"

#include <algorithm>

namespace qw::governance {
namespace {

constexpr Symbol kBlank = Symbol::of(' ', SymbolKind::kBlank);
constexpr std::size_t kMostUndecided = 16;    // before it is looked whether some are certain: that takes its square
constexpr std::uint32_t kShortestSpaced = 3;  // "a m" is no hidden "am"

}  // namespace

KeywordScanner::KeywordScanner(const KeywordList& list) : list_(&list), stream_(list.folding()) {}

void KeywordScanner::push(std::string_view bytes, std::vector<KeywordHit>& found) {
  stream_.push(bytes, [&](Symbol symbol, std::uint64_t begin, std::uint64_t end) {
    take(symbol, begin, end);
    if (found_.size() >= kMostUndecided) decide(found, begin);
  });
  if (!found_.empty()) decide(found, stream_.taken());
}

void KeywordScanner::finish(std::vector<KeywordHit>& found) {
  stream_.finish([&](Symbol symbol, std::uint64_t begin, std::uint64_t end) { take(symbol, begin, end); });
  look_at_word_end(kBlank);
  spaced(kBlank, stream_.taken(), stream_.taken());
  leave_spaced();
  text_.node = KeywordIndex::kRoot;
  before_ = kBlank;
  decide(found, stream_.taken());
}

void KeywordScanner::take(Symbol symbol, std::uint64_t begin, std::uint64_t end) {
  if (waiting_ > 0) look_at_word_end(symbol);
  text_.node = list_->index().step(text_.node, before_, symbol);
  const bool begins_word = symbol.kind() == SymbolKind::kWord && before_.kind() != SymbolKind::kWord;
  if (begins_word || letter_.bits != 0 || spaced_.node != KeywordIndex::kRoot) spaced(symbol, begin, end);
  before_ = symbol;
  if (text_.node == KeywordIndex::kRoot) return;
  text_.starts[text_.count++ % Starts{}.size()] = begin;
  if (list_->index().ends_at(text_.node)) note(text_, symbol, end, 1, true);
}

// What ends in a letter is found if no letter follows.
void KeywordScanner::look_at_word_end(Symbol next) {
  if (waiting_ == 0) return;
  waiting_ = 0;
  if (next.kind() == SymbolKind::kWord) {
    std::erase_if(found_, [](const Found& one) { return one.waits; });
  } else {
    for (Found& one : found_) one.waits = false;
  }
}

void KeywordScanner::note(Way& way, Symbol last, std::uint64_t end, std::uint32_t shortest, bool whole_words) {
  const bool waits = whole_words && last.kind() == SymbolKind::kWord;
  list_->index().each_end(way.node, [&](std::uint32_t symbols, std::uint32_t keyword) {
    if (symbols < shortest) return;
    const KeywordHit hit{way.start(symbols), end, list_->category_of(keyword), keyword};
    // The longest comes first: a shorter one of its category that ends here is a part of it.
    const auto covers = [&](const Found& one) {
      return one.hit.end == hit.end && one.hit.category == hit.category && one.hit.begin <= hit.begin &&
             one.waits == waits;
    };
    for (auto one = found_.rbegin(); one != found_.rend() && one->hit.end == end; ++one)
      if (covers(*one)) return;
    found_.push_back({hit, waits, false});
    waiting_ += waits ? 1 : 0;
  });
}

// Letters that stand alone, up to kMostGaps signs apart, are read as one word.
void KeywordScanner::spaced(Symbol symbol, std::uint64_t begin, std::uint64_t end) {
  const SymbolKind kind = symbol.kind();
  if (kind == SymbolKind::kWord) {
    if (before_.kind() == SymbolKind::kWord) {
      leave_spaced();
    } else {
      letter_ = symbol;
      letter_begin_ = begin;
      letter_end_ = end;
    }
    return;
  }
  if (letter_.bits != 0) {
    // As if each began a word: what stands before the first letter of a keyword hides nothing.
    spaced_.node = list_->index().step(spaced_.node, kBlank, letter_);
    spaced_gaps_ = 0;
    if (spaced_.node != KeywordIndex::kRoot) {
      spaced_.starts[spaced_.count++ % Starts{}.size()] = letter_begin_;
      if (list_->index().ends_at(spaced_.node)) note(spaced_, letter_, letter_end_, kShortestSpaced, false);
    }
    letter_ = {};
  }
  ++spaced_gaps_;
  if (kind == SymbolKind::kIdeograph || kind == SymbolKind::kLetter || spaced_gaps_ > SymbolStream::kMostGaps)
    leave_spaced();
}

void KeywordScanner::leave_spaced() {
  spaced_.node = KeywordIndex::kRoot;
  letter_ = {};
  spaced_gaps_ = 0;
}

// Where the first thing begins that is not over; `from`: where what was not looked at begins.
std::uint64_t KeywordScanner::open_from(std::uint64_t from) const {
  const auto least = [&](const Way& way) {
    if (way.node != KeywordIndex::kRoot) from = std::min(from, way.start(list_->index().depth(way.node)));
  };
  least(text_);
  least(spaced_);
  if (letter_.bits != 0) from = std::min(from, letter_begin_);
  for (const Found& one : found_)
    if (one.waits) from = std::min(from, one.hit.begin);
  return from;
}

std::uint64_t KeywordScanner::settled() const {
  std::uint64_t from = open_from(stream_.taken());
  for (const Found& one : found_)
    if (!one.decided) from = std::min(from, one.hit.begin);
  return from;
}

bool KeywordScanner::is_hidden(const Found& one) const {
  return std::any_of(found_.begin(), found_.end(), [&](const Found& other) {
    const KeywordHit& longer = other.hit;
    if (&other == &one || other.waits || longer.begin > one.hit.begin || longer.end < one.hit.end) return false;
    if (longer.category == KeywordList::kExcept) return true;
    return longer.category == one.hit.category && longer.end - longer.begin > one.hit.end - one.hit.begin;
  });
}

// Whatever is found later begins at or after open_from(), so what began before it is hidden by something that is known,
// or by nothing.
void KeywordScanner::decide(std::vector<KeywordHit>& found, std::uint64_t taken) {
  const std::uint64_t open = open_from(taken);
  std::sort(found_.begin(), found_.end(), [](const Found& a, const Found& b) {
    return a.hit.begin != b.hit.begin ? a.hit.begin < b.hit.begin : a.hit.end > b.hit.end;
  });
  for (Found& one : found_) {
    if (one.decided || one.waits || one.hit.begin >= open) continue;
    one.decided = true;
    if (one.hit.category != KeywordList::kExcept && !is_hidden(one)) found.push_back(one.hit);
  }
  std::erase_if(found_, [&](const Found& one) { return one.decided && one.hit.end <= open; });
}

}  // namespace qw::governance
