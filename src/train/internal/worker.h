// A thread that works beside the one that drives a run.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/result.h"

namespace qw::train {

// Does what it is given, one after the other, in a thread of its own.
class Worker {
 public:
  Worker() : thread_([this] { work(); }) {}
  ~Worker() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  void give(std::function<Status()> job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    changed_.notify_all();
  }
  // Until all is done; the first error there was.
  Status wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return jobs_.empty() && !busy_; });
    return status_;
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return ends_ || !jobs_.empty(); });
      if (ends_) return;
      const auto job = std::move(jobs_.front());
      jobs_.pop_front();
      busy_ = true;
      const bool goes_on = status_.has_value();
      lock.unlock();
      Status status = goes_on ? job() : Status{};
      lock.lock();
      if (goes_on) status_ = std::move(status);
      busy_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<Status()>> jobs_;
  Status status_;
  bool busy_ = false, ends_ = false;
  std::thread thread_;
};

}  // namespace qw::train
