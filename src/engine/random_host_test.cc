// The lives of random_test.cc with a thread for each engine and several that ask: in one memory budget that two of
// three models fit into, which come when they are asked for and go when nobody does, with adapters loaded and unloaded
// on the host's thread as a service does it. For ThreadSanitizer; QW_SLOW=1: 100,000 steps.
#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <thread>

#include "engine/internal/random_lives.h"
#include "engine/internal/tiny_adapters.h"
#include "engine/model_host.h"

namespace qw::engine::lives {
namespace {

constexpr std::int64_t kModelBytes = 100, kAdapterBytes = 1, kBudget = 2 * kModelBytes + 10;
constexpr std::size_t kMostAdapters = 4;
constexpr const char* kModels[] = {"plain", "with states", "with threads"};

// What all models share.
struct Estate {
  std::vector<ops::PreparedAdapter> adapters = tiny_adapters("qwen3", 3);
  std::atomic<std::int64_t> steps{0}, bytes{0}, most_bytes{0}, ended{0};
  std::mutex mutex;
  Tally tally;

  void take(std::int64_t taken) {
    const std::int64_t now = bytes += taken;
    for (std::int64_t most = most_bytes; most < now && !most_bytes.compare_exchange_weak(most, now);) {
    }
  }
};

class Hosted final : public ModelHost::Resident {
 public:
  Hosted(Estate& estate, bool with_states, int threads, std::uint64_t seed)
      : with_states_(with_states),
        estate_(estate),
        threads_(threads),
        house_(with_states, threads > 1 ? &threads_ : nullptr, false),
        rng_(seed) {
    estate_.take(kModelBytes);
    for (std::size_t a = 0; a < estate_.adapters.size(); ++a)
      house_.executor->voices[estate_.adapters[a].get()] = kFirstAdapters + static_cast<std::int32_t>(a);
    house_.executor->before_run = [this] {
      ++estate_.steps;
      if (rng_.below(400) == 0) house_.executor->fail_next = true;
    };
    house_.engine->start();
  }
  // Nobody holds a lease, so every life has ended and was told of.
  ~Hosted() override {
    house_.engine->drain();
    tally_.expect(house_.engine->stats());
    for (const AdapterInfo& a : house_.engine->adapters()) EXPECT_EQ(a.requests, 0);
    house_.engine->stop();
    EXPECT_EQ(house_.engine->violation(), "");
    estate_.take(-kModelBytes - kAdapterBytes * static_cast<std::int64_t>(added_));
    ++estate_.ended;
    const std::lock_guard lock(estate_.mutex);
    estate_.tally.add(tally_);
  }
  std::int64_t bytes() const override { return kModelBytes; }
  Engine& engine() { return *house_.engine; }
  bool with_states() const { return with_states_; }

  // Gives the life an adapter and submits it. False: the adapter had just gone.
  bool submit(const std::shared_ptr<Life>& life, base::Rng& rng) {
    const std::vector<Voice> voices = [&] {
      const std::lock_guard lock(mutex_);
      return voices_;
    }();
    const Voice chosen = voices[rng.below(voices.size())];
    life->request.adapter = chosen.id;
    life->voice = chosen.voice;
    Request r = copy_of(life->request);
    r.sink = life;
    const auto id = engine().submit(std::move(r));
    if (!id) {
      EXPECT_GE(chosen.id, kFirstAdapters) << id.error().message;
      EXPECT_EQ(id.error().kind, ErrorKind::kUsage) << id.error().message;
      return false;
    }
    life->id = *id;
    return true;
  }
  void ended(const Finished& f) {
    const std::lock_guard lock(mutex_);
    tally_.add(f);
  }

  // On the host's thread: one more adapter, or one fewer.
  void change_adapters(ModelHost& host, const std::string& name, base::Rng& rng) {
    if (added_ > 0 && (added_ >= kMostAdapters || rng.below(2) == 0)) {
      Voice gone;
      {
        const std::lock_guard lock(mutex_);
        const auto at = voices_.end() - 1 - static_cast<std::ptrdiff_t>(rng.below(added_));
        gone = *at;
        voices_.erase(at);
      }
      ASSERT_TRUE(engine().remove_adapter(gone.id));
      ASSERT_TRUE(host.grow(name, -kAdapterBytes));
      estate_.take(-kAdapterBytes);
      --added_;
      return;
    }
    const auto which = rng.below(estate_.adapters.size());
    if (!host.grow(name, kAdapterBytes)) return;  // the budget is full of models in use
    estate_.take(kAdapterBytes);
    const auto id = engine().add_adapter(estate_.adapters[which]);
    ASSERT_TRUE(id) << id.error().message;
    const std::lock_guard lock(mutex_);
    voices_.push_back({*id, kFirstAdapters + static_cast<std::int32_t>(which)});
    ++added_;
  }

 private:
  bool with_states_;
  Estate& estate_;
  base::ThreadPool threads_;
  House house_;
  base::Rng rng_;          // the engine's thread's
  std::size_t added_ = 0;  // the host's thread's
  std::mutex mutex_;
  std::vector<Voice> voices_ = first_voices();
  Tally tally_;
};

// Asks for models, as many at once as a connection pool might, and lives with what it gets.
class Client {
 public:
  Client(Estate& estate, ModelHost& host, std::uint64_t seed) : estate_(estate), host_(host), rng_(seed) {}

