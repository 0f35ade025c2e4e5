#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace qw::base {
namespace {

// Spin this many pause instructions (about 50 µs) before parking: sections of one engine step follow each other within
// microseconds, and waking a parked thread costs more than that.
constexpr int kSpinLimit = 2000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// Where worker i may run; none: anywhere.
cpu_set_t processors_near(const Placement& placement, std::size_t i) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (placement.pinning == Pinning::kOff) return set;
  const Processor& place = placement.places[i];
  for (const Processor& p : placement.machine) {
    const bool near = p.cache == place.cache && p.node == place.node;
    if ((placement.pinning == Pinning::kCaches ? near : p.id == place.id) && p.id < CPU_SETSIZE)
      CPU_SET(static_cast<unsigned>(p.id), &set);
  }
  return set;
}

// On this machine, as the first pool of the process found it.
Placement placement_here(int threads) {
  if (threads <= 1) return {{Processor{}}, {}, Pinning::kOff};
  static const std::vector<Processor> machine = read_topology(allowed_processors());
  return placement(machine, threads, chosen_pinning().value_or(Pinning::kOff));
}

}  // namespace

Result<std::optional<Pinning>> chosen_pinning() {
  const char* text = std::getenv("QW_PIN");
  const std::string_view word = text == nullptr ? "" : text;
  if (word.empty()) return std::nullopt;
  if (word == "off") return Pinning::kOff;
  if (word == "caches") return Pinning::kCaches;
  if (word == "processors") return Pinning::kProcessors;
  return fail(ErrorKind::kUsage, "QW_PIN=" + std::string(word) + ": expected off, caches or processors");
}

Placement placement(std::vector<Processor> machine, int threads, std::optional<Pinning> asked) {
  std::set<int> cores;
  std::set<std::pair<int, int>> groups;
  for (const Processor& p : machine) {
    cores.insert(p.core);
    groups.emplace(p.node, p.cache);
  }
  if (!asked) asked = groups.size() > 1 && threads >= std::ssize(cores) ? Pinning::kCaches : Pinning::kOff;
  if (*asked == Pinning::kOff) return {std::vector<Processor>(static_cast<std::size_t>(threads)), {}, Pinning::kOff};
  std::vector<Processor> places = place_workers(machine, threads);
  return {std::move(places), std::move(machine), *asked};
}

int hardware_threads() { return static_cast<int>(allowed_processors().size()); }

struct ThreadPool::State {
  // What is left of a memory node's share of a range.
  struct alignas(64) Share {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
    int workers = 0;
  };
  int size = 1;
  std::vector<std::size_t> share_of;  // of each worker
  std::vector<Share> shares;
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable wake, finished;
  // Who sleeps says so before it looks at what it waits for, and who changes that looks at who sleeps afterwards, both
  // sequentially consistent: one of the two sees the other, and while all spin nobody touches the mutex.
  std::atomic<int> sleepers{0};
  std::atomic<bool> caller_sleeps{false};
  std::atomic<bool> stop{false};
  const FunctionRef<void(int)>* body = nullptr;
  // Of different writers, so on lines of their own.
  alignas(64) std::atomic<std::uint64_t> generation{0};
  alignas(64) std::atomic<int> pending{0};

  void work(int worker) {
    std::uint64_t seen = 0;
    for (;;) {
      int spins = 0;
      while (generation.load(std::memory_order_acquire) == seen && !stop.load(std::memory_order_acquire)) {
        if (++spins < kSpinLimit) {
          pause();
          continue;
        }
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, [&] { return generation.load() != seen || stop.load(); });
        sleepers.fetch_sub(1);
      }
      if (stop.load(std::memory_order_acquire)) return;
      seen = generation.load(std::memory_order_acquire);
      (*body)(worker);
      if (pending.fetch_sub(1) == 1 && caller_sleeps.load()) {
        std::lock_guard lock(mutex);
        finished.notify_one();
      }
    }
  }
};

