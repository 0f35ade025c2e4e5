#include "train/distill.h"

#include <algorithm>
#include <cmath>

namespace qw::train {
namespace {

double log_sum_exp(std::span<const float> x, float by) {
  const float most = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(std::exp((v - most) * by));
  return std::log(sum) + static_cast<double>(most * by);
}

// Of one token: its part of the divergence, and the derivative of all of it by s.
struct Part {
  double loss, slope;
};

Part part(const DistillConfig& c, double log_s, double log_t) {
  switch (c.divergence) {
    case Divergence::kForward: {
      const double t = std::exp(log_t);
      return {t * (log_t - log_s), -std::exp(log_t - log_s)};
    }
    case Divergence::kReverse: {
      const double s = std::exp(log_s);
      return {s * (log_s - log_t), log_s - log_t};  // + 1, which the softmax takes out again
    }
    case Divergence::kJsd: {
      const double s = std::exp(log_s), t = std::exp(log_t), m = c.beta * t + (1 - c.beta) * s;
      if (m == 0) return {0, 0};
      const double log_m = std::log(m);
      return {c.beta * t * (log_t - log_m) + (1 - c.beta) * s * (log_s - log_m), (1 - c.beta) * (log_s - log_m)};
    }
  }
  return {};
}

}  // namespace

double distill_loss(const DistillConfig& c, std::span<float> student, std::span<float> teacher, std::int64_t label) {
  const auto by = static_cast<float>(1 / c.temperature);
  const double norm_s = log_sum_exp(student, by), norm_t = log_sum_exp(teacher, by);
  double hard_norm = 0, hard = 0;
  if (c.hard > 0) {
    hard_norm = log_sum_exp(student, 1);
    hard = c.hard * (hard_norm - static_cast<double>(student[static_cast<std::size_t>(label)]));
  }
  double loss = 0, mean_slope = 0;
  for (std::size_t i = 0; i < student.size(); ++i) {
    const double log_s = static_cast<double>(student[i] * by) - norm_s;
    const Part p = part(c, log_s, static_cast<double>(teacher[i] * by) - norm_t);
    loss += p.loss;
    // Of the forward divergence s times the slope is -t whatever s is; the product would lose it where s is 0.
    const double pull = c.divergence == Divergence::kForward ? -std::exp(static_cast<double>(teacher[i] * by) - norm_t)
                                                             : std::exp(log_s) * p.slope;
    teacher[i] = static_cast<float>(pull);
    mean_slope += pull;
  }
  const double soft = 1 - c.hard;
  for (std::size_t i = 0; i < student.size(); ++i) {
    const double s = std::exp(static_cast<double>(student[i] * by) - norm_s);
    double d = soft / c.temperature * (static_cast<double>(teacher[i]) - s * mean_slope);
    if (c.hard > 0) d += c.hard * std::exp(static_cast<double>(student[i]) - hard_norm);
    student[i] = static_cast<float>(d);
  }
  if (c.hard > 0) student[static_cast<std::size_t>(label)] -= static_cast<float>(c.hard);
  return soft * loss + hard;
}

json::Object to_json(const DistillConfig& c) {
  static constexpr const char* kNames[] = {"forward", "reverse", "jsd"};
  json::Object o;
  o.set("divergence", kNames[static_cast<std::size_t>(c.divergence)]);
  o.set("temperature", c.temperature);
  o.set("beta", c.beta);
  o.set("hard", c.hard);
  return o;
}

}  // namespace qw::train
