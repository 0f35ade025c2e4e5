// Drafts: tokens that may follow a sequence, guessed so that one step can verify several of them (Leviathan et al.,
// "Fast inference from transformers via speculative decoding", 2023).
//
// What a drafter proposes never changes a result. The engine computes the drafted tokens' rows beside the row it needs
// anyway, and draws every token from the model's own row with the request's own sampler, whose draw depends on seed and
// place only; a draft is kept if it is the token that was drawn. So output, log-probabilities and events are those of
// the request without drafts, byte for byte; only time differs.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/request.h"
#include "sampling/sampler.h"

namespace qw::engine {

// One sequence a drafter is asked for.
struct DraftJob {
  RequestId request = 0;
  const sampling::Sampler* sampler = nullptr;  // tokens so far and how the next ones are drawn
  std::int64_t most = 0;                       // tokens wanted; at least 1
  std::vector<TokenId>* tokens = nullptr;      // out, empty before: the guess, which may be shorter or nothing
  std::span<const std::int32_t> blocks = {};   // of the sequence in the engine's cache, with room for so many tokens
  std::int64_t room = 0;
  std::int32_t confidence = 0;  // out: which of Drafter::confidences() the guess is of
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  // Guesses are of kinds which are right more or less often; acceptance is measured for each of them.
  virtual std::int32_t confidences() const { return 1; }
  // How often a token of that kind is right before anything was measured.
  virtual double expected_acceptance(std::int32_t confidence) const = 0;
  // True if a guess takes next to no time, so that it may be made before it is known whether it pays.
  virtual bool free_of_cost() const { return false; }
  // Called by the stepping thread between steps. After an error nothing was proposed, and the drafter is not asked
  // again.
  virtual Status propose(std::span<DraftJob> jobs) = 0;
  // Of drafters that take what the model kept of its rows (StepExecutor::kept): `rows` rows of the last run, from
  // `first_row` on, belong to the request's tokens from `position` on. Called after each step, before the executor runs
  // again.
  virtual bool wants_rows() const { return false; }
  virtual void computed(RequestId, std::int64_t /*position*/, std::int64_t /*first_row*/, std::int64_t /*rows*/) {}
  // The request's cache was given to others; its rows come again from the beginning.
  virtual void restarted(RequestId) {}
  // The request ended.
  virtual void forget(RequestId request) = 0;
};

struct DraftOptions {
  bool lookup = false;           // continue as the text itself did before (LookupDrafter)
  bool layers = false;           // layers of the model that draft, if its executor has some (LayerDrafter)
  std::vector<Drafter*> models;  // asked in this order where the lookup finds nothing worth it; must outlive the engine
  std::int64_t most = 8;         // tokens drafted for a sequence in one step, at most
  // Drafts only while they pay, by measured acceptance and measured time of steps; false: always as many as offered.
  bool adaptive = true;
  bool on() const { return most > 0 && (lookup || layers || !models.empty()); }
};

}  // namespace qw::engine
