#include "governance/assess/statistics.h"

#include <algorithm>
#include <cmath>

namespace qw::governance {
namespace {

constexpr double kNormal95 = 1.959963984540054;
constexpr int kHalvings = 60;  // of [0, 1]: below the last bit of a double's share

double log_binomial(std::int64_t n, std::int64_t k) {
  const auto nd = static_cast<double>(n), kd = static_cast<double>(k);
  return std::lgamma(nd + 1) - std::lgamma(kd + 1) - std::lgamma(nd - kd + 1);
}

// P(X <= k) of n draws that hit with probability p, 0 < p < 1.
double at_most(std::int64_t k, std::int64_t n, double p) {
  double sum = 0;
  for (std::int64_t i = 0; i <= k; ++i)
    sum += std::exp(log_binomial(n, i) + static_cast<double>(i) * std::log(p) +
                    static_cast<double>(n - i) * std::log1p(-p));
  return std::min(sum, 1.0);
}

// Where a falling function of [0, 1] crosses `level`.
template <class F>
double crossing(F f, double level) {
  double low = 0, high = 1;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (low + high) / 2;
    (f(middle) > level ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace

Interval wilson(std::int64_t hits, std::int64_t n) {
  if (n <= 0) return {};
  const auto nd = static_cast<double>(n);
  const double p = static_cast<double>(hits) / nd, z2 = kNormal95 * kNormal95;
  const double centre = (p + z2 / (2 * nd)) / (1 + z2 / nd);
  const double half = kNormal95 / (1 + z2 / nd) * std::sqrt(p * (1 - p) / nd + z2 / (4 * nd * nd));
  return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

Interval clopper_pearson(std::int64_t hits, std::int64_t n) {
  if (n <= 0) return {};
  Interval out;
  // The least share of which so many hits or more are seen in 2.5 %, and the greatest of which so few are.
  if (hits > 0) out.low = crossing([&](double p) { return at_most(hits - 1, n, p); }, 0.975);
  if (hits < n) out.high = crossing([&](double p) { return at_most(hits, n, p); }, 0.025);
  return out;
}

bool is_extreme(std::int64_t hits, std::int64_t n) { return hits < 5 || n - hits < 5; }

double mcnemar_p(std::int64_t better, std::int64_t worse) {
  const std::int64_t n = better + worse;
  double p = 0;
  for (std::int64_t k = 0; k <= std::min(better, worse); ++k)
    p += std::exp(log_binomial(n, k) - static_cast<double>(n) * std::log(2.0));
  return std::min(1.0, 2 * p);
}

Agreement agreement(std::span<const std::pair<bool, bool>> said) {
  Agreement out;
  std::int64_t first = 0, second = 0;
  for (const auto& [a, b] : said) {
    ++out.items;
    out.same += a == b;
    first += a;
    second += b;
  }
  if (out.items == 0) return out;
  const auto n = static_cast<double>(out.items);
  const double seen = static_cast<double>(out.same) / n, a = static_cast<double>(first) / n,
               b = static_cast<double>(second) / n;
  const double by_chance = a * b + (1 - a) * (1 - b);
  out.kappa = by_chance < 1 ? (seen - by_chance) / (1 - by_chance) : 1;
  return out;
}

}  // namespace qw::governance
