// A fixed set of worker threads that run one data-parallel section at a time.
//
// The pool never decides *what* is computed: callers split work into pieces whose results do not depend on which
// thread runs them, so any thread count gives the same bytes (docs/adr/0003-reproducible-results.md).
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

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
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(static_cast<Args>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, static_cast<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

class ThreadPool {
 public:
  // `threads` counts the calling thread: ThreadPool(1) starts none. threads <= 0 means one per hardware thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Calls body(worker) once for each worker 0..size()-1, in parallel; returns when all are done. Only one thread may
  // drive a pool at a time, and `body` must not call run() again. Never throws; `body` must not throw.
  void run(FunctionRef<void(int worker)> body);

  // Calls body(begin, end) over [0, n) cut into pieces of `grain` (the last may be shorter). Which worker gets which
  // piece is not specified; body must write only to places owned by its piece.
  void parallel_for(std::int64_t n, std::int64_t grain, FunctionRef<void(std::int64_t begin, std::int64_t end)> body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Number of CPUs this process may use (affinity mask respected), at least 1.
int hardware_threads();

}  // namespace qw::base
