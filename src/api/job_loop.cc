#include "api/job_loop.h"

#include <utility>

#include "base/log.h"

namespace qw::api {

JobLoop::JobLoop(store::Store& store, std::string instance, Options options, Run run)
    : store_(store),
      instance_(std::move(instance)),
      options_(std::move(options)),
      run_(std::move(run)),
      thread_([this] { loop(); }) {}

JobLoop::~JobLoop() { stop(); }

void JobLoop::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_one();
}

void JobLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

bool JobLoop::stopping() {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

void JobLoop::loop() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      woken_ = false;
    }
    auto job = store_.jobs().claim(options_.kind, instance_, std::chrono::microseconds(options_.lease).count());
    if (!job) base::log_error(options_.kind + ": " + job.error().message);
    if (job && *job) {
      const std::string id = (*job)->id;
      const Status done = run_(std::move(**job));
      if (done || done.error().kind == ErrorKind::kRefused) continue;
      base::log_error(options_.kind + " " + id + ": " + done.error().message);
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, options_.poll, [this] { return stopping_ || woken_; });
  }
}

}  // namespace qw::api
