// Decides what the next step computes: a pure function from a snapshot of all requests to a plan.
//
// Rules, in this order:
//   1. Running sequences with one token to compute (decoding) get a row each, best rank first. Rank: higher priority,
//      then earlier arrival. If the cache has no block for one of them, the running sequence of the worst rank is
//      preempted: its blocks are freed and it waits again, to be computed anew.
//   2. Running sequences with more to compute (prefill) get chunks of the rows that are left, best rank first.
//   3. Drafts of sequences whose last known token is computed get rows that are left, behind it, best rank first, as far as
//      blocks are free which nobody was promised. Nobody is preempted for a draft.
//   4. Waiting sequences are admitted by rank while there is room, unless somebody was preempted in this step. Nobody
//      overtakes a sequence of better rank that does not fit (so a long prompt is not starved by short ones), except
//      that sequences of a tenant at its limit are passed over.
// An open sequence that grows beyond what it was promised goes on by one row a step, as if it decoded.
// One that rests gives its cache to whoever waits, and waits itself until tokens come.
// Admission promises room for all tokens known so far plus `growth_tokens`; promised blocks are kept free for the
// sequence, so a prefill never fails half way, and a sequence that comes back is not thrown out again at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace qw::engine {

struct SchedulerLimits {
  std::int64_t max_rows = 0;           // tokens computed in one step, at least max_sequences
  std::int64_t max_sequences = 0;      // running at once
  std::int64_t growth_tokens = 0;      // promised beyond the tokens known at admission
  std::int64_t max_running_per_tenant = 0;  // 0: no limit
  std::int64_t block_tokens = 0;
  std::int64_t total_blocks = 0;
  std::int64_t max_draft_rows = 0;     // of all drafts in one step
};

struct SequenceView {
  std::uint64_t id = 0;                // arrival order
  std::int32_t priority = 0;
  std::uint32_t tenant = 0;
  bool running = false;
  std::int64_t length = 0;             // tokens known: prompt and output
  std::int64_t computed = 0;           // of these, in the cache; < length, or == length if open
  std::int64_t limit = 0;              // tokens the cache will ever hold for it; >= length
  std::int64_t blocks = 0;             // held
  std::int64_t promised_tokens = 0;    // room promised at admission; 0 while waiting
  bool open = false;                   // tokens may follow from outside; it holds its cache while it waits for them
  bool resting = false;                // open, and all rows of its tokens are given: nothing to compute, its cache may be taken
  std::int64_t drafts = 0;             // tokens guessed to follow; length + drafts <= limit
};

struct Snapshot {
  SchedulerLimits limits;
  std::int64_t free_blocks = 0;
  std::vector<SequenceView> sequences;
};

// `tokens` tokens of a sequence from `computed` on; `sample` if the last of them is the last known. Then `drafts` guessed
// tokens may follow; those that prove right are kept, the room of the others is free again after the step.
struct Slice {
  std::size_t sequence = 0;            // index into Snapshot::sequences
  std::int64_t tokens = 0;
  bool sample = false;
  std::int64_t drafts = 0;
  friend bool operator==(const Slice&, const Slice&) = default;
};

struct StepPlan {
  std::vector<std::size_t> preempted;  // to waiting, before anything else
  std::vector<std::size_t> admitted;   // to running
  std::vector<Slice> slices;           // decode rows first
};

StepPlan plan_step(const Snapshot& snapshot);

// Tokens promised to a sequence at admission.
std::int64_t promise(const SchedulerLimits& limits, const SequenceView& sequence);

// The first broken rule in words, or "": of a snapshot on its own, and of a plan for a snapshot.
std::string violation(const Snapshot& snapshot);
std::string violation(const Snapshot& snapshot, const StepPlan& plan);

}  // namespace qw::engine
