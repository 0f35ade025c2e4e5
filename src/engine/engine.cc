#include "engine/engine.h"

#include <algorithm>
#include <utility>

#include "engine/internal/sequence.h"

namespace qw::engine {
namespace {

constexpr std::chrono::milliseconds kRest{50};  // how late a deadline of a request that waits for tokens may be seen

Status check_positive(const char* name, std::int64_t value) {
  if (value > 0) return {};
  return fail(ErrorKind::kUsage, std::string("engine: ") + name + " must be positive, not " + std::to_string(value));
}

Status check_config(const EngineConfig& c, const StepExecutor& executor) {
  QW_TRY(check_positive("context", c.context));
  QW_TRY(check_positive("max_rows", c.max_rows));
  QW_TRY(check_positive("max_sequences", c.max_sequences));
  QW_TRY(check_positive("max_requests", c.max_requests));
  QW_TRY(check_positive("growth_tokens", c.growth_tokens));
  if (c.max_running_per_tenant < 0) return fail(ErrorKind::kUsage, "engine: max_running_per_tenant is negative");
  if (c.max_rows < c.max_sequences)
    return fail(ErrorKind::kUsage, "engine: max_rows must be at least max_sequences, so that all can decode in a step");
  if (c.max_rows > executor.max_rows() || c.max_sequences > executor.max_logit_rows())
    return fail(ErrorKind::kUsage, "engine: the executor was made for smaller steps than max_rows or max_sequences");
  if (c.states != nullptr && c.states->free_slots() < c.max_sequences)
    return fail(ErrorKind::kUsage, "engine: there are fewer states than max_sequences");
  const auto outside = [&](std::int64_t id) { return id < 0 || id >= executor.vocab(); };
  if (c.mask.usable < 0 || c.mask.usable > executor.vocab() ||
      std::any_of(c.mask.holes.begin(), c.mask.holes.end(), outside))
    return fail(ErrorKind::kUsage, "engine: the vocabulary mask does not fit the model's vocabulary");
  return {};
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(StepExecutor& executor, kvcache::BlockPool& pool, EngineConfig config) {
  QW_TRY(check_config(config, executor));
  return std::unique_ptr<Engine>(new Engine(executor, pool, std::move(config)));
}

Engine::Engine(StepExecutor& executor, kvcache::BlockPool& pool, EngineConfig config)
    : executor_(executor), pool_(pool), config_(std::move(config)), batch_(std::make_unique<Batch>()) {
  const std::int64_t cache_tokens = std::int64_t{pool_.total_blocks()} * pool_.shape().block_tokens;
  // The last output token needs no room in the cache.
  max_sequence_tokens_ = std::min(config_.context, cache_tokens + 1);
  scratch_.resize(config_.sampling_pool != nullptr ? static_cast<std::size_t>(config_.sampling_pool->size()) : 1);
  publish();
}

Engine::~Engine() { stop(); }

// ---- the outside: any thread ----------------------------------------------------------------------------------------

Status Engine::check(const Request& r) const {
  QW_CHECK(r.sink != nullptr);
  const bool tokens_wanted = r.wanted == Wanted::kTokens;
  if (tokens_wanted && !executor_.generates())
    return fail(ErrorKind::kUsage, "this model generates no text: its head is not a language model's");
  if (r.wanted == Wanted::kEveryRow && executor_.max_logit_rows() < config_.max_rows)
    return fail(ErrorKind::kUsage, "this model gives the row of the last token only");
  if (r.open && r.wanted != Wanted::kEveryRow) return fail(ErrorKind::kUsage, "only requests of every row can stay open");
  QW_TRY(sampling::validate(r.params, executor_.vocab()));
  if (r.prompt.empty()) return fail(ErrorKind::kUsage, "the prompt is empty");
  if (r.adapter < -1 || r.adapter >= executor_.adapters())
    return fail(ErrorKind::kUsage, "the model has no adapter " + std::to_string(r.adapter));
  if (r.max_tokens < 0) return fail(ErrorKind::kUsage, "max_tokens must not be negative");
  for (const TokenId id : r.prompt)
    if (id < 0 || id >= executor_.vocab())
      return fail(ErrorKind::kBadInput, "token id " + std::to_string(id) + " is outside the vocabulary of " +
                                            std::to_string(executor_.vocab()));
  const auto tokens = static_cast<std::int64_t>(r.prompt.size());
  if (tokens_wanted ? tokens >= max_sequence_tokens_ : tokens > max_read_tokens())
    return fail(ErrorKind::kResource,
                tokens_wanted ? "the prompt of " + std::to_string(tokens) + " tokens leaves no room: " +
                                    std::to_string(max_sequence_tokens_) + " tokens is the longest sequence"
                              : "the text of " + std::to_string(tokens) + " tokens is too long: " +
                                    std::to_string(max_read_tokens()) + " tokens is the longest");
  return {};
}

std::int64_t Engine::max_read_tokens() const {
  return std::min(config_.context, std::int64_t{pool_.total_blocks()} * pool_.shape().block_tokens);
}

Result<RequestId> Engine::submit(Request request) {
  QW_TRY(check(request));
  const std::int64_t room = max_sequence_tokens_ - static_cast<std::int64_t>(request.prompt.size());
  std::int64_t max_output = request.max_tokens == 0 ? room : std::min(request.max_tokens, room);
  if (request.wanted != Wanted::kTokens) max_output = 1;  // it is not drawn: the cache holds the prompt, nothing else
  const std::int64_t may_follow = request.open ? max_read_tokens() - static_cast<std::int64_t>(request.prompt.size()) : 0;
  const std::int64_t follows = request.max_tokens == 0 ? may_follow : std::min(request.max_tokens, may_follow);
  if (request.open) max_output = 1 + follows;
  const bool open = request.open;
  auto sequence = std::make_unique<Sequence>(0, std::move(request), &config_.mask);
  sequence->max_output = max_output;
  sequence->submitted = config_.now();
  const std::lock_guard lock(mutex_);
  if (!accepting_) return fail(ErrorKind::kInterrupted, "the engine takes no more requests");
  if (live_ >= config_.max_requests)
    return fail(ErrorKind::kResource, "too many requests: " + std::to_string(live_) + " are waiting or running");
  const RequestId id = sequence->id = next_id_++;
  inbox_.submitted.push_back(std::move(sequence));
  if (open) room_[id] = follows;
  ++live_;
  wake_.notify_one();
  return id;
}

void Engine::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  if (live_ > 0) inbox_.cancelled.push_back(id);
  wake_.notify_one();
}

Status Engine::extend(RequestId id, std::vector<TokenId> tokens) {
  for (const TokenId token : tokens)
    if (token < 0 || token >= executor_.vocab())
      return fail(ErrorKind::kBadInput, "token id " + std::to_string(token) + " is outside the vocabulary of " +
                                            std::to_string(executor_.vocab()));
  const std::lock_guard lock(mutex_);
  const auto room = room_.find(id);
  if (room == room_.end() || tokens.empty()) return {};
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (count > room->second)
    return fail(ErrorKind::kResource, std::to_string(count) + " tokens more are too many: there is room for " + std::to_string(room->second));
  room->second -= count;
  inbox_.extended.emplace_back(id, std::move(tokens));
  wake_.notify_one();
  return {};
}

void Engine::close(RequestId id) {
  const std::lock_guard lock(mutex_);
  if (room_.erase(id) > 0) inbox_.extended.emplace_back(id, std::vector<TokenId>());
  wake_.notify_one();
}

EngineStats Engine::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void Engine::start() {
  QW_CHECK(!thread_.joinable() && !stopping_);
  thread_ = std::thread([this] { run_loop(); });
}

void Engine::drain() {
  {
    std::unique_lock lock(mutex_);
    accepting_ = false;
    for (const auto& [id, room] : room_) inbox_.extended.emplace_back(id, std::vector<TokenId>());
    room_.clear();
    wake_.notify_one();
    if (thread_.joinable()) return idle_.wait(lock, [&] { return live_ == 0; });
  }
  while (step()) {
  }
}

void Engine::stop() {
  {
    const std::lock_guard lock(mutex_);
    accepting_ = false;
    stopping_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) {
    thread_.join();
  } else {
    cancel_all();
  }
}

void Engine::run_loop() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || live_ > 0; });
      // All that live are open requests which wait for tokens; their deadlines are looked at now and then.
      if (resting_) wake_.wait_for(lock, kRest, [&] { return stopping_ || !inbox_.empty(); });
      if (stopping_) break;
    }
    advance();
  }
  cancel_all();
}

