// One answer between the threads that make it and the connection that sends it.
#pragma once

#include <boost/asio.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "net/http_server.h"
#include "net/internal/server_loop.h"
#include "net/internal/wake_list.h"

namespace qw::net::internal {

namespace asio = boost::asio;

// Pieces of one answer, filled by any thread, drained by the connection's coroutine.
class ReplyState : public Reply, public std::enable_shared_from_this<ReplyState> {
 public:
  // `server` is kept alive: whoever holds a reply may outlive the server object, and the timer needs its context.
  ReplyState(std::shared_ptr<void> server, Executor executor, std::shared_ptr<WakeList<ReplyState>> wakes,
             std::size_t max_pending)
      : server_(std::move(server)),
        wakes_(std::move(wakes)),
        wake_(executor, Timer::time_point::max()),
        max_pending_(max_pending) {}

  void send(Response response) override {
    std::lock_guard lock(mutex_);
    if (begun_) return;
    begun_ = done_ = true;
    head_ = std::move(response);
    notify();
  }
  void begin_stream(Response head, std::string heartbeat) override {
    std::lock_guard lock(mutex_);
    if (begun_) return;
    begun_ = streaming_ = true;
    head_ = std::move(head);
    heartbeat_ = std::move(heartbeat);
    notify();
  }
  void write(std::string piece) override {
    std::lock_guard lock(mutex_);
    if (!streaming_ || done_ || closed_ || overflow_ || piece.empty()) return;
    pending_bytes_ += piece.size();
    pieces_.push_back(std::move(piece));
    overflow_ = pending_bytes_ > max_pending_;
    if (overflow_) pieces_.clear();  // nobody will get them; the connection may notice only when its write is given up
    notify();
  }
  void finish() override {
    std::lock_guard lock(mutex_);
    if (!streaming_) return;
    done_ = true;
    notify();
  }
  void when_sent(std::function<void()> callback) override {
    {
      std::lock_guard lock(mutex_);
      if (!closed_ && !overflow_) {
        when_sent_ = std::move(callback);
        notify();
        return;
      }
    }
    callback();
  }
  bool closed() const override {
    std::lock_guard lock(mutex_);
    return closed_;
  }
  void on_close(std::function<void()> callback) override {
    {
      std::lock_guard lock(mutex_);
      if (!closed_) {
        on_close_ = std::move(callback);
        return;
      }
    }
    callback();
  }

  // Connection side ---------------------------------------------------------------------------------------------------
  void close() {
    std::function<void()> callback, sent;
    {
      std::lock_guard lock(mutex_);
      if (closed_) return;
      sent = std::exchange(when_sent_, nullptr);
      closed_ = news_ = true;  // news: the connection may be about to sleep, when cancelling its timer does nothing
      if (!complete_) callback = std::move(on_close_);
      on_close_ = nullptr;
    }
    if (callback) callback();
    if (sent) sent();
  }
  // What was taken has been written.
  void sent() {
    std::function<void()> callback;
    {
      std::lock_guard lock(mutex_);
      if (pieces_.empty()) callback = std::exchange(when_sent_, nullptr);
    }
    if (callback) callback();
  }
  void complete() {
    std::lock_guard lock(mutex_);
    complete_ = true;
    on_close_ = nullptr;
  }
  struct Next {
    bool begun = false, streaming = false, done = false, overflow = false;
    std::string data;
  };
  Next take() {
    std::lock_guard lock(mutex_);
    news_ = asleep_ = false;
    Next next{begun_, streaming_, done_, overflow_, {}};
    for (auto& piece : pieces_) next.data += piece;
    pieces_.clear();
    pending_bytes_ = 0;
    return next;
  }
  Response& head() { return head_; }
  const std::string& heartbeat() const { return heartbeat_; }
  Timer& wake() { return wake_; }
  bool begun() const {
    std::lock_guard lock(mutex_);
    return begun_;
  }
  // False: there is news since take(). True: the next news cancels wake().
  bool may_sleep() {
    std::lock_guard lock(mutex_);
    asleep_ = !news_;
    return asleep_;
  }

 private:
  void notify() {  // the timer belongs to the connection's thread
    news_ = true;
    if (std::exchange(asleep_, false)) wakes_->add(shared_from_this());
  }

  std::shared_ptr<void> server_;  // first, so that it goes last
  std::shared_ptr<WakeList<ReplyState>> wakes_;
  mutable std::mutex mutex_;
  Timer wake_;
  std::size_t max_pending_;
  Response head_;
  std::string heartbeat_;
  std::deque<std::string> pieces_;
  std::size_t pending_bytes_ = 0;
  bool begun_ = false, streaming_ = false, done_ = false, overflow_ = false;
  bool closed_ = false, complete_ = false, news_ = false, asleep_ = false;
  std::function<void()> on_close_, when_sent_;
};

// What the handler holds: when the last copy goes without an answer, the client still gets one.
class ReplyHandle : public Reply {
 public:
  // `fallback` is the server's, which the state keeps alive.
  explicit ReplyHandle(std::shared_ptr<ReplyState> state, const Response& fallback)
      : state_(std::move(state)), fallback_(fallback) {}
  ~ReplyHandle() override {
    if (!state_->begun()) state_->send(fallback_);
    state_->finish();
  }
  void send(Response r) override { state_->send(std::move(r)); }
  void begin_stream(Response head, std::string heartbeat) override {
    state_->begin_stream(std::move(head), std::move(heartbeat));
  }
  void write(std::string piece) override { state_->write(std::move(piece)); }
  void finish() override { state_->finish(); }
  void when_sent(std::function<void()> callback) override { state_->when_sent(std::move(callback)); }
  bool closed() const override { return state_->closed(); }
  void on_close(std::function<void()> callback) override { state_->on_close(std::move(callback)); }

 private:
  std::shared_ptr<ReplyState> state_;
  const Response& fallback_;
};

}  // namespace qw::net::internal
