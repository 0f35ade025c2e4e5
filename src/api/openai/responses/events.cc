#include "api/openai/responses/events.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "api/deferred.h"
#include "api/field_reader.h"
#include "api/openai/responses/kept.h"
#include "api/openai/responses/writer.h"

namespace qw::api::openai {
namespace {

// A slow client's events stay in the store until it has taken those before.
constexpr std::int64_t kEventsAtOnce = 256;

json::Object numbered(const std::string& type, std::int64_t number, json::Value response) {
  return {{"type", type}, {"sequence_number", number}, {"response", std::move(response)}};
}

}  // namespace

struct ResponseEvents::Follower {
  std::shared_ptr<Exchange> exchange;
  std::string project, id;
  std::int64_t next = 0;  // number of the event that is to be told
  std::shared_ptr<std::atomic<bool>> taken = std::make_shared<std::atomic<bool>>(true);  // all that was written

  void tell(const std::string& type, json::Value response) {
    exchange->named_event(type, numbered(type, next++, std::move(response)));
  }
};

ResponseEvents::ResponseEvents(store::Store& store, std::chrono::milliseconds pause)
    : store_(store), pause_(pause), thread_([this] { run(); }) {}

ResponseEvents::~ResponseEvents() { stop(); }

void ResponseEvents::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void ResponseEvents::follow(std::shared_ptr<Exchange> exchange, std::string project, std::string id,
                            std::int64_t from) {
  exchange->begin_events();
  auto follower = std::make_unique<Follower>();
  follower->exchange = std::move(exchange);
  follower->project = std::move(project);
  follower->id = std::move(id);
  follower->next = from;
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) added_.push_back(std::move(follower));
  }
  if (follower != nullptr) return follower->exchange->end_events();
  changed_.notify_one();
}

void ResponseEvents::run() {
  std::vector<std::unique_ptr<Follower>> followers;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      const auto woken = [this] { return stopping_ || !added_.empty(); };
      if (followers.empty()) {
        changed_.wait(lock, woken);
      } else {
        changed_.wait_for(lock, pause_, woken);
      }
      if (stopping_) break;
      for (auto& one : added_) followers.push_back(std::move(one));
      added_.clear();
    }
    std::erase_if(followers, [this](const auto& one) { return !advance(*one); });
  }
  for (const auto& one : followers) one->exchange->end_events();
}

bool ResponseEvents::advance(Follower& f) {
  if (f.exchange->reply().closed()) return false;
  if (!f.taken->load()) return true;
  // The job before its events: of one that has ended all are there.
  const auto job = store_.jobs().find(f.project, kBackgroundResponse, f.id);
  if (!job && job.error().kind != ErrorKind::kBadInput) return true;  // the store will be back
  if (!job) {
    f.exchange->end_events();
    return false;
  }
  if (f.next < kQueuedEvents) {
    const auto queued = queued_response(*job);
    if (f.next == 0 && queued) f.tell("response.created", *queued);
    if (f.next == 1 && queued) f.tell("response.queued", *queued);
    f.next = kQueuedEvents;
  }
  const auto records = store_.jobs().records(f.id, kEventStream, f.next - kQueuedEvents, kEventsAtOnce);
  if (!records) return true;
  for (const store::JobRecord& record : *records) f.exchange->reply().write(record.body);
  f.next += static_cast<std::int64_t>(records->size());
  if (!records->empty()) {
    f.taken->store(false);
    f.exchange->reply().when_sent([taken = f.taken] { taken->store(true); });
    return true;
  }
  if (job->status == "queued" || job->status == "running") return true;
  end(f, *job);
  return false;
}

// The last event holds the whole response, as it is kept.
void ResponseEvents::end(Follower& f, const store::Job& job) {
  const std::int64_t before = f.next - 1 - kQueuedEvents;  // told already: the last one is what the client has seen
  const auto last = before < 0 ? Result<std::vector<store::JobRecord>>(std::vector<store::JobRecord>(1))
                               : store_.jobs().records(f.id, kEventStream, before, 1);
  if (last && !last->empty()) {
    if (const auto kept = kept_response(store_, f.project, f.id)) {
      const json::Value& response = *kept->find("response");
      f.tell("response." + text_member(response, "status"), response);
    } else if (const auto unmade = unmade_response(job)) {
      f.tell("response.failed", *unmade);
    }
  }
  f.exchange->end_events();
}

}  // namespace qw::api::openai