bool Engine::step() {
  QW_CHECK(!thread_.joinable());
  return advance();
}

// ---- the inside: the stepping thread --------------------------------------------------------------------------------

bool Engine::advance() {
  take_inbox();
  expire();
  sweep();
  const StepPlan plan = plan_step(snapshot());
  if (!plan.slices.empty()) {
    reserve(plan);
    const Status executed = execute(plan);
    take_inbox();  // what was cancelled during the pass gets no further token
    expire();
    if (executed) {
      commit(plan);
    } else {
      roll_back(plan, executed.error());
    }
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
                 config_.max_running_per_tenant, pool_.shape().block_tokens, pool_.total_blocks()};
  view.free_blocks = pool_.free_blocks();
  view.sequences.reserve(sequences_.size());
  for (const auto& s : sequences_)
    view.sequences.push_back({s->id, s->priority, s->tenant, s->running, s->length(), s->computed, s->limit(),
                              static_cast<std::int64_t>(s->table.blocks().size()), s->promised_tokens,
                              s->open, s->open && s->rows_given == s->length()});
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
    QW_CHECK(pool_.reserve(s.table, s.computed + slice.tokens).has_value());  // the plan counted the blocks
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
      b.adapters.push_back(s.adapter);
      if (s.wanted == Wanted::kEveryRow && p >= s.rows_given)
        b.logit_rows.push_back(static_cast<std::int32_t>(b.tokens.size()) - 1);
    }
    if (slice.sample && s.wanted != Wanted::kEveryRow) b.logit_rows.push_back(static_cast<std::int32_t>(b.tokens.size()) - 1);
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
      commit_token(s, std::move(*sampled));
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
  ++totals_.finished[static_cast<std::size_t>(reason)];

  const Clock::time_point now = config_.now();
  const auto ms = [](Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
  };
  Finished out;
  out.request = s.id;
  out.reason = reason;
  out.usage = {s.sampler.prompt_tokens() + static_cast<std::int64_t>(s.added.size()), s.sampler.output_tokens(), 0};
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

std::string_view finish_reason_name(FinishReason reason) {
  constexpr std::string_view kNames[] = {"stop", "length", "cancelled", "deadline", "error"};
  return kNames[static_cast<std::size_t>(reason)];
}

}  // namespace qw::engine
