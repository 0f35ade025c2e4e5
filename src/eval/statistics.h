// Means and how sure they are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace qw::eval {

struct Estimate {
  double value = 0;
  double stderr_ = 0;        // 0 where one value was all
  double low = 0, high = 0;  // 95 %
};

// The mean, and the sample's standard deviation over sqrt(n), as lm-evaluation-harness reports them. The interval
// is 1.96 of these to either side, cut at `least` and `most`.
Estimate mean_of(std::span<const double> values, double least, double most);
// exp(-mean), with the error of the mean carried through exp; the interval is symmetric in the exponent.
Estimate perplexity_of(std::span<const double> log_likelihoods);
// sum of values / sum of weights, with the error of a ratio (each item deviates by value - ratio x weight).
Estimate ratio_of(std::span<const double> values, std::span<const double> weights);
// exp(-ratio), as perplexity_of.
Estimate ratio_perplexity_of(std::span<const double> log_likelihoods, std::span<const double> weights);

struct PairedEstimate {
  double difference = 0;               // mean of b - a
  double low = 0, high = 0;            // 95 %, by drawing the items again 10,000 times (always the same draws)
  std::int64_t better = 0, worse = 0;  // items where b is above a, below it
  double p = 1;  // of so lopsided a split of the changed items by chance (McNemar's exact test, two-sided)
};
// a and b: the same items in the same order, not empty.
PairedEstimate compare(std::span<const double> a, std::span<const double> b);

}  // namespace qw::eval
