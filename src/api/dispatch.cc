#include "api/dispatch.h"

#include <utility>

namespace qw::api {

InnerReply::~InnerReply() {
  if (then_)
    then_({500,
           {},
           R"({"error":{"message":"The request was not answered.","type":"server_error","param":null,"code":null}})"});
}

void InnerReply::give(net::Response response) {
  std::function<void(net::Response)> then;
  {
    const std::lock_guard lock(mutex_);
    then = std::exchange(then_, nullptr);
    on_close_ = nullptr;
  }
  if (then) then(std::move(response));
}

void InnerReply::send(net::Response response) { give(std::move(response)); }

void InnerReply::begin_stream(net::Response head, std::string) {
  const std::lock_guard lock(mutex_);
  streamed_ = std::move(head);
}

void InnerReply::write(std::string piece) {
  const std::lock_guard lock(mutex_);
  streamed_.body += piece;
}

void InnerReply::finish() {
  net::Response whole;
  {
    const std::lock_guard lock(mutex_);
    whole = std::move(streamed_);
  }
  give(std::move(whole));
}

bool InnerReply::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

void InnerReply::on_close(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) {
      on_close_ = std::move(callback);
      return;
    }
  }
  callback();
}

void InnerReply::close() {
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(closed_, true)) return;
    then_ = nullptr;  // not waited for: it may be running right now, and owns what it uses
    callback = std::exchange(on_close_, nullptr);
  }
  if (callback) callback();
}

}  // namespace qw::api
