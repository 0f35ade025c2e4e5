#include "governance/keywords/keyword_filter.h"

#include <algorithm>
#include <bit>

namespace qw::governance {
namespace {

// A larger one would leave the second-level cache for more than it saves.
constexpr int kMostBits = 24;
constexpr int kBitsAKeyword = 16;
constexpr std::size_t kSpacedReach = 4;  // signs between two letters that stand alone, and one more

bool is_word(Symbol symbol) { return symbol.kind() == SymbolKind::kWord; }

}  // namespace

KeywordFilter::KeywordFilter(std::span<const Symbol> symbols, std::span<const std::uint32_t> ends) {
  const auto wanted = static_cast<int>(std::bit_width(kBitsAKeyword * ends.size()));
  const int bits = std::clamp(wanted, 10, kMostBits);
  words_.assign(std::size_t{1} << (bits - 6), 0);
  shift_ = static_cast<std::uint32_t>(64 - (bits - 6));
  std::uint32_t begin = 0;
  for (const std::uint32_t end : ends) {
    add_keyword(symbols.subspan(begin, end - begin));
    begin = end;
  }
}

void KeywordFilter::add(Form form, std::uint64_t hash) {
  forms_[form] = true;
  words_[hash >> shift_] |= bits_of(hash);
}

// Whole words only are keywords, so every run of letters in one is a run in the text.
void KeywordFilter::add_keyword(std::span<const Symbol> keyword) {
  if (is_word(keyword[0])) {
    const WordRun first = word_at(keyword, 0);
    if (first.end == keyword.size()) return add(kWord, hash_of(kWord, first.hash));
    const std::uint32_t sign = keyword[first.end].bits;
    const std::size_t next = first.end + 1;
    if (next == keyword.size() || !is_word(keyword[next])) return add(kWordSign, hash_of(kWordSign, first.hash, sign));
    return add(kTwoWords, hash_of(kTwoWords, first.hash, sign, word_at(keyword, next).hash));
  }
  const auto bits = [&](std::size_t i) { return keyword[i].bits; };
  if (keyword.size() == 1) return add(kOne, hash_of(kOne, bits(0)));
  if (keyword.size() == 2) return add(kTwo, hash_of(kTwo, bits(0), bits(1)));
  add(kThree, hash_of(kThree, bits(0), bits(1), bits(2)));
}

KeywordFilter::WordRun KeywordFilter::word_at(std::span<const Symbol> text, std::size_t at) {
  std::uint64_t hash = 0;
  for (; at < text.size() && is_word(text[at]); ++at) hash = (hash ^ text[at].bits) * 0x9E3779B97F4A7C15;
  return {hash ^ hash >> 32, at};
}

bool KeywordFilter::word_may_begin(std::span<const Symbol> text, const WordRun& word, const WordRun& next) const {
  const std::uint32_t sign = text[word.end].bits;
  return has(kWord, word.hash) || has(kWordSign, word.hash, sign) ||
         (next.end > word.end + 1 && has(kTwoWords, word.hash, sign, next.hash));
}

// From `at` on, where no letter stands, up to the next one, which it returns. No branch on what the table says: which
// symbols pass is as good as random, and the processor reads ahead as long as it need not guess.
std::size_t KeywordFilter::signs(std::span<const Symbol> text, std::size_t at, KeywordCandidate*& out) const {
  KeywordCandidate* to = out;
  for (const std::size_t known = text.size() - std::min<std::size_t>(2, text.size()); at < known; ++at) {
    if (is_word(text[at])) break;
    const std::uint32_t a = text[at].bits, b = text[at + 1].bits, c = text[at + 2].bits;
    const bool shorter = has(kTwo, a, b) | has(kOne, a);
    const bool passes = (shorter | has(kThree, a, b, c)) & (text[at].kind() != SymbolKind::kBlank);
    *to = {static_cast<std::uint32_t>(at), !shorter};
    to += passes ? 1 : 0;
  }
  // Behind them too little is known.
  for (; at < text.size() && !is_word(text[at]); ++at)
    if (at + 2 >= text.size() && text[at].kind() != SymbolKind::kBlank) *to++ = {static_cast<std::uint32_t>(at), false};
  out = to;
  return at;
}

std::size_t KeywordFilter::candidates(std::span<const Symbol> text, Symbol before, KeywordCandidate* out) const {
  const KeywordCandidate* const first = out;
  std::size_t at = 0;
  const auto found = [&] { *out++ = {static_cast<std::uint32_t>(at), false}; };
  if (is_word(before)) at = word_at(text, 0).end;  // no keyword begins inside a word
  WordRun word{0, at};                             // the one that begins at `word_begin`
  std::size_t word_begin = text.size();
  while (at < text.size()) {
    if (!is_word(text[at])) {
      at = signs(text, at, out);
      continue;
    }
    if (word_begin != at) word = word_at(text, at);
    const std::size_t end = word.end;
    const WordRun next = end + 1 < text.size() ? word_at(text, end + 1) : WordRun{0, text.size()};
    const bool alone = end == at + 1;
    // Up to here all is known that the answer depends on.
    if (next.end >= text.size() || (alone && end + kSpacedReach + 2 > text.size())) {
      found();
    } else if (word_may_begin(text, word, next)) {
      found();
    } else if (alone) {
      const auto near = text.subspan(end, kSpacedReach + 2);
      const auto letter = std::find_if(near.begin(), near.end(), is_word);
      if (letter != near.end() && letter + 1 != near.end() && !is_word(*(letter + 1))) found();
    }
    at = end;
    word_begin = end + 1;
    word = next;
  }
  return static_cast<std::size_t>(out - first);
}

}  // namespace qw::governance
