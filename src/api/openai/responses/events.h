// Streams of responses in the background: what was told so far, from any event on, and what comes, until the end. They
// are read from the store, so any service of it can be asked, also for responses that another one makes.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "api/exchange.h"
#include "store/store.h"

namespace qw::api::openai {

class ResponseEvents {
 public:
  // `store` must outlive this object. `pause`: how often new events are looked for while somebody waits.
  explicit ResponseEvents(store::Store& store, std::chrono::milliseconds pause = std::chrono::milliseconds(100));
  ~ResponseEvents();  // stop()
  ResponseEvents(const ResponseEvents&) = delete;
  ResponseEvents& operator=(const ResponseEvents&) = delete;

  // Answers the exchange with the events of the response `id` of `project` from number `from` on. The response must be
  // there, in the background, and asked for as a stream.
  void follow(std::shared_ptr<Exchange> exchange, std::string project, std::string id, std::int64_t from);
  // Ends all streams; who reads one goes on from its last event elsewhere.
  void stop();

 private:
  struct Follower;
  void run();
  bool advance(Follower& follower);  // false: it has ended
  void end(Follower& follower, const store::Job& job);

  store::Store& store_;
  const std::chrono::milliseconds pause_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::vector<std::unique_ptr<Follower>> added_;
  std::thread thread_;
};

}  // namespace qw::api::openai
