#include <algorithm>
#include <deque>
#include <utility>

#include "engine/engine.h"

namespace qw::engine {
namespace {

// As in generate.cc: quick to a person who presses Ctrl-C, nothing to a processor.
constexpr std::chrono::milliseconds kLook{50};
// Requests handed to the engine at once: enough to fill its steps, few beside what its queue takes from others.
constexpr std::size_t kWindow = 64;

class Collector final : public Sink {
 public:
  Verdict on_token(const TokenEvent&) noexcept override { return Verdict::kContinue; }
  void on_row(const RowEvent& e) noexcept override {
    reading.rows.insert(reading.rows.end(), e.row.begin(), e.row.end());
    ++reading.count;
  }
  void on_finished(const Finished& finished) noexcept override {
    const std::lock_guard lock(mutex_);
    reading.finished = finished;
    done_ = true;
    ready_.notify_all();
  }
  bool wait() {
    std::unique_lock lock(mutex_);
    return ready_.wait_for(lock, kLook, [&] { return done_; });
  }
  bool done() {
    const std::lock_guard lock(mutex_);
    return done_;
  }

  Reading reading;
  RequestId id = 0;

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  bool done_ = false;
};

}  // namespace

Result<std::vector<Reading>> read(Engine& engine, std::vector<Request> requests, const std::atomic<bool>* interrupted) {
  std::vector<Reading> out;
  std::deque<std::shared_ptr<Collector>> running;
  std::optional<Error> error;
  const auto fails = [&](Error e) {
    if (!error) error = std::move(e);
    for (const auto& other : running) engine.cancel(other->id);
  };
  std::size_t next = 0;
  while (next < requests.size() || !running.empty()) {
    while (!error && next < requests.size() && running.size() < kWindow) {
      QW_CHECK(requests[next].wanted != Wanted::kTokens);
      auto collector = std::make_shared<Collector>();
      requests[next].sink = collector;
      auto id = engine.submit(std::move(requests[next++]));
      if (!id) {
        fails(std::move(id).error());
        break;
      }
      collector->id = *id;
      running.push_back(std::move(collector));
    }
    if (error) next = requests.size();
    if (running.empty()) break;
    if (!error && interrupted != nullptr && interrupted->load()) fails({ErrorKind::kInterrupted, "interrupted"});
    if (!running.front()->done()) {
      if (engine.started()) {
        running.front()->wait();
      } else {
        engine.step();
      }
      continue;
    }
    Reading& reading = running.front()->reading;
    if (reading.finished.error) fails(*reading.finished.error);
    else if (reading.finished.reason != FinishReason::kStop) fails({ErrorKind::kInterrupted, "the request was ended"});
    out.push_back(std::move(reading));
    running.pop_front();
  }
  if (error) return tl::unexpected(std::move(*error));
  return out;
}

}  // namespace qw::engine
