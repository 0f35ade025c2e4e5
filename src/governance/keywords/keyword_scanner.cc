#include "governance/keywords/keyword_scanner.h"

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <tuple>

namespace qw::governance {
namespace {

constexpr Symbol kBlank = Symbol::of(' ', SymbolKind::kBlank);
constexpr std::size_t kMostUndecided = 16;    // before it is looked whether some are certain: that takes its square
constexpr std::uint32_t kShortestSpaced = 3;  // "a m" is no hidden "am"
constexpr std::size_t kBlockBytes = 4096;     // whose symbols stay in the nearest cache
constexpr std::size_t kPartBytes = 256;       // that a block gets at a time, so that its symbols have room
constexpr std::size_t kWorthABlock = 64;      // bytes; the end of a block is taken symbol by symbol anyway

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

}  // namespace

struct KeywordScanner::Block {
  // One code point of two bytes or more becomes at most 18 symbols, and held gaps come on top.
  static constexpr std::size_t kMostOfPart = 9 * kPartBytes + 64, kMost = kBlockBytes + kMostOfPart;
  struct Place {
    std::uint32_t begin, end;  // bytes since `origin`
  };
  std::array<Symbol, kMost> symbols;
  std::array<Place, kMost> places;
  std::array<KeywordCandidate, kMost + 1> candidates;
  std::size_t count = 0, candidate_count = 0;
  std::uint64_t origin = 0;

