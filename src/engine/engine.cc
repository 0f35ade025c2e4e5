#include "engine/engine.h"

#include <algorithm>
#include <utility>

#include "engine/internal/adapter_table.h"
#include "engine/internal/bell_desk.h"
#include "engine/internal/drafting.h"
#include "engine/internal/gathering.h"
#include "engine/internal/sequence.h"
#include "engine/internal/stats_board.h"
#include "engine/internal/step_clock.h"

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
  if (c.target_gap_ms < 0 || c.gather_ms < 0 || c.tenant_quantum < 0)
    return fail(ErrorKind::kUsage, "engine: target_gap_ms, gather_ms and tenant_quantum must not be negative");
  if (c.max_rows < c.max_sequences)
    return fail(ErrorKind::kUsage, "engine: max_rows must be at least max_sequences, so that all can decode in a step");
  if (c.max_rows > executor.max_rows() || c.max_sequences > executor.max_logit_rows())
    return fail(ErrorKind::kUsage, "engine: the executor was made for smaller steps than max_rows or max_sequences");
  if (c.drafts.most < 0) return fail(ErrorKind::kUsage, "engine: the number of drafts is negative");
  if (c.drafts.on() && executor.max_logit_rows() < c.max_sequences + c.drafts.most)
    return fail(ErrorKind::kUsage, "engine: the executor was made for fewer logit rows than drafts need");
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
    : executor_(executor), pool_(pool), config_(std::move(config)), tenants_(std::make_unique<TenantTable>()), batch_(std::make_unique<Batch>()),
      clock_(std::make_unique<StepClock>()), board_(std::make_unique<StatsBoard<EngineStats>>()) {
  const std::int64_t cache_tokens = std::int64_t{pool_.total_blocks()} * pool_.shape().block_tokens;
  // The last output token needs no room in the cache.
  max_sequence_tokens_ = std::min(config_.context, cache_tokens + 1);
  adapters_ = std::make_unique<AdapterTable>();
  for (std::int32_t slot = 0; slot < executor_.adapters(); ++slot) adapters_->add(executor_.adapter_bytes(slot));
  gathering_ = std::make_unique<Gathering>(std::chrono::duration<double, std::milli>(config_.gather_ms), config_.max_sequences);
  if (config_.drafts.on()) drafting_ = std::make_unique<Drafting>(config_.drafts, executor_);
  scratch_.resize(config_.sampling_pool != nullptr ? static_cast<std::size_t>(config_.sampling_pool->size()) : 1);
  for (sampling::SamplerScratch& s : scratch_) {
    s.candidates.reserve(static_cast<std::size_t>(executor_.vocab()));
    s.raw.reserve(static_cast<std::size_t>(executor_.vocab()));
  }
  publish_stats();
  BellDesk::of_process().open(this, [this] { wake_.notify_one(); });
}

Engine::~Engine() {
  BellDesk::of_process().close(this);
  stop();
}

// ---- the outside: any thread ----------------------------------------------------------------------------------------

