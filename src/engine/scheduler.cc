#include "engine/scheduler.h"

#include <algorithm>
#include <unordered_map>

namespace qw::engine {
namespace {

std::int64_t blocks_for(const SchedulerLimits& limits, std::int64_t tokens) {
  return (tokens + limits.block_tokens - 1) / limits.block_tokens;
}

bool better_rank(const SequenceView& a, const SequenceView& b) {
  return a.priority != b.priority ? a.priority > b.priority : a.id < b.id;
}

// Blocks a sequence holds a promise for and has not taken yet.
std::int64_t outstanding(const SchedulerLimits& limits, const SequenceView& s) {
  return std::max<std::int64_t>(0, blocks_for(limits, s.promised_tokens) - s.blocks);
}

// Plays one step on a copy of the snapshot.
class Planner {
 public:
  explicit Planner(const Snapshot& snapshot)
      : limits_(snapshot.limits), sequences_(snapshot.sequences), free_(snapshot.free_blocks) {
    rows_left_ = limits_.max_rows;
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      order_.push_back(i);
      if (!sequences_[i].running) continue;
      ++running_;
      ++running_of_tenant_[sequences_[i].tenant];
      promised_ += outstanding(limits_, sequences_[i]);
    }
    std::sort(order_.begin(), order_.end(),
              [&](std::size_t a, std::size_t b) { return better_rank(sequences_[a], sequences_[b]); });
  }

  StepPlan plan() {
    std::vector<bool> decoding(sequences_.size());
    for (const std::size_t i : order_) {
      decoding[i] = decodes(i);
      if (decoding[i] && make_room(i)) give_rows(i, 1);
    }
    for (const std::size_t i : order_)
      if (!decoding[i] && sequences_[i].running && pending(i) > 1) give_rows(i, pending(i));
    give_drafts();
    if (plan_.preempted.empty()) admit();
    return std::move(plan_);
  }

 private:
  std::int64_t pending(std::size_t i) const { return sequences_[i].length - sequences_[i].computed; }
  bool decodes(std::size_t i) const {
    const SequenceView& s = sequences_[i];
    if (!s.running || pending(i) < 1) return false;
    return pending(i) == 1 || blocks_for(limits_, s.length) > s.blocks + outstanding(limits_, s);
  }
  // Blocks which are free and promised to nobody.
  std::int64_t available() const { return free_ - promised_; }

  // Blocks a sequence lacks for its next token, beyond what it was promised.
  std::int64_t lacks(const SequenceView& s) const {
    return blocks_for(limits_, s.computed + 1) - s.blocks - outstanding(limits_, s);
  }

  // Preempts from the worst rank up until sequence i can go on; false if it was itself the worst.
  bool make_room(std::size_t i) {
    for (auto victim = order_.rbegin(); lacks(sequences_[i]) > available(); ++victim) {
      if (!sequences_[*victim].running) continue;
      preempt(*victim);
      if (*victim == i) return false;
    }
    return true;
  }

  void preempt(std::size_t i) {
    SequenceView& s = sequences_[i];
    promised_ -= outstanding(limits_, s);
    free_ += s.blocks;
    s.blocks = s.computed = s.promised_tokens = 0;
    s.running = false;
    --running_;
    --running_of_tenant_[s.tenant];
    plan_.preempted.push_back(i);
  }

  void give_rows(std::size_t i, std::int64_t wanted) {
    SequenceView& s = sequences_[i];
    const std::int64_t tokens = std::min(wanted, rows_left_);
    if (tokens == 0) return;
    rows_left_ -= tokens;
    promised_ -= outstanding(limits_, s);
    const std::int64_t taken = std::max<std::int64_t>(0, blocks_for(limits_, s.computed + tokens) - s.blocks);
    free_ -= taken;
    s.blocks += taken;
    promised_ += outstanding(limits_, s);
    plan_.slices.push_back({i, tokens, s.computed + tokens == s.length, 0});
  }

  // Draft rows take their blocks for this step only, but from what nobody else may claim in it.
  void give_drafts() {
    std::int64_t left = std::min(rows_left_, limits_.max_draft_rows);
    for (Slice& slice : plan_.slices) {
      SequenceView& s = sequences_[slice.sequence];
      if (!slice.sample || s.drafts == 0) continue;
      const std::int64_t known = s.length;
      const std::int64_t room = (s.blocks + outstanding(limits_, s) + std::max<std::int64_t>(0, available())) * limits_.block_tokens - known;
      slice.drafts = std::max<std::int64_t>(0, std::min({s.drafts, left, room}));
      left -= slice.drafts;
      rows_left_ -= slice.drafts;
      promised_ -= outstanding(limits_, s);
      const std::int64_t taken = std::max<std::int64_t>(0, blocks_for(limits_, known + slice.drafts) - s.blocks);
      free_ -= taken;
      s.blocks += taken;
      promised_ += outstanding(limits_, s);
    }
  }

  bool fits(std::int64_t tokens) const {
    return running_ < limits_.max_sequences && blocks_for(limits_, tokens) <= available();
  }

  void admit() {
    for (const std::size_t i : order_) {
      if (rows_left_ == 0) return;
      SequenceView& s = sequences_[i];
      if (s.running || s.resting) continue;
      std::int64_t& of_tenant = running_of_tenant_[s.tenant];
      if (limits_.max_running_per_tenant > 0 && of_tenant >= limits_.max_running_per_tenant) continue;
      const std::int64_t tokens = promise(limits_, s);
      for (auto rests = order_.rbegin(); rests != order_.rend() && !fits(tokens); ++rests)
        if (sequences_[*rests].running && sequences_[*rests].resting) preempt(*rests);
      if (!fits(tokens)) return;
      s.promised_tokens = tokens;
      s.running = true;
      promised_ += outstanding(limits_, s);
      ++running_;
      ++of_tenant;
      plan_.admitted.push_back(i);
      give_rows(i, pending(i));
    }
  }

