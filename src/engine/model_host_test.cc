#include "engine/model_host.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

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

// Nobody is waited for.
HostLimits limits(std::int64_t bytes) { return {.bytes = bytes, .patience = std::chrono::milliseconds(0)}; }

template <class Holds>
bool soon(Holds holds) {
  for (int i = 0; i < 2000 && !holds(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return holds();
}

TEST(ModelHost, LoadsOnceAndUnloadsTheLeastRecentlyUsed) {
  Meter meter;
  ModelHost host(limits(10 * kGb));
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
  ModelHost host(limits(10 * kGb));
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
  ModelHost host(limits(3 * kGb));
  ASSERT_TRUE(host.add(source(meter, "big", 4 * kGb)));
  EXPECT_EQ(host.acquire("big").error().message,
            "the model big needs 4.00 GB of memory, more than the 3.00 GB that all models may take");
  EXPECT_EQ(host.acquire("none").error().message, "there is no model none");
  EXPECT_EQ(host.unload("none").error().kind, ErrorKind::kUsage);
  ModelHost free_host({});
  ASSERT_TRUE(free_host.add(source(meter, "big", 4 * kGb)));
  EXPECT_TRUE(free_host.acquire("big"));
}

TEST(ModelHost, AFailedLoadIsToldToAllAndTriedAgain) {
  Meter meter;
  ModelHost host(limits(3 * kGb));
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
    ModelHost host({.bytes = 10});
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

TEST(ModelHost, WhatNobodyUsesIsUnloadedAfterAWhile) {
  Meter meter;
  ModelHost host({.unload_after = std::chrono::milliseconds(20)});
  for (const char* name : {"a", "b"}) ASSERT_TRUE(host.add(source(meter, name, kGb)));
  auto held = host.acquire("a");
  ASSERT_TRUE(held && host.acquire("b"));
  EXPECT_TRUE(soon([&] { return host.peek("b") == nullptr; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  EXPECT_NE(host.peek("a"), nullptr);  // however long it is in use
  held->reset();
  EXPECT_TRUE(soon([&] { return meter.now == 0; }));
  EXPECT_TRUE(host.acquire("a"));
  EXPECT_EQ(info(host, "a").loads, 2);
}

TEST(ModelHost, ModelsInUseMakeWayWhenTheirUsersEnd) {
  Meter meter;
  ModelHost host({.bytes = 10 * kGb, .patience = std::chrono::minutes(10)});
  for (const char* name : {"old", "young", "new"}) ASSERT_TRUE(host.add(source(meter, name, 5 * kGb)));
  auto old = host.acquire("old"), young = host.acquire("young");
  ASSERT_TRUE(old && young);
  std::atomic<int> loaded{0}, again{0};
  host.acquire("new", [&](auto lease) { loaded += lease.has_value(); });
  // Nobody new gets the one that is to leave; the other goes on.
  ASSERT_TRUE(soon([&] { return info(host, "old").leaving; }));
  host.acquire("old", [&](auto lease) { again += lease.has_value(); });
  EXPECT_EQ(again, 0);
  EXPECT_TRUE(host.acquire("young"));
  EXPECT_EQ(loaded, 0);
  old->reset();
  EXPECT_TRUE(soon([&] { return loaded == 1; }));
  EXPECT_TRUE(soon([&] { return again == 1; }));  // "new" is idle, and gives its place back
  EXPECT_EQ(info(host, "young").loads, 1);
  EXPECT_EQ(meter.most, 10 * kGb);
}

TEST(ModelHost, ALoadedModelGrowsWithinTheBudget) {
  Meter meter;
  ModelHost host(limits(10 * kGb));
  for (const char* name : {"a", "b"}) ASSERT_TRUE(host.add(source(meter, name, 4 * kGb)));
  auto a = host.acquire("a");
  ASSERT_TRUE(a && host.acquire("b"));
  const auto grow = [&](std::int64_t bytes) {
    std::promise<Status> done;
    host.post([&] { done.set_value(host.grow("a", bytes)); });
    return done.get_future().get();
  };
  EXPECT_TRUE(grow(2 * kGb));
  EXPECT_NE(host.peek("b"), nullptr);
  EXPECT_TRUE(grow(kGb));  // b, unused, makes room
  EXPECT_EQ(host.peek("b"), nullptr);
  EXPECT_EQ(info(host, "a").bytes, 7 * kGb);
  EXPECT_EQ(grow(4 * kGb).error().kind, ErrorKind::kResource);
  EXPECT_TRUE(grow(-3 * kGb));
  EXPECT_TRUE(host.acquire("b"));
}

TEST(ModelHost, TooManyWhoWaitAreRefused) {
  Meter meter;
  std::atomic<bool> loading{false}, go_on{false};
  std::atomic<int> got{0};
  ModelHost host({.max_waiting = 2});
  ModelHost::Source slow = source(meter, "slow", 1);
  slow.load = [&]() -> Result<std::unique_ptr<ModelHost::Resident>> {
    loading = true;
    while (!go_on) std::this_thread::yield();
    return std::make_unique<Block>(meter, 1);
  };
  ASSERT_TRUE(host.add(std::move(slow)));
  for (int i = 0; i < 2; ++i) host.acquire("slow", [&](auto lease) { got += lease.has_value(); });
  const auto refused = host.acquire("slow");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kResource);
  EXPECT_EQ(refused.error().message, "too many requests wait for the model slow");
  go_on = true;
  EXPECT_TRUE(soon([&] { return got == 2; }));
}

// Runs on the host's thread, where replace() belongs, and gives what it gave.
Status replace(ModelHost& host, ModelHost::Source source, bool unload_first = false) {
  std::promise<Status> done;
  host.post([&] { done.set_value(host.replace(std::move(source), unload_first)); });
  return done.get_future().get();
}
std::int64_t size_of(const Result<ModelHost::Lease>& lease) { return (*lease)->bytes(); }

TEST(ModelHost, AReplacedModelStaysForItsUsersAndIsCountedUntilThen) {
  Meter meter;
  ModelHost host(limits(10 * kGb));
  ASSERT_TRUE(host.add(source(meter, "a", 4 * kGb)));
  ASSERT_TRUE(host.add(source(meter, "b", 5 * kGb)));
  auto old = host.acquire("a");
  ASSERT_TRUE(replace(host, source(meter, "a", 3 * kGb)));
  const auto next = host.acquire("a");
  EXPECT_EQ(size_of(next), 3 * kGb);
  EXPECT_EQ(size_of(old), 4 * kGb);
  EXPECT_EQ(info(host, "a").replaced, 1);
  const auto refused = host.acquire("b");  // 4 + 3 are there, and the 4 are in use
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kResource);
  EXPECT_NE(refused.error().message.find("replaced models"), std::string::npos) << refused.error().message;
  *old = nullptr;
  EXPECT_TRUE(soon([&] { return meter.now == 3 * kGb; }));  // without anybody asking for anything
  EXPECT_EQ(info(host, "a").replaced, 0);
  EXPECT_TRUE(host.acquire("b"));
  EXPECT_EQ(meter.most, 8 * kGb);
}

TEST(ModelHost, WithoutRoomForBothItIsSaidAndTheOldOneMayGoFirst) {
  Meter meter;
  ModelHost host({.bytes = 10 * kGb, .patience = std::chrono::minutes(10)});
  ASSERT_TRUE(host.add(source(meter, "a", 6 * kGb)));
  auto old = host.acquire("a");
  const auto refused = replace(host, source(meter, "a", 5 * kGb));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kResource);
  EXPECT_NE(refused.error().message.find("beside the 6.00 GB"), std::string::npos) << refused.error().message;
  EXPECT_EQ(size_of(host.acquire("a")), 6 * kGb);

  auto replacing = std::async(std::launch::async, [&] { return replace(host, source(meter, "a", 5 * kGb), true); });
  ASSERT_TRUE(soon([&] { return info(host, "a").leaving; }));
  std::vector<std::future<std::int64_t>> later;  // they come while the old one is still in use, and wait
  for (int i = 0; i < 3; ++i)
    later.push_back(std::async(std::launch::async, [&] { return size_of(host.acquire("a")); }));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(later[0].wait_for(std::chrono::milliseconds(0)), std::future_status::timeout);
  *old = nullptr;
  EXPECT_TRUE(replacing.get());
  for (auto& size : later) EXPECT_EQ(size.get(), 5 * kGb);
  EXPECT_EQ(meter.most, 6 * kGb);
}

TEST(ModelHost, WhatCannotReplaceLeavesTheOldOne) {
  Meter meter;
  ModelHost host(limits(10 * kGb));
  ASSERT_TRUE(host.add(source(meter, "a", 6 * kGb)));
  ModelHost::Source broken = source(meter, "a", 2 * kGb);
  broken.load = []() -> Result<std::unique_ptr<ModelHost::Resident>> { return fail(ErrorKind::kBadInput, "torn"); };
  ModelHost::Source unreadable = broken;
  unreadable.need = []() -> Result<std::int64_t> { return fail(ErrorKind::kBadInput, "no header"); };
  EXPECT_EQ(replace(host, source(meter, "nobody", 1)).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(replace(host, unreadable).error().message, "no header");  // not loaded yet: it is only looked at
  ASSERT_TRUE(host.acquire("a"));
  for (const bool unload_first : {false, true}) {
    EXPECT_EQ(replace(host, unreadable, unload_first).error().message, "no header");
    EXPECT_EQ(replace(host, broken, unload_first).error().message, "torn");
    EXPECT_EQ(size_of(host.acquire("a")), 6 * kGb);
    EXPECT_EQ(info(host, "a").bytes, 6 * kGb);
  }
  const auto lease = host.acquire("a");  // in use, and nobody is waited for
  const auto in_use = replace(host, source(meter, "a", 7 * kGb), true);
  ASSERT_FALSE(in_use);
  EXPECT_NE(in_use.error().message.find("in use"), std::string::npos) << in_use.error().message;
  EXPECT_FALSE(info(host, "a").leaving);
  EXPECT_EQ(size_of(host.acquire("a")), 6 * kGb);
}

TEST(ModelHost, ReplacedUnderLoadEverybodyGetsOneOfThem) {
  Meter meter;
  ModelHost host({.bytes = 40, .patience = std::chrono::minutes(10)});
  ASSERT_TRUE(host.add(source(meter, "a", 10)));
  std::atomic<bool> stop{false};
  std::atomic<int> served{0}, failed{0};
  std::vector<std::thread> users;
  for (int t = 0; t < 3; ++t)
    users.emplace_back([&] {
      while (!stop) {
        const auto lease = host.acquire("a");
        ++(lease && (size_of(lease) == 10 || size_of(lease) == 11) ? served : failed);
        if (served % 7 == 0) std::this_thread::yield();
      }
    });
  for (int i = 0; i < 200 || served < 1000; ++i) {
    const auto done = replace(host, source(meter, "a", 10 + i % 2), i % 3 == 0);
    EXPECT_TRUE(done) << done.error().message;
  }
  stop = true;
  for (auto& user : users) user.join();
  EXPECT_EQ(failed, 0);
  EXPECT_LE(meter.most, 40);
  EXPECT_TRUE(soon([&] { return meter.now <= 11; }));
}

TEST(ModelHost, StoppingTellsThoseWhoWait) {
  Meter meter;
  std::atomic<bool> loading{false}, go_on{false}, turned_away{false};
  Result<ModelHost::Lease> first = fail(ErrorKind::kFailed, ""), second = fail(ErrorKind::kFailed, "");
  {
    ModelHost host({});
    ModelHost::Source slow = source(meter, "slow", 1);
    slow.load = [&]() -> Result<std::unique_ptr<ModelHost::Resident>> {
      loading = true;
      while (!go_on) std::this_thread::yield();
      return std::make_unique<Block>(meter, 1);
    };
    ASSERT_TRUE(host.add(std::move(slow)));
    ASSERT_TRUE(host.add(source(meter, "other", 1)));
    ASSERT_TRUE(host.add(source(meter, "third", 1)));
    host.acquire("slow", [&](auto lease) { first = std::move(lease); });
    while (!loading) std::this_thread::yield();
    host.acquire("other", [&](auto lease) { second = std::move(lease); });
    // The slow one is there once the host has begun to stop: whoever comes then is turned away at once.
    std::thread later([&] {
      for (; !turned_away; std::this_thread::sleep_for(std::chrono::milliseconds(1)))
        host.acquire("third", [&](auto lease) { turned_away = turned_away || !lease; });
      go_on = true;
    });
    host.stop();
    later.join();
  }
  EXPECT_TRUE(first.has_value());
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().kind, ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace qw::engine
