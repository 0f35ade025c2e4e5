#include <utility>

#include "engine/engine.h"

namespace qw::engine {
namespace {

// How often a waiting generate() looks at `interrupted`: quick to a person who presses Ctrl-C, nothing to a processor.
constexpr std::chrono::milliseconds kLook{50};

class Collector final : public Sink {
 public:
  Collector(bool details, const std::function<Verdict(const TokenEvent&)>& on_token)
      : details_(details), on_token_(on_token) {}

  Verdict on_token(const TokenEvent& e) noexcept override {
    generation.tokens.push_back(e.id);
    if (details_) generation.details.push_back({e.id, e.logprob, {e.top.begin(), e.top.end()}});
    return on_token_ ? on_token_(e) : Verdict::kContinue;
  }
  void on_finished(const Finished& finished) noexcept override {
    const std::lock_guard lock(mutex_);
    generation.finished = finished;
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

  Generation generation;

 private:
  const bool details_;
  const std::function<Verdict(const TokenEvent&)>& on_token_;  // lives as long as the call of generate()
  std::mutex mutex_;
  std::condition_variable ready_;
  bool done_ = false;
};

}  // namespace

Result<Generation> generate(Engine& engine, Request request, const std::function<Verdict(const TokenEvent&)>& on_token,
                            const std::atomic<bool>* interrupted) {
  const auto collector = std::make_shared<Collector>(request.params.logprobs, on_token);
  request.sink = collector;
  QW_ASSIGN(const RequestId id, engine.submit(std::move(request)));
  bool cancelled = false;
  while (!collector->done()) {
    if (!cancelled && interrupted != nullptr && interrupted->load()) {
      engine.cancel(id);
      cancelled = true;
    }
    if (engine.started()) {
      collector->wait();
    } else {
      engine.step();
    }
  }
  if (collector->generation.finished.error) return tl::unexpected(*collector->generation.finished.error);
  return std::move(collector->generation);
}

}  // namespace qw::engine
