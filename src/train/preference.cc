#include "train/preference.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace qw::train {
namespace {

double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

// A mean log-probability of 0 would be certainty, whose odds are infinite; rounding may reach it.
constexpr double kAlmostCertain = -1e-9;
// log(1 - e^x), x < 0; each form where it keeps its digits (Maechler, 2012).
double log1mexp(double x) { return x > -std::numbers::ln2 ? std::log(-std::expm1(x)) : std::log1p(-std::exp(x)); }

struct Slope {
  double value, slope;
};

// -(1 - e) log s(x) - e log s(-x).
Slope smoothed(double x, double e) {
  return {-(1 - e) * log_sigmoid(x) - e * log_sigmoid(-x), -(1 - e) * sigmoid(-x) + e * sigmoid(x)};
}

PairLoss dpo(const PreferenceConfig& c, const AnswerScore& w, const AnswerScore& l) {
  const double margin = (w.logprob - w.reference) - (l.logprob - l.reference);
  const Slope s = smoothed(c.beta * margin, c.label_smoothing);
  return {s.value, c.beta * s.slope, -c.beta * s.slope, margin};
}

PairLoss ipo(const PreferenceConfig& c, const AnswerScore& w, const AnswerScore& l) {
  const auto nw = static_cast<double>(w.tokens), nl = static_cast<double>(l.tokens);
  const double margin = (w.logprob - w.reference) / nw - (l.logprob - l.reference) / nl;
  const double off = margin - 1 / (2 * c.beta);
  return {off * off, 2 * off / nw, -2 * off / nl, margin};
}

PairLoss simpo(const PreferenceConfig& c, const AnswerScore& w, const AnswerScore& l) {
  const auto nw = static_cast<double>(w.tokens), nl = static_cast<double>(l.tokens);
  const double margin = w.logprob / nw - l.logprob / nl;
  const Slope s = smoothed(c.beta * margin - c.gamma, c.label_smoothing);
  return {s.value, c.beta * s.slope / nw, -c.beta * s.slope / nl, margin};
}

PairLoss orpo(const PreferenceConfig& c, const AnswerScore& w, const AnswerScore& l) {
  const auto nw = static_cast<double>(w.tokens), nl = static_cast<double>(l.tokens);
  const double mw = w.logprob / nw, ml = l.logprob / nl;
  const double pw = std::min(mw, kAlmostCertain), pl = std::min(ml, kAlmostCertain);
  const double odds = (pw - log1mexp(pw)) - (pl - log1mexp(pl));
  const double pull = c.beta * sigmoid(-odds);
  return {-mw - c.beta * log_sigmoid(odds), (-1 + pull / std::expm1(pw)) / nw, -pull / std::expm1(pl) / nl, mw - ml};
}

}  // namespace

json::Object to_json(const PreferenceConfig& c) {
  static constexpr const char* kNames[] = {"dpo", "ipo", "simpo", "orpo"};
  json::Object o;
  o.set("method", kNames[static_cast<std::size_t>(c.method)]);
  o.set("beta", c.beta);
  o.set("gamma", c.gamma);
  o.set("label_smoothing", c.label_smoothing);
  return o;
}

bool needs_reference(PreferenceMethod method) {
  return method == PreferenceMethod::kDpo || method == PreferenceMethod::kIpo;
}

PairLoss pair_loss(const PreferenceConfig& config, const AnswerScore& chosen, const AnswerScore& rejected) {
  switch (config.method) {
    case PreferenceMethod::kDpo:
      return dpo(config, chosen, rejected);
    case PreferenceMethod::kIpo:
      return ipo(config, chosen, rejected);
    case PreferenceMethod::kSimpo:
      return simpo(config, chosen, rejected);
    case PreferenceMethod::kOrpo:
      return orpo(config, chosen, rejected);
  }
  return {};
}

}  // namespace qw::train
