// Everything at once, at random: requests of all kinds come and go under tenants, priorities, deadlines, salts and
// adapters that come and go too, with drafts, in a cache that is too small, with failing passes; every step is checked,
// and whatever a request got is what it gets alone. QW_SLOW=1: 100,000 steps, else a few thousand. On several threads,
// with several models: random_host_test.cc.
#include <gtest/gtest.h>

#include "engine/internal/random_lives.h"
#include "engine/internal/tiny_adapters.h"

namespace qw::engine::lives {
namespace {

constexpr std::size_t kMostAdapters = 5;

class RandomLives : public testing::TestWithParam<bool> {
 protected:
  RandomLives() {
    const auto prepared = tiny_adapters("qwen3", 3);
    for (std::size_t a = 0; a < prepared.size(); ++a)
      house_.executor->voices[prepared[a].get()] = kFirstAdapters + static_cast<std::int32_t>(a);
    prepared_ = prepared;
  }

  // One comes or goes. Those that leave while requests use them stay until the last of these has ended.
  void change_adapters() {
    if (voices_.size() > 1 && (voices_.size() > kMostAdapters || rng_.below(2) == 0)) {
      const auto at = voices_.begin() + 1 + static_cast<std::ptrdiff_t>(rng_.below(voices_.size() - 1));
      ASSERT_TRUE(house_.engine->remove_adapter(at->id));
      EXPECT_EQ(house_.engine->remove_adapter(at->id).error().kind, ErrorKind::kUsage);
      voices_.erase(at);
    } else {
      const ops::PreparedAdapter& adapter = prepared_[rng_.below(prepared_.size())];
      const auto id = house_.engine->add_adapter(adapter);
      ASSERT_TRUE(id);
      voices_.push_back({*id, house_.executor->voices.at(adapter.get())});
    }
    ++changes_;
  }

  void expect_adapters_counted() const {
    std::map<std::int32_t, std::int64_t> users;
    for (const auto& life : lives_) ++users[life->request.adapter];
    std::size_t staying = 0;
    for (const AdapterInfo& a : house_.engine->adapters()) {
      ASSERT_EQ(a.requests, users[a.id]) << a.id;
      ASSERT_TRUE(!a.leaving || a.requests > 0) << a.id;
      staying += !a.leaving;
    }
    ASSERT_EQ(staying, voices_.size() - 1);
  }

  // Open requests grow, and close.
  void extend_some() {
    for (const auto& life : lives_) {
      if (!life->request.open || rng_.below(6) != 0) continue;
      if (life->closes_after-- > 0) {
        const auto token = static_cast<TokenId>(rng_.below(kWords));
        life->text.push_back(token);
        ASSERT_TRUE(house_.engine->extend(life->id, {token}));
      } else {
        house_.engine->close(life->id);
      }
    }
  }

  void collect() {
    std::erase_if(lives_, [&](const std::shared_ptr<Life>& life) {
      if (!life->done) return false;
      tally_.add(*life->finished);
      expect_as_alone(*life, GetParam());
      return true;
    });
  }

  base::ThreadPool threads_{2};
  House house_{GetParam(), &threads_, true};
  base::Rng rng_{17};
  std::vector<ops::PreparedAdapter> prepared_;
  std::vector<Voice> voices_ = first_voices();
  std::vector<std::shared_ptr<Life>> lives_;
  Tally tally_;
  std::int64_t changes_ = 0;
};

TEST_P(RandomLives, EveryStepIsSoundAndEveryAnswerAsAlone) {
  for (std::int64_t step = 0; step < steps_wanted() || !lives_.empty(); ++step) {
    ASSERT_LT(step, steps_wanted() + 5000) << "no progress";
    const bool ending = step >= steps_wanted();
    if (rng_.below(25) == 0) {
      ASSERT_NO_FATAL_FAILURE(change_adapters());
    }
    if (!ending && lives_.size() < 24 && rng_.below(3) == 0) {
      lives_.push_back(random_life(rng_, house_.now, voices_));
      ASSERT_NO_FATAL_FAILURE(submit(*house_.engine, lives_.back()));
    }
    if (!lives_.empty() && rng_.below(60) == 0) house_.engine->cancel(lives_[rng_.below(lives_.size())]->id);
    ASSERT_NO_FATAL_FAILURE(extend_some());
    if (rng_.below(400) == 0) house_.executor->fail_next = true;
    house_.now += std::chrono::microseconds(200 + rng_.below(800));  // a pass takes time, never the same
    house_.executor->before_run = [&] { house_.now += std::chrono::microseconds(100 + rng_.below(900)); };
    const Snapshot before = house_.engine->snapshot();
    ASSERT_EQ(violation(before, plan_step(before)), "") << "step " << step;
    house_.engine->step();
    ASSERT_EQ(house_.engine->violation(), "") << "step " << step;
    collect();
    ASSERT_NO_FATAL_FAILURE(expect_adapters_counted());
    ASSERT_FALSE(HasFatalFailure());
  }
  tally_.expect(house_.engine->stats());
  // Everything happened often.
  EXPECT_GT(tally_.preempted, 20);
  EXPECT_GT(tally_.cached, tally_.output / (GetParam() ? 40 : 4));
  EXPECT_GT(tally_.accepted, tally_.output / 40);
  EXPECT_GT(tally_.drafted, tally_.accepted + 100);
  EXPECT_GT(changes_, 100);
  for (const auto& [reason, least] : std::map<FinishReason, std::int64_t>{{FinishReason::kCancelled, 3},
                                                                          {FinishReason::kStop, 100},
                                                                          {FinishReason::kLength, 50},
                                                                          {FinishReason::kDeadline, 0},
                                                                          {FinishReason::kError, 0}})
    EXPECT_GT(tally_.reasons[reason], least) << static_cast<int>(reason);
}

INSTANTIATE_TEST_SUITE_P(Models, RandomLives, testing::Values(false, true),
                         [](const auto& param) { return param.param ? "WithStates" : "WithoutStates"; });

}  // namespace
}  // namespace qw::engine::lives
