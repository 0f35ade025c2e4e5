// The processes that mpirun started, over MPI: the one file that knows it. Standard: MPI 3.1; tried with Open MPI 4.1.
//
// All calls are non-blocking ones that are asked for their end with rests between, so that a process that waits for
// others leaves its processor to those who compute, and two threads may wait at once: a lock keeps them apart within MPI.
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <mutex>
#include <utility>
#include <vector>

#include "launched_ranks.h"

namespace qw::app {
namespace {

constexpr std::size_t kLongest = std::size_t{1} << 30;  // bytes of one message: MPI counts in int
constexpr int kEager = 200;                             // questions without a rest: short exchanges end within them
constexpr useconds_t kRest = 30;                        // microseconds

class MpiRanks final : public LaunchedRanks {
 public:
  static LaunchedRanks* open(char* error, std::size_t size) {
    int got = 0;
    if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &got) != MPI_SUCCESS || got < MPI_THREAD_SERIALIZED) {
      std::snprintf(error, size, "MPI does not let one thread after the other call it (MPI_THREAD_SERIALIZED)");
      return nullptr;
    }
    return new MpiRanks();
  }
  ~MpiRanks() override {
    MPI_Comm_free(&comm_);
    MPI_Finalize();
  }
  void end_all(int code) override { MPI_Abort(MPI_COMM_WORLD, code); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int on_host() const override { return on_host_; }

  Status exchange(std::span<const Sent> sent, std::span<const Received> received) override {
    std::vector<MPI_Request> requests;
    const auto start = [&](auto bytes, const auto& call) -> Status {
      do {
        const auto part = bytes.first(std::min(bytes.size(), kLongest));
        const std::lock_guard lock(mutex_);
        QW_TRY(ended(call(part.data(), static_cast<int>(part.size()), &requests.emplace_back()), "exchange"));
        bytes = bytes.subspan(part.size());
      } while (!bytes.empty());
      return {};
    };
    for (const Received& r : received)
      QW_TRY(start(r.bytes, [&](std::byte* data, int n, MPI_Request* request) {
        return MPI_Irecv(data, n, MPI_BYTE, r.from, 0, comm_, request);
      }));
    for (const Sent& s : sent)
      QW_TRY(start(s.bytes, [&](const std::byte* data, int n, MPI_Request* request) {
        return MPI_Isend(data, n, MPI_BYTE, s.to, 0, comm_, request);
      }));
    return wait(requests, "exchange");
  }

  Status gather(float* floats, std::span<const Range> ranges) override {
    std::int64_t first = INT64_MAX;
    for (const Range& range : ranges)
      if (range.length() > 0) first = std::min(first, range.begin);
    std::vector<int> counts, places;
    for (const Range& range : ranges) {
      const std::int64_t place = range.length() > 0 ? range.begin - first : 0;
      if (place + range.length() > INT_MAX)
        return fail(ErrorKind::kFailed, "MPI: a parameter of more than 2^31 numbers");
      counts.push_back(static_cast<int>(range.length()));
      places.push_back(static_cast<int>(place));
    }
    if (first == INT64_MAX) return {};
    MPI_Request request;
    QW_TRY(ended(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, floats + first, counts.data(), places.data(),
                                 MPI_FLOAT, comm_, &request),
                 "gather"));
    return wait({&request, 1}, "gather");
  }

  Status add_up(std::span<double> values) override {
    for (std::size_t at = 0; at < values.size(); at += kLongest / sizeof(double)) {
      const auto part = values.subspan(at, std::min(values.size() - at, kLongest / sizeof(double)));
      MPI_Request request;
      QW_TRY(ended(MPI_Iallreduce(MPI_IN_PLACE, part.data(), static_cast<int>(part.size()), MPI_DOUBLE, MPI_SUM, comm_,
                                  &request),
                   "sum"));
      QW_TRY(wait({&request, 1}, "sum"));
    }
    return {};
  }

  Status broadcast(std::span<std::byte> bytes) override {
    while (!bytes.empty()) {
      const auto part = bytes.first(std::min(bytes.size(), kLongest));
      MPI_Request request;
      QW_TRY(ended(MPI_Ibcast(part.data(), static_cast<int>(part.size()), MPI_BYTE, 0, comm_, &request), "broadcast"));
      QW_TRY(wait({&request, 1}, "broadcast"));
      bytes = bytes.subspan(part.size());
    }
    return {};
  }

 private:
  MpiRanks() {
    MPI_Comm_dup(MPI_COMM_WORLD, &comm_);
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
    MPI_Comm host;
    MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host);
    MPI_Comm_size(host, &on_host_);
    MPI_Comm_free(&host);
  }

  static Status ended(int code, const char* call) {
    if (code == MPI_SUCCESS) return {};
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return fail(ErrorKind::kFailed, std::string("MPI: ") + call + " with the other processes failed: " + text);
  }
  Status wait(std::span<MPI_Request> requests, const char* call) {
    int done = requests.empty() ? 1 : 0;
    for (int asked = 0; done == 0; ++asked) {
      {
        const std::lock_guard lock(mutex_);
        QW_TRY(ended(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE), call));
      }
      if (done == 0 && asked > kEager) ::usleep(kRest);
    }
    return {};
  }

  std::mutex mutex_;  // of calls of MPI; the collective ones are made while no other thread is in it
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1, on_host_ = 1;
};

}  // namespace
}  // namespace qw::app

extern "C" {
__attribute__((visibility("default"))) extern const char qw_ranks_version[];
const char qw_ranks_version[] = QW_VERSION;
__attribute__((visibility("default"))) qw::app::LaunchedRanks* qw_open_ranks(char* error, std::size_t size) {
  return qw::app::MpiRanks::open(error, size);
}
}
