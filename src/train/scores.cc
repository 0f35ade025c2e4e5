#include "train/scores.h"

#include <algorithm>
#include <cmath>

namespace qw::train {

ScoreLoss reward_loss(const RewardConfig& config, std::span<const float, 2> scores, double asked_margin,
                      std::span<double, 2> d_scores) {
  const auto w = static_cast<double>(scores[0]), l = static_cast<double>(scores[1]);
  const double x = w - l - asked_margin, sum = w + l;
  const double wrong = x >= 0 ? std::exp(-x) / (1 + std::exp(-x)) : 1 / (1 + std::exp(x));  // s(-x)
  const double pull = 2 * config.center * sum;
  d_scores[0] = -wrong + pull;
  d_scores[1] = wrong + pull;
  return {std::log1p(std::exp(-std::abs(x))) - std::min(x, 0.0) + config.center * sum * sum, w > l, w - l};
}

ScoreLoss class_loss(std::span<const float> scores, std::int64_t wanted, std::span<double> d_scores) {
  const auto own = static_cast<std::size_t>(wanted);
  const auto most = static_cast<double>(*std::max_element(scores.begin(), scores.end()));
  double sum = 0, other = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const auto x = static_cast<double>(scores[i]);
    d_scores[i] = std::exp(x - most);
    sum += d_scores[i];
    if (i != own) other = std::max(other, x);
  }
  for (double& d : d_scores) d /= sum;
  d_scores[own] -= 1;
  const auto x = static_cast<double>(scores[own]);
  return {std::log(sum) - (x - most), x > other, x - other};
}

}  // namespace qw::train
