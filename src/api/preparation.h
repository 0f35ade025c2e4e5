// Threads for what a request takes before the engine has it and that is more than a moment: texts of megabytes,
// grammars that are not made yet. So that the threads of connections never do it, nor a tenant waits for another's: who
// has less running goes first, then who has waited longest.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace qw::api {

class Exchange;

class Preparation {
 public:
  // `most_waiting`: work of one tenant beyond that is refused.
  explicit Preparation(int threads, std::size_t most_waiting = 64);
  ~Preparation();  // stop()
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;

  // False: too much of this tenant's waits, or it was stopped; the work is then dropped.
  bool post(const std::string& tenant, std::function<void()> work);
  std::size_t outstanding() const;  // of all tenants: waiting and running
  // Returns when what runs has ended; what waits is dropped.
  void stop();

 private:
  struct Tenant {
    std::deque<std::function<void()>> waiting;
    std::size_t running = 0;
    std::int64_t turn = 0;  // when it last was given a thread
  };
  void run();
  const std::size_t most_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, Tenant> tenants_;  // those with something waiting or running
  std::int64_t turns_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

// Does `work` of the exchange's: at once, or if it `takes_long` on the exchange's preparation, unless the client has
// left by then. Answers 503 if too much waits.
void prepare(const std::shared_ptr<Exchange>& exchange, bool takes_long, std::function<void()> work);

}  // namespace qw::api
