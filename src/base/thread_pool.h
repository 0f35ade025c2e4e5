// A fixed set of worker threads that run one data-parallel section at a time.
//
// The pool never decides *what* is computed: callers split work into pieces whose results do not depend on which
// thread runs them, so any thread count gives the same bytes (docs/adr/0003-reproducible-results.md).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "base/topology.h"

namespace qw::base {

// A non-owning reference to a callable; lives only as long as the call it is passed to.
template <class Signature>
class FunctionRef;
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
  FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(static_cast<Args>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, static_cast<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

// Where the system may run the workers that a pool starts. The thread that drives a pool is the caller's own and is
// left alone.
enum class Pinning : std::uint8_t {
  kOff,         // anywhere
  kCaches,      // on the processors that share a last-level cache and a memory node with the worker's place
  kProcessors,  // on the worker's place alone: for a machine that does nothing else
};
// QW_PIN=off|caches|processors, or nothing where it is not set.
Result<std::optional<Pinning>> chosen_pinning();

// Where the workers of a pool run: worker i near places[i] of `machine`.
struct Placement {
  std::vector<Processor> places;
  std::vector<Processor> machine;
  Pinning pinning = Pinning::kOff;
};
// Of `threads` workers. Where nothing is asked for, caches and nodes are kept apart if there are several and there is a
// worker for every core: pools with fewer, of this process or others, would all be put upon the first of them.
Placement placement(std::vector<Processor> machine, int threads, std::optional<Pinning> asked);

class ThreadPool {
 public:
  // `threads` counts the calling thread: ThreadPool(1) starts none. threads <= 0 means one per hardware thread. Workers
  // are placed as this machine is built and QW_PIN says; a QW_PIN that chosen_pinning() refuses pins nothing, for
  // programs check it before they begin.
  explicit ThreadPool(int threads);
  explicit ThreadPool(const Placement& placement);  // with one place at least
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Calls body(worker) once for each worker 0..size()-1, in parallel; returns when all are done. Only one thread may
  // drive a pool at a time, and `body` must not call run() again. Never throws; `body` must not throw.
  void run(FunctionRef<void(int worker)> body);

  // Calls body(begin, end) over [0, n) cut into pieces of `grain` (the last may be shorter). Which worker gets which
  // piece is not specified; body must write only to places owned by its piece. Every worker begins with a share of its
  // own, front to back, and then helps the others, those of its memory node first; shares of a node lie together. So
  // what lies in memory along the range is read in few long runs, and by the node that touched it first.
  void parallel_for(std::int64_t n, std::int64_t grain, FunctionRef<void(std::int64_t begin, std::int64_t end)> body);

  // The same in pieces of any length, each as long as what is left allows: long at first, and down to 1 at the end. For
  // work that goes faster in long pieces, of which the last ought to be short.
  void parallel_ranges(std::int64_t n, FunctionRef<void(std::int64_t begin, std::int64_t end)> body);

 private:
  struct State;
  enum class Pieces : std::uint8_t { kOne, kHalf };  // how many of those left a worker takes at a time
  void deal(std::int64_t pieces, Pieces at_once, FunctionRef<void(std::int64_t begin, std::int64_t end)> body);
  std::unique_ptr<State> state_;
};

// Number of CPUs this process may use (affinity mask respected), at least 1.
int hardware_threads();

}  // namespace qw::base