  void run() {
    for (;;) {
      const bool ending = estate_.steps >= steps_wanted();
      if (ending && lives_.empty() && asked_ == 0) return;
      if (!ending && lives_.size() + asked_ < 8) {
        ask();
      } else {
        std::this_thread::yield();
      }
      move_in();
      if (!lives_.empty() && rng_.below(100) == 0) {
        const Guest& guest = lives_[rng_.below(lives_.size())];
        guest.model->engine().cancel(guest.life->id);
      }
      for (const Guest& guest : lives_) ASSERT_NO_FATAL_FAILURE(extend(guest));
      collect();
    }
  }
  std::int64_t refused() const { return refused_; }

 private:
  struct Guest {
    ModelHost::Lease lease;
    Hosted* model;
    std::shared_ptr<Life> life;
  };

  // Mostly the model of the season, so that others are idle for a while.
  void ask() {
    const auto season = static_cast<std::uint64_t>(estate_.steps / 250);
    const std::uint64_t which = rng_.below(8) != 0 ? season % 3 : rng_.below(3);
    ++asked_;
    host_.acquire(kModels[which], [this](Result<ModelHost::Lease> lease) {
      const std::lock_guard lock(mutex_);
      arrived_.push_back(std::move(lease));
    });
  }
  void move_in() {
    std::vector<Result<ModelHost::Lease>> arrived;
    {
      const std::lock_guard lock(mutex_);
      std::swap(arrived, arrived_);
    }
    for (auto& lease : arrived) {
      --asked_;
      if (!lease) {
        EXPECT_EQ(lease.error().kind, ErrorKind::kResource) << lease.error().message;
        ++refused_;
        continue;
      }
      auto* model = static_cast<Hosted*>(lease->get());
      const EngineStats stats = model->engine().stats();
      EXPECT_LE(stats.free_blocks, kBlocks);
      auto life = random_life(rng_, Clock::now(), first_voices());
      if (model->submit(life, rng_)) lives_.push_back({std::move(*lease), model, std::move(life)});
    }
  }
  void extend(const Guest& guest) {
    Life& life = *guest.life;
    if (!life.request.open) return;
    if (life.closes_after > 0 && rng_.below(4) == 0) {
      const auto token = static_cast<TokenId>(rng_.below(kWords));
      life.text.push_back(token);
      ASSERT_TRUE(guest.model->engine().extend(life.id, {token}));
      if (--life.closes_after == 0) guest.model->engine().close(life.id);
    } else if (life.closes_after == 0) {
      guest.model->engine().close(life.id);
    }
  }
  void collect() {
    std::erase_if(lives_, [&](const Guest& guest) {
      if (!guest.life->done) return false;
      guest.model->ended(*guest.life->finished);
      expect_as_alone(*guest.life, guest.model->with_states());
      return true;
    });
  }

  Estate& estate_;
  ModelHost& host_;
  base::Rng rng_;
  std::vector<Guest> lives_;
  std::size_t asked_ = 0;
  std::int64_t refused_ = 0;
  std::mutex mutex_;
  std::vector<Result<ModelHost::Lease>> arrived_;
};

TEST(RandomHost, ModelsAdaptersAndRequestsComeAndGo) {
  Estate estate;
  std::int64_t loads = 0, refused = 0;
  {
    ModelHost host({.bytes = kBudget, .unload_after = std::chrono::milliseconds(3)});
    std::uint64_t seed = 1;
    for (const char* name : kModels) {
      const bool with_states = name == kModels[1];
      const int threads = name == kModels[2] ? 2 : 1;
      ASSERT_TRUE(host.add({name, [] { return Result<std::int64_t>(kModelBytes); },
                            [&, with_states, threads]() -> Result<std::unique_ptr<ModelHost::Resident>> {
                              return std::make_unique<Hosted>(estate, with_states, threads, seed++);
                            }}));
    }
    std::thread librarian([&] {
      base::Rng rng(99);
      while (estate.steps < steps_wanted()) {
        std::promise<void> done;
        host.post([&] {
          const std::string name = kModels[rng.below(3)];
          if (const auto lease = host.peek(name)) static_cast<Hosted&>(*lease).change_adapters(host, name, rng);
          done.set_value();
        });
        done.get_future().wait();
        std::this_thread::sleep_for(std::chrono::microseconds(rng.below(500)));
      }
    });
    std::vector<std::unique_ptr<Client>> clients;
    std::vector<std::thread> people;
    for (std::uint64_t c = 0; c < 4; ++c) {
      clients.push_back(std::make_unique<Client>(estate, host, 100 + c));
      people.emplace_back([client = clients.back().get()] { client->run(); });
    }
    for (auto& t : people) t.join();
    librarian.join();
    for (const auto& client : clients) refused += client->refused();
    for (const auto& info : host.list()) {
      EXPECT_GT(info.loads, 0) << info.name;
      EXPECT_EQ(info.leases, 0) << info.name;
      loads += info.loads;
    }
    host.stop();
  }
  EXPECT_GT(loads, 6) << "models went and came back";
  EXPECT_EQ(estate.ended, loads);
  EXPECT_EQ(estate.bytes, 0);
  EXPECT_LE(estate.most_bytes, kBudget);
  EXPECT_GT(estate.tally.reasons[FinishReason::kStop] + estate.tally.reasons[FinishReason::kLength], 100);
  EXPECT_LT(refused, 100) << "the models in use gave way";
  EXPECT_GT(estate.tally.accepted, 0);
  std::printf("%lld loads, %lld refused, %lld preempted, %lld drafts right of %lld\n", static_cast<long long>(loads),
              static_cast<long long>(refused), static_cast<long long>(estate.tally.preempted),
              static_cast<long long>(estate.tally.accepted), static_cast<long long>(estate.tally.drafted));
}

}  // namespace
}  // namespace qw::engine::lives
