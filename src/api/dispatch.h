// A request that comes from inside: a line of a batch, a step of an agent. It goes the way of every other, so the same
// checks, limits, accounts and governance hold; what would go to a client comes back by a callback.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "api/accounts.h"
#include "net/http_server.h"

namespace qw::api {

struct InnerRequest {
  std::string method = "POST", path, body;          // body: JSON
  Accounts::Who who;                                // null without accounts
  std::int32_t priority = 0;                        // in the engine
  std::string answer_id;                            // what a stored answer is to be called; "": it names itself
  std::int64_t answer_created = 0;                  // and when it was asked for, in Unix seconds
  std::function<void(std::string event)> on_event;  // what a stream would send; quick, on any thread; may be empty
};

// May be dropped to stop caring: the request is then cancelled, and nothing is called back.
class InnerCall {
 public:
  virtual ~InnerCall() = default;
};

// `then` gets the whole answer, once, on any thread, perhaps before this returns; it must be quick.
using Dispatch =
    std::function<std::unique_ptr<InnerCall>(InnerRequest request, std::function<void(net::Response)> then)>;

// The reply of an inner request, and the call that may drop it.
class InnerReply final : public net::Reply {
 public:
  explicit InnerReply(std::function<void(net::Response)> then) : then_(std::move(then)) {}
  ~InnerReply() override;
  void send(net::Response response) override;
  void begin_stream(net::Response head, std::string heartbeat) override;  // what is streamed is gathered
  void write(std::string piece) override;
  void finish() override;
  void when_sent(std::function<void()> callback) override { callback(); }
  bool closed() const override;
  void on_close(std::function<void()> callback) override;

  // What a client that goes away does.
  void close();

 private:
  void give(net::Response response);
  mutable std::mutex mutex_;
  std::function<void(net::Response)> then_;
  std::function<void()> on_close_;
  net::Response streamed_;
  bool closed_ = false;
};

// Closes the reply when it goes.
class InnerReplyCall final : public InnerCall {
 public:
  explicit InnerReplyCall(std::shared_ptr<InnerReply> reply) : reply_(std::move(reply)) {}
  ~InnerReplyCall() override { reply_->close(); }

 private:
  std::shared_ptr<InnerReply> reply_;
};

}  // namespace qw::api
