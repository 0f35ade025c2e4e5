// One line of the log for each request, once its answer is over: who asked which route, what it took and how it ended;
// never what was asked or answered, nor a path or model as the client wrote it.
//
// Lines are written by a thread of this object a moment later (kGatherFor), so that nobody who answers waits for
// whoever reads the log. If that one does not read, lines are dropped and counted.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "store/ledger.h"

namespace qw::api {

struct RequestLine {
  std::string method, path, request_id;
  std::string organisation, project, user, key;  // ids; "" without accounts, or before it is known
  std::string model;                             // its name here; "" if none was asked
  std::string finish;  // as the ledger has it: "stop", "length", "cancelled", ...; "": no model answered
  bool inner = false;  // a line of a batch, or what was left to be answered later
  int status = 0;      // 0: nobody was there to be answered
  store::Tokens tokens;
  std::chrono::microseconds took{0};
  std::chrono::system_clock::time_point ended;
};

class RequestLog {
 public:
  RequestLog();
  ~RequestLog();  // what waits is written
  RequestLog(const RequestLog&) = delete;
  RequestLog& operator=(const RequestLog&) = delete;

  // Threads: any; never blocks.
  void add(RequestLine line);

 private:
  void write_lines();
  static constexpr std::chrono::milliseconds kGatherFor{50};
  static constexpr std::size_t kMostWaiting = 20'000;  // lines: some seconds of the fastest service, a few megabytes

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::vector<RequestLine> waiting_;
  std::int64_t dropped_ = 0;
  std::thread thread_;
};

}  // namespace qw::api
