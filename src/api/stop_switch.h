// Stops what the operator wants stopped, at once: requests are refused, and running answers end in the engine's present
// step, each with an error that says why. What is stopped stands in a file (governance/policy/stop_list.h), so that it
// stays so after a start, and is changed over HTTP or by a command that writes the file:
//
//   GET  /admin/stops            {"stopped": [{"what", "name", "by", "reason", "since"}]}
//   POST /admin/stops            {"what": "all" | "model" | "adapter" | "project", "name", "reason"}
//   POST /admin/stops/release    the same without the reason
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/background.h"
#include "api/error.h"
#include "api/exchange.h"
#include "api/stoppable.h"
#include "governance/policy/stop_list.h"

namespace qw::api {

struct ServedModel;

class StopSwitch {
 public:
  // `audit`: has a record of each change; null: none. Must outlive the switch. kBadInput: the file is no such list.
  static Result<std::unique_ptr<StopSwitch>> open(std::filesystem::path file, governance::AuditLog* audit);

  // Writes the file, ends what runs, and has it on record, in this order: what is stopped is stopped even where the log
  // cannot be written. Blocks for the disk.
  Status set(governance::Stop stop, bool stopped);
  // Takes up what a command wrote into the file. A file that cannot be read changes nothing.
  Status look();
  std::vector<governance::Stop> stopped() const;

  // Why this is not answered; nothing: it may be.
  std::optional<ApiError> refusal(const ServedModel& model, const std::string& project) const;
  // From now on `running` is ended when it is stopped; what is stopped now is told instead.
  std::optional<ApiError> watch(std::weak_ptr<Stoppable> running, const ServedModel& model, const std::string& project);

 private:
  struct Watched {
    std::weak_ptr<Stoppable> running;
    std::string model, base, project;
  };
  StopSwitch(std::filesystem::path file, governance::AuditLog* audit) : file_(std::move(file)), audit_(audit) {}
  void take_up(governance::StopList list);
  Status record(const governance::Stop& stop, bool stopped);

  const std::filesystem::path file_;
  governance::AuditLog* const audit_;
  std::mutex writing_;  // of the file; before mutex_
  std::filesystem::file_time_type seen_{};
  mutable std::mutex mutex_;
  governance::StopList list_;
  std::atomic<bool> any_{false};  // of list_
  std::vector<Watched> watched_;
  std::size_t prune_at_ = 64;
};

struct StopRequest {
  governance::Stop stop;
};
ApiResult<StopRequest> read_stop_request(const json::Object& body);

// True if the path is one of these routes; the exchange is then answered, now or later.
bool handle_stops(StopSwitch& stops, Background& background, const net::Request& request,
                  const std::shared_ptr<Exchange>& exchange);

}  // namespace qw::api
