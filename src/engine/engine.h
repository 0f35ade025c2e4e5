// Runs many requests at once over one model: continuous batching with a paged cache.
//
// Each step is a transaction: plan (scheduler.h, a pure function), reserve (blocks), execute (StepExecutor), commit
// (sample, tell the sinks, finish, free). If executing fails, the reservation is undone and the requests of that step
// end with an error; the others go on. A step allocates nothing once its arrays have grown, and takes no lock but that
// of the inbox when something is in it (requests that come and go do both).
//
// The result of a request is a function of the request and the model alone: batch mates, preemption, chunking, cached
// prefixes and arrival times change nothing, not a bit (it rests on the batch invariance of the executor and on
// Sampler). Measured times decide how much is computed together, and nothing else.
//
// Threads: submit, cancel and stats may be called from any thread. Either start() gives the engine a thread of its own,
// or one thread calls step(). The executor and the pool belong to the engine while it lives.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/drafter.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/step_executor.h"
#include "kvcache/block_pool.h"
#include "kvcache/prefix_cache.h"
#include "kvcache/state_pool.h"

namespace qw::engine {

class StepClock;
template <class T>
class StatsBoard;

struct EngineConfig {
  std::int64_t context = 0;             // longest sequence of the model, prompt and output
  std::int64_t max_rows = 256;          // tokens of one step; bounds how long a prompt delays the others
  std::int64_t max_sequences = 16;      // running at once
  std::int64_t growth_tokens = 64;      // room promised beyond the prompt at admission (see scheduler.h)
  // Waiting and running; more are refused. Of one tenant (that has a name) three quarters of it, so that nobody fills
  // the queue for all others.
  std::int64_t max_requests = 1024;
  std::int64_t max_running_per_tenant = 0;  // 0: no limit
  sampling::VocabularyMask mask;        // rows of the logits which are no tokens
  base::ThreadPool* sampling_pool = nullptr;  // samples rows in parallel; may be the executor's pool; null: in turn
  kvcache::StatePool* states = nullptr;  // of models whose layers carry a state: a slot for each running sequence
                                              // (drafts take one more, to return to, where some are free)
  DraftOptions drafts;                        // off unless a source of them is named
  kvcache::PrefixCache* prefixes = nullptr;  // of the pool (and the states); null: everything is computed anew
  // Milliseconds between the tokens of a running answer which prompts of others may take up; where steps of all answers
  // that are here, or waiting, take more than half of it, nearly twice what those take: no token comes later than twice
  // the usual gap, and prompts get the rest. 0: steps are as large as max_rows, whatever that takes.
  double target_gap_ms = 0;
  // How long the first tokens of a crowd may be kept until the prompts of all are read, so that their answers begin
  // together (internal/gathering.h): of at least half of max_sequences requests that are here while nobody answers. 0: not.
  double gather_ms = 0;
  // How far, in tokens at weight 1, the services of two tenants may part before one of the better served is preempted
  // for one of the other who waits; 0: never.
  std::int64_t tenant_quantum = 2048;
  std::function<Clock::time_point()> now = [] { return Clock::now(); };  // tests replace it
};

// Totals since the engine was made, and the state after the last step.
struct EngineStats {
  std::int64_t running = 0, waiting = 0;
  std::int64_t total_blocks = 0, free_blocks = 0;
  std::int64_t idle_blocks = 0;         // of the free ones, those whose contents may be found again
  std::int64_t steps = 0, computed_tokens = 0, output_tokens = 0, preemptions = 0;
  std::int64_t drafted_tokens = 0, accepted_tokens = 0;
  std::int64_t failed_drafters = 0;     // of DraftOptions::models, which are not asked any more
  std::int64_t cached_tokens = 0;       // of prompts, not computed (sum of Usage::cached_tokens)
  std::int64_t finished[5] = {};        // by FinishReason
  Clock::time_point last_token;         // when one was drawn last; zero: never
  Clock::time_point last_progress;      // when a step ended last, or work came to an engine that had none
};

struct AdapterInfo {
  std::int32_t id = 0;           // what requests name
  std::int64_t bytes = 0;
  std::int64_t requests = 0;     // waiting and running ones that use it
  bool leaving = false;          // removed, and kept for those
};

class Engine {
 public:
  // `executor`, `pool` and what `config` points to must outlive the engine. kUsage naming a number that makes no sense.
  static Result<std::unique_ptr<Engine>> create(StepExecutor& executor, kvcache::BlockPool& pool, EngineConfig config);
  ~Engine();  // stop()
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Checks the request and queues it. After an error the sink is never called: kUsage (parameters, empty prompt),
  // kBadInput (a token id outside the vocabulary), kResource (prompt longer than the longest sequence; too many
  // requests, or too many of its tenant), kInterrupted (draining or stopped).
  Result<RequestId> submit(Request request);
  // The request ends with kCancelled and its cache is free within one step. Unknown and finished ids are ignored.
  void cancel(RequestId id);

