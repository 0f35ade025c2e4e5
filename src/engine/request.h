// What goes into the engine and what comes out: token ids, numbers and events. No text, no chat, no network.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sampling/sampler.h"

namespace qw::engine {

using sampling::TokenId;
using Clock = std::chrono::steady_clock;

// Names a submitted request. Ids rise with the order of arrival and are never used twice by one engine.
using RequestId = std::uint64_t;

enum class FinishReason : std::uint8_t {
  kStop,       // a stop id was drawn, or the sink said so (a stop string)
  kLength,     // max_tokens, or the longest sequence this engine can hold
  kCancelled,  // cancel() or the engine stopped
  kDeadline,   // the deadline passed
  kError,      // see Finished::error
};
std::string_view finish_reason_name(FinishReason reason);

struct Usage {
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;   // every token drawn, the stop id included
  std::int64_t cached_tokens = 0;       // prompt tokens that were in the prefix cache when it began
  // Rows computed for it: prompt_tokens - cached_tokens + completion_tokens - 1 - accepted_tokens + drafted_tokens, and what was
  // computed anew after a preemption or a wrong draft, or not at all because it ended early. All requests' together are EngineStats::computed_tokens.
  std::int64_t computed_tokens = 0;
  std::int64_t drafted_tokens = 0;      // guessed and verified (drafter.h)
  std::int64_t accepted_tokens = 0;     // of these, right: completion tokens that took no step of their own
};

// Milliseconds. A part that was never reached is 0.
struct Timings {
  double queued_ms = 0;        // submitted -> first admitted
  double prompt_ms = 0;        // first admitted -> first token
  double first_token_ms = 0;   // submitted -> first token
  double predict_ms = 0;       // first token -> last token
  double total_ms = 0;         // submitted -> finished
};

struct TokenEvent {
  RequestId request = 0;
  TokenId id = 0;
  std::int64_t index = 0;      // 0 for the first output token
  bool stop = false;           // a stop id: it ends the request and is no part of the answer's text
  float logprob = 0;           // if params.logprobs
  std::span<const sampling::TokenLogprob> top;   // valid during the call
};

struct Finished {
  RequestId request = 0;
  FinishReason reason = FinishReason::kStop;
  Usage usage;
  Timings timings;
  std::int32_t preemptions = 0;   // how often its cache was given to others
  std::optional<Error> error;     // set if and only if reason is kError
};

// What a request is for.
enum class Wanted : std::uint8_t {
  kTokens,    // generated text
  kLastRow,   // what the model gives for the prompt's last token: one on_row
  kEveryRow,  // for every token of the prompt, in order, as they are computed
  kPrompt,    // nothing but that the prompt is read (and its log-probabilities, if asked for); ends with kLength
};

struct RowEvent {
  RequestId request = 0;
  std::int64_t position = 0;   // of the token in the prompt
  std::span<const float> row;  // logits, or what the model's head gives; valid during the call
};

enum class Verdict : std::uint8_t { kContinue, kStop };

// Receives the events of a request, on the engine's thread, in order; on_finished exactly once and last. The whole
// batch waits while a sink runs: hand the event on and return. A sink must not throw (it is noexcept: a throw ends the
// process), and must not call start, stop, drain or step of its engine; submit and cancel are fine.
class Sink {
 public:
  virtual ~Sink() = default;
  // kStop ends the request with FinishReason::kStop after this token.
  virtual Verdict on_token(const TokenEvent& event) noexcept = 0;
  virtual void on_finished(const Finished& finished) noexcept = 0;
  // Only of requests with prompt_logprobs: of every token of the prompt but the first, in order, before the answer's.
  // `index` is the token's in the prompt.
  virtual void on_prompt_token(const TokenEvent&) noexcept {}
  // Only of requests that want rows.
  virtual void on_row(const RowEvent&) noexcept {}
};

struct Request {
  std::vector<TokenId> prompt;               // at least one token
  Wanted wanted = Wanted::kTokens;           // others: nothing is drawn, max_tokens means nothing; rows end with kStop
  sampling::SamplingParams params;
  std::int64_t max_tokens = 0;               // output tokens; 0: as many as the longest sequence leaves room for
  std::int32_t priority = 0;                 // higher goes first; first come first served among equals
  std::optional<Clock::time_point> deadline; // waiting and running both count
  std::string tenant;                        // whose it is: tenants share the tokens computed by their weights
  double tenant_weight = 1;                  // above 0; the latest request's counts
  // Tenants of one group share the group's weight by their own, those that have requests; "": a tenant beside the groups.
  std::string tenant_group;
  double group_weight = 1;                   // above 0; the latest request's counts
  std::string cache_salt;                    // what is cached is found only by requests of the same salt
  std::vector<std::unique_ptr<sampling::LogitsProcessor>> processors;
  // Of kEveryRow: more tokens follow by Engine::extend, until Engine::close. The cache is kept meanwhile, so each token is
  // computed once; an open request counts as running. max_tokens then bounds what may follow (0: as much as fits).
  bool open = false;
  // Of kTokens and kPrompt, with params.logprobs: the log-probabilities of the prompt's tokens are told as well, of the
  // model as it is (as Sampled::logprob), with params.top_logprobs others. All of the prompt is then computed, whatever is
  // cached of it.
  bool prompt_logprobs = false;
  // Of kEveryRow: rows of tokens before this one are not given, so those tokens may come from the prefix cache. Below the
  // prompt's length.
  std::int64_t first_row = 0;
  std::int32_t adapter = -1;                 // which of the model's adapters (LoadedModel::create), -1: none
  bool drafts = true;                        // false: no drafts even if the engine makes them; the result is the same
  std::shared_ptr<Sink> sink;                // released right after on_finished
};

}  // namespace qw::engine
