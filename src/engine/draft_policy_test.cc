// The policy against simulated machines: what it chooses must pay by the machine's own times.
#include "engine/draft_policy.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/rng.h"

namespace qw::engine {
namespace {

struct Machine {
  std::function<double(std::int64_t rows)> ms;
  double right = 0;    // chance of a drafted token
  double offered = 1;  // share of the steps in which there is a guess
  double noise = 0.05;
  std::int64_t sequences = 1;
};

// Generates until every sequence has its tokens; gives the time against that without drafts.
struct Outcome {
  double time_ratio = 0;
  std::int64_t drafted = 0, accepted = 0;
};
Outcome simulate(const Machine& m, std::int64_t tokens, std::uint64_t seed) {
  DraftPolicy policy({0.6});
  base::Rng rng(seed);
  Outcome out;
  double time = 0, without = 0;
  std::int64_t made = 0;
  while (made < tokens * m.sequences) {
    const bool may = policy.begin_step(m.sequences, m.sequences);
    std::int64_t rows = m.sequences, drafted = 0;
    std::vector<std::int64_t> chosen(static_cast<std::size_t>(m.sequences));
    for (std::int64_t i = 0; i < m.sequences; ++i) {
      if (!may || rng.next_double() >= m.offered) continue;
      drafted += chosen[static_cast<std::size_t>(i)] = policy.choose(static_cast<RequestId>(i), 0, 8, 0);
    }
    rows += drafted;
    made += m.sequences;
    for (std::int64_t i = 0; i < m.sequences; ++i) {
      const std::int64_t k = chosen[static_cast<std::size_t>(i)];
      if (k == 0) continue;
      std::int64_t right = 0;
      while (right < k && rng.next_double() < m.right) ++right;
      policy.record(static_cast<RequestId>(i), 0, k, right);
      made += right;
      out.accepted += right;
    }
    const double ms = m.ms(rows) * (1 + m.noise * (2 * rng.next_double() - 1));
    policy.end_step(rows, drafted, ms, 0);
    time += ms;
    out.drafted += drafted;
  }
  without = static_cast<double>(made) / static_cast<double>(m.sequences) * m.ms(m.sequences);
  out.time_ratio = time / without;
  return out;
}

double bound_by_memory(std::int64_t rows) { return std::max(10.0, 1.2 * static_cast<double>(rows)); }
double bound_by_products(std::int64_t rows) { return 0.2 + 1.0 * static_cast<double>(rows); }

// The best constant number of drafts.
double best_ratio(const Machine& m) {
  double best = 1;
  for (std::int64_t k = 1; k <= 8; ++k) {
    double tokens = 1, power = 1;
    for (std::int64_t i = 0; i < k; ++i) tokens += power *= m.right;
    best = std::min(best, m.ms(1 + k) / tokens / m.ms(1));
  }
  return best;
}

TEST(DraftPolicy, ComesNearTheBestNumberOfDrafts) {
  for (const double right : {0.5, 0.7, 0.9, 0.97}) {
    const Machine m{bound_by_memory, right};
    const double best = best_ratio(m);
    EXPECT_LT(best, 0.8);
    EXPECT_LT(simulate(m, 3000, 1).time_ratio, best * 1.08) << right;
  }
}

TEST(DraftPolicy, LosesNextToNothingWhereNothingIsToBeWon) {
  for (const double right : {0.0, 0.1, 0.3}) {
    for (const std::int64_t sequences : {1, 4}) {
      Machine m{bound_by_products, right};
      m.sequences = sequences;
      const Outcome out = simulate(m, 2000, 2);
      EXPECT_LT(out.time_ratio, 1.03) << right << " " << sequences;
    }
  }
  const Outcome wrong = simulate({bound_by_memory, 0.0}, 2000, 3);
  EXPECT_LT(wrong.time_ratio, 1.01);
  EXPECT_GT(wrong.drafted, 0);  // it was tried
}

TEST(DraftPolicy, TriesAgainWhatDidNotPay) {
  DraftPolicy policy({0.6});
  std::int64_t made_of_late = 0;
  for (int step = 0; step < 4000; ++step) {
    const double right = step < 2000 ? 0 : 1;  // the text changes its nature
    std::int64_t k = 0;
    if (policy.begin_step(1, 1)) k = policy.choose(1, 0, 8, 0);
    if (k > 0) policy.record(1, 0, k, right > 0 ? k : 0);
    policy.end_step(1 + k, k, bound_by_memory(1 + k), 0);
    if (step >= 3500) made_of_late += k;
  }
  EXPECT_GT(made_of_late, 500 * 5);
}

TEST(DraftPolicy, CostlyGuessesMustPayForThemselves) {
  for (const double cost : {0.5, 20.0}) {
    DraftPolicy policy({0.6});
    std::int64_t drafted = 0;
    double time = 0;
    std::int64_t tokens = 0;
    base::Rng rng(5);
    for (int step = 0; step < 1500; ++step) {
      std::int64_t k = 0, right = 0;
      if (policy.begin_step(1, 1)) k = policy.choose(1, 0, 8, cost);
      while (right < k && rng.next_double() < 0.8) ++right;
      if (k > 0) policy.record(1, 0, k, right);
      const double guessing = cost * static_cast<double>(k), ms = bound_by_memory(1 + k) + guessing;
      policy.end_step(1 + k, k, ms, guessing);
      drafted += k;
      time += ms;
      tokens += 1 + right;
    }
    const double ratio = time / (10.0 * static_cast<double>(tokens));
    EXPECT_LT(ratio, cost < 1 ? 0.6 : 1.03);
    EXPECT_LT(drafted, cost < 1 ? 8 * 1500 : 100);
  }
}

TEST(StepTimes, BetweenAndBeyondWhatIsKnown) {
  StepTimes times;
  EXPECT_EQ(times.of(4), 0);
  for (int i = 0; i < 5; ++i) {
    times.add(1, 10);
    times.add(5, 20);
  }
  EXPECT_TRUE(times.known(1));
  EXPECT_FALSE(times.known(3));
  EXPECT_DOUBLE_EQ(times.of(1), 10);
  EXPECT_DOUBLE_EQ(times.of(3), 15);
  EXPECT_GT(times.of(10), 20);
  times.add(1, 1000);  // the machine was busy with something else
  EXPECT_LT(times.of(1), 13);
}

}  // namespace
}  // namespace qw::engine
