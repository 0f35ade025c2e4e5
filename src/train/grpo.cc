#include "train/grpo.h"

#include <algorithm>
#include <cmath>

namespace qw::train {
namespace {

constexpr double kLeastDeviation = 1e-4;  // added to the deviation of rewards, as TRL

double mean_difference(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) - static_cast<double>(b[i]);
  return sum / static_cast<double>(a.size());
}

}  // namespace

void grpo_advantages(GrpoAverage average, std::span<const double> rewards, std::span<double> advantages) {
  const auto n = static_cast<double>(rewards.size());
  double mean = 0, squares = 0;
  for (const double r : rewards) mean += r / n;
  for (const double r : rewards) squares += (r - mean) * (r - mean);
  const double by = average == GrpoAverage::kDrGrpo ? 1 : std::sqrt(squares / (n - 1)) + kLeastDeviation;
  for (std::size_t i = 0; i < rewards.size(); ++i) advantages[i] = (rewards[i] - mean) / by;
}

double grpo_token_weight(const GrpoConfig& config, std::int64_t tokens, std::int64_t answers, std::int64_t all_tokens) {
  switch (config.average) {
    case GrpoAverage::kDapo:
      return 1 / static_cast<double>(all_tokens);
    case GrpoAverage::kDrGrpo:
      return 1 / static_cast<double>(answers * config.max_tokens);
    case GrpoAverage::kGrpo:
    case GrpoAverage::kGspo:
      break;
  }
  return 1 / static_cast<double>(answers * tokens);
}

GrpoLoss grpo_loss(const GrpoConfig& config, const DrawnAnswer& answer, double token_weight,
                   std::span<const float> logprobs, std::span<double> d_logprobs) {
  const double a = answer.advantage, low = 1 - config.clip_low, high = 1 + config.clip_high;
  const bool whole = config.average == GrpoAverage::kGspo;
  const double of_answer = whole ? std::exp(mean_difference(logprobs, answer.old)) : 0;
  GrpoLoss out;
  for (std::size_t i = 0; i < logprobs.size(); ++i) {
    const auto logprob = static_cast<double>(logprobs[i]);
    const double ratio = whole ? of_answer : std::exp(logprob - static_cast<double>(answer.old[i]));
    const bool clipped = (a < 0 && ratio < low) || (a > 0 && ratio > high);
    double loss = -std::min(ratio * a, std::clamp(ratio, low, high) * a);
    // Of a whole answer's ratio each token has 1/n, n times.
    double d = clipped ? 0 : -ratio * a;
    if (config.beta > 0) {
      const double apart = static_cast<double>(answer.before[i]) - logprob, times = std::exp(apart);
      const double divergence = times - apart - 1;
      out.divergence += divergence;
      loss += config.beta * divergence;
      d += config.beta * (1 - times);
    }
    out.loss += token_weight * loss;
    out.clipped += clipped ? 1 : 0;
    d_logprobs[i] = token_weight * d;
  }
  return out;
}

json::Object to_json(const GrpoConfig& c) {
  static constexpr const char* kAverages[] = {"grpo", "dapo", "dr_grpo", "gspo"};
  static constexpr const char* kChecks[] = {"number", "exact", "regex", "json_schema", "program", "overlong"};
  json::Object o;
  o.set("average", kAverages[static_cast<std::size_t>(c.average)]);
  o.set("group", c.group);
  o.set("max_tokens", c.max_tokens);
  o.set("clip_low", c.clip_low);
  o.set("clip_high", c.clip_high);
  o.set("beta", c.beta);
  o.set("updates", c.updates);
  o.set("redraws", c.redraws);
  json::Array rewards;
  for (const AnswerReward& r : c.rewards) {
    json::Object one;
    one.set("kind", kChecks[static_cast<std::size_t>(r.check)]);
    one.set("weight", r.weight);
    one.set("pattern", r.pattern);
    one.set("schema", r.schema);
    one.set("seconds", r.seconds);
    one.set("tokens", r.tokens);
    rewards.emplace_back(std::move(one));
  }
  o.set("rewards", std::move(rewards));
  return o;
}

}  // namespace qw::train
