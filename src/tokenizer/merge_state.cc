#include "tokenizer/internal/merge_state.h"

#include <algorithm>
#include <numeric>

namespace qw::tokenizer {

MergeState::MergeState(const PieceCounter& pieces, const std::vector<TokenId>& byte_ids) {
  for (const TokenId id : byte_ids) set_length(id, 1);
  lay_out(pieces, byte_ids);
  count_pairs();
}

void MergeState::set_length(TokenId id, std::uint32_t bytes) {
  if (lengths_.size() <= static_cast<std::size_t>(id)) lengths_.resize(static_cast<std::size_t>(id) + 1);
  lengths_[static_cast<std::size_t>(id)] = bytes;
}

void MergeState::lay_out(const PieceCounter& pieces, const std::vector<TokenId>& byte_ids) {
  std::vector<std::uint32_t> order(pieces.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return pieces.count(a) > pieces.count(b); });
  symbols_.reserve(pieces.bytes() + pieces.size() + 1);
  symbols_.push_back(kNone);
  for (const std::uint32_t i : order) {
    for (const char c : pieces.piece(i)) symbols_.push_back(byte_ids[static_cast<unsigned char>(c)]);
    symbols_.push_back(kNone);
    if (weights_.empty() || weights_.back() != pieces.count(i)) {
      weights_.push_back(pieces.count(i));
      until_.push_back(0);
    }
    until_.back() = static_cast<std::uint32_t>(symbols_.size());
  }
}

// First counts, so that the lists of places, the largest part of the memory, are allocated once and exactly.
void MergeState::count_pairs() {
  PairMap<std::uint32_t> numbers(1 << 14);
  const auto n = static_cast<std::uint32_t>(symbols_.size());
  for (std::uint32_t at = 0; at + 1 < n; ++at) {
    if (symbols_[at] != kNone && symbols_[at + 1] != kNone) ++numbers[pair_key(symbols_[at], symbols_[at + 1])];
  }
  std::vector<std::uint32_t> grown;
  for (std::uint32_t at = 0; at + 1 < n; ++at) {
    const TokenId left = symbols_[at], right = symbols_[at + 1];
    if (left == kNone || right == kNone) continue;
    Pair& pair = pairs_[pair_index(left, right)];
    if (pair.places.empty()) pair.places.reserve(*numbers.find(pair_key(left, right)));
    pair.places.push_back(at);
    pair.count += weight_at(at);
  }
}

std::int64_t MergeState::weight_at(std::uint32_t place) const {
  const auto at = std::upper_bound(until_.begin(), until_.end(), place);
  return weights_[static_cast<std::size_t>(at - until_.begin())];
}

std::uint32_t MergeState::pair_index(TokenId left, TokenId right) {
  std::uint32_t& number = index_[pair_key(left, right)];
  if (number == 0) {
    pairs_.push_back({left, right, 0, {}, false});
    number = static_cast<std::uint32_t>(pairs_.size());
  }
  return number - 1;
}

void MergeState::remove(TokenId left, TokenId right, std::int64_t weight) {
  pairs_[pair_index(left, right)].count -= weight;
}

void MergeState::insert(TokenId left, TokenId right, std::int64_t weight, std::uint32_t place,
                        std::vector<std::uint32_t>& grown) {
  const std::uint32_t index = pair_index(left, right);
  Pair& pair = pairs_[index];
  pair.count += weight;
  pair.places.push_back(place);
  if (!pair.touched) {
    pair.touched = true;
    grown.push_back(index);
  }
}

void MergeState::merge(std::uint32_t pair, TokenId to, std::vector<std::uint32_t>& grown) {
  const TokenId left = pairs_[pair].left, right = pairs_[pair].right;
  std::vector<std::uint32_t> places;
  places.swap(pairs_[pair].places);
  // Places come in order, except when two pairs make the same token and their merges listed a third pair in turns.
  if (!std::is_sorted(places.begin(), places.end())) std::sort(places.begin(), places.end());
  const std::uint32_t left_bytes = lengths_[static_cast<std::size_t>(left)];
  const std::uint32_t bytes = left_bytes + lengths_[static_cast<std::size_t>(right)];
  for (const std::uint32_t at : places) {
    const std::uint32_t middle = at + left_bytes, end = at + bytes;
    if (symbols_[at] != left || symbols_[middle] != right) continue;
    const std::int64_t weight = weight_at(at);
    const TokenId before = symbols_[at - 1], after = symbols_[end];
    symbols_[middle - 1] = symbols_[middle] = kNone;
    symbols_[at] = symbols_[end - 1] = to;
    if (before != kNone) {
      remove(before, left, weight);
      insert(before, to, weight, at - lengths_[static_cast<std::size_t>(before)], grown);
    }
    if (after != kNone) {
      remove(right, after, weight);
      insert(to, after, weight, at, grown);
    }
  }
  pairs_[pair].count = 0;
  for (const std::uint32_t index : grown) pairs_[index].touched = false;
}

}  // namespace qw::tokenizer
