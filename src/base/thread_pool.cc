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

// Pieces [first, last) that nobody has taken yet, in one word: their owner takes from the front, who helps from the
// back.
class alignas(64) Share {
 public:
  struct Range {
    std::int64_t begin, end;
  };
  void set(std::int64_t begin, std::int64_t end) { left_.store(word(begin, end), std::memory_order_relaxed); }
  // The first (or last) piece, or half of them; nothing: begin == end.
  Range take(bool front, bool half) {
    std::uint64_t seen = left_.load(std::memory_order_relaxed);
    for (;;) {
      const std::int64_t begin = static_cast<std::uint32_t>(seen), end = static_cast<std::int64_t>(seen >> 32);
      if (begin == end) return {0, 0};
      const std::int64_t n = half ? std::max<std::int64_t>(1, (end - begin) / 2) : 1;
      const Range taken = front ? Range{begin, begin + n} : Range{end - n, end};
      const std::uint64_t rest = front ? word(taken.end, end) : word(begin, taken.begin);
      if (left_.compare_exchange_weak(seen, rest, std::memory_order_relaxed)) return taken;
    }
  }

 private:
  static std::uint64_t word(std::int64_t begin, std::int64_t end) {
    return static_cast<std::uint64_t>(end) << 32 | static_cast<std::uint64_t>(begin);
  }
  std::atomic<std::uint64_t> left_{0};
};
// More pieces than this are dealt in several rounds, for half a word to count them.
constexpr std::int64_t kMostPieces = std::int64_t{1} << 31;

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
  int size = 1;
  std::vector<Share> shares;                   // of each worker
  std::vector<std::vector<std::size_t>> help;  // of each worker: whose shares it takes from, its own first
  std::vector<std::size_t> turn;               // workers in the order of their shares
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
  const auto size = placement.places.size();
  s.shares = std::vector<Share>(size);
  for (std::size_t i = 0; i < size; ++i) s.turn.push_back(i);
  const auto node = [&](std::size_t worker) { return placement.places[worker].node; };
  std::stable_sort(s.turn.begin(), s.turn.end(), [&](std::size_t a, std::size_t b) { return node(a) < node(b); });
  for (std::size_t i = 0; i < size; ++i) {
    std::vector<std::size_t> order(size);
    for (std::size_t j = 0; j < size; ++j) order[j] = (i + j) % size;
    std::stable_partition(order.begin(), order.end(), [&](std::size_t other) { return node(other) == node(i); });
    s.help.push_back(std::move(order));
  }
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

void ThreadPool::deal(std::int64_t pieces, Pieces at_once, FunctionRef<void(std::int64_t, std::int64_t)> body) {
  State& s = *state_;
  const bool half = at_once == Pieces::kHalf;
  for (std::int64_t first = 0; first < pieces; first += kMostPieces) {
    const std::int64_t n = std::min(kMostPieces, pieces - first);
    for (std::int64_t i = 0; i < s.size; ++i)
      s.shares[s.turn[static_cast<std::size_t>(i)]].set(n * i / s.size, n * (i + 1) / s.size);
    run([&](int worker) {
      const auto self = static_cast<std::size_t>(worker);
      for (const std::size_t owner : s.help[self]) {
        for (;;) {
          const Share::Range taken = s.shares[owner].take(owner == self, half);
          if (taken.begin == taken.end) break;
          body(first + taken.begin, first + taken.end);
        }
      }
    });
  }
}

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain, FunctionRef<void(std::int64_t, std::int64_t)> body) {
  if (n <= 0) return;
  grain = std::max<std::int64_t>(1, grain);
  if (state_->size == 1 || n <= grain) {
    for (std::int64_t b = 0; b < n; b += grain) body(b, std::min(n, b + grain));
    return;
  }
  deal((n + grain - 1) / grain, Pieces::kOne,
       [&](std::int64_t piece, std::int64_t) { body(piece * grain, std::min(n, (piece + 1) * grain)); });
}

void ThreadPool::parallel_ranges(std::int64_t n, FunctionRef<void(std::int64_t, std::int64_t)> body) {
  if (n <= 0) return;
  if (state_->size == 1 || n == 1) return body(0, n);
  deal(n, Pieces::kHalf, body);
}

}  // namespace qw::base
