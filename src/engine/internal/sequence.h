// A request inside the engine, and the arrays of one step's batch. Owned and touched by the stepping thread.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace qw::engine {

struct Engine::Sequence {
  Sequence(RequestId request_id, Request request, const sampling::VocabularyMask* mask)
      : id(request_id),
        priority(request.priority),
        tenant_name(std::move(request.tenant)),
        adapter(request.adapter),
        wanted(request.wanted),
        open(request.open),
        may_draft(request.drafts),
        deadline(request.deadline),
        sink(std::move(request.sink)),
        sampler(std::move(request.params), request.prompt, mask, std::move(request.processors)) {}

  RequestId id;
  std::int32_t priority;
  std::string tenant_name;
  std::uint32_t tenant = 0;
  std::int32_t adapter;               // id, -1: none
  std::int32_t adapter_slot = -1;     // of the executor, while the request lives
  Wanted wanted;
  bool open;                          // more tokens follow
  bool may_draft;
  std::vector<TokenId> drafts;        // guessed to follow, for the next step
  std::vector<TokenId> added;         // behind the prompt, of a request that is or was open
  std::optional<Clock::time_point> deadline;
  std::shared_ptr<Sink> sink;
  sampling::Sampler sampler;
  std::int64_t max_output = 0;
  kvcache::BlockTable table;
  kvcache::StateSlot state;           // held while it runs, of models with states
  kvcache::StateSlot before;          // and during a step with drafts: the state before it

  bool running = false, done = false;
  std::int64_t computed = 0;          // tokens in the cache
  std::int64_t rows_given = 0;        // of a request that wants them: what was given is not given again
  std::int64_t promised_tokens = 0;
  std::int32_t preemptions = 0;
  std::int64_t drafted = 0, accepted = 0;  // in all
  Clock::time_point submitted{};
  std::optional<Clock::time_point> admitted, first_token, last_token;

  std::int64_t length() const { return static_cast<std::int64_t>(sampler.tokens().size() + added.size()); }
  TokenId token(std::int64_t p) const {
    const auto i = static_cast<std::size_t>(p), n = sampler.tokens().size();
    return i < n ? sampler.tokens()[i] : added[i - n];
  }
  // What a step without drafts would give it: one token, its known ones being in the cache but a few (of models with states
  // those which a wrong draft took with it).
  bool decodes(std::int64_t few) const {
    return running && !done && wanted == Wanted::kTokens && length() - computed <= few;
  }
  // The last output token is never read back, so it needs no room.
  std::int64_t limit() const { return sampler.prompt_tokens() + max_output - 1; }
};

struct Engine::Batch {
  std::vector<std::int32_t> tokens, positions, sequences, adapters, logit_rows, prompts, slots;
  std::vector<std::span<const std::int32_t>> tables;
  std::vector<std::int64_t> first_row;  // by slice: its first logit row, up to the next slice's
  std::vector<std::optional<Result<sampling::Sampled>>> sampled;  // by slice; empty where nothing is drawn
  void clear() {
    tokens.clear();
    positions.clear();
    sequences.clear();
    adapters.clear();
    logit_rows.clear();
    first_row.clear();
    tables.clear();
    prompts.clear();
    slots.clear();
  }
};

}  // namespace qw::engine
