#include "api/deferred.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "api/field_reader.h"
#include "base/clock.h"
#include "base/log.h"

namespace qw::api {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kRecordsAtOnce = 1024;

// When to ask again after a limit that passes, or a service that is full; nothing: the answer is final.
std::optional<std::chrono::milliseconds> ask_again_after(const net::Response& response,
                                                         std::chrono::milliseconds most) {
  const std::string_view text = net::find_header(response.headers, "retry-after");
  if ((response.status != 429 && response.status != 503) || text.empty()) return std::nullopt;
  std::int64_t seconds = 1;
  std::from_chars(text.data(), text.data() + text.size(), seconds);
  return std::clamp<std::chrono::milliseconds>(std::chrono::seconds(seconds), std::chrono::milliseconds(50), most);
}

std::string state_of(int status, json::Value body) {
  return json::dump(json::Object{{"status", status}, {"body", std::move(body)}});
}

}  // namespace

std::string DeferredRequest::text() const {
  return json::dump(json::Object{{"path", path}, {"body", body}, {"key_id", key_id}, {"events", events}});
}

DeferredRequest DeferredRequest::parse(const std::string& text) {
  const auto value = json::parse(text);
  if (!value) return {};
  const json::Value* events = value->find("events");
  return {text_member(*value, "path"), text_member(*value, "body"), text_member(*value, "key_id"),
          events != nullptr && *events == json::Value(true)};
}

DeferredAnswer deferred_answer(const store::Job& job) {
  DeferredAnswer out;
  const auto value = json::parse(job.state.empty() ? "{}" : job.state);
  if (!value) return out;
  out.status = static_cast<int>(integer_member(*value, "status"));
  if (const json::Value* body = value->find("body")) out.body = *body;
  return out;
}

struct DeferredRunner::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  bool stopping = false, woken = false;
  std::vector<std::pair<std::string, net::Response>> answers;  // by the job's id
  std::vector<std::pair<std::string, std::string>> events;     // by the job's id, in order
};

// The runner's thread and what it works on.
class DeferredRunner::Work {
 public:
  explicit Work(DeferredRunner& runner) : runner_(runner) {}

  void run() {
    while (!stopping()) {
      claim();
      if (Clock::now() >= renew_at_) renew();
      begin_due();
      // Answers before events: all events of an answer are there when it is.
      const auto answers = answers_so_far();
      take_events();
      take_answers(answers);
      if (Clock::now() >= keep_at_) keep_events();
      wait();
    }
    for (auto& [id, one] : open_) {
      one.call.reset();
      (void)jobs().release(id, runner_.instance_);  // else its lease runs out
    }
  }

 private:
  struct One {
    DeferredRequest request;
    bool names_answer = false;  // the answer is to have the job's id
    std::int64_t created = 0;   // Unix seconds
    std::unique_ptr<InnerCall> call;
    Clock::time_point begin_at{};  // while there is no call
    // What was told of events: when an answer is made anew, the same come again and are passed over.
    std::vector<std::size_t> told{};        // their hashes
    std::size_t next = 0;                   // of this call
    bool astray = false;                    // others came: no more are told
    std::vector<store::JobRecord> fresh{};  // not kept yet
  };

  store::Jobs& jobs() { return runner_.store_.jobs(); }
  std::int64_t lease_us() const { return std::chrono::microseconds(runner_.options_.lease).count(); }
  bool stopping() {
    const std::lock_guard lock(shared_->mutex);
    return shared_->stopping;
  }

  void claim() {
    for (const char* kind : {kBackgroundResponse, kTask}) {
      while (open_.size() < runner_.options_.window) {
        auto job = jobs().claim(kind, runner_.instance_, lease_us());
        if (!job) base::log_error(std::string(kind) + ": " + job.error().message);
        if (!job || !*job) break;
        const store::Job& taken = **job;
        // Its service died between the answer and this job's end.
        const bool answered = kind == kBackgroundResponse &&
                              runner_.store_.documents().find(taken.project_id, kind, taken.id).has_value();
        if (answered) {
          end(taken.id, "done", state_of(200, {}));
        } else if (taken.cancel_wanted) {
          end(taken.id, "cancelled", "");
        } else {
          open_[taken.id] = {DeferredRequest::parse(taken.spec), kind == kBackgroundResponse,
                             taken.created_us / base::kSecondUs, nullptr, Clock::now()};
          if (taken.attempts > 1) read_told(taken.id);
        }
      }
    }
  }

  void begin_due() {
    for (auto& [id, one] : open_) {
      if (one.call != nullptr || Clock::now() < one.begin_at) continue;
      auto who = runner_.store_.tenants().principal_of_key_id(one.request.key_id);
      if (!who) {  // the store will be back
        one.begin_at = Clock::now() + runner_.options_.poll;
        continue;
      }
      InnerRequest request;
      request.path = one.request.path;
      request.body = one.request.body;
      if (*who) request.who = std::make_shared<const store::Principal>(std::move(**who));
      if (one.names_answer) {
        request.answer_id = id;
        request.answer_created = one.created;
      }
      one.next = 0;
      if (one.request.events) request.on_event = listener(id);
      one.call = runner_.dispatch_(std::move(request), [shared = shared_, id = id](net::Response response) {
        {
          const std::lock_guard lock(shared->mutex);
          shared->answers.emplace_back(id, std::move(response));
        }
        shared->changed.notify_one();
      });
    }
  }

