// The engine's side of drafts: asks drafters for the sequences of the next step as far as the policy finds it worth it,
// and tells the policy what came of it. Owned and used by the stepping thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/draft_policy.h"
#include "engine/drafter.h"
#include "engine/step_executor.h"

namespace qw::engine {

class Drafting {
 public:
  Drafting(DraftOptions options, StepExecutor& executor);

  // What a sequence could use; its drafts are left in job.tokens. job.most is what its limits allow.
  // `rows` and `sequences` are what the step has without drafts, for DraftPolicy.
  void propose(std::span<DraftJob> jobs, std::int64_t rows, std::int64_t sequences);
  // Of the tokens proposed for the request, `drafted` were computed and `accepted` right.
  void verified(RequestId request, std::int64_t drafted, std::int64_t accepted);
  // The step took `ms` without propose().
  void end_step(std::int64_t rows, std::int64_t drafted, double ms);
  void computed(RequestId request, std::int64_t position, std::int64_t first_row, std::int64_t rows);
  void restarted(RequestId request);
  void forget(RequestId request);

  std::int64_t most() const { return options_.most; }
  std::int64_t failed() const { return failed_; }

 private:
  struct Source {
    Drafter* drafter = nullptr;
    std::size_t first_kind = 0;  // of the policy's kinds
    double ms_per_round = 0;     // one token for each sequence asked for; 0: not known yet
    bool failed = false;
  };
  void ask(Source& source, std::span<DraftJob> jobs);
  void take_free(Source& source, std::span<DraftJob> jobs);
  void take_costly(Source& source, std::span<DraftJob> jobs);
  void note(RequestId request, std::size_t kind);

  DraftOptions options_;
  std::unique_ptr<Drafter> lookup_, layers_;
  std::vector<Source> sources_;
  std::unique_ptr<DraftPolicy> policy_;
  std::vector<DraftJob> asked_;                           // of one source
  std::vector<std::pair<RequestId, std::size_t>> kinds_;  // of the drafts of this step
  double drafting_ms_ = 0;
  std::int64_t failed_ = 0;
};

}  // namespace qw::engine
