// PieceScanner::marks: the pre-tokenisers' regex on 64 bytes at once, by operations on their bits. A shift by one to
// the left asks what the byte before is, an addition runs along bits that stand together.
#include <bit>

#include "base/utf8.h"
#include "tokenizer/internal/pre_tokenizer.h"

namespace qw::tokenizer {
namespace {

using Bits = std::uint64_t;

Bits bit(int at) { return Bits{1} << at; }
// The bits below `at`, which is less than 64.
Bits below(int at) { return bit(at) - 1; }

// Moves each bit to the beginning of the next character; `begins` are the beginnings of characters of 1 to 4 bytes.
Bits to_next_char(Bits bits, Bits begins) {
  Bits found = 0;
  for (int i = 0; i < 4; ++i) {
    bits <<= 1;
    found |= bits & begins;
    bits &= ~begins;
  }
  return found;
}

// Moves each bit, of a byte of a character of 1 to 3 bytes, to the beginning of that character.
Bits to_char_begin(Bits bits, Bits begins) {
  Bits found = 0;
  for (int i = 0; i < 3; ++i) {
    found |= bits & begins;
    bits = (bits & ~begins) >> 1;
  }
  return found;
}

// Of the runs of `set` that begin at the bits of `starts`, those that end neither in front of a bit of `stops` nor at
// `end`.
Bits without_runs_into(Bits starts, Bits set, Bits stops, int end) {
  const Bits ends = (starts + set) & ~set;
  for (Bits bad = ends & (stops | ~below(end)); bad != 0; bad &= bad - 1) {
    const Bits before = starts & below(std::countr_zero(bad));
    starts &= ~std::bit_floor(before);
  }
  return starts;
}

}  // namespace

// Takes the character of several bytes at `at`; returns how many, 0 if it is none or is cut off.
int PieceScanner::put_wide_char(int at, Kinds& kinds) const {
  const base::Utf8Char c = base::utf8_at({at_, kMarkBytes}, static_cast<std::size_t>(at));
  if (c.code == base::kInvalidCode) return 0;
  const auto size = static_cast<int>(c.size);
  const Bits bytes = below(size) << at;
  switch (tables_->class_of(c.code)) {
    case CharClass::kLetter:
      kinds.words |= bytes;
      break;
    case CharClass::kMark:
      if (marks_join_) kinds.words |= bytes;
      break;
    case CharClass::kNumber:
      kinds.numbers |= bytes;
      break;
    case CharClass::kSpace:
      kinds.spaces |= bytes;
      break;
    case CharClass::kOther:
      break;
  }
  if (size == 3) kinds.threes |= bit(at);
  return size;
}

PieceScanner::Kinds PieceScanner::kinds_of(const ByteMasks& bytes) const {
  // The last byte is never told, so that no run reaches the end of the word.
  Kinds kinds{bytes.letters, bytes.digits, bytes.spaces, 0, static_cast<int>(kMarkBytes) - 1};
  if (bytes.wide == 0) return kinds;
  const Bits han = bytes.han & (bytes.follow >> 1) & (bytes.follow >> 2);
  Bits known = han | (han << 1) | (han << 2);
  kinds.words |= known;
  kinds.threes = han;
  for (Bits rest = bytes.wide & ~bytes.follow & ~known; rest != 0; rest &= rest - 1) {
    const int at = std::countr_zero(rest), size = put_wide_char(at, kinds);
    if (size == 0) {
      kinds.end = at;
      break;
    }
    known |= below(size) << at;
  }
  // Bytes that go on a character and belong to none.
  if (const Bits lost = bytes.follow & ~known; lost != 0) kinds.end = std::min(kinds.end, std::countr_zero(lost));
  return kinds;
}

PieceScanner::Marks PieceScanner::marks() const {
  const ByteMasks bytes = ByteMasks::of(at_);
  const Kinds kinds = kinds_of(bytes);
  const Bits told = below(kinds.end), begins = ~bytes.follow;
  const Bits words = kinds.words & told, numbers = kinds.numbers & told;
  const Bits others = told & ~(words | numbers | kinds.spaces);
  // Newlines right behind others belong to their piece; all other white space is divided by itself.
  const Bits newlines = bytes.newlines & told, behind = newlines & (others << 1);
  const Bits space = kinds.spaces & told & ~(newlines & ~(behind + newlines));
  Bits starts = (numbers & begins) | (space & ~(space << 1));
  // The last of a run of white space goes to the next piece, or alone, unless it is a newline.
  const Bits space_ends = ~space & (space << 1) & told;
  const Bits last = (space_ends >> 1) & ~newlines;
  starts |= bytes.wide == 0 ? last : to_char_begin(last, begins);
  // So a piece begins behind its last newline, too.
  const Bits flat = space & ~newlines;
  if (const Bits after = flat & (newlines << 1) & (space << 1); after != 0) {
    starts |= without_runs_into(after, flat, newlines, kinds.end);
  }
  // Others take a blank in front; a word takes what is not a number or newline, if a piece begins with it.
  const Bits other_starts = others & ~(others << 1) & ~(bytes.blanks << 1);
  const Bits word_starts = words & ~(words << 1);
  const Bits second = bytes.wide == 0 ? other_starts << 1 : to_next_char(other_starts, begins);
  starts |= other_starts | (word_starts & ~second & ~(flat << 1)) | 1;
  // 's and the like are a piece of their own.
  for (Bits quotes = other_starts & bytes.apostrophes & (word_starts >> 1); quotes != 0; quotes &= quotes - 1) {
    const int at = std::countr_zero(quotes);
    if (at + 4 > kinds.end) {
      starts &= below(at + 1);
      break;
    }
    const auto size = static_cast<int>(contraction_end(at_ + at) - (at_ + at));
    if (size != 0) starts |= bit(at + size);
  }
  return {starts, words, kinds.threes & told};
}

}  // namespace qw::tokenizer