  // Scratch, too large to be made for each of many short texts.
  static Block& of_this_thread() {
    thread_local const auto block = std::make_unique<Block>();
    return *block;
  }
  std::span<const Symbol> all_symbols() const { return std::span(symbols).first(count); }
  std::span<const KeywordCandidate> all_candidates() const { return std::span(candidates).first(candidate_count); }
  std::uint64_t begin(std::size_t at) const { return origin + places[at].begin; }
  std::uint64_t end(std::size_t at) const { return origin + places[at].end; }
};

KeywordScanner::KeywordScanner(const KeywordList& list) : list_(&list), stream_(list.folding()) {}

void KeywordScanner::push(std::string_view bytes, std::vector<KeywordHit>& found) {
  while (bytes.size() >= kWorthABlock) bytes.remove_prefix(push_block(bytes, found));
  stream_.push(bytes, [&](Symbol symbol, std::uint64_t begin, std::uint64_t end) {
    take(symbol, begin, end);
    if (found_.size() >= kMostUndecided) decide(found, begin);
  });
  if (!found_.empty()) decide(found, stream_.taken());
}

// Whether something has begun, not later than in front of symbol `at`, that may become a keyword; `next`: the candidate
// that is looked at next.
bool KeywordScanner::is_live(const Block& block, std::size_t at, std::size_t& next) const {
  if (waiting_ > 0 || spaced_.node != KeywordIndex::kRoot) return true;
  const std::size_t depth = list_->index().depth(text_.node);
  if (depth > at) return true;  // it began before the block
  const auto candidates = block.all_candidates();
  while (next < candidates.size() && candidates[next].place < at - depth) ++next;
  return next < candidates.size() && candidates[next].place < at;
}

// Looks for the keywords that begin at symbol `at` alone. False: the block does not say, or the letter stands alone.
bool KeywordScanner::walk_from(const Block& block, std::size_t at, const KeywordIndex::Start& start) {
  const auto symbols = block.all_symbols();
  const auto is_word = [&](std::size_t i) { return symbols[i].kind() == SymbolKind::kWord; };
  if (at + 1 >= symbols.size() || (is_word(at) && !is_word(at + 1))) return false;
  const std::size_t before = found_.size();
  std::uint32_t node = start.node;
  for (std::size_t i = at + start.symbols - 1; node != KeywordIndex::kRoot; ++i) {
    if (i + 1 == symbols.size()) {
      found_.resize(before);
      return false;
    }
    if (!is_word(i) || !is_word(i + 1)) {  // else the keyword would be a part of a word
      list_->index().each_here(node, [&](const KeywordIndex::End& end) {
        const KeywordHit hit{block.begin(at), block.end(i), end.category, end.keyword};
        const auto same = [&](const Found& one) {
          return one.hit.begin == hit.begin && one.hit.end == hit.end && one.hit.category == hit.category;
        };
        const bool known = std::any_of(found_.begin() + static_cast<std::ptrdiff_t>(before), found_.end(), same);
        if (!known) found_.push_back({hit, false, false});
      });
    }
    node = list_->index().child(node, symbols[i + 1]);
  }
  return true;
}

// Walks from one candidate after the other. Returns the first from which symbols have to be taken one by one.
std::size_t KeywordScanner::walk(const Block& block, std::size_t next, std::vector<KeywordHit>& found) {
  std::array<KeywordIndex::Start, KeywordIndex::kTogether> starts;
  const auto candidates = block.all_candidates();
  for (std::size_t first = next; next < candidates.size(); ++next) {
    if (next == first || next == first + starts.size()) {
      first = next;
      list_->index().start(block.all_symbols(),
                           candidates.subspan(next, std::min(starts.size(), candidates.size() - next)), starts);
    }
    const std::size_t at = candidates[next].place;
    if (!walk_from(block, at, starts[next - first])) break;
    if (found_.size() >= kMostUndecided) decide(found, block.begin(at + 1));
  }
  return next;
}

// The symbols of the first bytes, with where they are; returns how many bytes.
std::size_t KeywordScanner::read(std::string_view bytes, Block& block) {
  Symbol* const symbols = block.symbols.data();
  Block::Place* const places = block.places.data();
  const std::uint64_t origin = stream_.taken();
  std::size_t count = 0, used = 0;
  while (used < std::min(bytes.size(), kBlockBytes) && count + Block::kMostOfPart <= Block::kMost) {
    std::size_t size = std::min(kPartBytes, bytes.size() - used);
    // Cut where a character begins, if they are characters.
    while (size > kPartBytes - 4 && used + size < bytes.size() && continues_character(bytes[used + size])) --size;
    stream_.push(bytes.substr(used, size), [&](Symbol symbol, std::uint64_t begin, std::uint64_t end) {
      symbols[count] = symbol;
      places[count++] = {static_cast<std::uint32_t>(begin - origin), static_cast<std::uint32_t>(end - origin)};
    });
    used += size;
  }
  block.origin = origin;
  block.count = count;
  return used;
}

std::size_t KeywordScanner::push_block(std::string_view bytes, std::vector<KeywordHit>& found) {
  Block& block = Block::of_this_thread();
  const std::size_t used = read(bytes, block), count = block.count;
  const auto symbols = block.all_symbols();
  block.candidate_count = list_->filter().candidates(symbols, before_, block.candidates.data());
  const auto candidates = block.all_candidates();
  std::size_t next = 0;
  // A letter at the end of the last block may stand alone.
  bool live = text_.node != KeywordIndex::kRoot || letter_.bits != 0 || is_live(block, 0, next);
  for (std::size_t at = 0; at < count; ++at) {
    if (!live) {
      text_.node = KeywordIndex::kRoot;
      leave_spaced();
      next = walk(block, next, found);
      const std::size_t on = next < candidates.size() ? candidates[next].place : count;
      if (on > at) before_ = symbols[on - 1];
      if (on == count) break;
      at = on;
    }
    take(symbols[at], block.begin(at), block.end(at));
    if (found_.size() >= kMostUndecided) decide(found, block.begin(at));
    live = is_live(block, at + 1, next);
  }
  return used;
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
  list_->index().each_end(way.node, [&](std::uint32_t symbols, const KeywordIndex::End& one) {
    if (symbols < shortest) return;
    const KeywordHit hit{way.start(symbols), end, one.category, one.keyword};
    // The longest comes first: a shorter one of its category that ends here is a part of it.
    const auto covers = [&](const Found& other) {
      return other.hit.end == hit.end && other.hit.category == hit.category && other.hit.begin <= hit.begin &&
             other.waits == waits;
    };
    for (auto other = found_.rbegin(); other != found_.rend() && other->hit.end == end; ++other)
      if (covers(*other)) return;
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
  const auto place = [](const Found& one) {
    return std::tuple(one.hit.begin, ~one.hit.end, one.hit.category, one.hit.keyword);
  };
  std::sort(found_.begin(), found_.end(), [&](const Found& a, const Found& b) { return place(a) < place(b); });
  for (Found& one : found_) {
    if (one.decided || one.waits || one.hit.begin >= open) continue;
    one.decided = true;
    if (one.hit.category != KeywordList::kExcept && !is_hidden(one)) found.push_back(one.hit);
  }
  std::erase_if(found_, [&](const Found& one) { return one.decided && one.hit.end <= open; });
}

}  // namespace qw::governance
