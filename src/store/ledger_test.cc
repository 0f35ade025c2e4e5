#include "store/ledger.h"

#include <atomic>
#include <thread>

#include "store/internal/admission.h"
#include "store/internal/test_stores.h"

namespace qw::store {
namespace {

TEST(Rate, AMinutesWorthAtOnceThenOneByOne) {
  Rate rate{60, 0};
  std::int64_t now = 1'000'000'000;
  for (int i = 0; i < 60; ++i) {
    ASSERT_EQ(rate.wait_us(1, now), 0) << i;
    rate.take(1, now);
  }
  EXPECT_EQ(rate.wait_us(1, now), 1'000'000);
  EXPECT_EQ(rate.available(now), 0);
  now += 1'000'000;
  EXPECT_EQ(rate.wait_us(1, now), 0);
  rate.take(1, now);
  EXPECT_EQ(rate.wait_us(2, now), 2'000'000);
  EXPECT_EQ(rate.wait_us(61, now), -1);
  now += 3'600'000'000;
  EXPECT_EQ(rate.available(now), 60);
}

TEST(Period, DaysAndMonthsOfUtc) {
  const std::int64_t now = 1'709'208'000'000'000;  // 2024-02-29T12:00:00Z
  EXPECT_EQ(period_of("day", now).begin_us, 1'709'164'800'000'000);
  EXPECT_EQ(period_of("day", now).end_us, 1'709'251'200'000'000);
  EXPECT_EQ(period_of("month", now).begin_us, 1'706'745'600'000'000);
  EXPECT_EQ(period_of("month", now).end_us, 1'709'251'200'000'000);
  EXPECT_EQ(period_of("total", now).end_us, -1);
}

class LedgerTest : public test::OnEngine {
 protected:
  void SetUp() override {
    OnEngine::SetUp();
    if (!IsSkipped()) open();
  }
  Ledger& ledger() { return store_->ledger(); }
  static Asked asked(std::int64_t prompt, std::int64_t output, std::int64_t least = -1) {
    Asked a;
    a.request_id = "req";
    a.instance = "me";
    a.key_id = "k";
    a.user_id = "u";
    a.project_id = "p";
    a.organisation_id = "o";
    a.model = "mini";
    a.prompt_tokens = prompt;
    a.output_tokens = output;
    a.least_output_tokens = least < 0 ? output : least;
    return a;
  }
  Admission admit(const Asked& a) {
    auto out = ledger().admit({&a, 1});
    EXPECT_TRUE(out.has_value()) << out.error().message;
    return out ? (*out)[0] : Admission();
  }
  std::int64_t settle(const std::string& reservation, Tokens tokens, std::string outcome = "stop") {
    const Settlement s{reservation, std::move(outcome), tokens};
    auto out = ledger().settle({&s, 1});
    EXPECT_TRUE(out.has_value()) << out.error().message;
    return out.value_or(-1);
  }
  Budget budget(const std::string& subject) { return ledger().budgets(subject)->at(0); }
};
INSTANTIATE_TEST_SUITE_P(Both, LedgerTest, testing::Values(test::Engine::kSqlite, test::Engine::kPostgres),
                         test::engine_name);

TEST_P(LedgerTest, ReserveThenSettleGivesBackWhatWasNotUsed) {
  ASSERT_TRUE(ledger().set_budget("project:p", "tokens", "total", 100).has_value());
  const auto first = admit(asked(10, 50));
  EXPECT_EQ(first.refusal, Refusal::kNone);
  EXPECT_EQ(first.output_tokens, 50);
  EXPECT_EQ(budget("project:p").reserved, 60);
  const auto second = admit(asked(10, 50));
  EXPECT_EQ(second.refusal, Refusal::kBudget);
  EXPECT_EQ(second.subject, "project:p");
  EXPECT_EQ(second.retry_after_us, 1'000'000);  // what is reserved may come back
  EXPECT_EQ(settle(first.reservation, {10, 4, 3, 7}), 1);
  EXPECT_EQ(budget("project:p").reserved, 0);
  EXPECT_EQ(budget("project:p").spent, 17);
  EXPECT_EQ(admit(asked(10, 50)).refusal, Refusal::kNone);
  const auto rows = ledger().usage({}, 0, 10);
  ASSERT_EQ(rows->size(), 1u);
  EXPECT_EQ((*rows)[0].tokens, (Tokens{10, 4, 3, 7}));
  EXPECT_EQ((*rows)[0].outcome, "stop");
  EXPECT_EQ((*rows)[0].project_id, "p");
}

TEST_P(LedgerTest, AnEntryIsMadeOnce) {
  ASSERT_TRUE(ledger().set_budget("key:k", "tokens", "total", 100).has_value());
  const auto one = admit(asked(10, 10));
  EXPECT_EQ(settle(one.reservation, {10, 0, 0, 10}), 1);
  EXPECT_EQ(settle(one.reservation, {10, 0, 0, 10}), 0);
  EXPECT_EQ(settle("rsv_nothing", {1, 0, 0, 1}), 0);
  EXPECT_EQ(budget("key:k").spent, 20);
  EXPECT_EQ(ledger().usage({}, 0, 10)->size(), 1u);
}

TEST_P(LedgerTest, TheLastTokenOfABudgetCanBeUsedAndNoMore) {
  ASSERT_TRUE(ledger().set_budget("org:o", "tokens", "total", 100).has_value());
  const auto granted = admit(asked(30, 1000, 1));
  EXPECT_EQ(granted.refusal, Refusal::kNone);
  EXPECT_EQ(granted.output_tokens, 70);
  EXPECT_EQ(settle(granted.reservation, {30, 0, 0, 1000}), 1);  // more than granted: cut
  EXPECT_EQ(budget("org:o").spent, 100);
  const auto refused = admit(asked(1, 1000, 1));
  EXPECT_EQ(refused.refusal, Refusal::kBudget);
  EXPECT_EQ(refused.retry_after_us, -1);
}

TEST_P(LedgerTest, MoneyIsExact) {
  ASSERT_TRUE(ledger().set_price({"mini", "CNY", 300, 60, 900, 600}).has_value());
  ASSERT_TRUE(ledger().set_price({"*", "USD", 1, 1, 1, 1}).has_value());
  EXPECT_FALSE(ledger().set_price({"mini", "CNY", 300, 301, 900, 600}).has_value());
  ASSERT_TRUE(ledger().set_budget("project:p", "CNY", "total", 300'000).has_value());
  const auto one = admit(asked(100, 100));  // 100 x 300 + 100 x 900
  EXPECT_EQ(one.refusal, Refusal::kNone);
  EXPECT_EQ(budget("project:p").reserved, 120'000);
  ASSERT_TRUE(ledger().set_price({"mini", "CNY", 1, 1, 1, 1}).has_value());  // what is reserved keeps its price
  settle(one.reservation, {100, 50, 20, 80});
  EXPECT_EQ(budget("project:p").spent, 50 * 300 + 50 * 60 + 60 * 600 + 20 * 900);
  Asked other = asked(1, 1);
  other.model = "other";
  EXPECT_EQ(admit(other).refusal, Refusal::kNoPrice);
  const auto sums = ledger().usage_sums({}, "model");
  ASSERT_EQ(sums->size(), 1u);
  EXPECT_EQ((*sums)[0].cost, 72'000);
  EXPECT_EQ((*sums)[0].currency, "CNY");
  EXPECT_EQ(ledger().usage_sums({}, "day")->at(0).group, "2026-09-21");
  EXPECT_EQ(ledger().usage_sums({}, "")->at(0).requests, 1);
}

TEST_P(LedgerTest, LimitsRefuseAndSayHowLong) {
  ASSERT_TRUE(ledger().set_limits({"key:k", 2, 0, 0}).has_value());
  EXPECT_EQ(admit(asked(1, 1)).requests.remaining, 1);
  EXPECT_EQ(admit(asked(1, 1)).requests.remaining, 0);
  const auto refused = admit(asked(1, 1));
  EXPECT_EQ(refused.refusal, Refusal::kRequests);
  EXPECT_EQ(refused.retry_after_us, 30'000'000);
  EXPECT_EQ(refused.requests.limit, 2);
  now_us_ += 30'000'000;
  EXPECT_EQ(admit(asked(1, 1)).refusal, Refusal::kNone);
}

TEST_P(LedgerTest, TokensThatWereNotUsedGoBackToTheRate) {
  ASSERT_TRUE(ledger().set_limits({"user:u", 0, 1000, 0}).has_value());
  const auto one = admit(asked(100, 900));
  EXPECT_EQ(one.refusal, Refusal::kNone);
  EXPECT_EQ(admit(asked(1, 1)).refusal, Refusal::kTokens);
  settle(one.reservation, {100, 0, 0, 100});
  const auto two = admit(asked(100, 5000, 1));
  EXPECT_EQ(two.refusal, Refusal::kNone);
  EXPECT_EQ(two.output_tokens, 700);
  EXPECT_EQ(admit(asked(1001, 1)).retry_after_us, -1);
}

TEST_P(LedgerTest, ConcurrencyCountsWhatRuns) {
  ASSERT_TRUE(ledger().set_limits({"org:o", 0, 0, 2}).has_value());
  const auto one = admit(asked(1, 1));
  EXPECT_EQ(admit(asked(1, 1)).refusal, Refusal::kNone);
  EXPECT_EQ(admit(asked(1, 1)).refusal, Refusal::kConcurrency);
  EXPECT_EQ(ledger().limits()->at(0).running, 2);
  settle(one.reservation, {});
  EXPECT_EQ(admit(asked(1, 1)).refusal, Refusal::kNone);
}

TEST_P(LedgerTest, AMonthsBudgetBeginsAnew) {
  ASSERT_TRUE(ledger().set_budget("project:p", "tokens", "month", 10).has_value());
  settle(admit(asked(5, 5)).reservation, {5, 0, 0, 5});
  const auto refused = admit(asked(5, 5));
  EXPECT_EQ(refused.refusal, Refusal::kBudget);
  EXPECT_EQ(refused.retry_after_us, period_of("month", now_us_).end_us - now_us_);
  now_us_ += refused.retry_after_us;
  EXPECT_EQ(budget("project:p").spent, 0);
  EXPECT_EQ(admit(asked(5, 5)).refusal, Refusal::kNone);
}

TEST_P(LedgerTest, AChangedBudgetKeepsWhatWasSpent) {
  ASSERT_TRUE(ledger().set_budget("project:p", "tokens", "total", 10).has_value());
  const auto one = admit(asked(5, 5));
  const std::string id = budget("project:p").id;
  EXPECT_FALSE(ledger().remove_budget(id).has_value());
  settle(one.reservation, {5, 0, 0, 5});
  ASSERT_TRUE(ledger().set_budget("project:p", "tokens", "total", 30).has_value());
  EXPECT_EQ(budget("project:p").id, id);
  EXPECT_EQ(budget("project:p").left(), 20);
  EXPECT_TRUE(ledger().remove_budget(id).has_value());
  EXPECT_FALSE(ledger().set_budget("someone", "tokens", "total", 30).has_value());
  EXPECT_FALSE(ledger().set_budget("project:p", "tokens", "fortnight", 30).has_value());
  EXPECT_FALSE(ledger().set_budget("project:p", "tokens", "total", -1).has_value());
}

TEST_P(LedgerTest, WhatDiedIsSettledByItsProgress) {
  ASSERT_TRUE(ledger().set_budget("project:p", "tokens", "total", 1000).has_value());
  ASSERT_TRUE(ledger().set_limits({"project:p", 0, 0, 5}).has_value());
  const auto dead = admit(asked(10, 100)), alive = admit(asked(10, 100));
  const Progress progress{dead.reservation, {10, 0, 2, 7}};
  ASSERT_TRUE(ledger().renew("me", {&progress, 1}).has_value());
  EXPECT_EQ(*ledger().reclaim("other", false), 0);  // leases hold
  now_us_ += Ledger::kLeaseUs / 2;
  const Progress still{alive.reservation, {10, 0, 0, 1}};
  ASSERT_TRUE(ledger().renew("me", {&still, 1}).has_value());
  now_us_ += Ledger::kLeaseUs / 2 + 1;
  EXPECT_EQ(*ledger().reclaim("other", false), 1);
  EXPECT_EQ(budget("project:p").spent, 17);
  EXPECT_EQ(budget("project:p").reserved, 110);
  EXPECT_EQ(ledger().limits()->at(0).running, 1);
  EXPECT_EQ(settle(dead.reservation, {10, 0, 0, 50}), 0);
  EXPECT_EQ(ledger().usage({}, 0, 10)->at(0).outcome, "interrupted");
  // A service that is alone does not wait for leases.
  EXPECT_EQ(*ledger().reclaim("me", true), 0);
  EXPECT_EQ(*ledger().reclaim("restarted", true), 1);
  EXPECT_EQ(budget("project:p").spent, 28);
  EXPECT_EQ(*ledger().open_reservations(), 0);
}

// Many threads over one budget, with their own stores on PostgreSQL: what is reserved never exceeds it, and at the end
// budget, ledger and what the threads counted agree to the token.
TEST_P(LedgerTest, NoConcurrencyOverrunsABudget) {
  constexpr int kThreads = 4, kEach = 60;
  constexpr std::int64_t kBudget = 3000;
  ASSERT_TRUE(ledger().set_budget("project:p", "tokens", "total", kBudget).has_value());
  ASSERT_TRUE(ledger().set_budget("org:o", "tokens", "day", kBudget * 2).has_value());
  std::atomic<std::int64_t> used{0}, admitted{0}, refused{0}, worst{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::unique_ptr<Store> own;
      if (GetParam() == test::Engine::kPostgres) own = std::move(*Store::open(url_));
      Ledger& mine = own ? own->ledger() : ledger();
      for (int i = 0; i < kEach; ++i) {
        const Asked asks[2] = {asked(5 + t, 20), asked(3, 40, 1)};
        const auto out = mine.admit(asks);
        ASSERT_TRUE(out.has_value()) << out.error().message;
        std::vector<Settlement> settlements;
        for (std::size_t k = 0; k < 2; ++k) {
          if ((*out)[k].refusal != Refusal::kNone) {
            ++refused;
            continue;
          }
          ++admitted;
          const Tokens tokens{asks[k].prompt_tokens, 0, 0, ((*out)[k].output_tokens * (i % 3 + 1)) / 3};
          used += tokens.prompt + tokens.output;
          settlements.push_back({(*out)[k].reservation, "stop", tokens});
        }
        const auto b = mine.budgets("project:p");
        worst = std::max(worst.load(), (*b)[0].spent + (*b)[0].reserved);
        ASSERT_TRUE(mine.settle(settlements).has_value());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_GT(admitted, 0);
  EXPECT_GT(refused, 0);
  EXPECT_LE(worst, kBudget);
  EXPECT_EQ(budget("project:p").spent, used);
  EXPECT_EQ(budget("project:p").reserved, 0);
  EXPECT_EQ(budget("org:o").spent, used);
  UsageQuery of_project;
  of_project.project_id = "p";
  const auto sum = ledger().usage_sums(of_project, "").value();
  EXPECT_EQ(sum.at(0).requests, admitted);
  EXPECT_EQ(sum.at(0).tokens.prompt + sum.at(0).tokens.output, used);
}

TEST_P(LedgerTest, TrainingIsChargedToBudgetsAndNotToRates) {
  ASSERT_TRUE(ledger().set_price({"mini", "CNY", 1, 1, 1, 1, 50}).has_value());
  ASSERT_TRUE(ledger().set_limits({"project:p", 1, 10, 1}).has_value());
  ASSERT_TRUE(ledger().set_budget("project:p", "CNY", "total", 10'000).has_value());
  ASSERT_TRUE(ledger().set_budget("org:o", "tokens", "total", 150).has_value());
  Asked job = asked(0, 0);
  job.request_id = "job";
  job.trained_tokens = 120;
  const auto first = ledger().admit(std::span(&job, 1))->at(0);
  ASSERT_EQ(first.refusal, Refusal::kNone) << first.why;
  EXPECT_EQ(ledger().budgets("project:p")->at(0).reserved, 6000);
  EXPECT_EQ(ledger().budgets("org:o")->at(0).reserved, 120);
  EXPECT_EQ(ledger().limits()->at(0).running, 0);
  EXPECT_EQ(*ledger().open_reservations("job"), 1);
  EXPECT_EQ(*ledger().open_reservations("another"), 0);
  EXPECT_EQ(ledger().admit(std::span(&job, 1))->at(0).refusal, Refusal::kBudget);
  Tokens done;
  done.trained = 70;
  const Progress progress{first.reservation, done};
  ASSERT_TRUE(ledger().renew(job.instance, std::span(&progress, 1)).has_value());
  EXPECT_EQ(*ledger().reclaim("another service", true), 1);
  UsageQuery query;
  query.request_id = "job";
  EXPECT_EQ(ledger().usage_sums(query, "")->at(0).tokens, done);
  EXPECT_EQ(ledger().usage_sums(query, "")->at(0).cost, 3500);
  EXPECT_EQ(ledger().budgets("project:p")->at(0).spent, 3500);
  EXPECT_EQ(ledger().budgets("org:o")->at(0).spent, 70);
  EXPECT_EQ(ledger().budgets("org:o")->at(0).reserved, 0);
}

}  // namespace
}  // namespace qw::store