  // Adds tokens to an open request; their rows come to its sink, with positions that go on. They are checked here
  // (kBadInput: outside the vocabulary; kResource: more than fits); of a request that ended meanwhile they are ignored.
  Status extend(RequestId id, std::vector<TokenId> tokens);
  // Nothing follows: the request ends with kStop once all its rows are given.
  void close(RequestId id);

  // Adapters come and go while requests run; any thread but not from a sink. Both return once it is done between two steps
  // (at once if nothing runs). An adapter made by this engine's executor (LoadedModel::load_adapter) gets an id which is
  // never used for another; those the executor had at the start are 0, 1, .... kResource: no memory to compute with it.
  Result<std::int32_t> add_adapter(ops::PreparedAdapter adapter);
  // No new request may name it; those that do keep it, and its memory is free after the last of them. kUsage: there is none.
  Status remove_adapter(std::int32_t id);
  std::vector<AdapterInfo> adapters() const;

  // Prompt and output of one request together: the context, or the whole cache if that is smaller.
  std::int64_t max_sequence_tokens() const { return max_sequence_tokens_; }
  // Requests of a tenant that may wait and run at once; all of them together are as many as the unnamed one may have.
  std::int64_t max_requests_of(std::string_view tenant) const;
  // The longest prompt of a request that wants rows: no token follows it.
  std::int64_t max_read_tokens() const;
  std::int64_t vocab() const { return executor_.vocab(); }
  bool generates() const { return executor_.generates(); }

  void start();              // a thread which steps while there is work
  bool started() const { return thread_.joinable(); }
  void drain();              // refuses new requests, closes open ones, returns when all have finished
  void stop();               // cancels all, joins the thread; the engine cannot be started again

  // One step on the calling thread, not after start(). True while there is work left.
  bool step();

  EngineStats stats() const;  // takes no lock

  // For tests, not after start(): the state as the scheduler sees it, and the first broken invariant of it and of the
  // block pool ("" if sound).
  Snapshot snapshot() const;
  std::string violation() const;

 private:
  struct Sequence;
  struct Draw;
  struct Told;
  struct Inbox {
    std::vector<std::unique_ptr<Sequence>> submitted;
    std::vector<RequestId> cancelled;
    std::vector<std::pair<RequestId, std::vector<TokenId>>> extended;  // no tokens: closed
    bool empty() const { return submitted.empty() && cancelled.empty() && extended.empty(); }
  };
  Engine(StepExecutor& executor, kvcache::BlockPool& pool, EngineConfig config);

  struct Call {
    std::function<Status()> run;
    std::promise<Status>* done;
  };
  // Runs `call` on the stepping thread between two steps and gives what it gave.
  Status between_steps(std::function<Status()> call);
  void run_calls(bool stopped);
  void empty_slot(std::int32_t slot);
  void release_adapter(Sequence& sequence);

