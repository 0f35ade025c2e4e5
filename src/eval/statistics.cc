#include "eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/result.h"
#include "base/rng.h"

namespace qw::eval {
namespace {

constexpr double kNormal95 = 1.959963984540054;
constexpr int kDraws = 10'000;

double sum(std::span<const double> values) { return std::accumulate(values.begin(), values.end(), 0.0); }

// An estimate of ln of the value, turned.
Estimate exponential(const Estimate& e) {
  Estimate out;
  out.value = std::exp(-e.value);
  out.stderr_ = out.value * e.stderr_;
  out.low = std::exp(-e.value - kNormal95 * e.stderr_);
  out.high = std::exp(-e.value + kNormal95 * e.stderr_);
  return out;
}

Estimate with_interval(double value, double error) {
  return {value, error, value - kNormal95 * error, value + kNormal95 * error};
}

// Two-sided: how likely a fair coin falls as unevenly as this.
double sign_test(std::int64_t better, std::int64_t worse) {
  const std::int64_t n = better + worse, fewer = std::min(better, worse);
  double p = 0;
  for (std::int64_t k = 0; k <= fewer; ++k) {
    const auto kd = static_cast<double>(k), nd = static_cast<double>(n);
    p += std::exp(std::lgamma(nd + 1) - std::lgamma(kd + 1) - std::lgamma(nd - kd + 1) - nd * std::log(2.0));
  }
  return std::min(1.0, 2 * p);
}

}  // namespace

Estimate mean_of(std::span<const double> values, double least, double most) {
  if (values.empty()) return {};
  const auto n = static_cast<double>(values.size());
  const double mean = sum(values) / n;
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  const double error = values.size() < 2 ? 0 : std::sqrt(squares / (n - 1) / n);
  Estimate out = with_interval(mean, error);
  out.low = std::max(out.low, least);
  out.high = std::min(out.high, most);
  return out;
}

Estimate perplexity_of(std::span<const double> log_likelihoods) {
  return exponential(mean_of(log_likelihoods, -HUGE_VAL, HUGE_VAL));
}

Estimate ratio_of(std::span<const double> values, std::span<const double> weights) {
  QW_CHECK(values.size() == weights.size());
  const double total = sum(weights);
  if (!(total > 0)) return {};
  const double ratio = sum(values) / total;
  double squares = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double off = values[i] - ratio * weights[i];
    squares += off * off;
  }
  const auto n = static_cast<double>(values.size());
  return with_interval(ratio, values.size() < 2 ? 0 : std::sqrt(squares * n / (n - 1)) / total);
}

Estimate ratio_perplexity_of(std::span<const double> log_likelihoods, std::span<const double> weights) {
  return exponential(ratio_of(log_likelihoods, weights));
}

PairedEstimate compare(std::span<const double> a, std::span<const double> b) {
  QW_CHECK(!a.empty() && a.size() == b.size());
  PairedEstimate out;
  std::vector<double> differences(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    differences[i] = b[i] - a[i];
    out.better += differences[i] > 0;
    out.worse += differences[i] < 0;
  }
  const auto n = static_cast<double>(a.size());
  out.difference = sum(differences) / n;
  out.p = sign_test(out.better, out.worse);
  base::Rng rng(1234);
  std::vector<double> means(kDraws);
  for (double& mean : means) {
    double total = 0;
    for (std::size_t i = 0; i < a.size(); ++i) total += differences[rng.below(a.size())];
    mean = total / n;
  }
  std::sort(means.begin(), means.end());
  out.low = means[static_cast<std::size_t>(kDraws * 0.025)];
  out.high = means[static_cast<std::size_t>(kDraws * 0.975) - 1];
  return out;
}

}  // namespace qw::eval
