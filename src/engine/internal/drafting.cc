#include "engine/internal/drafting.h"

#include <algorithm>

#include "engine/layer_drafter.h"
#include "engine/lookup_drafter.h"

namespace qw::engine {
namespace {

// Until a round of a drafter was timed it is taken to cost nothing, so that it is tried.
constexpr double kNewRound = 0.2;  // weight of a new time

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

}  // namespace

Drafting::Drafting(DraftOptions options, StepExecutor& executor) : options_(std::move(options)) {
  std::vector<double> expected;
  const auto add = [&](Drafter* drafter) {
    sources_.push_back({drafter, expected.size(), 0, false});
    for (std::int32_t c = 0; c < drafter->confidences(); ++c) expected.push_back(drafter->expected_acceptance(c));
  };
  if (options_.lookup) {
    lookup_ = std::make_unique<LookupDrafter>();
    add(lookup_.get());
  }
  if (options_.layers && executor.drafts()) {
    layers_ = std::make_unique<LayerDrafter>(executor);
    add(layers_.get());
  }
  for (Drafter* drafter : options_.models) add(drafter);
  policy_ = std::make_unique<DraftPolicy>(std::move(expected));
}

void Drafting::note(RequestId request, std::size_t kind) { kinds_.emplace_back(request, kind); }

void Drafting::ask(Source& source, std::span<DraftJob> jobs) {
  if (source.drafter->propose(jobs)) return;
  source.failed = true;
  ++failed_;
  for (DraftJob& job : jobs) job.tokens->clear();
}

// Guesses are made first: how sure they are decides how many are worth verifying.
void Drafting::take_free(Source& source, std::span<DraftJob> jobs) {
  ask(source, jobs);
  for (DraftJob& job : jobs) {
    if (job.tokens->empty()) continue;
    const std::size_t kind = source.first_kind + static_cast<std::size_t>(job.confidence);
    if (options_.adaptive)
      job.tokens->resize(static_cast<std::size_t>(
          policy_->choose(job.request, kind, static_cast<std::int64_t>(job.tokens->size()), 0)));
    if (!job.tokens->empty()) note(job.request, kind);
  }
}

// What guesses would cost is weighed before they are made.
void Drafting::take_costly(Source& source, std::span<DraftJob> jobs) {
  asked_.clear();
  const auto waiting = std::count_if(jobs.begin(), jobs.end(), [](const DraftJob& j) { return j.tokens->empty(); });
  std::int64_t rounds = 0;
  for (const DraftJob& job : jobs) {
    if (!job.tokens->empty()) continue;
    DraftJob asks = job;
    if (options_.adaptive)
      asks.most =
          policy_->choose(job.request, source.first_kind, job.most, source.ms_per_round / static_cast<double>(waiting));
    if (asks.most > 0) asked_.push_back(asks);
    rounds = std::max(rounds, asks.most);
  }
  if (asked_.empty()) return;
  const auto begin = Clock::now();
  ask(source, asked_);
  const double ms = ms_since(begin);
  drafting_ms_ += ms;
  for (const DraftJob& job : asked_)
    if (!job.tokens->empty()) note(job.request, source.first_kind);
  const double round = ms / static_cast<double>(rounds);
  source.ms_per_round += source.ms_per_round == 0 ? round : kNewRound * (round - source.ms_per_round);
}

void Drafting::propose(std::span<DraftJob> jobs, std::int64_t rows, std::int64_t sequences) {
  kinds_.clear();
  drafting_ms_ = 0;
  for (DraftJob& job : jobs) job.most = std::min(job.most, options_.most);
  if (options_.adaptive && !policy_->begin_step(rows, sequences)) return;
  for (Source& source : sources_) {
    if (source.failed) continue;
    if (source.drafter->free_of_cost()) {
      take_free(source, jobs);
    } else {
      take_costly(source, jobs);
    }
  }
}

void Drafting::verified(RequestId request, std::int64_t drafted, std::int64_t accepted) {
  for (const auto& [id, kind] : kinds_)
    if (id == request) policy_->record(request, kind, drafted, accepted);
}

void Drafting::end_step(std::int64_t rows, std::int64_t drafted, double ms) {
  policy_->end_step(rows, drafted, ms + drafting_ms_, drafting_ms_);
  drafting_ms_ = 0;
}

void Drafting::computed(RequestId request, std::int64_t position, std::int64_t first_row, std::int64_t rows) {
  for (Source& source : sources_)
    if (source.drafter->wants_rows() && !source.failed) source.drafter->computed(request, position, first_row, rows);
}

void Drafting::restarted(RequestId request) {
  for (Source& source : sources_) source.drafter->restarted(request);
}

void Drafting::forget(RequestId request) {
  for (Source& source : sources_) source.drafter->forget(request);
  policy_->forget(request);
}

}  // namespace qw::engine