  // engine.cc
  void run_loop();
  Status check(const Request& request) const;
  // requests.cc: how requests come in and leave
  void take_inbox();
  void grow(Sequence& sequence, std::span<const TokenId> tokens);
  void adopt(std::unique_ptr<Sequence> sequence);
  void expire();
  // draft_step.cc
  void draft();
  void end_drafts(const StepPlan& plan, double ms);
  void finish(Sequence& sequence, FinishReason reason, std::optional<Error> error = {});
  void sweep();
  void cancel_all();
  void publish_stats();
  // step.cc
  bool advance();
  // work_ahead.cc: what processors need before tokens can be drawn
  bool work_ahead();
  bool is_ready(const Sequence& sequence, std::size_t steps) const;
  const StepPlan& plan_next();
  void fill(Snapshot& view) const;
  std::int64_t prefill_rows() const;
  void look_for_a_crowd();
  bool gathers(const Sequence& sequence) const;
  void postpone(const StepPlan& plan);
  void reserve(const StepPlan& plan);
  Status execute(const StepPlan& plan);
  // prompt_rows.cc: the log-probabilities of prompts
  std::int64_t next_telling_stop(const Sequence& sequence, bool answers) const;
  void note_telling_rows(const Slice& slice, std::int64_t first_row);
  Status tell_rows();
  void commit_told(std::size_t sequence);
  void sample_rows(const StepPlan& plan);
  void commit(const StepPlan& plan);
  void commit_rows(Sequence& sequence, std::size_t k);
  void commit_drafts(Sequence& sequence, const Slice& slice, std::size_t k);
  void commit_token(Sequence& sequence, const Draw& draw);
  void roll_back(const StepPlan& plan, const Error& error);
  void charge(const StepPlan& plan);
  // prefixes.cc: what the prefix cache is asked and told
  void name_blocks(Sequence& sequence) const;
  bool knows_prefix(const Sequence& sequence) const;
  bool find_prefix(Sequence& sequence);
  bool awaits_another(const Sequence& sequence);
  void take_prefix(Sequence& sequence, std::int64_t cached);
  void keep_prefix(Sequence& sequence);
  void keep_state(Sequence& sequence);
  std::int64_t next_snapshot(const Sequence& sequence) const;

  StepExecutor& executor_;
  kvcache::BlockPool& pool_;
  EngineConfig config_;
  std::int64_t max_sequence_tokens_ = 0;

  // The stepping thread's own.
  std::vector<std::unique_ptr<Sequence>> sequences_;  // by arrival
  std::unique_ptr<class TenantTable> tenants_;
  std::vector<sampling::SamplerScratch> scratch_;     // one per sampling worker
  struct Batch;
  std::unique_ptr<Batch> batch_;
  std::unique_ptr<class Drafting> drafting_;          // null: no drafts
  std::vector<DraftJob> jobs_;
  EngineStats totals_;
  Snapshot view_;
  Planner planner_;
  std::unique_ptr<StepClock> clock_;
  std::unique_ptr<class Gathering> gathering_;
  std::vector<Sequence*> constrained_;  // those whose processors are asked in this step
  bool resting_ = false;          // the last step had nothing to compute

  // Shared.
  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  Inbox inbox_;
  std::vector<Call> calls_;
  std::unique_ptr<class AdapterTable> adapters_;
  std::map<RequestId, std::int64_t> room_;  // tokens that open requests may still get
  std::map<std::string, std::int64_t> live_of_;  // by tenant
  RequestId next_id_ = 1;
  std::atomic<bool> has_mail_{false};    // the inbox may have something in it
  std::atomic<bool> has_calls_{false};   // and so may calls_
  std::atomic<std::int64_t> live_{0};    // submitted and not finished; raised under the mutex
  bool accepting_ = true, stopping_ = false;
  std::unique_ptr<StatsBoard<EngineStats>> board_;
  std::thread thread_;
};

// ---- one request, synchronously -------------------------------------------------------------------------------------

struct Generation {
  std::vector<TokenId> tokens;          // a final stop id is included
  std::vector<sampling::Sampled> details;  // per token, if params.logprobs
  Finished finished;
};

// Submits a request (its sink is replaced) and waits for it; steps the engine itself if it was not started. `on_token`
// may watch and stop. `interrupted` is looked at between steps (at least every 50 ms): set it to cancel, e.g. from a
// signal handler. A request that ended with kError gives its error.
Result<Generation> generate(Engine& engine, Request request,
                            const std::function<Verdict(const TokenEvent&)>& on_token = {},
                            const std::atomic<bool>* interrupted = nullptr);

struct Reading {
  std::vector<float> rows;  // one after the other
  std::int64_t count = 0;   // of rows
  Finished finished;
  std::span<const float> row(std::int64_t i) const {
    const std::size_t width = rows.size() / static_cast<std::size_t>(count);
    return std::span(rows).subspan(static_cast<std::size_t>(i) * width, width);
  }
};

// The same for requests that want rows; they go through the engine together.
Result<std::vector<Reading>> read(Engine& engine, std::vector<Request> requests,
                                  const std::atomic<bool>* interrupted = nullptr);

}  // namespace qw::engine
