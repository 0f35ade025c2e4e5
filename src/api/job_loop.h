// Has the jobs of one kind done, one after the other: claims one, runs it, looks for the next. A job whose service died
// is claimed by another when its lease is over.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "store/store.h"

namespace qw::api {

class JobLoop {
 public:
  struct Options {
    std::string kind;
    std::chrono::milliseconds lease{30'000};  // a job of a service that died waits this long
    std::chrono::milliseconds poll{2'000};    // how often other services' jobs are looked for
  };
  // Runs a job to its end, renewing the lease; or gives it back soon after stopping() says so. On the loop's thread.
  // kRefused: it is another's by now; other errors are logged, and the job is left to its lease.
  using Run = std::function<Status(store::Job job)>;

  // `store` must outlive this object. `instance`: names this service in leases.
  JobLoop(store::Store& store, std::string instance, Options options, Run run);
  ~JobLoop();  // stop()
  JobLoop(const JobLoop&) = delete;
  JobLoop& operator=(const JobLoop&) = delete;

  void wake();  // a job was added: need not wait for the next look
  void stop();  // returns when what runs was given back
  bool stopping();

 private:
  void loop();

  store::Store& store_;
  const std::string instance_;
  const Options options_;
  const Run run_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false, woken_ = false;
  std::thread thread_;
};

}  // namespace qw::api
