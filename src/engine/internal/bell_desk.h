// Wakes engines behind what a thread hands in. Whoever hands in many requests one after the other (a thread of
// connections) wakes an engine once, behind the last of them: it then takes them into one step, and sleeps and wakes
// less.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "base/put_off.h"

namespace qw::engine {

// One for the process, because an engine may be gone when a thread comes to ring its bell.
class BellDesk {
 public:
  static BellDesk& of_process() {
    static BellDesk desk;
    return desk;
  }
  void open(const void* engine, std::function<void()> ring) {
    const std::lock_guard lock(mutex_);
    bells_[engine] = {std::move(ring), false};
  }
  void close(const void* engine) {
    const std::lock_guard lock(mutex_);
    bells_.erase(engine);
  }
  // When this thread has done what already lies before it, if it is one that says so; else now.
  void ring_soon(const void* engine) {
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(bells_.at(engine).soon, true)) return;  // somebody will
    }
    (void)base::put_off([ringing = std::make_shared<Ringing>(engine)] {});
  }

 private:
  struct Bell {
    std::function<void()> ring;
    bool soon = false;
  };
  // Rings when it goes, whatever becomes of the work that holds it.
  struct Ringing {
    explicit Ringing(const void* of) : engine(of) {}
    Ringing(const Ringing&) = delete;
    ~Ringing() { of_process().ring(engine); }
    const void* engine;
  };
  void ring(const void* engine) {
    const std::lock_guard lock(mutex_);
    const auto bell = bells_.find(engine);
    if (bell == bells_.end()) return;
    bell->second.soon = false;
    bell->second.ring();
  }

  std::mutex mutex_;
  std::map<const void*, Bell> bells_;
};

}  // namespace qw::engine
