#include "train/kto.h"

#include <algorithm>
#include <cmath>

namespace qw::train {
namespace {

double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

}  // namespace

KtoLoss kto_loss(const KtoConfig& c, double ratio, double drift, bool liked) {
  const double z = c.drift ? std::max(0.0, drift) : 0;
  const double sign = liked ? 1 : -1, weight = liked ? c.desirable_weight : c.undesirable_weight;
  const double miss = sigmoid(-sign * c.beta * (ratio - z));  // 1 - s(x) = s(-x), without cancellation
  return {weight * miss, -weight * sign * c.beta * miss * (1 - miss)};
}

json::Object to_json(const KtoConfig& c) {
  json::Object o;
  o.set("beta", c.beta);
  o.set("desirable_weight", c.desirable_weight);
  o.set("undesirable_weight", c.undesirable_weight);
  o.set("drift", c.drift);
  return o;
}

}  // namespace qw::train
