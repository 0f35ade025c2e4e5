// Several models in one process under one memory budget: loaded when somebody asks for them, unloaded when another
// needs the room (least recently used first) or when nobody used them for a while.
//
// What a model is and how it is loaded is the caller's (a Source). Who uses one holds a lease; while a lease is out the
// model stays. Where models in use hold the room that another needs, those used longest ago take no new users until
// they have ended (what asks for them meanwhile waits for its turn), so that nobody is kept waiting for ever. Loading,
// unloading and what post() is given happen on a thread of the host's own, one after the other.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"

namespace qw::engine {

struct HostLimits {
  std::int64_t bytes = 0;                      // of all models together; 0: no limit but what Source::load refuses
  std::chrono::milliseconds unload_after{0};   // unused this long, a model is unloaded; 0: never
  std::chrono::milliseconds patience{30'000};  // how long a model waits for those in use to end
  std::size_t max_waiting = 1024;              // who waits for one model; more are refused
};

class ModelHost {
 public:
  // A loaded model. Destroyed on the host's thread, or where the last lease ends if the host is gone before.
  class Resident {
   public:
    virtual ~Resident() = default;
    virtual std::int64_t bytes() const = 0;  // of memory, which it holds whether it is used or not
  };
  using Lease = std::shared_ptr<Resident>;
  using Then = std::function<void(Result<Lease>)>;

  // Both are called on the host's thread.
  struct Source {
    std::string name;
    std::function<Result<std::int64_t>()> need;  // bytes it will hold, before anything is loaded
    std::function<Result<std::unique_ptr<Resident>>()> load;
  };
  struct Info {
    std::string name;
    bool loaded = false;
    bool leaving = false;    // takes no new users: another model waits for its room
    std::int64_t bytes = 0;  // counted against the budget; 0 unless loaded
    std::int64_t leases = 0;
    std::int64_t loads = 0;     // how often it was loaded
    std::int64_t replaced = 0;  // models that were in its place and are still in use
  };

  explicit ModelHost(HostLimits limits);
  ~ModelHost();  // stop()
  // Loads and unloads nothing more: waits for what the thread does, and tells those who wait kInterrupted. What is
  // loaded stays until the host goes.
  void stop();

  // kUsage: the name is taken.
  Status add(Source source);

  // Calls `then` once: at once on this thread if the model is loaded, else from the host's thread. kUsage: no such
  // model; kResource: it does not fit into the budget, alone or beside those in use, or too many wait for it;
  // kInterrupted: the host stops; or the loader's error. Any thread.
  void acquire(const std::string& name, Then then);
  // The same, waiting; not from the host's thread.
  Result<Lease> acquire(const std::string& name);
  // The model if it is loaded now, else null; nobody counts this as a use. Any thread.
  Lease peek(const std::string& name) const;
  // Frees a model's memory now; it is loaded again when asked for. kUsage: no such model, or it is in use. Any thread.
  Status unload(const std::string& name);

  // Puts another model in the place of the one of this name: who asks from now on gets the new one, who has the old one
  // keeps it, and it goes when the last of them ends. Both are counted meanwhile. Where there is no room for both
  // (kResource, and nothing has changed), `unload_first` makes it: new users wait until the old one's have ended (at
  // most limits().patience, else kResource) and it is gone, then the new one is loaded; if that fails, the old one is
  // again. One that is not loaded is only looked at. Errors: kUsage: no such model; those of the source. Host's thread
  // only.
  Status replace(Source source, bool unload_first);

  // Runs `task` on the host's thread; not at all if the host stops before. Any thread.
  void post(std::function<void()> task);
  // A loaded model holds `bytes` more from now on (negative: fewer). kResource: no room for them. Host's thread only.
  Status grow(const std::string& name, std::int64_t bytes);

  std::vector<Info> list() const;  // in the order they were added
  // Calls `visit` for each loaded model, replaced ones that are still in use too, after stop().
  void each(const std::function<void(Resident&)>& visit);
  const HostLimits& limits() const { return limits_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    Source source;
    Lease resident;  // null: not loaded
    bool leaving = false;
    std::int64_t bytes = 0;  // counted against the budget
    std::uint64_t used = 0;  // when it was asked for last, in calls
    Clock::time_point unused_since;
    std::int64_t loads = 0;
    std::vector<Then> waiting;
    bool idle() const { return resident != nullptr && resident.use_count() == 1; }
  };
  void run();
  void serve(Entry& entry);
  Result<Lease> load(Entry& entry);
  Result<std::vector<Lease>> make_room(std::unique_lock<std::mutex>& lock, const Entry& wanted, std::int64_t need);
  Result<std::unique_ptr<Resident>> load_beside(std::unique_lock<std::mutex>& lock, Entry& entry, const Source& source);
  Status load_instead(Entry& entry, Source source);
  Status wait_until_idle(Entry& entry);
  std::int64_t free_replaced(std::vector<Lease>& gone);
  void unload_unused();
  Entry* find(const std::string& name) const;

  const HostLimits limits_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::unique_ptr<Entry>> entries_;
  struct Replaced {
    const Entry* entry;
    Lease resident;  // held here, too, so that its end is on the host's thread
    std::int64_t bytes;
  };
  std::vector<Replaced> replaced_;
  std::deque<Entry*> queue_;  // to load, in order
  std::deque<std::function<void()>> tasks_;
  std::uint64_t calls_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace qw::engine
