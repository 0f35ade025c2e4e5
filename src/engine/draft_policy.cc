#include "engine/draft_policy.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace qw::engine {
namespace {

constexpr double kNew = 0.2;      // weight of a new time in the running mean
constexpr double kOutlier = 2.0;  // a time counts as at most this many means: the machine was doing something else
constexpr double kGuessedSlope = 0.15;  // of an unknown number of rows: each beyond the known costs this share of it
constexpr double kWorthIt = 1.02;       // tokens per time must rise by this much
constexpr double kPriorWeight = 6;      // a request's own tokens count as much as all others' after this many
constexpr double kAllMemory = 1 - 1.0 / 256, kRequestMemory = 1 - 1.0 / 32;  // of acceptance, by token
constexpr double kLossShare = 0.01;         // of the time that passed may be lost to drafts which do not pay
constexpr double kFirstSteps = 4;           // and the time of this many steps at the start, to learn at all
constexpr double kFading = 1 - 1.0 / 4096;  // of ledger and elapsed time, by step: old gains do not pay for new losses
constexpr std::int64_t kFirstWait = 32, kLongestWait = 1024,
                       kProbe = 2;        // offers refused before a probe of so many tokens
constexpr std::int64_t kPlainEvery = 48;  // a step without drafts now and then, to know what they are compared with

double sum_of_powers(double a, std::int64_t k) {
  double sum = 0, power = 1;
  for (std::int64_t i = 0; i < k; ++i) sum += power *= a;
  return sum;
}

}  // namespace

std::size_t StepTimes::place(std::int64_t rows) {
  if (rows <= kExact) return static_cast<std::size_t>(std::max<std::int64_t>(rows, 1) - 1);
  const auto doublings = static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>((rows - 1) / kExact)));
  return std::min(kPlaces - 1, static_cast<std::size_t>(kExact) + doublings - 1);
}

void StepTimes::add(std::int64_t rows, double ms) {
  Place& p = rows_[place(rows)];
  if (p.count >= kEnough) ms = std::min(ms, kOutlier * p.ms);
  const double weight = std::max(kNew, 1.0 / (p.count + 1));
  p.ms += weight * (ms - p.ms);
  p.rows += weight * (static_cast<double>(rows) - p.rows);
  ++p.count;
}

double StepTimes::of(std::int64_t rows) const {
  const std::size_t at = place(rows);
  if (rows <= kExact && rows_[at].count > 0) return rows_[at].ms;
  const Place *below = nullptr, *above = nullptr;
  const auto wanted = static_cast<double>(rows);
  for (const Place& p : rows_) {
    if (p.count == 0) continue;
    if (p.rows <= wanted && (below == nullptr || p.rows > below->rows)) below = &p;
    if (p.rows >= wanted && (above == nullptr || p.rows < above->rows)) above = &p;
  }
  if (below == nullptr && above == nullptr) return 0;
  if (below == nullptr) return above->ms;
  if (above == nullptr) return below->ms * (1 + kGuessedSlope * (wanted - below->rows) / std::max(1.0, below->rows));
  if (above->rows == below->rows) return below->ms;
  return below->ms + (above->ms - below->ms) * (wanted - below->rows) / (above->rows - below->rows);
}

void Acceptance::record(std::int64_t drafted, std::int64_t accepted, double memory) {
  const auto seen =
      static_cast<double>(accepted + (accepted < drafted));  // nothing is known of those after the first wrong one
  const double kept = std::pow(memory, seen);
  right = right * kept + static_cast<double>(accepted);
  tried = tried * kept + seen;
}

DraftPolicy::DraftPolicy(std::vector<double> expected)
    : expected_(std::move(expected)), all_(expected_.size()), probes_(expected_.size(), Probe{0, kFirstWait}) {}

double DraftPolicy::prior(std::size_t kind) const {
  return (all_[kind].right + kPriorWeight * expected_[kind]) / (all_[kind].tried + kPriorWeight);
}

double DraftPolicy::acceptance(RequestId request, std::size_t kind) const {
  const auto own = requests_.find(request);
  if (own == requests_.end()) return prior(kind);
  const Acceptance& a = own->second[kind];
  return (a.right + kPriorWeight * prior(kind)) / (a.tried + kPriorWeight);
}

bool DraftPolicy::begin_step(std::int64_t rows, std::int64_t sequences) {
  base_rows_ = rows_ = rows;
  sequences_ = sequences;
  tokens_ = static_cast<double>(sequences);
  extra_ms_ = 0;
  accepted_ = 0;
  if (sequences == 0 || !times_.known(rows)) return false;
  if (since_plain_ >= kPlainEvery) return false;
  return ledger_ >= -(kLossShare * elapsed_ + kFirstSteps * times_.of(rows));
}

// A guess that is not worth it by what is known: what is known may be out of date.
std::int64_t DraftPolicy::probe(std::size_t kind, std::int64_t most) {
  Probe& p = probes_[kind];
  if (++p.refused < p.wait || ledger_ < -kLossShare * elapsed_) return 0;
  p.wait = std::min(2 * p.wait, kLongestWait);
  return std::min(most, kProbe);
}

std::int64_t DraftPolicy::choose(RequestId request, std::size_t kind, std::int64_t most, double ms_per_token) {
  const double a = acceptance(request, kind);
  double best = kWorthIt * tokens_ / (times_.of(rows_) + extra_ms_);
  std::int64_t chosen = 0;
  for (std::int64_t k = 1; k <= most; ++k) {
    const double extra = static_cast<double>(k) * ms_per_token;
    const double rate = (tokens_ + sum_of_powers(a, k)) / (times_.of(rows_ + k) + extra_ms_ + extra);
    if (rate <= best) continue;
    best = rate;
    chosen = k;
  }
  if (chosen == 0) chosen = probe(kind, most);
  if (chosen > 0) probes_[kind].refused = 0;
  rows_ += chosen;
  tokens_ += sum_of_powers(a, chosen);
  extra_ms_ += static_cast<double>(chosen) * ms_per_token;
  return chosen;
}

void DraftPolicy::record(RequestId request, std::size_t kind, std::int64_t drafted, std::int64_t accepted) {
  accepted_ += accepted;
  if (accepted > 0) probes_[kind].wait = kFirstWait;
  all_[kind].record(drafted, accepted, kAllMemory);
  std::vector<Acceptance>& own = requests_[request];
  if (own.empty()) own.resize(expected_.size());
  own[kind].record(drafted, accepted, kRequestMemory);
}

void DraftPolicy::end_step(std::int64_t rows, std::int64_t drafted, double ms, double drafting_ms) {
  times_.add(rows, ms - drafting_ms);
  elapsed_ = elapsed_ * kFading + ms;
  ledger_ *= kFading;
  if (drafted == 0 && drafting_ms == 0) {
    since_plain_ = 0;
    return;
  }
  ++since_plain_;
  if (sequences_ == 0) return;
  // What the same tokens would have taken by steps without drafts.
  const double plain =
      times_.of(base_rows_) * static_cast<double>(sequences_ + accepted_) / static_cast<double>(sequences_);
  ledger_ = std::min(ledger_ + plain - ms, kLossShare * elapsed_);
}

}  // namespace qw::engine
