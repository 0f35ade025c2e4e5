#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "sampling/internal/select.h"

namespace qw::sampling::internal {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Elements looked at together: the compiler turns a chunk into a few vector compares, and almost every chunk of a
// real row holds nothing above the threshold.
constexpr std::size_t kChunk = 32;

bool any_at_least(const float* x, float threshold) {
  unsigned any = 0;
  for (std::size_t j = 0; j < kChunk; ++j) any |= static_cast<unsigned>(x[j] >= threshold);
  return any != 0;
}

// Calls visit(logit, id) for every logit >= threshold() in ascending id; threshold() may rise on the way.
template <class Threshold, class Visit>
void visit_at_least(std::span<const float> logits, Threshold threshold, Visit visit) {
  const std::size_t n = logits.size();
  for (std::size_t begin = 0; begin < n; begin += kChunk) {
    const std::size_t end = std::min(n, begin + kChunk);
    if (end - begin == kChunk && !any_at_least(logits.data() + begin, threshold())) continue;
    for (std::size_t i = begin; i < end; ++i)
      if (logits[i] >= threshold()) visit(logits[i], static_cast<TokenId>(i));
  }
}

// The smallest float which is not -infinity: what is forbidden never passes this threshold.
constexpr float kAnyAllowed = std::numeric_limits<float>::lowest();

}  // namespace

RowScan scan(std::span<const float> logits) {
  std::array<float, kChunk> max;
  max.fill(-kInf);
  unsigned bad = 0;
  const std::size_t whole = logits.size() / kChunk * kChunk;
  for (std::size_t begin = 0; begin < whole; begin += kChunk) {
    const float* x = logits.data() + begin;
    for (std::size_t j = 0; j < kChunk; ++j) {
      max[j] = max[j] < x[j] ? x[j] : max[j];
      bad |= static_cast<unsigned>(!(x[j] < kInf));  // true for NaN and +infinity
    }
  }
  for (std::size_t i = whole; i < logits.size(); ++i) {
    max[0] = max[0] < logits[i] ? logits[i] : max[0];
    bad |= static_cast<unsigned>(!(logits[i] < kInf));
  }
  return {*std::max_element(max.begin(), max.end()), bad == 0};
}

TokenId first_equal(std::span<const float> logits, float value) {
  const auto it = std::find(logits.begin(), logits.end(), value);
  QW_CHECK(it != logits.end());
  return static_cast<TokenId>(it - logits.begin());
}

void select_top_k(std::span<const float> logits, std::int64_t k, std::vector<Candidate>& out) {
  out.clear();
  const auto keep = static_cast<std::size_t>(std::min<std::int64_t>(k, static_cast<std::int64_t>(logits.size())));
  if (keep == 0) return;
  // The list is cut back to k whenever it has grown to this; the k-th logit then becomes the threshold. Four times k
  // makes the cuts rare and keeps the list in the first-level cache for the usual k.
  const std::size_t limit = std::max<std::size_t>(4 * keep, 256);
  float threshold = kAnyAllowed;
  visit_at_least(
      logits, [&] { return threshold; },
      [&](float logit, TokenId id) {
        out.push_back({logit, id, 0});
        if (out.size() < limit) return;
        const auto kth = out.begin() + static_cast<std::ptrdiff_t>(keep - 1);
        std::nth_element(out.begin(), kth, out.end(), more_likely);
        // Later ids lose ties, so only a larger logit can still enter.
        threshold = std::nextafter(kth->logit, kInf);
        out.resize(keep);
      });
  const std::size_t kept = std::min(keep, out.size());
  std::partial_sort(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(kept), out.end(), more_likely);
  out.resize(kept);
}

void select_at_least(std::span<const float> logits, float threshold, std::vector<Candidate>& out) {
  out.clear();
  const float least = std::max(threshold, kAnyAllowed);
  visit_at_least(
      logits, [least] { return least; }, [&](float logit, TokenId id) { out.push_back({logit, id, 0}); });
}

void keep_top_p(std::vector<Candidate>& candidates, double top_p, double total) {
  const double wanted = top_p * total;
  double mass = 0;
  std::size_t sorted = 0;
  // Sorts the list piece by piece; a nucleus is mostly a few tokens, so the first piece usually is enough.
  for (std::size_t piece = 64; sorted < candidates.size(); piece *= 4) {
    const std::size_t end = std::min(candidates.size(), sorted + piece);
    const auto first = candidates.begin() + static_cast<std::ptrdiff_t>(sorted);
    const auto last = candidates.begin() + static_cast<std::ptrdiff_t>(end);
    std::partial_sort(first, last, candidates.end(), more_likely);
    for (; sorted < end; ++sorted) {
      mass += candidates[sorted].weight;
      if (mass >= wanted) return candidates.resize(sorted + 1);
    }
  }
}

}  // namespace qw::sampling::internal