Status Engine::check(const Request& r) const {
  QW_CHECK(r.sink != nullptr);
  const bool tokens_wanted = r.wanted == Wanted::kTokens;
  if ((tokens_wanted || r.wanted == Wanted::kPrompt) && !executor_.generates())
    return fail(ErrorKind::kUsage, "this model generates no text: its head is not a language model's");
  if (r.wanted == Wanted::kEveryRow && executor_.max_logit_rows() < config_.max_rows)
    return fail(ErrorKind::kUsage, "this model gives the row of the last token only");
  if (r.open && r.wanted != Wanted::kEveryRow) return fail(ErrorKind::kUsage, "only requests of every row can stay open");
  if (r.first_row != 0 && r.wanted != Wanted::kEveryRow) return fail(ErrorKind::kUsage, "only requests of every row name a first one");
  if (r.prompt_logprobs && (!r.params.logprobs || (!tokens_wanted && r.wanted != Wanted::kPrompt)))
    return fail(ErrorKind::kUsage, "log-probabilities of a prompt go with those of an answer");
  QW_TRY(sampling::validate(r.params, executor_.vocab()));
  if (r.prompt.empty()) return fail(ErrorKind::kUsage, "the prompt is empty");
  if (!(r.tenant_weight > 0) || !(r.group_weight > 0))
    return fail(ErrorKind::kUsage, "a tenant's weight and its group's must be above 0");
  if (r.max_tokens < 0) return fail(ErrorKind::kUsage, "max_tokens must not be negative");
  for (const TokenId id : r.prompt)
    if (id < 0 || id >= executor_.vocab())
      return fail(ErrorKind::kBadInput, "token id " + std::to_string(id) + " is outside the vocabulary of " +
                                            std::to_string(executor_.vocab()));
  const auto tokens = static_cast<std::int64_t>(r.prompt.size());
  if (r.first_row < 0 || r.first_row >= tokens) return fail(ErrorKind::kUsage, "the first row is none of the prompt's");
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

std::int64_t Engine::max_requests_of(std::string_view tenant) const {
  return tenant.empty() ? config_.max_requests : std::max<std::int64_t>(1, config_.max_requests / 4 * 3);
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
  sequence->prefix_key.form = executor_.prompt_form(sequence->sampler.prompt_tokens());
  sequence->sampler.reserve(std::min(max_output, max_sequence_tokens_));
  name_blocks(*sequence);
  const std::lock_guard lock(mutex_);
  if (!accepting_) return fail(ErrorKind::kInterrupted, "the engine takes no more requests");
  if (live_ >= config_.max_requests)
    return fail(ErrorKind::kResource, "too many requests: " + std::to_string(live_.load()) + " are waiting or running");
  const std::string& tenant = sequence->share.tenant;
  if (const auto of = live_of_.find(tenant); of != live_of_.end() && of->second >= max_requests_of(tenant))
    return fail(ErrorKind::kResource,
                "too many requests: " + std::to_string(of->second) + " of the same tenant are waiting or running");
  if (sequence->adapter != -1) {
    const auto slot = adapters_->claim(sequence->adapter);
    if (!slot) return fail(ErrorKind::kUsage, "the model has no adapter " + std::to_string(sequence->adapter));
    sequence->adapter_slot = *slot;
  }
  ++live_of_[tenant];
  const RequestId id = sequence->id = next_id_++;
  inbox_.submitted.push_back(std::move(sequence));
  has_mail_ = true;
  if (open) room_[id] = follows;
  ++live_;
  BellDesk::of_process().ring_soon(this);
  return id;
}

void Engine::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  if (live_ == 0) return;
  inbox_.cancelled.push_back(id);
  has_mail_ = true;
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
  has_mail_ = true;
  wake_.notify_one();
  return {};
}

void Engine::close(RequestId id) {
  const std::lock_guard lock(mutex_);
  if (room_.erase(id) > 0) inbox_.extended.emplace_back(id, std::vector<TokenId>());
  has_mail_ = true;
  wake_.notify_one();
}

EngineStats Engine::stats() const { return board_->read(); }

void Engine::start() {
  QW_CHECK(!thread_.joinable() && !stopping_);
  thread_ = std::thread([this] { run_loop(); });
}

void Engine::drain() {
  {
    std::unique_lock lock(mutex_);
    accepting_ = false;
    has_mail_ = true;
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
      wake_.wait(lock, [&] { return stopping_ || live_ > 0 || !calls_.empty(); });
      // All that live are open requests which wait for tokens; their deadlines are looked at now and then.
      if (resting_) wake_.wait_for(lock, kRest, [&] { return stopping_ || !inbox_.empty() || !calls_.empty(); });
      if (stopping_) break;
    }
    advance();
  }
  cancel_all();
  run_calls(true);
}

bool Engine::step() {
  QW_CHECK(!thread_.joinable());
  return advance();
}

std::string_view finish_reason_name(FinishReason reason) {
  constexpr std::string_view kNames[] = {"stop", "length", "cancelled", "deadline", "error"};
  return kNames[static_cast<std::size_t>(reason)];
}

}  // namespace qw::engine
