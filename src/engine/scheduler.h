// Decides what the next step computes: a pure function from a snapshot of all requests to a plan.
//
// Rank: higher priority; among equals the tenant that was served least (tokens computed, divided by its weight); of one
// tenant the earlier arrival.
//
// Rules, in this order:
//   1. Running sequences with one token to compute (decoding) get a row each, best rank first. If the cache has no block
//      for one of them, the running sequence of the worst rank is preempted: its blocks are let go and it waits again
//      (what the prefix cache still has of it when it comes back need not be computed anew).
//   2. Waiting sequences are admitted by rank while there are rows for them behind the prompts of better rank, unless
//      somebody was preempted by rule 1. Nobody overtakes a sequence of better rank that does not fit (so a long prompt
//      is not starved by short ones), except that sequences of a tenant at its limit, and those which wait for another
//      that computes their beginning, are passed over. Room is made for the one to be admitted by preempting, worst rank
//      first: sequences that rest; those of lower priority; and, if the tenants' services differ by more than a quantum
//      and one sequence more and one fewer brings their numbers nearer to their weights, one of the better served which
//      has answered with as many tokens as it was promised room for.
//   3. Running sequences with more to compute (prefill) get chunks of the rows that are left, best rank first.
//   4. Sequences that gather compute all of their prompts but the last token, and this one only in a step in which rules 1
//      to 3 found nothing to compute: so their answers begin together, once all prompts are read that there is room for.
//      Those that are unready compute all but the last token, too, and wait with it until they are ready.
//   5. Drafts of sequences whose last known token is computed get rows that are left, behind it, as far as blocks are free
//      which nobody was promised. Nobody is preempted for a draft.
//
// An open sequence that grows beyond what it was promised goes on by one row a step, as if it decoded.
// One that rests gives its cache to whoever waits, and waits itself until tokens come.
// Admission promises room for all tokens known so far plus `growth_tokens`; promised blocks are kept free for the
// sequence, so a prefill never fails half way, and a sequence that comes back is not thrown out again at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
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
  std::int64_t prefill_rows = 0;       // of a step in which somebody decodes, at most; 0: as many as there are rows
  double tenant_quantum = 0;           // tokens at weight 1; 0: nobody is preempted for the sake of fairness
};

struct SequenceView {
  std::uint64_t id = 0;                // arrival order
  std::int32_t priority = 0;
  std::uint32_t tenant = 0;            // index into Snapshot::tenants
  bool running = false;
  std::int64_t length = 0;             // tokens known: prompt and output
  std::int64_t computed = 0;           // of these, in the cache; < length, or == length if open
  std::int64_t limit = 0;              // tokens the cache will ever hold for it; >= length
  std::int64_t blocks = 0;             // held
  std::int64_t own_blocks = 0;         // of these, held by nobody else
  std::int64_t promised_tokens = 0;    // room promised at admission; 0 while waiting
  bool open = false;                   // tokens may follow from outside; it holds its cache while it waits for them
  bool resting = false;                // open, and all rows of its tokens are given: nothing to compute, its cache may be taken
  std::int64_t drafts = 0;             // tokens guessed to follow; length + drafts <= limit
  std::int64_t stop_at = 0;            // a slice ends here at the latest, if it is ahead: a snapshot of the state is taken
  bool unready = false;                // what its next token is drawn with is still being worked out: its last row waits
  bool gathers = false;                // its first token waits for the prompts of others (internal/gathering.h)
  // While it waits: what the prefix cache has of it.
  std::int64_t cached = 0;             // tokens
  std::int64_t cached_blocks = 0;      // whole ones, which it would share; the rest of `cached` is copied
  std::int64_t cached_idle = 0;        // of these, counted as free now
  bool held_back = false;              // a running sequence is about to compute what it can share
};

struct TenantView {
  double served = 0;                   // tokens computed / weight; comparable between tenants, not absolute
  double weight = 1;
};

struct Snapshot {
  SchedulerLimits limits;
  std::int64_t free_blocks = 0;        // those that idle in the prefix cache included
  std::vector<SequenceView> sequences = {};
  std::vector<TenantView> tenants = {};  // those that are not named here were never served
  std::int64_t shared_blocks = 0;      // held by several sequences
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

struct Admission {
  std::size_t sequence = 0;
  std::int64_t cached = 0;             // tokens to take from the prefix cache: all it has, or whole blocks only
  friend bool operator==(const Admission&, const Admission&) = default;
};

struct StepPlan {
  std::vector<std::size_t> preempted;  // to waiting, before anything else
  std::vector<Admission> admitted;     // to running
  std::vector<Slice> slices;           // decode rows first
  std::optional<std::size_t> refused;  // whose turn it was to be admitted, had there been room
  void clear() {
    refused.reset();
    preempted.clear();
    admitted.clear();
    slices.clear();
  }
};

// Keeps its memory between plans: once as many sequences were seen as there are now, planning allocates nothing.
class Planner {
 public:
  // The answer depends on the snapshot alone. Valid until the next call.
  const StepPlan& plan(const Snapshot& snapshot);

 private:
  class Step;
  std::vector<SequenceView> sequences_;
  std::vector<TenantView> tenants_;
  std::vector<std::int64_t> running_of_tenant_;
  std::vector<std::size_t> running_;  // best rank first
  std::vector<char> decoding_, thrown_out_, leaves_, entered_;  // by sequence
  StepPlan plan_;
};

StepPlan plan_step(const Snapshot& snapshot);

// Tokens promised to a sequence at admission.
std::int64_t promise(const SchedulerLimits& limits, const SequenceView& sequence);

// The first broken rule in words, or "": of a snapshot on its own, and of a plan for a snapshot.
std::string violation(const Snapshot& snapshot);
std::string violation(const Snapshot& snapshot, const StepPlan& plan);

}  // namespace qw::engine
