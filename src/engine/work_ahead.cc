// What the processors of a request have to work out before its next token can be drawn: of a grammar, which tokens may
// come. Mostly that is nothing (a look-up), sometimes much. It is done between steps and a little at a time; whoever is
// not ready sits the step out, so that the others' tokens keep coming. When what is worked out becomes no other answer.
#include <algorithm>
#include <atomic>

#include "engine/engine.h"
#include "engine/internal/sequence.h"

namespace qw::engine {
namespace {

// Steps (of a nanosecond or so) that all of them together may take before a step of the engine: about what a token of a
// small model takes. And what each of many may take at least, so that what is usual is done at once.
constexpr std::size_t kSteps = std::size_t{1} << 23, kLeastSteps = std::size_t{1} << 19;

}  // namespace

bool Engine::is_ready(const Sequence& s, std::size_t steps) const {
  return !s.sampler.works_ahead() || s.sampler.work_ahead(steps);
}

// False if somebody is not ready.
bool Engine::work_ahead() {
  constrained_.clear();
  const auto takes_part = [](const Sequence& s) {
    return !s.done && s.wanted == Wanted::kTokens && s.sampler.works_ahead();
  };
  for (const bool running : {true, false}) {
    for (const auto& s : sequences_) {
      if (s->running != running) continue;
      s->unready = false;
      if (!takes_part(*s) || (running && s->length() - s->computed > config_.max_rows)) continue;
      // Of those who wait, as many as may be admitted soon; the others' first tokens wait for a step after that.
      s->unready = !running && static_cast<std::int64_t>(constrained_.size()) >= config_.max_sequences;
      if (!s->unready) constrained_.push_back(s.get());
    }
  }
  if (constrained_.empty()) return true;
  const std::size_t each = std::max(kLeastSteps, kSteps / constrained_.size());
  std::atomic<std::size_t> next{0};
  const auto work = [&](int) {
    for (std::size_t i = next.fetch_add(1); i < constrained_.size(); i = next.fetch_add(1))
      constrained_[i]->unready = !is_ready(*constrained_[i], each);
  };
  if (config_.sampling_pool != nullptr && constrained_.size() > 1) {
    config_.sampling_pool->run(work);
  } else {
    work(0);
  }
  return std::none_of(constrained_.begin(), constrained_.end(), [](const Sequence* s) { return s->unready; });
}

}  // namespace qw::engine
