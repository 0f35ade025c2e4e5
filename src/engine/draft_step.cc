// The part of the engine's step that deals with drafts (drafter.h).
#include <algorithm>

#include "engine/engine.h"
#include "engine/internal/drafting.h"
#include "engine/internal/sequence.h"

namespace qw::engine {
namespace {

// What a processor may take before a guess is looked at, in its steps: two milliseconds or so. One that needs more lets the
// other guesses go, and the next token comes by a step of its own.
constexpr std::size_t kDraftSteps = std::size_t{1} << 21;

}  // namespace

// Asks for drafts of the sequences that decode.
void Engine::draft() {
  // After a wrong draft a model with states computes anew what was right of it, beside the next token.
  const std::int64_t few = config_.states != nullptr ? drafting_->most() + 2 : 1;
  std::int64_t decoding = 0, rows = 0, others = 0, spare = config_.max_sequences;
  if (config_.states != nullptr) {  // those who run hold theirs, and those who may be admitted keep their claim
    const auto running = std::count_if(sequences_.begin(), sequences_.end(), [](const auto& s) { return s->running; });
    spare = config_.states->free_slots() - (config_.max_sequences - running);
    if (config_.prefixes != nullptr) spare -= config_.prefixes->most_snapshots() - config_.prefixes->snapshots();
  }
  jobs_.clear();
  for (const auto& s : sequences_) {
    s->drafts.clear();
    if (!s->decodes(few)) {
      if (s->running) others += s->length() - s->computed;
      continue;
    }
    ++decoding;
    rows += s->length() - s->computed;
    const std::int64_t room = s->limit() - s->length();
    if (s->may_draft && !s->unready && room > 0 && static_cast<std::int64_t>(jobs_.size()) < spare)
      jobs_.push_back({s->id, &s->sampler, room, &s->drafts, s->table.blocks(), s->table.capacity_tokens(), 0});
  }
  if (!jobs_.empty()) drafting_->propose(jobs_, std::min(rows + others, config_.max_rows), decoding);
  for (const auto& s : sequences_) {
    const auto outside = [&](TokenId id) { return id < 0 || id >= executor_.vocab(); };
    s->drafts.erase(std::find_if(s->drafts.begin(), s->drafts.end(), outside), s->drafts.end());
  }
}

// After a step whose rows may still be read.
void Engine::end_drafts(const StepPlan& plan, double ms) {
  std::int64_t drafted = 0, row = 0;
  for (const Slice& slice : plan.slices) {
    const Sequence& s = *sequences_[slice.sequence];
    const std::int64_t rows = slice.tokens + slice.drafts, begin = batch_->positions[static_cast<std::size_t>(row)];
    // Rows of tokens that are the sequence's own; behind them stand wrong drafts.
    if (!s.done && s.may_draft && s.wanted == Wanted::kTokens)
      drafting_->computed(s.id, begin, row, std::min(rows, s.length() - 1 - begin));
    row += rows;
    drafted += slice.drafts;
  }
  drafting_->end_step(static_cast<std::int64_t>(batch_->tokens.size()), drafted, ms);
  totals_.failed_drafters = drafting_->failed();
  for (const auto& s : sequences_) s->drafts.clear();
}

// The first token after the known ones was drawn. As long as the token drawn is the one that was guessed, the guess's
// row is the row of the next: it is drawn as if a step of its own had computed it.
void Engine::commit_drafts(Sequence& s, const Slice& slice, std::size_t k) {
  std::int64_t right = 0;
  while (right < slice.drafts && s.token(s.length() - 1) == s.drafts[static_cast<std::size_t>(right)] &&
         is_ready(s, kDraftSteps)) {
    ++s.computed;
    ++right;
    ++s.accepted;
    ++totals_.accepted_tokens;
    Draw& draw = batch_->draws[k];
    draw.status = s.sampler.sample(executor_.logits(batch_->first_row[k] + right), scratch_[0], draw.sampled);
    commit_token(s, draw);
    if (s.done) return;
  }
  drafting_->verified(s.id, slice.drafts, right);
  std::int64_t keep = s.computed;
  if (s.before.held() && right < slice.drafts) {  // back to before the step; what was right is computed with the next
    std::swap(s.state, s.before);
    s.computed -= slice.tokens + right;
    keep = s.length();
  }
  s.before.release();
  pool_.truncate(s.table, keep);
}

}  // namespace qw::engine
