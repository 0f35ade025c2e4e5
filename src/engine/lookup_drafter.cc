#include "engine/lookup_drafter.h"

#include <algorithm>
#include <iterator>

namespace qw::engine {
namespace {

// Kinds of guesses by the length of the ending that recurred. The shares are what quoting texts show; they matter until
// the first few guesses of a kind are verified.
struct Kind {
  std::int64_t length;
  double acceptance;
};
constexpr Kind kKinds[] = {{3, 0.4}, {4, 0.55}, {6, 0.7}, {10, 0.8}, {20, 0.9}};

std::int32_t kind_of(std::int64_t length) {
  std::int32_t kind = 0;
  while (kind + 1 < static_cast<std::int32_t>(std::size(kKinds)) && length >= kKinds[kind + 1].length) ++kind;
  return kind;
}

constexpr int kFirstBits = 8;

}  // namespace

std::size_t SuffixIndex::slot(const TokenId* last) const {
  std::uint64_t hash = 0;
  for (std::int64_t i = 0; i < kGram; ++i)
    hash = (hash + static_cast<std::uint64_t>(last[-i]) + 1) * 0x9E3779B97F4A7C15u;
  return static_cast<std::size_t>(hash >> (64 - bits_));
}

void SuffixIndex::add(std::span<const TokenId> tokens, std::int64_t position) {
  std::int32_t& head = heads_[slot(tokens.data() + position)];
  previous_.push_back(head);
  head = static_cast<std::int32_t>(position);
}

// Makes room for `size` tokens; what was indexed is indexed anew.
void SuffixIndex::grow(std::span<const TokenId> tokens, std::int64_t size) {
  if (bits_ == 0) bits_ = kFirstBits;
  while ((std::int64_t{1} << bits_) < size) ++bits_;
  const std::size_t indexed = previous_.size();
  heads_.assign(std::size_t{1} << bits_, -1);
  previous_.clear();
  previous_.reserve(heads_.size());
  for (std::size_t p = 0; p < indexed; ++p) {
    if (p + 1 < static_cast<std::size_t>(kGram)) {
      previous_.push_back(-1);
    } else {
      add(tokens, static_cast<std::int64_t>(p));
    }
  }
}

SuffixIndex::Match SuffixIndex::find(std::span<const TokenId> tokens) {
  const auto n = static_cast<std::int64_t>(tokens.size());
  Match best;
  if (n < kGram + 1) return best;
  if (n > static_cast<std::int64_t>(heads_.size())) grow(tokens, n);
  while (static_cast<std::int64_t>(previous_.size()) < n - 1) {  // all but the last, which is what is sought
    const auto p = static_cast<std::int64_t>(previous_.size());
    if (p < kGram - 1) {
      previous_.push_back(-1);
    } else {
      add(tokens, p);
    }
  }
  std::int32_t at = heads_[slot(tokens.data() + n - 1)];
  for (std::int64_t seen = 0; at >= 0 && seen < kCandidates; ++seen, at = previous_[static_cast<std::size_t>(at)]) {
    std::int64_t length = 0;
    while (length < kLongest && length <= at &&
           tokens[static_cast<std::size_t>(at - length)] == tokens[static_cast<std::size_t>(n - 1 - length)])
      ++length;
    if (length >= kGram && length > best.length) best = {at, length};
    if (length == kLongest) break;
  }
  return best;
}

std::int32_t LookupDrafter::confidences() const { return static_cast<std::int32_t>(std::size(kKinds)); }
double LookupDrafter::expected_acceptance(std::int32_t confidence) const { return kKinds[confidence].acceptance; }

Status LookupDrafter::propose(std::span<DraftJob> jobs) {
  for (DraftJob& job : jobs) {
    const std::span<const TokenId> tokens = job.sampler->tokens();
    const SuffixIndex::Match match = indexes_[job.request].find(tokens);
    if (match.end < 0) continue;
    job.confidence = kind_of(match.length);
    const std::size_t n = tokens.size();
    for (std::int64_t i = 0; i < job.most;
         ++i) {  // what recurs at a short distance goes round: the guess quotes itself
      const auto from = static_cast<std::size_t>(match.end + 1 + i);
      job.tokens->push_back(from < n ? tokens[from] : (*job.tokens)[from - n]);
    }
  }
  return {};
}

}  // namespace qw::engine
