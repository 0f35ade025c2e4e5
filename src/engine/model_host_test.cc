#include "engine/model_host.h"

#include <gtest/gtest.h>

#include <atomic>

#include "base/rng.h"

namespace qw::engine {
namespace {

// Memory in use by all models, and the most there ever was.
struct Meter {
  std::atomic<std::int64_t> now{0}, most{0};
};
class Block final : public ModelHost::Resident {
 public:
  Block(Meter& meter, std::int64_t size) : meter_(meter), size_(size) {
    const std::int64_t now = meter_.now += size_;
    for (std::int64_t most = meter_.most; most < now && !meter_.most.compare_exchange_weak(most, now);) {
    }
  }
  ~Block() override { meter_.now -= size_; }
  std::int64_t bytes() const override { return size_; }

 private:
  Meter& meter_;
  std::int64_t size_;
};

ModelHost::Source source(Meter& meter, const std::string& name, std::int64_t size) {
  return {name, [size] { return Result<std::int64_t>(size); },
          [&meter, size]() -> Result<std::unique_ptr<ModelHost::Resident>> {
            return std::make_unique<Block>(meter, size);
          }};
}

ModelHost::Info info(const ModelHost& host, const std::string& name) {
  for (const auto& i : host.list())
    if (i.name == name) return i;
  ADD_FAILURE() << name;
  return {};
}

constexpr std::int64_t kGb = 1'000'000'000;

TEST(ModelHost, LoadsOnceAndUnloadsTheLeastRecentlyUsed) {
  Meter meter;
  ModelHost host(10 * kGb);
  for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(host.add(source(meter, name, 4 * kGb)));
  EXPECT_EQ(host.add(source(meter, "a", 1)).error().kind, ErrorKind::kUsage);
  EXPECT_FALSE(info(host, "a").loaded);
  ASSERT_TRUE(host.acquire("a"));
  ASSERT_TRUE(host.acquire("b"));
  ASSERT_TRUE(host.acquire("a"));  // b is now the one used longest ago
  ASSERT_TRUE(host.acquire("c"));
  EXPECT_TRUE(info(host, "a").loaded);
  EXPECT_FALSE(info(host, "b").loaded);
  EXPECT_TRUE(info(host, "c").loaded);
  EXPECT_EQ(info(host, "a").loads, 1);
  EXPECT_EQ(meter.now, 8 * kGb);
  ASSERT_TRUE(host.acquire("b"));
  EXPECT_FALSE(info(host, "a").loaded);
  EXPECT_EQ(meter.most, 8 * kGb);
}

TEST(ModelHost, NeverUnloadsWhatIsInUse) {
  Meter meter;
  ModelHost host(10 * kGb);
  for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(host.add(source(meter, name, 5 * kGb)));
  auto a = host.acquire("a"), b = host.acquire("b");
  ASSERT_TRUE(a && b);
  EXPECT_EQ(info(host, "a").leases, 1);
  const auto refused = host.acquire("c");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kResource);
  EXPECT_EQ(refused.error().message, "the model c needs 5.00 GB of memory; of 10.00 GB, 10.00 GB are in use by a, b");
  EXPECT_TRUE(info(host, "a").loaded && info(host, "b").loaded);
  EXPECT_EQ(host.unload("a").error().kind, ErrorKind::kUsage);
  a->reset();
  EXPECT_TRUE(host.acquire("c"));
  EXPECT_FALSE(info(host, "a").loaded);
  EXPECT_TRUE(host.unload("c"));
  EXPECT_TRUE(host.unload("c"));
  EXPECT_EQ(meter.now, 5 * kGb);
}

TEST(ModelHost, RefusesWhatCannotFitAndSaysSo) {
  Meter meter;
  ModelHost host(3 * kGb);
  ASSERT_TRUE(host.add(source(meter, "big", 4 * kGb)));
  EXPECT_EQ(host.acquire("big").error().message,
            "the model big needs 4.00 GB of memory, more than the 3.00 GB that all models may take");
  EXPECT_EQ(host.acquire("none").error().message, "there is no model none");
  EXPECT_EQ(host.unload("none").error().kind, ErrorKind::kUsage);
  ModelHost free_host(0);
  ASSERT_TRUE(free_host.add(source(meter, "big", 4 * kGb)));
  EXPECT_TRUE(free_host.acquire("big"));
}

TEST(ModelHost, AFailedLoadIsToldToAllAndTriedAgain) {
  Meter meter;
  ModelHost host(3 * kGb);
  std::atomic<int> tries{0};
  ModelHost::Source flaky = source(meter, "flaky", 2 * kGb);
  flaky.load = [&]() -> Result<std::unique_ptr<ModelHost::Resident>> {
    if (++tries == 1) return fail(ErrorKind::kFailed, "the disk is gone");
    return std::make_unique<Block>(meter, 2 * kGb);
  };
  ASSERT_TRUE(host.add(std::move(flaky)));
  ASSERT_TRUE(host.add(source(meter, "other", 3 * kGb)));
  EXPECT_EQ(host.acquire("flaky").error().message, "the disk is gone");
  EXPECT_TRUE(host.acquire("other"));  // its memory does not count any more
  EXPECT_TRUE(host.acquire("flaky"));
}

TEST(ModelHost, ManyAskAtOnceAndTheBudgetHolds) {
  Meter meter;
  {
    ModelHost host(10);
    const char* names[] = {"a", "b", "c", "d"};
    const std::int64_t sizes[] = {3, 4, 5, 6};
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(host.add(source(meter, names[i], sizes[i])));
    std::atomic<int> got{0}, refused{0};
    std::vector<std::thread> people;
    for (std::uint64_t t = 0; t < 4; ++t)
      people.emplace_back([&, t] {
        base::Rng rng(t);
        for (int i = 0; i < 300; ++i) {
          const std::uint64_t which = rng.below(4);
          const auto lease = host.acquire(names[which]);
          if (lease) {
            EXPECT_EQ((*lease)->bytes(), sizes[which]);
            ++got;
          } else {
            EXPECT_EQ(lease.error().kind, ErrorKind::kResource);
            ++refused;
          }
        }
      });
    for (auto& p : people) p.join();
    EXPECT_EQ(got + refused, 1200);
    EXPECT_GT(got, 300);
    EXPECT_LE(meter.most, 10);
  }
  EXPECT_EQ(meter.now, 0);
}

TEST(ModelHost, StoppingTellsThoseWhoWait) {
  Meter meter;
  std::atomic<bool> loading{false}, go_on{false};
  Result<ModelHost::Lease> first = fail(ErrorKind::kFailed, ""), second = fail(ErrorKind::kFailed, "");
  {
    ModelHost host(0);
    ModelHost::Source slow = source(meter, "slow", 1);
    slow.load = [&]() -> Result<std::unique_ptr<ModelHost::Resident>> {
      loading = true;
      while (!go_on) std::this_thread::yield();
      return std::make_unique<Block>(meter, 1);
    };
    ASSERT_TRUE(host.add(std::move(slow)));
    ASSERT_TRUE(host.add(source(meter, "other", 1)));
    host.acquire("slow", [&](auto lease) { first = std::move(lease); });
    while (!loading) std::this_thread::yield();
    host.acquire("other", [&](auto lease) { second = std::move(lease); });
    std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      go_on = true;
    }).detach();
  }
  EXPECT_TRUE(first.has_value());
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().kind, ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace qw::engine
