// Requests that are answered later: responses in the background, DashScope's tasks. Each is a job of the store and goes
// the way of every other request, several at a time; what came back is the job's state. One whose service died is
// answered by another service, or by the next start.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "api/dispatch.h"
#include "json/value.h"
#include "store/store.h"

namespace qw::api {

// The kinds of such jobs.
inline constexpr const char* kBackgroundResponse = "response";  // the answer is the response of the job's id
inline constexpr const char* kTask = "task";
inline constexpr const char* kEventStream = "events";  // of a job's records

struct DeferredRequest {
  std::string path, body, key_id;
  bool events = false;  // what a stream would send is kept, as records of kEventStream, to be read from anywhere
  std::string text() const;  // as the job's `spec`
  static DeferredRequest parse(const std::string& text);
};

// What came back, from the state of a job that ended as "done".
struct DeferredAnswer {
  int status = 0;
  json::Value body;
};
DeferredAnswer deferred_answer(const store::Job& job);

struct DeferredOptions {
  std::size_t window = 32;                         // requests that run together; more wait
  std::chrono::milliseconds lease{30'000};         // a request of a service that died waits this long
  std::chrono::milliseconds poll{1'000};           // how often cancellations and other services' are looked for
  std::chrono::milliseconds longest_wait{30'000};  // for one that met a limit, before it is tried again
  std::chrono::milliseconds event_pause{100};      // events are kept together, not one by one
};

class DeferredRunner {
 public:
  // `store` must outlive this object. `instance`: names this service in leases.
  DeferredRunner(store::Store& store, std::string instance, Dispatch dispatch, DeferredOptions options = {});
  ~DeferredRunner();  // stop()
  DeferredRunner(const DeferredRunner&) = delete;
  DeferredRunner& operator=(const DeferredRunner&) = delete;

  void wake();  // a request was added or cancelled: need not wait for the next look
  void stop();  // what runs is given back

 private:
  class Work;
  struct Shared;

  store::Store& store_;
  const std::string instance_;
  const Dispatch dispatch_;
  const DeferredOptions options_;
  const std::shared_ptr<Shared> shared_;  // also of calls that answer when this object is gone
  std::thread thread_;
};

}  // namespace qw::api
