// Selecting candidates from a row of logits without sorting it. "More likely" means higher logit, then lower id.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/sampler.h"

namespace qw::sampling::internal {

inline bool more_likely(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

struct RowScan {
  float max = 0;        // -infinity when all are forbidden
  bool valid = true;    // no NaN and no +infinity
};
RowScan scan(std::span<const float> logits);

// First id whose logit equals `value`, which must occur.
TokenId first_equal(std::span<const float> logits, float value);

// The k most likely (fewer if the row has fewer allowed ones), most likely first. -infinity is never selected.
void select_top_k(std::span<const float> logits, std::int64_t k, std::vector<Candidate>& out);

// All with logit >= threshold (and > -infinity), by ascending id.
void select_at_least(std::span<const float> logits, float threshold, std::vector<Candidate>& out);

// Shrinks `candidates` (any order, weights set) to the shortest most-likely prefix whose weight reaches top_p times
// the total; at least one stays.
void keep_top_p(std::vector<Candidate>& candidates, double top_p, double total);

}  // namespace qw::sampling::internal
