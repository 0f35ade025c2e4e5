// Executes batches: takes one from the store, reads its file, sends each line the way of every other request at idle
// priority, and writes what came back into the files of the batch.
//
// What is done is written line by line into the job's records, together with its state; a batch whose service died goes
// on elsewhere with the lines that have no record. A line that was being computed then is computed again: its answer is
// recorded once, but what the dead service had computed of it was computed.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "api/dispatch.h"
#include "json/value.h"
#include "store/store.h"

namespace qw::api::openai {

inline constexpr const char* kBatchJob = "batch";  // the kind of job

struct BatchOptions {
  std::size_t window = 16;                         // lines of a batch that are computed together
  std::chrono::milliseconds lease{30'000};         // a batch of a service that died waits this long
  std::chrono::milliseconds poll{2'000};           // how often other services' batches are looked for
  std::chrono::milliseconds flush{500};            // results gather this long before they are written
  std::chrono::milliseconds longest_wait{30'000};  // for a line that met a limit, before it is tried again
};

class BatchRunner {
 public:
  // `store` must outlive this object. `instance`: names this service in leases.
  BatchRunner(store::Store& store, std::string instance, Dispatch dispatch, BatchOptions options = {});
  ~BatchRunner();  // stop()
  BatchRunner(const BatchRunner&) = delete;
  BatchRunner& operator=(const BatchRunner&) = delete;

  // A batch was added: need not wait for the next look.
  void wake();
  // The batch that runs is given back, to be continued by whoever claims it next.
  void stop();

 private:
  class Run;
  void loop();

  store::Store& store_;
  const std::string instance_;
  const Dispatch dispatch_;
  const BatchOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false, woken_ = false;
  std::thread thread_;
};

// The wire's object of a batch.
json::Value batch_object(const store::Job& job);

// What a batch's job says, as JSON in `spec`.
struct BatchSpec {
  std::string endpoint, input_file_id, completion_window, key_id;
  std::int64_t window_s = 0;
  json::Value metadata;
  std::string text() const;
  static BatchSpec parse(const std::string& text);
};

}  // namespace qw::api::openai
