// A request inside the engine, and the arrays of one step's batch. Owned and touched by the stepping thread.
#pragma once

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/internal/tenant_table.h"

namespace qw::engine {

struct Engine::Sequence {
  Sequence(RequestId request_id, Request request, const sampling::VocabularyMask* mask)
      : id(request_id),
        priority(request.priority),
        share{std::move(request.tenant), request.tenant_weight, std::move(request.tenant_group), request.group_weight},
        prefix_key{std::move(request.cache_salt), request.adapter, 0},
        adapter(request.adapter),
        wanted(request.wanted),
        open(request.open),
        tells_prompt(request.prompt_logprobs),
        rows_given(request.first_row),
        may_draft(request.drafts),
        deadline(request.deadline),
        sink(std::move(request.sink)),
        sampler(std::move(request.params), request.prompt, mask, std::move(request.processors)) {}

  RequestId id;
  std::int32_t priority;
  TenantTable::Share share;
  std::uint32_t tenant = 0;           // in the TenantTable
  kvcache::PrefixKey prefix_key;
  std::int32_t adapter;               // id, -1: none
  std::int32_t adapter_slot = -1;     // of the executor, while the request lives
  Wanted wanted;
  bool open;                          // more tokens follow
  bool tells_prompt;                  // the log-probabilities of its prompt
  std::int64_t rows_given;            // of a request that wants rows or those: what was given is not given again
  bool may_draft;
  bool unready = false;               // its processors have not worked out what its next token is drawn with
  bool postponed = false;             // what this step computed of it begins no answer: it gathers since
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
  std::int64_t promised_tokens = 0;
  std::int64_t computed_rows = 0;     // in all
  std::int64_t cached_tokens = -1;    // found when it was first admitted; -1: not yet

  // Of the prefix cache. Names of all whole blocks that are known, whether computed or not, and how many were published.
  std::int32_t root = -1;
  std::vector<std::uint64_t> names;
  std::size_t published = 0;
  kvcache::PrefixMatch match;         // while it waits, as of:
  std::uint64_t match_generation = 0;
  bool held_back = false;             // while it waits: another computes what it can share
  std::int64_t branch_at = 0;         // a snapshot is wanted behind so many tokens: others go on from there; 0: none
  std::int64_t rolling = -1;          // block of the last snapshot taken on the way

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
  // Rows of the prompt that tell how likely its next token is: all but the last one's.
  std::int64_t telling_rows() const { return tells_prompt ? sampler.prompt_tokens() - 1 : 0; }
  // Tokens whose rows nobody needs any more: so many may come from the prefix cache.
  std::int64_t may_be_cached() const {
    const bool needed = wanted == Wanted::kEveryRow || rows_given < telling_rows();
    return needed ? std::min(rows_given, length() - 1) : length() - 1;
  }
  // The last output token is never read back, so it needs no room.
  std::int64_t limit() const { return sampler.prompt_tokens() + max_output - 1; }
};

struct Engine::Draw {
  Status status;
  sampling::Sampled sampled;
};

// What a row told of the token behind it in the prompt.
struct Engine::Told {
  std::size_t sequence = 0;  // index into sequences_
  std::int64_t index = 0;    // of the token, in the prompt
  Draw draw;
};

struct Engine::Batch {
  std::vector<std::int32_t> tokens, positions, sequences, adapters, logit_rows, prompts, slots;
  std::vector<std::span<const std::int32_t>> tables;
  std::vector<std::int64_t> first_row;  // by slice: its first logit row, up to the next slice's
  std::vector<std::size_t> drawing;     // slices which draw a token
  std::vector<Draw> draws;              // by slice; of those
  std::vector<std::int32_t> told_rows;  // rows whose logits tell of prompts
  std::vector<Told> told;               // by such row
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
    told_rows.clear();
  }
};

}  // namespace qw::engine
