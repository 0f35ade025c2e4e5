#include "engine/model_drafter.h"

#include <algorithm>
#include <string>

namespace qw::engine {

Result<std::unique_ptr<ModelDrafter>> ModelDrafter::create(StepExecutor& executor, kvcache::BlockPool& pool,
                                                           std::int64_t context, std::int64_t target_vocab,
                                                           const sampling::VocabularyMask& mask) {
  if (!executor.generates()) return fail(ErrorKind::kUsage, "the draft model generates no text");
  const std::int64_t used = mask.usable > 0 ? mask.usable : target_vocab;
  if (executor.vocab() < used)
    return fail(ErrorKind::kUsage, "the draft model has " + std::to_string(executor.vocab()) + " tokens, the model " +
                                       std::to_string(used) + ": they must share a vocabulary");
  return std::unique_ptr<ModelDrafter>(new ModelDrafter(executor, pool, context));
}

// Brings what is cached to a beginning of the job's tokens that lacks at least the last one. False: it does not fit.
bool ModelDrafter::follow(DraftJob& job, Cached& cached) {
  const auto tokens = job.sampler->tokens();
  const auto n = static_cast<std::int64_t>(tokens.size());
  if (n + job.most > context_) return false;
  if (cached.table.max_tokens() == 0) cached.table = pool_.make_table(context_);
  const auto apart = std::mismatch(cached.tokens.begin(), cached.tokens.end(), tokens.begin(), tokens.end() - 1).first;
  cached.tokens.erase(apart, cached.tokens.end());
  pool_.truncate(cached.table, static_cast<std::int64_t>(cached.tokens.size()));
  cached.used = round_;
  return make_room(cached, n + job.most);
}

// Sequences that were not asked for in this round give way, longest unused first.
bool ModelDrafter::make_room(Cached& cached, std::int64_t tokens) {
  while (!pool_.reserve(cached.table, tokens)) {
    Cached* oldest = nullptr;
    for (auto& [id, other] : sequences_)
      if (other.used < round_ && !other.table.blocks().empty() && (oldest == nullptr || other.used < oldest->used))
        oldest = &other;
    if (oldest == nullptr) return false;
    pool_.release(oldest->table);
    oldest->tokens.clear();
  }
  return true;
}

Status ModelDrafter::run(std::span<const std::int32_t> logit_rows) {
  ops::StepBatch batch{tokens_, positions_, rows_sequences_, tables_, logit_rows, nullptr, prompts_};
  batch.only_logit_rows = true;
  return executor_.run(batch);
}

// One step over what is not cached yet but the last token, of as many sequences as its rows suffice for.
Status ModelDrafter::read() {
  tokens_.clear(), positions_.clear(), rows_sequences_.clear(), tables_.clear(), prompts_.clear();
  for (const Work& w : work_) {
    const auto tokens = w.job->sampler->tokens();
    const auto index = static_cast<std::int32_t>(tables_.size());
    tables_.push_back(w.cached->table.blocks());
    prompts_.push_back(static_cast<std::int32_t>(w.job->sampler->prompt_tokens()));
    while (w.cached->tokens.size() + 1 < tokens.size() &&
           static_cast<std::int64_t>(tokens_.size()) < executor_.max_rows()) {
      const auto p = w.cached->tokens.size();
      tokens_.push_back(tokens[p]);
      positions_.push_back(static_cast<std::int32_t>(p));
      rows_sequences_.push_back(index);
      w.cached->tokens.push_back(tokens[p]);
    }
  }
  if (tokens_.empty()) return {};
  return run({});
}

// One token more for every sequence in work_ whose text is cached but its last token; others are left out.
Status ModelDrafter::guess_next() {
  tokens_.clear(), positions_.clear(), rows_sequences_.clear(), tables_.clear(), prompts_.clear(), logit_rows_.clear();
  for (const Work& w : work_) {
    const auto row = static_cast<std::int32_t>(tokens_.size());
    const TokenId last = w.job->tokens->empty() ? w.job->sampler->tokens().back() : w.job->tokens->back();
    tokens_.push_back(last);
    positions_.push_back(static_cast<std::int32_t>(w.cached->tokens.size()));
    rows_sequences_.push_back(row);
    tables_.push_back(w.cached->table.blocks());
    prompts_.push_back(static_cast<std::int32_t>(w.job->sampler->prompt_tokens()));
    logit_rows_.push_back(row);
  }
  QW_TRY(run(logit_rows_));
  for (std::size_t i = 0; i < work_.size(); ++i) {
    const Work& w = work_[i];
    w.cached->tokens.push_back(tokens_[i]);
    const TokenId id = w.job->sampler->guess(executor_.logits(static_cast<std::int64_t>(i)), *w.job->tokens, scratch_);
    if (id >= 0) w.job->tokens->push_back(id);
    if (id < 0 || w.job->sampler->is_stop(id)) w.job->most = 0;  // nothing follows
  }
  return {};
}

Status ModelDrafter::propose(std::span<DraftJob> jobs) {
  ++round_;
  work_.clear();
  const std::int64_t widest = std::min(executor_.max_rows(), executor_.max_logit_rows());
  for (DraftJob& job : jobs) {
    if (static_cast<std::int64_t>(work_.size()) == widest) break;
    Cached& cached = sequences_[job.request];  // stays in place when others are added
    if (follow(job, cached)) work_.push_back({&job, &cached});
  }
  QW_TRY(read());
  const auto done = [](const Work& w) {
    return w.cached->tokens.size() < w.job->sampler->tokens().size() - 1 + w.job->tokens->size() ||
           static_cast<std::int64_t>(w.job->tokens->size()) >= w.job->most;
  };
  for (std::erase_if(work_, done); !work_.empty(); std::erase_if(work_, done)) QW_TRY(guess_next());
  return {};
}

}  // namespace qw::engine
