#include "engine/layer_drafter.h"

#include <algorithm>

namespace qw::engine {
namespace {

// Rows kept for a request that nobody drafts for: 32 MiB with a width of 2048. Beyond, it is never drafted for by these
// layers.
constexpr std::int64_t kMostKept = 4096;

}  // namespace

void LayerDrafter::computed(RequestId request, std::int64_t position, std::int64_t first_row, std::int64_t rows) {
  Followed& f = sequences_[request];
  if (f.given_up) return;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::span<const float> kept = executor_.kept(first_row + i);
    f.width = kept.size();
    const std::int64_t next = f.done + f.rows();
    if (position + i < next) continue;  // computed again, after a wrong draft
    if (position + i > next) {          // what lies between came from a cache, with what these layers once put there
      f.given.clear();
      f.done = position + i;
    }
    if (f.rows() == kMostKept) {
      f = Followed();
      f.given_up = true;
      return;
    }
    f.given.insert(f.given.end(), kept.begin(), kept.end());
  }
}

void LayerDrafter::clear() {
  tokens_.clear(), positions_.clear(), rows_sequences_.clear(), tables_.clear(), prompts_.clear(), logit_rows_.clear();
  given_.clear();
}

void LayerDrafter::add_row(const Work& work, std::int64_t position, TokenId next, std::span<const float> given) {
  if (work.rows == 0) {
    tables_.push_back(work.job->blocks);
    prompts_.push_back(static_cast<std::int32_t>(work.job->sampler->prompt_tokens()));
  }
  tokens_.push_back(next);
  positions_.push_back(static_cast<std::int32_t>(position));
  rows_sequences_.push_back(static_cast<std::int32_t>(tables_.size()) - 1);
  given_.insert(given_.end(), given.begin(), given.end());
}

Status LayerDrafter::run(std::span<const std::int32_t> logit_rows) {
  ops::StepBatch batch;
  batch.tokens = tokens_;
  batch.positions = positions_;
  batch.sequences = rows_sequences_;
  batch.tables = tables_;
  batch.logit_rows = logit_rows;
  batch.prompts = prompts_;
  batch.given = given_;
  batch.only_logit_rows = true;  // what is kept is asked of these alone
  return executor_.run_draft(batch);
}

// The guess of a row, and what the layers keep of it for the one after.
void LayerDrafter::take(const Work& work, std::int64_t logit, std::int64_t row) {
  DraftJob& job = *work.job;
  const auto kept = executor_.draft_kept(row);
  work.followed->last.assign(kept.begin(), kept.end());
  const TokenId id = job.sampler->guess(executor_.draft_logits(logit), *job.tokens, scratch_);
  if (id >= 0) job.tokens->push_back(id);
  if (id < 0 || job.sampler->is_stop(id)) job.most = 0;  // nothing follows
}

// What was not read yet, as far as a step's rows suffice; those who are through have their first guess.
Status LayerDrafter::read() {
  clear();
  for (Work& w : work_) {
    const auto tokens = w.job->sampler->tokens();
    const std::int64_t pending = static_cast<std::int64_t>(tokens.size()) - 1 - w.followed->done;
    const std::size_t width = w.followed->width;
    while (w.rows < pending && static_cast<std::int64_t>(tokens_.size()) < executor_.max_rows()) {
      const std::int64_t p = w.followed->done + w.rows;
      add_row(w, p, tokens[static_cast<std::size_t>(p + 1)],
              std::span(w.followed->given).subspan(static_cast<std::size_t>(w.rows) * width, width));
      ++w.rows;
    }
    if (w.rows == pending) logit_rows_.push_back(static_cast<std::int32_t>(tokens_.size()) - 1);
  }
  QW_TRY(run(logit_rows_));
  std::int64_t logit = 0, row = -1;
  for (Work& w : work_) {
    row += w.rows;
    const auto n = static_cast<std::int64_t>(w.job->sampler->tokens().size());
    const std::size_t width = w.followed->width;
    w.followed->given.erase(
        w.followed->given.begin(),
        w.followed->given.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(w.rows) * width));
    w.followed->done += w.rows;
    if (w.followed->done == n - 1) take(w, logit++, row);
  }
  return {};
}

// One guess more: the layers are given what they kept themselves.
Status LayerDrafter::guess_next() {
  clear();
  for (Work& w : work_) {
    const auto n = static_cast<std::int64_t>(w.job->sampler->tokens().size());
    const auto guessed = static_cast<std::int64_t>(w.job->tokens->size());
    w.rows = 0;
    add_row(w, n - 2 + guessed, w.job->tokens->back(), w.followed->last);
    logit_rows_.push_back(static_cast<std::int32_t>(tokens_.size()) - 1);
  }
  QW_TRY(run(logit_rows_));
  for (std::size_t i = 0; i < work_.size(); ++i)
    take(work_[i], static_cast<std::int64_t>(i), static_cast<std::int64_t>(i));
  return {};
}

Status LayerDrafter::propose(std::span<DraftJob> jobs) {
  work_.clear();
  for (DraftJob& job : jobs) {
    if (static_cast<std::int64_t>(work_.size()) == std::min(executor_.max_rows(), executor_.max_logit_rows())) break;
    const auto at = sequences_.find(job.request);
    const auto n = static_cast<std::int64_t>(job.sampler->tokens().size());
    // Its rows up to the last token but one, and room where a first guess stands.
    if (at == sequences_.end() || at->second.given_up || at->second.given.empty() || at->second.done >= n - 1) continue;
    // The end of a prompt may be few enough rows to count as decoding, and not be computed yet.
    if (at->second.rows() != n - 1 - at->second.done) continue;
    work_.push_back({&job, &at->second, 0});
  }
  if (work_.empty()) return {};
  QW_TRY(read());
  const auto done = [](const Work& w) {
    const auto guessed = static_cast<std::int64_t>(w.job->tokens->size());
    const auto n = static_cast<std::int64_t>(w.job->sampler->tokens().size());
    return guessed == 0 || guessed >= w.job->most || n - 2 + guessed >= w.job->room;
  };
  for (std::erase_if(work_, done); !work_.empty(); std::erase_if(work_, done)) QW_TRY(guess_next());
  return {};
}

}  // namespace qw::engine
