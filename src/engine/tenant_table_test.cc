#include "engine/internal/tenant_table.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "engine/engine.h"
#include "engine/internal/fake_executor.h"

namespace qw::engine {
namespace {

TEST(TenantTable, AGroupSharesItsWeightAmongThoseWhoHaveRequests) {
  TenantTable table;
  const auto a = table.enter({"a", 3, "", 1});
  const auto b = table.enter({"b", 1, "g", 2}), c = table.enter({"c", 3, "g", 2});
  EXPECT_DOUBLE_EQ(table.weight(a), 3);
  EXPECT_DOUBLE_EQ(table.weight(b), 0.5);
  EXPECT_DOUBLE_EQ(table.weight(c), 1.5);
  EXPECT_EQ(table.enter({"c", 1, "g", 4}), c);  // the latest weights count
  EXPECT_DOUBLE_EQ(table.weight(b), 2);
  EXPECT_DOUBLE_EQ(table.weight(c), 2);
  table.leave(c);
  EXPECT_DOUBLE_EQ(table.weight(b), 2);  // another request of c
  table.leave(c);
  EXPECT_DOUBLE_EQ(table.weight(b), 4);
  table.leave(b);
  EXPECT_DOUBLE_EQ(table.weight(table.enter({"d", 1, "h", 1})), 1);
}

TEST(TenantTable, IdleTenantsGetNoCreditAndSlotsAreUsedAgain) {
  TenantTable table;
  const auto a = table.enter({"a"});
  table.charge(a, 100);
  table.advance();
  const auto b = table.enter({"b"});
  EXPECT_DOUBLE_EQ(table.served(b), 100);
  table.leave(b);
  table.charge(a, 50);
  table.advance();
  EXPECT_EQ(table.enter({"c"}), b);  // nothing is to be remembered of b
  EXPECT_DOUBLE_EQ(table.served(b), 150);
  EXPECT_EQ(table.size(), 2u);
}

// Tenants with work without end: what each got after many steps.
class Crowd {
 public:
  Crowd() : pool_(*kvcache::BlockPool::create({1, 1, 1, 4, tensor::DType::kF32}, 64)), executor_(pool_, 50, 16, 4) {
    EngineConfig config;
    config.context = 100;
    config.max_rows = 16;
    config.max_sequences = 4;
    config.growth_tokens = 4;
    config.tenant_quantum = 40;
    engine_ = *Engine::create(executor_, pool_, config);
  }
  // `name` asks for as much as it can get from now on, four requests at a time.
  void join(const TenantTable::Share& share) {
    active_[share.tenant] = true;
    for (int i = 0; i < 4; ++i) ask(share);
  }
  void leave(const std::string& name) { active_[name] = false; }
  // The share of each in the tokens that `steps` steps gave.
  std::map<std::string, double> shares(int steps) {
    tokens_.clear();
    for (int i = 0; i < steps; ++i) EXPECT_TRUE(engine_->step());
    double all = 0;
    for (const auto& [name, n] : tokens_) all += n;
    auto out = tokens_;
    for (auto& [name, n] : out) n /= all;
    return out;
  }

 private:
  struct Again final : Sink {
    Crowd& crowd;
    TenantTable::Share share;
    Again(Crowd& c, TenantTable::Share s) : crowd(c), share(std::move(s)) {}
    Verdict on_token(const TokenEvent&) noexcept override {
      ++crowd.tokens_[share.tenant];
      return Verdict::kContinue;
    }
    void on_finished(const Finished& f) noexcept override {
      if (f.reason != FinishReason::kCancelled && crowd.active_[share.tenant]) crowd.ask(share);
    }
  };
  void ask(const TenantTable::Share& share) {
    Request r;
    r.prompt = {1, 2};
    r.max_tokens = 20;
    r.params.temperature = 0;
    r.tenant = share.tenant;
    r.tenant_weight = share.weight;
    r.tenant_group = share.group;
    r.group_weight = share.group_weight;
    r.sink = std::make_shared<Again>(*this, share);
    EXPECT_TRUE(engine_->submit(std::move(r)));
  }
  kvcache::BlockPool pool_;
  FakeExecutor executor_;
  std::map<std::string, double> tokens_;
  std::map<std::string, bool> active_;
  std::unique_ptr<Engine> engine_;
};

TEST(FairShares, FollowTheWeightsOfTenantsAndGroups) {
  Crowd crowd;
  crowd.join({"a", 3, "", 1});
  crowd.join({"b", 1, "g", 2});
  crowd.join({"c", 1, "g", 2});
  auto shares = crowd.shares(4000);
  EXPECT_NEAR(shares["a"], 0.6, 0.03);
  EXPECT_NEAR(shares["b"], 0.2, 0.02);
  EXPECT_NEAR(shares["c"], 0.2, 0.02);
  crowd.leave("c");  // its part goes to the other of its group
  crowd.shares(100);
  shares = crowd.shares(4000);
  EXPECT_NEAR(shares["a"], 0.6, 0.03);
  EXPECT_NEAR(shares["b"], 0.4, 0.03);
}

}  // namespace
}  // namespace qw::engine
