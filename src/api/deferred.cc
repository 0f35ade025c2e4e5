#include "api/deferred.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "api/field_reader.h"
#include "base/log.h"

namespace qw::api {
namespace {

using Clock = std::chrono::steady_clock;

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
  return json::dump(json::Object{{"path", path}, {"body", body}, {"key_id", key_id}});
}

DeferredRequest DeferredRequest::parse(const std::string& text) {
  const auto value = json::parse(text);
  if (!value) return {};
  return {text_member(*value, "path"), text_member(*value, "body"), text_member(*value, "key_id")};
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
      take_answers();
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
    std::unique_ptr<InnerCall> call;
    Clock::time_point begin_at{};  // while there is no call
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
          open_[taken.id] = {DeferredRequest::parse(taken.spec), kind == kBackgroundResponse, nullptr, Clock::now()};
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
      if (one.names_answer) request.answer_id = id;
      one.call = runner_.dispatch_(std::move(request), [shared = shared_, id = id](net::Response response) {
        {
          const std::lock_guard lock(shared->mutex);
          shared->answers.emplace_back(id, std::move(response));
        }
        shared->changed.notify_one();
      });
    }
  }

  void take_answers() {
    std::vector<std::pair<std::string, net::Response>> answers;
    {
      const std::lock_guard lock(shared_->mutex);
      answers.swap(shared_->answers);
    }
    for (auto& [id, response] : answers) {
      const auto at = open_.find(id);
      if (at == open_.end() || at->second.call == nullptr) continue;
      if (const auto pause = ask_again_after(response, runner_.options_.longest_wait)) {
        at->second.call.reset();
        at->second.begin_at = Clock::now() + *pause;
        continue;
      }
      auto body = json::parse(response.body);
      end(id, "done", state_of(response.status, body ? std::move(*body) : json::Value()));
      open_.erase(at);
    }
  }

  void end(const std::string& id, const char* status, const std::string& state) {
    const Status done = jobs().finish(id, runner_.instance_, status, state);
    if (!done && done.error().kind != ErrorKind::kRefused) base::log_error(id + ": " + done.error().message);
  }

  // Renews the leases, which also tells of cancellations.
  void renew() {
    renew_at_ = Clock::now() + std::min(runner_.options_.poll, runner_.options_.lease / 3);
    for (auto at = open_.begin(); at != open_.end();) {
      const auto cancel = jobs().advance(at->first, runner_.instance_, lease_us(), "", {});
      const bool lost = !cancel && cancel.error().kind == ErrorKind::kRefused;
      if (cancel && *cancel) end(at->first, "cancelled", "");
      if (lost || (cancel && *cancel)) {
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
    std::unique_lock lock(shared_->mutex);
    shared_->changed.wait_until(lock, until,
                                [this] { return shared_->stopping || shared_->woken || !shared_->answers.empty(); });
    if (std::exchange(shared_->woken, false)) renew_at_ = Clock::now();
  }

  DeferredRunner& runner_;
  const std::shared_ptr<Shared> shared_ = runner_.shared_;
  std::map<std::string, One> open_;  // by the job's id
  Clock::time_point renew_at_ = Clock::now();
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
