#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
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

}  // namespace

int hardware_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

struct ThreadPool::State {
  int size = 1;
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

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  state_->size = threads <= 0 ? hardware_threads() : threads;
  for (int i = 1; i < state_->size; ++i) state_->threads.emplace_back([s = state_.get(), i] { s->work(i); });
}

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

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain,
                              FunctionRef<void(std::int64_t, std::int64_t)> body) {
  if (n <= 0) return;
  grain = std::max<std::int64_t>(1, grain);
  if (state_->size == 1 || n <= grain) {
    for (std::int64_t b = 0; b < n; b += grain) body(b, std::min(n, b + grain));
    return;
  }
  std::atomic<std::int64_t> next{0};
  run([&](int) {
    for (;;) {
      const std::int64_t b = next.fetch_add(grain, std::memory_order_relaxed);
      if (b >= n) return;
      body(b, std::min(n, b + grain));
    }
  });
}

}  // namespace qw::base
