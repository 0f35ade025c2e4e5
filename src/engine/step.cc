// The inside of the engine: one step, on the stepping thread.
#include <algorithm>
#include <atomic>
#include <utility>

#include "engine/engine.h"
#include "engine/internal/drafting.h"
#include "engine/internal/sequence.h"

namespace qw::engine {

bool Engine::advance() {
  run_calls(false);
  take_inbox();
  expire();
  sweep();
  if (drafting_ != nullptr) draft();
  const StepPlan plan = plan_step(snapshot());
  if (!plan.slices.empty()) {
    const Clock::time_point begin = Clock::now();
    reserve(plan);
    const Status executed = execute(plan);
    take_inbox();  // what was cancelled during the pass gets no further token
    expire();
    if (executed) {
      commit(plan);
    } else {
      roll_back(plan, executed.error());
    }
    if (drafting_ != nullptr) end_drafts(plan, std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
    sweep();
  }
  publish();
  const std::lock_guard lock(mutex_);
  resting_ = plan.slices.empty();
  return live_ > 0;
}

void Engine::adopt(std::unique_ptr<Sequence> sequence) {
  Sequence& s = *sequence;
  s.table = pool_.make_table(s.limit());
  const auto same = std::find_if(sequences_.begin(), sequences_.end(),
                                 [&](const auto& other) { return other->tenant_name == s.tenant_name; });
  s.tenant = same != sequences_.end() ? (*same)->tenant : next_tenant_++;
  sequences_.push_back(std::move(sequence));
  if (const Status prepared = s.sampler.prepare(executor_.vocab()); !prepared)
    finish(s, FinishReason::kError, prepared.error());
}

void Engine::take_inbox() {
  Inbox inbox;
  {
    const std::lock_guard lock(mutex_);
    std::swap(inbox, inbox_);
  }
  for (auto& sequence : inbox.submitted) adopt(std::move(sequence));
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
  if (!tokens.empty()) return;
  s.open = false;
  if (s.rows_given == s.length()) finish(s, FinishReason::kStop);
}

void Engine::expire() {
  const Clock::time_point now = config_.now();
  for (auto& s : sequences_)
    if (!s->done && s->deadline && now >= *s->deadline) finish(*s, FinishReason::kDeadline);
}

Snapshot Engine::snapshot() const {
  Snapshot view;
  view.limits = {config_.max_rows,      config_.max_sequences,        config_.growth_tokens,
                 config_.max_running_per_tenant, pool_.shape().block_tokens, pool_.total_blocks(),
                 drafting_ != nullptr ? executor_.max_logit_rows() - config_.max_sequences : 0};
  view.free_blocks = pool_.free_blocks();
  view.sequences.reserve(sequences_.size());
  for (const auto& s : sequences_)
    view.sequences.push_back({s->id, s->priority, s->tenant, s->running, s->length(), s->computed, s->limit(),
                              static_cast<std::int64_t>(s->table.blocks().size()), s->promised_tokens,
                              s->open, s->open && s->rows_given == s->length(),
                              static_cast<std::int64_t>(s->drafts.size())});
  return view;
}

std::string Engine::violation() const {
  if (std::string broken = engine::violation(snapshot()); !broken.empty()) return broken;
  std::vector<const kvcache::BlockTable*> tables;
  for (const auto& s : sequences_) {
    tables.push_back(&s->table);
    if (config_.states != nullptr && s->running != s->state.held())
      return "sequence " + std::to_string(s->id) + (s->running ? ": runs without a state" : ": holds a state and does not run");
  }
  return kvcache::violation(pool_.snapshot(tables));
}

void Engine::reserve(const StepPlan& plan) {
  const Clock::time_point now = config_.now();
  for (const std::size_t i : plan.preempted) {
    Sequence& s = *sequences_[i];
    pool_.release(s.table);
    s.state.release();
    s.running = false;
    s.computed = s.promised_tokens = 0;
    if (drafting_ != nullptr) drafting_->restarted(s.id);
    ++s.preemptions;
    ++totals_.preemptions;
  }
  for (const std::size_t i : plan.admitted) {
    Sequence& s = *sequences_[i];
    s.running = true;
    if (config_.states != nullptr) s.state = std::move(*config_.states->acquire());  // one for each that may run
    s.promised_tokens = std::min(s.limit(), s.length() + config_.growth_tokens);
    if (!s.admitted) s.admitted = now;
  }
  for (const Slice& slice : plan.slices) {
    Sequence& s = *sequences_[slice.sequence];
    // The plan counted the blocks.
    QW_CHECK(pool_.reserve(s.table, s.computed + slice.tokens + slice.drafts).has_value());
    s.drafts.resize(static_cast<std::size_t>(slice.drafts));
    if (slice.drafts == 0 || config_.states == nullptr) continue;
    s.before = std::move(*config_.states->acquire());
    config_.states->copy(s.state, s.before);
  }
}

Status Engine::execute(const StepPlan& plan) {
  Batch& b = *batch_;
  b.clear();
  for (const Slice& slice : plan.slices) {
    const Sequence& s = *sequences_[slice.sequence];
    const auto index = static_cast<std::int32_t>(b.tables.size());
    b.tables.push_back(s.table.blocks());
    if (config_.states != nullptr) b.slots.push_back(s.state.index());
    b.prompts.push_back(static_cast<std::int32_t>(s.sampler.prompt_tokens()));
    b.first_row.push_back(static_cast<std::int64_t>(b.logit_rows.size()));
    for (std::int64_t p = s.computed; p < s.computed + slice.tokens; ++p) {
      b.tokens.push_back(s.token(p));
      b.positions.push_back(static_cast<std::int32_t>(p));
      b.sequences.push_back(index);
      b.adapters.push_back(s.adapter_slot);
      if (s.wanted == Wanted::kEveryRow && p >= s.rows_given)
        b.logit_rows.push_back(static_cast<std::int32_t>(b.tokens.size()) - 1);
    }
    if (slice.sample && s.wanted != Wanted::kEveryRow) b.logit_rows.push_back(static_cast<std::int32_t>(b.tokens.size()) - 1);
    for (std::int64_t i = 0; i < slice.drafts; ++i) {
      b.tokens.push_back(s.drafts[static_cast<std::size_t>(i)]);
      b.positions.push_back(static_cast<std::int32_t>(s.computed + slice.tokens + i));
      b.sequences.push_back(index);
      b.adapters.push_back(s.adapter_slot);
      b.logit_rows.push_back(static_cast<std::int32_t>(b.tokens.size()) - 1);
    }
  }
  b.first_row.push_back(static_cast<std::int64_t>(b.logit_rows.size()));
  QW_TRY(executor_.run({b.tokens, b.positions, b.sequences, b.tables, b.logit_rows, nullptr, b.prompts,
                        executor_.adapters() > 0 ? std::span<const std::int32_t>(b.adapters) : std::span<const std::int32_t>(),
                        b.slots}));
  ++totals_.steps;
  totals_.computed_tokens += static_cast<std::int64_t>(b.tokens.size());
  return {};
}

void Engine::roll_back(const StepPlan& plan, const Error& error) {
  for (const Slice& slice : plan.slices) {
    Sequence& s = *sequences_[slice.sequence];
    if (!s.done) finish(s, FinishReason::kError, error);
  }
}

// Draws the next token of every sampling slice; rows do not depend on each other, so any worker may take any row.
void Engine::sample_rows(const StepPlan& plan) {
  std::vector<std::size_t> drawing;  // slices
  for (std::size_t k = 0; k < plan.slices.size(); ++k) {
    const Sequence& s = *sequences_[plan.slices[k].sequence];
    if (plan.slices[k].sample && s.wanted == Wanted::kTokens && !s.done) drawing.push_back(k);
  }
  batch_->sampled.assign(plan.slices.size(), std::nullopt);
  std::atomic<std::size_t> next{0};
  const auto work = [&](int worker) {
    for (std::size_t i = next.fetch_add(1); i < drawing.size(); i = next.fetch_add(1)) {
      const std::size_t k = drawing[i];
      batch_->sampled[k] = sequences_[plan.slices[k].sequence]->sampler.sample(
          executor_.logits(batch_->first_row[k]), scratch_[static_cast<std::size_t>(worker)]);
    }
  };
  if (config_.sampling_pool != nullptr && drawing.size() > 1) {
    config_.sampling_pool->run(work);
  } else {
    work(0);
  }
}

void Engine::commit(const StepPlan& plan) {
  sample_rows(plan);
  for (std::size_t k = 0; k < plan.slices.size(); ++k) {
    const Slice& slice = plan.slices[k];
    Sequence& s = *sequences_[slice.sequence];
    if (s.done) continue;
    s.computed += slice.tokens;
    if (s.wanted != Wanted::kTokens) {
      commit_rows(s, slice, k);
    } else if (auto& sampled = batch_->sampled[k]) {
      s.drafted += slice.drafts;
      totals_.drafted_tokens += slice.drafts;
      commit_token(s, std::move(*sampled));
      if (slice.drafts > 0 && !s.done) commit_drafts(s, slice, k);
    }
  }
}

// Hands out the rows of slice `k`, whose last one is that of the last token computed.
void Engine::commit_rows(Sequence& s, const Slice& slice, std::size_t k) {
  const std::int64_t begin = batch_->first_row[k], end = batch_->first_row[k + 1];
  for (std::int64_t row = begin; row < end; ++row)
    s.sink->on_row({s.id, s.computed - (end - row), executor_.logits(row)});
  s.rows_given = std::max(s.rows_given, s.computed);
  if (s.open || s.computed < s.length()) return;  // the length may have grown since the plan
  s.first_token = s.last_token = config_.now();
  finish(s, FinishReason::kStop);
}

void Engine::commit_token(Sequence& s, Result<sampling::Sampled> sampled) {
  if (!sampled) return finish(s, FinishReason::kError, sampled.error());
  const Clock::time_point now = config_.now();
  if (!s.first_token) s.first_token = now;
  s.last_token = now;
  ++totals_.output_tokens;
  TokenEvent event{s.id, sampled->id, s.sampler.output_tokens(), s.sampler.is_stop(sampled->id), sampled->logprob,
                   sampled->top};
  if (const Status accepted = s.sampler.accept(sampled->id); !accepted)
    return finish(s, FinishReason::kError, accepted.error());
  const Verdict verdict = s.sink->on_token(event);
  if (event.stop || verdict == Verdict::kStop) {
    finish(s, FinishReason::kStop);
  } else if (s.sampler.output_tokens() >= s.max_output) {
    finish(s, FinishReason::kLength);
  }
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
  ++totals_.finished[static_cast<std::size_t>(reason)];

  const Clock::time_point now = config_.now();
  const auto ms = [](Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
  };
  Finished out;
  out.request = s.id;
  out.reason = reason;
  out.usage = {s.sampler.prompt_tokens() + static_cast<std::int64_t>(s.added.size()), s.sampler.output_tokens(), 0, s.drafted,
               s.accepted};
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
  std::vector<RequestId> gone;
  for (const auto& s : sequences_)
    if (s->done) gone.push_back(s->id);
  const std::size_t finished = std::erase_if(sequences_, [](const auto& s) { return s->done; });
  if (finished == 0) return;
  publish();
  const std::lock_guard lock(mutex_);
  for (const RequestId id : gone) room_.erase(id);
  live_ -= static_cast<std::int64_t>(finished);
  if (live_ == 0) idle_.notify_all();
}

void Engine::cancel_all() {
  take_inbox();
  for (auto& s : sequences_)
    if (!s->done) finish(*s, FinishReason::kCancelled);
  sweep();
  publish();
}

void Engine::publish() {
  totals_.running = totals_.waiting = 0;
  for (const auto& s : sequences_) ++(s->running ? totals_.running : totals_.waiting);
  totals_.total_blocks = pool_.total_blocks();
  totals_.free_blocks = pool_.free_blocks();
  const std::lock_guard lock(mutex_);
  stats_ = totals_;
}

}  // namespace qw::engine
