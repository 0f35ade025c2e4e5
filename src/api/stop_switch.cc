#include "api/stop_switch.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "api/field_reader.h"
#include "api/openai/files.h"
#include "api/served_model.h"
#include "base/clock.h"
#include "base/log.h"
#include "governance/audit/audit_log.h"
#include "store/store.h"

namespace qw::api {
namespace {

using governance::Stop;

constexpr std::string_view kPath = "/admin/stops", kRelease = "/admin/stops/release";
constexpr std::chrono::milliseconds kYoung{100};

ApiError stopped_error(const Stop& stop) {
  const bool project = stop.what == Stop::What::kProject;
  return {project ? 403 : 503,
          project ? "permission_error" : "server_error",
          "The operator of this service has stopped " + description(stop) + ".",
          "",
          "stopped",
          /*retry_after_s=*/-1};
}

}  // namespace

Result<std::unique_ptr<StopSwitch>> StopSwitch::open(std::filesystem::path file, governance::AuditLog* audit) {
  std::unique_ptr<StopSwitch> out(new StopSwitch(std::move(file), audit));
  QW_TRY(out->look());
  return out;
}

Status StopSwitch::set(Stop stop, bool stopped) {
  const std::lock_guard writing(writing_);
  QW_ASSIGN(auto list, governance::change_stops(file_, stop, stopped));
  if (!list) return {};
  std::error_code ignored;
  seen_ = std::filesystem::last_write_time(file_, ignored);
  take_up(std::move(*list));
  return record(stop, stopped);
}

Status StopSwitch::look() {
  const std::lock_guard writing(writing_);
  std::error_code error;
  const auto written = std::filesystem::last_write_time(file_, error);
  // The clock of files stands still for some milliseconds: a time that is young may be that of two changes.
  const bool old = std::filesystem::file_time_type::clock::now() - written > kYoung;
  if (!error && written == seen_ && old) return {};
  if (error && seen_ == std::filesystem::file_time_type{}) return {};
  auto list = governance::StopList::read(file_);
  seen_ = error ? std::filesystem::file_time_type{} : written;
  if (!list) return tl::unexpected(std::move(list).error());
  const std::vector<Stop> before = stopped();
  const std::vector<Stop> now = list->all();
  take_up(std::move(*list));
  const auto in = [](const std::vector<Stop>& among, const Stop& stop) {
    return std::any_of(among.begin(), among.end(), [&](const Stop& other) { return other.same_as(stop); });
  };
  Status recorded;
  for (const Stop& stop : now)
    if (!in(before, stop)) recorded = record(stop, true);
  for (const Stop& stop : before)
    if (!in(now, stop)) recorded = record(stop, false);
  return recorded;
}

Status StopSwitch::record(const Stop& stop, bool stopped) {
  base::log_warning((stopped ? "stopped: " : "released: ") + description(stop) +
                    (stop.reason.empty() ? "" : " (" + stop.reason + ")"));
  if (audit_ == nullptr) return {};
  json::Object entry{{"type", "switch"}, {"action", stopped ? "stop" : "release"}};
  for (auto& [name, value] : to_json(stop)) entry.set(name, std::move(value));
  return audit_->append_and_wait(std::move(entry));
}

void StopSwitch::take_up(governance::StopList list) {
  std::vector<std::pair<std::shared_ptr<Stoppable>, ApiError>> ends;
  {
    const std::lock_guard lock(mutex_);
    list_ = std::move(list);
    any_.store(!list_.all().empty());
    for (const Watched& one : watched_)
      if (const Stop* stop = list_.hit(one.model, one.base, one.project); stop != nullptr)
        if (auto running = one.running.lock()) ends.emplace_back(std::move(running), stopped_error(*stop));
  }
  for (auto& [running, error] : ends) running->abandon(error);
}

std::vector<Stop> StopSwitch::stopped() const {
  const std::lock_guard lock(mutex_);
  return list_.all();
}

std::optional<ApiError> StopSwitch::refusal(const ServedModel& model, const std::string& project) const {
  if (!any_.load()) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const Stop* stop = list_.hit(model.id, model.base, project);
  return stop == nullptr ? std::nullopt : std::optional(stopped_error(*stop));
}

std::optional<ApiError> StopSwitch::watch(std::weak_ptr<Stoppable> running, const ServedModel& model,
                                          const std::string& project) {
  const std::lock_guard lock(mutex_);
  if (const Stop* stop = list_.hit(model.id, model.base, project); stop != nullptr) return stopped_error(*stop);
  if (watched_.size() >= prune_at_) {
    std::erase_if(watched_, [](const Watched& one) { return one.running.expired(); });
    prune_at_ = std::max<std::size_t>(64, 2 * watched_.size());
  }
  watched_.push_back({std::move(running), model.id, model.base, project});
  return std::nullopt;
}

ApiResult<StopRequest> read_stop_request(const json::Object& body) {
  FieldReader in(body);
  StopRequest out;
  const auto what = in.choice("what", {"all", "model", "adapter", "project"});
  out.stop.what = governance::stop_named(what.value_or("all")).value_or(Stop::What::kAll);
  out.stop.name = in.text("name").value_or("");
  out.stop.reason = in.text("reason").value_or("");
  if (!what) in.reject("what", "'what' is missing.");
  if (what && out.stop.name.empty() != (out.stop.what == Stop::What::kAll))
    in.reject("name", "'name' says which one; 'all' has none.");
  if (in.error()) return tl::unexpected(*in.error());
  return out;
}

bool handle_stops(StopSwitch& stops, Background& background, const net::Request& request,
                  const std::shared_ptr<Exchange>& exchange) {
  if (request.path != kPath && request.path != kRelease) return false;
  const bool release = request.path == kRelease;
  if (!only(release ? "POST" : "GET, POST", request, *exchange)) return true;
  const auto tell = [](const StopSwitch& from) {
    json::Array list;
    for (const Stop& stop : from.stopped()) list.push_back(to_json(stop));
    return json::Object{{"stopped", std::move(list)}};
  };
  if (request.method != "POST") {
    exchange->send_json(200, tell(stops));
    return true;
  }
  const auto body = parse_body(request);
  auto wanted = body ? read_stop_request(*body) : tl::unexpected(body.error());
  if (!wanted) {
    exchange->send_error(wanted.error());
    return true;
  }
  wanted->stop.since = base::unix_seconds();
  wanted->stop.by = exchange->who() == nullptr ? "" : exchange->who()->key.id;
  openai::in_background(background, exchange, [&stops, exchange, release, tell, stop = wanted->stop] {
    const Status done = stops.set(stop, !release);
    done ? exchange->send_json(200, tell(stops)) : exchange->send_error(from_internal(done.error()));
  });
  return true;
}

}  // namespace qw::api