  std::function<void(std::string)> listener(const std::string& id) {
    return [shared = shared_, id](std::string event) {
      const std::lock_guard lock(shared->mutex);
      shared->events.emplace_back(id, std::move(event));
      if (shared->events.size() == 1) shared->changed.notify_one();
    };
  }

  // What the service that had the job before told of it.
  void read_told(const std::string& id) {
    One& one = open_[id];
    for (;;) {
      const auto records = jobs().records(id, kEventStream, static_cast<std::int64_t>(one.told.size()), kRecordsAtOnce);
      if (!records || records->empty()) return;
      for (const store::JobRecord& record : *records) one.told.push_back(std::hash<std::string>()(record.body));
    }
  }

  void take_events() {
    std::vector<std::pair<std::string, std::string>> events;
    {
      const std::lock_guard lock(shared_->mutex);
      events.swap(shared_->events);
    }
    for (auto& [id, text] : events) {
      const auto at = open_.find(id);
      if (at == open_.end() || at->second.call == nullptr || at->second.astray) continue;
      One& one = at->second;
      const std::size_t hash = std::hash<std::string>()(text);
      if (one.next < one.told.size()) {
        one.astray = one.told[one.next++] != hash;
        if (one.astray) base::log_warning(id + ": made anew, it is another answer; its stream goes on with the end");
        continue;
      }
      one.told.push_back(hash);
      ++one.next;
      one.fresh.push_back({kEventStream, 0, 0, std::move(text)});
    }
  }

  // Events wait a little for those that follow: each keeping is a transaction.
  void keep_events() {
    keep_at_ = Clock::now() + runner_.options_.event_pause;
    for (auto& [id, one] : open_) {
      if (one.fresh.empty()) continue;
      const auto kept = jobs().advance(id, runner_.instance_, lease_us(), "", one.fresh);
      if (kept) one.fresh.clear();  // else the next time, or with the end; a lost job is seen by renew()
    }
  }

  std::vector<std::pair<std::string, net::Response>> answers_so_far() {
    const std::lock_guard lock(shared_->mutex);
    return std::exchange(shared_->answers, {});
  }

  void take_answers(const std::vector<std::pair<std::string, net::Response>>& answers) {
    for (const auto& [id, response] : answers) {
      const auto at = open_.find(id);
      if (at == open_.end() || at->second.call == nullptr) continue;
      if (const auto pause = ask_again_after(response, runner_.options_.longest_wait)) {
        at->second.call.reset();
        at->second.begin_at = Clock::now() + *pause;
        continue;
      }
      // A response is a document of its own.
      const bool kept_apart = at->second.names_answer && response.status < 400;
      auto body = kept_apart ? json::Value() : json::parse(response.body).value_or(json::Value());
      end(id, "done", state_of(response.status, std::move(body)), at->second.fresh);
      open_.erase(at);
    }
  }

  void end(const std::string& id, const char* status, const std::string& state,
           const std::vector<store::JobRecord>& records = {}) {
    const Status done = jobs().finish(id, runner_.instance_, status, state, records);
    if (!done && done.error().kind != ErrorKind::kRefused) base::log_error(id + ": " + done.error().message);
  }

  // Renews the leases, which also tells of cancellations.
  void renew() {
    renew_at_ = Clock::now() + std::min(runner_.options_.poll, runner_.options_.lease / 3);
    for (auto at = open_.begin(); at != open_.end();) {
      const auto wish = jobs().advance(at->first, runner_.instance_, lease_us(), "", {});
      const bool lost = !wish && wish.error().kind == ErrorKind::kRefused;
      const bool cancelled = wish && *wish == store::JobWish::kCancel;
      if (cancelled) end(at->first, "cancelled", "", at->second.fresh);
      if (lost || cancelled) {
        at = open_.erase(at);  // which ends its call
      } else {
        ++at;
      }
    }
  }

  void wait() {
    auto until = renew_at_;
    for (const auto& [id, one] : open_)
      if (one.call == nullptr) until = std::min(until, one.begin_at);
    until = std::min(until, Clock::now() + runner_.options_.poll);
    for (const auto& [id, one] : open_)
      if (!one.fresh.empty()) until = std::min(until, keep_at_);
    std::unique_lock lock(shared_->mutex);
    shared_->changed.wait_until(lock, until, [this] {
      return shared_->stopping || shared_->woken || !shared_->answers.empty() || !shared_->events.empty();
    });
    if (std::exchange(shared_->woken, false)) renew_at_ = Clock::now();
  }

  DeferredRunner& runner_;
  const std::shared_ptr<Shared> shared_ = runner_.shared_;
  std::map<std::string, One> open_;  // by the job's id
  Clock::time_point renew_at_ = Clock::now(), keep_at_ = renew_at_;
};

DeferredRunner::DeferredRunner(store::Store& store, std::string instance, Dispatch dispatch, DeferredOptions options)
    : store_(store),
      instance_(std::move(instance)),
      dispatch_(std::move(dispatch)),
      options_(options),
      shared_(std::make_shared<Shared>()),
      thread_([this] { Work(*this).run(); }) {}

DeferredRunner::~DeferredRunner() { stop(); }

void DeferredRunner::wake() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->woken = true;
  }
  shared_->changed.notify_one();
}

void DeferredRunner::stop() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stopping = true;
  }
  shared_->changed.notify_one();
  if (thread_.joinable()) thread_.join();
}

}  // namespace qw::api