ThreadPool::ThreadPool(const Placement& placement) : state_(std::make_unique<State>()) {
  State& s = *state_;
  QW_CHECK(!placement.places.empty());
  s.size = static_cast<int>(placement.places.size());
  std::vector<int> nodes, workers;
  for (const Processor& p : placement.places) {
    const auto at = std::find(nodes.begin(), nodes.end(), p.node);
    s.share_of.push_back(static_cast<std::size_t>(at - nodes.begin()));
    if (at == nodes.end()) {
      nodes.push_back(p.node);
      workers.push_back(0);
    }
    ++workers[s.share_of.back()];
  }
  s.shares = std::vector<State::Share>(nodes.size());
  for (std::size_t i = 0; i < workers.size(); ++i) s.shares[i].workers = workers[i];
  for (int i = 1; i < s.size; ++i) {
    s.threads.emplace_back([&s, i, set = processors_near(placement, static_cast<std::size_t>(i))] {
      // Where the system refuses, the thread goes on unconfined.
      if (CPU_COUNT(&set) > 0) pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
      s.work(i);
    });
  }
}

ThreadPool::ThreadPool(int threads) : ThreadPool(placement_here(threads <= 0 ? hardware_threads() : threads)) {}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stop.store(true);
  }
  state_->wake.notify_all();
  for (auto& t : state_->threads) t.join();
}

int ThreadPool::size() const { return state_->size; }

void ThreadPool::run(FunctionRef<void(int)> body) {
  State& s = *state_;
  if (s.size == 1) return body(0);
  s.body = &body;
  s.pending.store(s.size - 1, std::memory_order_release);
  s.generation.fetch_add(1);
  if (s.sleepers.load() != 0) {
    std::lock_guard lock(s.mutex);
    s.wake.notify_all();
  }
  body(0);
  for (int spins = 0; s.pending.load(std::memory_order_acquire) != 0;) {
    if (++spins < kSpinLimit) {
      pause();
      continue;
    }
    std::unique_lock lock(s.mutex);
    s.caller_sleeps.store(true);
    s.finished.wait(lock, [&] { return s.pending.load() == 0; });
    s.caller_sleeps.store(false);
  }
}

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain, FunctionRef<void(std::int64_t, std::int64_t)> body) {
  if (n <= 0) return;
  grain = std::max<std::int64_t>(1, grain);
  if (state_->size == 1 || n <= grain) {
    for (std::int64_t b = 0; b < n; b += grain) body(b, std::min(n, b + grain));
    return;
  }
  if (state_->shares.size() > 1) return shared_for(n, grain, body);
  std::atomic<std::int64_t> next{0};
  run([&](int) {
    for (;;) {
      const std::int64_t b = next.fetch_add(grain, std::memory_order_relaxed);
      if (b >= n) return;
      body(b, std::min(n, b + grain));
    }
  });
}

void ThreadPool::shared_for(std::int64_t n, std::int64_t grain, FunctionRef<void(std::int64_t, std::int64_t)> body) {
  // A share begins where the workers of the shares before it would end, in whole pieces.
  State& s = *state_;
  const std::int64_t pieces = (n + grain - 1) / grain;
  std::int64_t before = 0, begin = 0;
  for (State::Share& share : s.shares) {
    share.next.store(begin, std::memory_order_relaxed);
    before += share.workers;
    share.end = begin = std::min(n, pieces * before / s.size * grain);
  }
  run([&](int worker) {
    for (std::size_t i = 0, own = s.share_of[static_cast<std::size_t>(worker)]; i < s.shares.size(); ++i) {
      State::Share& share = s.shares[(own + i) % s.shares.size()];
      for (;;) {
        const std::int64_t b = share.next.fetch_add(grain, std::memory_order_relaxed);
        if (b >= share.end) break;
        body(b, std::min(share.end, b + grain));
      }
    }
  });
}

}  // namespace qw::base
