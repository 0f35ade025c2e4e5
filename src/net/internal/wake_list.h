// Answers with news, for the connections of one thread: that thread is told once for many of them, not for each. Any
// thread.
#pragma once

#include <boost/asio.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/put_off.h"

namespace qw::net::internal {

// `Waiting` has wake(), a timer of the thread's, and keeps alive what the thread's io_context belongs to.
template <class Waiting>
class WakeList : public std::enable_shared_from_this<WakeList<Waiting>> {
 public:
  explicit WakeList(boost::asio::io_context& io) : io_(io) {}

  void add(std::shared_ptr<Waiting> one) {
    {
      const std::lock_guard lock(mutex_);
      list_.push_back(one);
      if (std::exchange(called_, true)) return;
    }
    std::function<void()> call = [self = this->shared_from_this(), one = std::move(one)] {
      boost::asio::post(self->io_, [self, one] { self->wake_all(); });
    };
    if (!base::put_off(call)) call();
  }

 private:
  void wake_all() {
    std::vector<std::shared_ptr<Waiting>> list;
    {
      const std::lock_guard lock(mutex_);
      list.swap(list_);
      called_ = false;
    }
    for (const auto& one : list) one->wake().cancel();
  }

  boost::asio::io_context& io_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Waiting>> list_;
  bool called_ = false;
};

}  // namespace qw::net::internal
