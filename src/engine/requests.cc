// How requests come into the engine and leave it, on the stepping thread.
#include <algorithm>
#include <utility>

#include "engine/engine.h"
#include "engine/internal/drafting.h"
#include "engine/internal/sequence.h"
#include "engine/internal/stats_board.h"

namespace qw::engine {

void Engine::adopt(std::unique_ptr<Sequence> sequence) {
  Sequence& s = *sequence;
  s.table = pool_.make_table(s.limit());
  s.tenant = tenants_->enter(s.share);
  if (config_.prefixes != nullptr) s.root = config_.prefixes->open_root(s.prefix_key);
  sequences_.push_back(std::move(sequence));
  if (const Status prepared = s.sampler.prepare(executor_.vocab()); !prepared)
    finish(s, FinishReason::kError, prepared.error());
}

void Engine::take_inbox() {
  if (!has_mail_) return;
  Inbox inbox;
  {
    const std::lock_guard lock(mutex_);
    std::swap(inbox, inbox_);
    has_mail_ = false;
  }
  const bool had_none = sequences_.empty();
  for (auto& sequence : inbox.submitted) adopt(std::move(sequence));
  if (had_none && !sequences_.empty()) {
    totals_.last_progress = config_.now();
    publish_stats();  // if the first step never ends, it is seen that there is one
  }
  for (const auto& [id, tokens] : inbox.extended)
    for (auto& s : sequences_)
      if (s->id == id && !s->done) grow(*s, tokens);
  for (const RequestId id : inbox.cancelled)
    for (auto& s : sequences_)
      if (s->id == id && !s->done) finish(*s, FinishReason::kCancelled);
}

// More tokens of an open request; none: it is closed, and ends at once if nothing is left to compute.
void Engine::grow(Sequence& s, std::span<const TokenId> tokens) {
  s.added.insert(s.added.end(), tokens.begin(), tokens.end());
  name_blocks(s);
  if (!tokens.empty()) return;
  s.open = false;
  if (s.rows_given == s.length()) finish(s, FinishReason::kStop);
}

void Engine::expire() {
  const Clock::time_point now = config_.now();
  for (auto& s : sequences_)
    if (!s->done && s->deadline && now >= *s->deadline) finish(*s, FinishReason::kDeadline);
}

void Engine::finish(Sequence& s, FinishReason reason, std::optional<Error> error) {
  s.done = true;
  s.open = false;
  s.running = false;
  s.computed = s.promised_tokens = 0;
  pool_.release(s.table);
  s.state.release();
  s.before.release();
  s.drafts.clear();
  release_adapter(s);
  if (drafting_ != nullptr) drafting_->forget(s.id);
  if (s.root >= 0) config_.prefixes->close_root(std::exchange(s.root, -1));
  tenants_->leave(s.tenant);
  ++totals_.finished[static_cast<std::size_t>(reason)];

  const Clock::time_point now = config_.now();
  const auto ms = [](Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
  };
  Finished out;
  out.request = s.id;
  out.reason = reason;
  out.usage = {s.sampler.prompt_tokens() + static_cast<std::int64_t>(s.added.size()), s.sampler.output_tokens(),
               std::max<std::int64_t>(0, s.cached_tokens), s.computed_rows, s.drafted, s.accepted};
  out.preemptions = s.preemptions;
  out.error = std::move(error);
  out.timings.queued_ms = ms(s.submitted, s.admitted.value_or(now));
  if (s.first_token) {
    out.timings.prompt_ms = ms(*s.admitted, *s.first_token);
    out.timings.first_token_ms = ms(s.submitted, *s.first_token);
    out.timings.predict_ms = ms(*s.first_token, *s.last_token);
  }
  out.timings.total_ms = ms(s.submitted, now);
  s.sink->on_finished(out);
  s.sink.reset();
}

// Forgets finished requests, and tells drain() once it is known to stats.
void Engine::sweep() {
  std::vector<std::unique_ptr<Sequence>> gone;
  for (auto& s : sequences_)
    if (s->done) gone.push_back(std::move(s));
  if (gone.empty()) return;
  std::erase(sequences_, nullptr);
  publish_stats();
  const std::lock_guard lock(mutex_);
  for (const auto& s : gone) {
    room_.erase(s->id);
    if (const auto of = live_of_.find(s->share.tenant); --of->second == 0) live_of_.erase(of);
  }
  live_ -= static_cast<std::int64_t>(gone.size());
  if (live_ == 0) idle_.notify_all();
}

void Engine::cancel_all() {
  take_inbox();
  for (auto& s : sequences_)
    if (!s->done) finish(*s, FinishReason::kCancelled);
  sweep();
  publish_stats();
}

void Engine::publish_stats() {
  totals_.running = totals_.waiting = 0;
  for (const auto& s : sequences_) ++(s->running ? totals_.running : totals_.waiting);
  totals_.total_blocks = pool_.total_blocks();
  totals_.free_blocks = pool_.free_blocks();
  totals_.idle_blocks = pool_.idle_blocks();
  board_->write(totals_);
}

}  // namespace qw::engine