  const SchedulerLimits& limits_;
  std::vector<SequenceView> sequences_;
  std::vector<std::size_t> order_;  // best rank first
  std::unordered_map<std::uint32_t, std::int64_t> running_of_tenant_;
  std::int64_t free_ = 0, promised_ = 0, rows_left_ = 0, running_ = 0;
  StepPlan plan_;
};

std::string about(const SequenceView& s, const std::string& what) {
  return "sequence " + std::to_string(s.id) + ": " + what;
}

std::string violation_of(const SchedulerLimits& limits, const SequenceView& s) {
  if (s.computed < 0 || s.computed > s.length || (s.computed == s.length && !s.resting)) return about(s, "nothing left to compute");
  if (s.limit < s.length) return about(s, "longer than its limit");
  if (blocks_for(limits, s.limit) > limits.total_blocks) return about(s, "its limit exceeds the whole cache");
  if (!s.running && (s.blocks != 0 || s.computed != 0 || s.promised_tokens != 0))
    return about(s, "holds cache while it waits");
  if (s.running && s.blocks < blocks_for(limits, s.computed)) return about(s, "computed tokens without blocks");
  if (s.drafts < 0 || (s.drafts > 0 && s.length + s.drafts > s.limit)) return about(s, "drafts beyond its limit");
  if (s.blocks > blocks_for(limits, s.limit)) return about(s, "more blocks than it can fill");
  return "";
}

}  // namespace

std::int64_t promise(const SchedulerLimits& limits, const SequenceView& s) {
  return std::min(s.limit, s.length + limits.growth_tokens);
}

StepPlan plan_step(const Snapshot& snapshot) { return Planner(snapshot).plan(); }

std::string violation(const Snapshot& snapshot) {
  std::int64_t held = 0, promised = 0, running = 0;
  std::unordered_map<std::uint64_t, int> ids;
  for (const SequenceView& s : snapshot.sequences) {
    if (++ids[s.id] > 1) return about(s, "occurs twice");
    if (std::string broken = violation_of(snapshot.limits, s); !broken.empty()) return broken;
    held += s.blocks;
    running += s.running;
    promised += outstanding(snapshot.limits, s);
  }
  if (held + snapshot.free_blocks != snapshot.limits.total_blocks) return "blocks held and free do not add up";
  if (promised > snapshot.free_blocks) return "more blocks promised than free";
  if (running > snapshot.limits.max_sequences) return "more sequences running than allowed";
  return "";
}

std::string violation(const Snapshot& snapshot, const StepPlan& plan) {
  Snapshot after = snapshot;
  const SchedulerLimits& limits = snapshot.limits;
  for (const std::size_t i : plan.preempted) {
    SequenceView& s = after.sequences[i];
    if (!s.running) return about(s, "preempted though not running");
    after.free_blocks += s.blocks;
    s.running = false;
    s.blocks = s.computed = s.promised_tokens = 0;
  }
  for (const std::size_t i : plan.admitted) {
    SequenceView& s = after.sequences[i];
    if (s.running) return about(s, "admitted though running");
    s.running = true;
    s.promised_tokens = promise(limits, s);
  }
  std::int64_t rows = 0, drafts = 0, free = after.free_blocks;  // free while the step runs
  std::vector<bool> seen(after.sequences.size());
  for (const Slice& slice : plan.slices) {
    SequenceView& s = after.sequences[slice.sequence];
    if (seen[slice.sequence]) return about(s, "planned twice");
    seen[slice.sequence] = true;
    if (!s.running) return about(s, "planned though not running");
    if (slice.tokens < 1 || s.computed + slice.tokens > s.length) return about(s, "planned more tokens than known");
    if (slice.sample != (s.computed + slice.tokens == s.length)) return about(s, "samples in the wrong place");
    const std::int64_t taken = std::max<std::int64_t>(0, blocks_for(limits, s.computed + slice.tokens) - s.blocks);
    s.blocks += taken;
    after.free_blocks -= taken;
    s.computed += slice.tokens;
    rows += slice.tokens + slice.drafts;
    drafts += slice.drafts;
    if (slice.drafts < 0 || slice.drafts > s.drafts || (slice.drafts > 0 && !slice.sample)) return about(s, "drafts nobody made");
    free -= taken + std::max<std::int64_t>(0, blocks_for(limits, s.computed + slice.drafts) - s.blocks);
    s.drafts = 0;
    if (!slice.sample) continue;
    if (s.open) continue;      // it keeps its cache
    if (s.length < s.limit) {  // a token follows
      ++s.length;
    } else {                   // it is finished
      after.free_blocks += s.blocks;
      s.running = false;
      s.blocks = s.computed = s.promised_tokens = 0;
    }
  }
  if (after.free_blocks < 0) return "more blocks planned than free";
  if (free < 0) return "more blocks planned for drafts than free";
  if (drafts > limits.max_draft_rows) return "more draft rows planned than allowed";
  if (rows > limits.max_rows) return "more rows planned than allowed";
  const bool work = std::any_of(snapshot.sequences.begin(), snapshot.sequences.end(), [](const SequenceView& s) { return !s.resting; });
  if (work && plan.slices.empty()) return "nothing planned though there is work";
  return violation(after);
}

}  // namespace qw::engine
