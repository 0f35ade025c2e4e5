// How likely a prompt's own tokens were: each row of it but the last tells of the token behind it. Of a row's logits
// what was asked for is kept (the token's, and a few of the most likely), so that a long prompt needs room for a few
// rows of logits at a time.
#include <algorithm>
#include <atomic>

#include "engine/engine.h"
#include "engine/internal/sequence.h"

namespace qw::engine {

// Where a slice of it ends while others answer (0: nowhere): a row of logits costs far more than a row of a prompt, and
// answers should not wait for more of them than they themselves may have in a step.
std::int64_t Engine::next_telling_stop(const Sequence& s, bool answers) const {
  if (!answers || s.rows_given >= s.telling_rows()) return 0;
  return std::max(s.computed, s.rows_given) + config_.max_sequences;
}

// The rows of a slice which tell something that was not told yet; its first is row `first_row` of the step.
void Engine::note_telling_rows(const Slice& slice, std::int64_t first_row) {
  Batch& b = *batch_;
  const Sequence& s = *sequences_[slice.sequence];
  const std::int64_t end = std::min(s.computed + slice.tokens, s.telling_rows());
  for (std::int64_t p = std::max(s.computed, s.rows_given); p < end; ++p) {
    const std::size_t k = b.told_rows.size();
    if (b.told.size() <= k) b.told.emplace_back();  // the others keep the memory of their lists
    b.told[k].sequence = slice.sequence;
    b.told[k].index = p + 1;
    b.told_rows.push_back(static_cast<std::int32_t>(first_row + p - s.computed));
  }
}

// After a run: a piece of the rows at a time, each piece shared out among the workers.
Status Engine::tell_rows() {
  Batch& b = *batch_;
  const auto most = static_cast<std::size_t>(executor_.max_logit_rows());
  for (std::size_t begin = 0; begin < b.told_rows.size(); begin += most) {
    const std::size_t n = std::min(most, b.told_rows.size() - begin);
    QW_TRY(executor_.compute_logits(std::span(b.told_rows).subspan(begin, n)));
    std::atomic<std::size_t> next{0};
    const auto work = [&](int worker) {
      for (std::size_t i = next.fetch_add(1); i < n; i = next.fetch_add(1)) {
        Told& told = b.told[begin + i];
        const Sequence& s = *sequences_[told.sequence];
        told.draw.status = s.sampler.report(executor_.logits(static_cast<std::int64_t>(i)), s.token(told.index),
                                            scratch_[static_cast<std::size_t>(worker)], told.draw.sampled);
      }
    };
    if (config_.sampling_pool != nullptr && n > 1) {
      config_.sampling_pool->run(work);
    } else {
      work(0);
    }
  }
  return {};
}

void Engine::commit_told(std::size_t sequence) {
  Batch& b = *batch_;
  Sequence& s = *sequences_[sequence];
  for (std::size_t k = 0; k < b.told_rows.size(); ++k) {
    const Told& told = b.told[k];
    if (told.sequence != sequence) continue;
    if (!told.draw.status) return finish(s, FinishReason::kError, told.draw.status.error());
    s.sink->on_prompt_token(
        {s.id, told.draw.sampled.id, told.index, false, told.draw.sampled.logprob, told.draw.sampled.top});
    s.rows_given = told.index;
  }
}

}  // namespace qw::engine
