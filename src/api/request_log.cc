#include "api/request_log.h"

#include <utility>

#include "api/routes.h"
#include "base/log.h"

namespace qw::api {
namespace {

// A path may hold what a client made up: the pattern of its route is told.
std::string route_of(const RequestLine& line) {
  const std::string method = line.method == "HEAD" ? "GET" : line.method;
  if (const Route* route = route_at(method, line.path); route != nullptr) return route->path;
  return has_route(line.path) ? "other method" : "other";
}

void write(const RequestLine& line) {
  std::vector<base::LogField> fields = {{"method", line.method},
                                        {"route", route_of(line)},
                                        {"status", std::int64_t{line.status}},
                                        {"ms", static_cast<double>(line.took.count()) / 1e3},
                                        {"request", line.request_id}};
  const auto text = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) fields.push_back({name, value});
  };
  text("organisation", line.organisation);
  text("project", line.project);
  text("user", line.user);
  text("key", line.key);
  text("model", line.model);
  if (!line.finish.empty()) {
    const auto& t = line.tokens;
    fields.insert(fields.end(), {{"prompt_tokens", t.prompt},
                                 {"cached_tokens", t.cached},
                                 {"reasoning_tokens", t.reasoning},
                                 {"output_tokens", t.output},
                                 {"finish", line.finish}});
  }
  if (line.inner) fields.push_back({"inner", std::int64_t{1}});
  base::log(base::LogLevel::kInfo, "request", fields, line.ended);
}

}  // namespace

RequestLog::RequestLog() : thread_([this] { write_lines(); }) {}

RequestLog::~RequestLog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void RequestLog::add(RequestLine line) {
  const std::lock_guard lock(mutex_);
  if (waiting_.size() >= kMostWaiting) {
    ++dropped_;
    return;
  }
  waiting_.push_back(std::move(line));
  if (waiting_.size() == 1) wake_.notify_one();
}

void RequestLog::write_lines() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    wake_.wait_for(lock, kGatherFor, [&] { return stopping_; });
    const bool last = stopping_;
    const auto lines = std::exchange(waiting_, {});
    const std::int64_t dropped = std::exchange(dropped_, 0);
    lock.unlock();
    for (const RequestLine& line : lines) write(line);
    if (dropped > 0)
      base::log_warning(std::to_string(dropped) + " lines of requests were dropped: the log is read too slowly");
    if (last) return;
    lock.lock();
  }
}

}  // namespace qw::api
