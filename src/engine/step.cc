// The inside of the engine: one step, on the stepping thread.
#include <algorithm>
#include <atomic>
#include <utility>

#include "base/put_off.h"
#include "engine/engine.h"
#include "engine/internal/drafting.h"
#include "engine/internal/gathering.h"
#include "engine/internal/sequence.h"
#include "engine/internal/step_clock.h"

namespace qw::engine {

namespace {

// A step with a prompt in it may take this many times what one without takes (see EngineConfig::target_gap_ms): below 2,
// so that no token comes later than twice the usual, with some room for what the estimate does not know.
constexpr double kLongestStep = 1.7;
// Rows which prompts get in any step: they must come to an end.
constexpr std::int64_t kFewestPromptRows = 8;
// And beside answers as long as no step was measured.
constexpr std::int64_t kUnknownPromptRows = 32;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

bool Engine::advance() {
  const Clock::time_point began = config_.now();
  run_calls(false);
  take_inbox();
  expire();
  sweep();
  const bool all_ready = work_ahead();
  if (drafting_ != nullptr) draft();
  look_for_a_crowd();
  const StepPlan& plan = plan_next();
  if (!plan.slices.empty()) {
    const Clock::time_point begin = Clock::now();
    reserve(plan);
    const Status executed = execute(plan);
    take_inbox();  // what was cancelled during the pass gets no further token
    expire();
    if (executed) {
      const bool gathered = gathering_->on();
      look_for_a_crowd();
      if (!gathered && gathering_->on()) postpone(plan);
      {
        const base::PuttingOff once;  // whom the sinks wake is woken once for all of them
        commit(plan);
      }
      // Rows that tell of a prompt cost more than others, and say nothing of those.
      if (batch_->told_rows.empty())
        clock_->add(static_cast<std::int64_t>(batch_->tokens.size()), seconds_between(began, config_.now()));
    } else {
      roll_back(plan, executed.error());
    }
    if (drafting_ != nullptr) end_drafts(plan, std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
    sweep();
  }
  publish_stats();
  resting_ = plan.slices.empty() && all_ready;
  return live_ > 0;
}

// Only those are looked up in the prefix cache whose turn it is: a plan that admits somebody, or finds no room for him,
// without knowing what is cached of him, is made again.
const StepPlan& Engine::plan_next() {
  for (;;) {
    fill(view_);
    const StepPlan& plan = planner_.plan(view_);
    bool learnt = false;
    for (const Admission& a : plan.admitted) learnt |= find_prefix(*sequences_[a.sequence]);
    if (plan.refused) learnt |= find_prefix(*sequences_[*plan.refused]);
    if (!learnt) return plan;
  }
}

// Rows of the next step for prompts, so that answers in progress go on evenly; 0: no limit. How long such a step may be is
// measured by the steps of everybody who is here or about to be, once all prompts are read: that is how far apart most
// tokens of these answers come, so none comes later than twice that, and prompts get no less than that leaves them.
std::int64_t Engine::prefill_rows() const {
  if (config_.target_gap_ms <= 0) return 0;
  std::int64_t decoding = 0, soon = 0;
  for (const auto& s : sequences_) {
    decoding += s->running && s->length() == s->computed + 1 && !gathers(*s);
    soon += !s->open && s->wanted == Wanted::kTokens;
  }
  if (!clock_->knows()) return decoding > 0 ? kUnknownPromptRows : 0;
  soon = std::max(decoding, std::min(soon, config_.max_sequences));
  const double longest = std::max(config_.target_gap_ms / 1000, kLongestStep * clock_->seconds(soon));
  return std::clamp(clock_->rows(longest) - decoding, kFewestPromptRows, config_.max_rows);
}

void Engine::look_for_a_crowd() {
  if (config_.gather_ms <= 0) return;
  Gathering::Crowd crowd;
  const Sequence* first = nullptr;
  for (const auto& s : sequences_) {
    if (s->done || s->wanted != Wanted::kTokens) continue;
    if (s->sampler.output_tokens() > 0) {
      ++crowd.answering;
      continue;
    }
    if (first == nullptr) first = s.get();
    crowd.alike = crowd.alike && s->priority == first->priority;
    if (++crowd.beginning > config_.max_sequences) continue;  // nobody waits for those who wait for a seat
    const std::int64_t read = s->running ? s->computed : s->match.tokens;
    crowd.unread += std::max<std::int64_t>(0, s->length() - 1 - read);
  }
  const double steps = static_cast<double>(crowd.unread) / static_cast<double>(config_.max_rows);
  const double reading = clock_->knows() ? steps * clock_->seconds(config_.max_rows) : 0;
  gathering_->look(crowd, std::chrono::duration<double>(reading), config_.now());
}

bool Engine::gathers(const Sequence& s) const {
  return gathering_->on() && !s.done && s.wanted == Wanted::kTokens && s.sampler.output_tokens() == 0;
}

// A crowd came during the pass, which none of `plan` knew of: who was about to begin waits with it, his last token being
// computed once more. A state that has seen it cannot go back, so models with states begin.
void Engine::postpone(const StepPlan& plan) {
  if (config_.states != nullptr) return;
  for (const Slice& slice : plan.slices) {
    Sequence& s = *sequences_[slice.sequence];
    s.postponed = slice.sample && slice.drafts == 0 && gathers(s);
  }
}

void Engine::fill(Snapshot& view) const {
  view.limits = {config_.max_rows,
                 config_.max_sequences,
                 config_.growth_tokens,
                 config_.max_running_per_tenant,
                 pool_.shape().block_tokens,
                 pool_.total_blocks(),
                 drafting_ != nullptr ? executor_.max_logit_rows() - config_.max_sequences : 0,
                 prefill_rows(),
                 static_cast<double>(config_.tenant_quantum)};
  view.free_blocks = pool_.free_blocks();
  view.shared_blocks = pool_.shared_blocks();
  view.tenants.clear();
  for (std::size_t t = 0; t < tenants_->size(); ++t) view.tenants.push_back({tenants_->served(t), tenants_->weight(t)});
  view.sequences.clear();
  const bool answers = std::any_of(sequences_.begin(), sequences_.end(), [](const auto& s) { return s->decodes(1); });
  for (const auto& s : sequences_) {
    SequenceView v;
    v.id = s->id;
    v.priority = s->priority;
    v.tenant = s->tenant;
    v.running = s->running;
    v.length = s->length();
    v.computed = s->computed;
    v.limit = s->limit();
    v.blocks = static_cast<std::int64_t>(s->table.blocks().size());
    v.own_blocks = pool_.own_blocks(s->table);
    v.promised_tokens = s->promised_tokens;
    v.open = s->open;
    v.resting = s->open && s->rows_given == s->length();
    v.drafts = static_cast<std::int64_t>(s->drafts.size());
    v.stop_at = next_snapshot(*s);
    if (const std::int64_t stop = next_telling_stop(*s, answers); stop > 0 && (v.stop_at <= s->computed || stop < v.stop_at)) v.stop_at = stop;
    v.gathers = gathers(*s);
    v.unready = s->unready;
    if (!s->running && knows_prefix(*s)) {
      v.cached = s->match.tokens;
      v.cached_blocks = s->match.whole;
      v.cached_idle = s->match.idle;
      v.held_back = s->held_back;
    }
    view.sequences.push_back(v);
  }
}

Snapshot Engine::snapshot() const {
  Snapshot view;
  fill(view);
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
  if (config_.prefixes != nullptr)
    if (std::string broken = config_.prefixes->violation(); !broken.empty()) return broken;
  return kvcache::violation(pool_.snapshot(tables));
}

void Engine::reserve(const StepPlan& plan) {
  const Clock::time_point now = config_.now();
  for (const std::size_t i : plan.preempted) {
    Sequence& s = *sequences_[i];
    // Another snapshot must not take the place of one that is about to be used.
    if (plan.admitted.empty() || config_.prefixes == nullptr || config_.prefixes->snapshots() < config_.prefixes->most_snapshots())
      keep_state(s);
    pool_.release(s.table);
    s.state.release();
    s.running = false;
    s.computed = s.promised_tokens = 0;
    if (drafting_ != nullptr) drafting_->restarted(s.id);
    s.published = 0;
    ++s.preemptions;
    ++totals_.preemptions;
  }
  for (const Admission& a : plan.admitted) {
    Sequence& s = *sequences_[a.sequence];
    s.running = true;
    if (config_.states != nullptr) s.state = std::move(*config_.states->acquire());  // one for each that may run
    s.promised_tokens = std::min(s.limit(), s.length() + config_.growth_tokens);
    if (!s.admitted) s.admitted = now;
    take_prefix(s, a.cached);
  }
  // Only now blocks are taken, which may take the place of what was found.
  for (const Admission& a : plan.admitted) {
    Sequence& s = *sequences_[a.sequence];
    const std::size_t held = s.table.blocks().size();
    if (held > s.published) QW_CHECK(pool_.make_own(s.table, held - 1).has_value());
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
    note_telling_rows(slice, static_cast<std::int64_t>(b.tokens.size()));
    for (std::int64_t p = s.computed; p < s.computed + slice.tokens; ++p) {
      b.tokens.push_back(s.token(p));
      b.positions.push_back(static_cast<std::int32_t>(p));
      b.sequences.push_back(index);
      b.adapters.push_back(s.adapter_slot);
      if (s.wanted == Wanted::kEveryRow && p >= s.rows_given)
        b.logit_rows.push_back(static_cast<std::int32_t>(b.tokens.size()) - 1);
    }
    if (slice.sample && s.wanted != Wanted::kEveryRow && s.wanted != Wanted::kPrompt) b.logit_rows.push_back(static_cast<std::int32_t>(b.tokens.size()) - 1);
    for (std::int64_t i = 0; i < slice.drafts; ++i) {
      b.tokens.push_back(s.drafts[static_cast<std::size_t>(i)]);
      b.positions.push_back(static_cast<std::int32_t>(s.computed + slice.tokens + i));
      b.sequences.push_back(index);
      b.adapters.push_back(s.adapter_slot);
      b.logit_rows.push_back(static_cast<std::int32_t>(b.tokens.size()) - 1);
    }
  }
  b.first_row.push_back(static_cast<std::int64_t>(b.logit_rows.size()));
  // Where rows tell of prompts, they are looked at a few at a time before those whose logits stay for the commit.
  const bool tells = !b.told_rows.empty();
  const std::span<const std::int32_t> logit_rows = tells ? std::span<const std::int32_t>() : std::span<const std::int32_t>(b.logit_rows);
  ops::StepBatch batch{b.tokens, b.positions, b.sequences, b.tables, logit_rows, nullptr, b.prompts,
                       executor_.adapters() > 0 ? std::span<const std::int32_t>(b.adapters) : std::span<const std::int32_t>(),
                       b.slots};
  // Layers that draft take what the model keeps of every row.
  batch.only_logit_rows = !tells && !(config_.drafts.layers && executor_.drafts());
  QW_TRY(executor_.run(batch));
  if (tells) {
    QW_TRY(tell_rows());
    QW_TRY(executor_.compute_logits(b.logit_rows));
  }
  for (const Slice& slice : plan.slices) sequences_[slice.sequence]->computed_rows += slice.tokens + slice.drafts;
  ++totals_.steps;
  totals_.last_progress = config_.now();
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
  Batch& b = *batch_;
  b.drawing.clear();
  if (b.draws.size() < plan.slices.size()) b.draws.resize(plan.slices.size());
  for (std::size_t k = 0; k < plan.slices.size(); ++k) {
    const Sequence& s = *sequences_[plan.slices[k].sequence];
    if (plan.slices[k].sample && s.wanted == Wanted::kTokens && !s.done && !s.postponed) b.drawing.push_back(k);
  }
  std::atomic<std::size_t> next{0};
  const auto work = [&](int worker) {
    for (std::size_t i = next.fetch_add(1); i < b.drawing.size(); i = next.fetch_add(1)) {
      const std::size_t k = b.drawing[i];
      b.draws[k].status = sequences_[plan.slices[k].sequence]->sampler.sample(
          executor_.logits(b.first_row[k]), scratch_[static_cast<std::size_t>(worker)], b.draws[k].sampled);
    }
  };
  if (config_.sampling_pool != nullptr && b.drawing.size() > 1) {
    config_.sampling_pool->run(work);
  } else {
    work(0);
  }
}

void Engine::commit(const StepPlan& plan) {
  sample_rows(plan);
  charge(plan);
  for (std::size_t k = 0; k < plan.slices.size(); ++k) {
    const Slice& slice = plan.slices[k];
    Sequence& s = *sequences_[slice.sequence];
    if (s.done) continue;
    const std::int64_t stop = next_snapshot(s);
    const bool postponed = std::exchange(s.postponed, false);
    s.computed += slice.tokens - postponed;
    if (s.rows_given < s.telling_rows()) commit_told(slice.sequence);
    if (s.done) continue;
    if (slice.drafts == 0) keep_prefix(s);  // with drafts, what stays is known afterwards
    if (slice.drafts == 0 && s.computed == stop) keep_state(s);
    if (s.wanted != Wanted::kTokens) {
      commit_rows(s, k);
    } else if (slice.sample && !postponed) {
      s.drafted += slice.drafts;
      totals_.drafted_tokens += slice.drafts;
      commit_token(s, batch_->draws[k]);
      if (slice.drafts == 0 || s.done) continue;
      commit_drafts(s, slice, k);
      if (s.done) continue;
      keep_prefix(s);
      if (s.computed == stop) keep_state(s);
    }
  }
}

void Engine::charge(const StepPlan& plan) {
  for (const Slice& slice : plan.slices)
    tenants_->charge(sequences_[slice.sequence]->tenant, slice.tokens + slice.drafts);
  tenants_->advance();
}

// Hands out the rows of slice `k`, whose last one is that of the last token computed.
void Engine::commit_rows(Sequence& s, std::size_t k) {
  const std::int64_t begin = batch_->first_row[k], end = batch_->first_row[k + 1];
  for (std::int64_t row = begin; row < end; ++row)
    s.sink->on_row({s.id, s.computed - (end - row), executor_.logits(row)});
  if (s.wanted != Wanted::kPrompt) s.rows_given = std::max(s.rows_given, s.computed);
  if (s.open || s.computed < s.length()) return;  // the length may have grown since the plan
  s.first_token = s.last_token = config_.now();
  finish(s, s.wanted == Wanted::kPrompt ? FinishReason::kLength : FinishReason::kStop);
}

void Engine::commit_token(Sequence& s, const Draw& draw) {
  if (!draw.status) return finish(s, FinishReason::kError, draw.status.error());
  const sampling::Sampled* sampled = &draw.sampled;
  const Clock::time_point now = config_.now();
  if (!s.first_token) s.first_token = now;
  s.last_token = totals_.last_token = now;
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

}  // namespace qw::engine
