// Several models in one process under one memory budget: loaded when somebody asks for them, unloaded when another
// needs the room and nobody uses them, least recently used first.
//
// What a model is and how it is loaded is the caller's (a Source). Who uses one holds a lease; while a lease is out the
// model stays. Loading happens on a thread of the host's own, one model after the other.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"

namespace qw::engine {

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
    std::int64_t bytes = 0;  // held; 0 unless loaded
    std::int64_t leases = 0;
    std::int64_t loads = 0;  // how often it was loaded
  };

  // `budget`: bytes of all models together; 0: no limit but what Source::load itself refuses.
  explicit ModelHost(std::int64_t budget);
  ~ModelHost();  // stop()
  // Loads nothing more: waits for the model that is being loaded, and tells those who wait for one kInterrupted. What
  // is loaded stays until the host goes.
  void stop();

  // kUsage: the name is taken.
  Status add(Source source);

  // Calls `then` once: at once on this thread if the model is loaded, else from the host's thread. kUsage: no such
  // model; kResource: it does not fit into the budget, alone or beside those in use; or the loader's error. Any thread.
  void acquire(const std::string& name, Then then);
  // The same, waiting.
  Result<Lease> acquire(const std::string& name);
  // Frees a model's memory now; it is loaded again when asked for. kUsage: no such model, or it is in use. Any thread.
  Status unload(const std::string& name);

  // Calls `visit` for each loaded model.
  void each(const std::function<void(Resident&)>& visit);
  std::vector<Info> list() const;  // in the order they were added
  std::int64_t budget() const { return budget_; }

 private:
  struct Entry {
    Source source;
    Lease resident;          // null: not loaded
    std::int64_t bytes = 0;  // counted against the budget
    std::uint64_t used = 0;  // when it was asked for last, in calls
    std::int64_t loads = 0;
    std::vector<Then> waiting;
    bool idle() const { return resident != nullptr && resident.use_count() == 1; }
  };
  void run();
  Result<Lease> load(Entry& entry);
  Result<std::vector<Lease>> make_room(const Entry& wanted, std::int64_t need);
  Entry* find(const std::string& name);

  const std::int64_t budget_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<Entry*> queue_;  // to load, in order
  std::uint64_t calls_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace qw::engine
