#include "engine/scheduler.h"

#include <algorithm>
#include <unordered_map>

namespace qw::engine {
namespace {

std::int64_t blocks_for(const SchedulerLimits& limits, std::int64_t tokens) {
  return (tokens + limits.block_tokens - 1) / limits.block_tokens;
}

// Blocks a sequence holds a promise for and has not taken yet.
std::int64_t outstanding(const SchedulerLimits& limits, const SequenceView& s) {
  return std::max<std::int64_t>(0, blocks_for(limits, s.promised_tokens) - s.blocks);
}

}  // namespace

// Plays one step on a copy of the snapshot.
class Planner::Step {
 public:
  Step(Planner& memory, const Snapshot& snapshot)
      : m_(memory), limits_(snapshot.limits), sequences_(m_.sequences_), free_(snapshot.free_blocks) {
    m_.plan_.clear();
    sequences_.assign(snapshot.sequences.begin(), snapshot.sequences.end());
    m_.tenants_.assign(snapshot.tenants.begin(), snapshot.tenants.end());
    for (const SequenceView& s : sequences_)
      if (s.tenant >= m_.tenants_.size()) m_.tenants_.resize(s.tenant + 1);
    m_.running_of_tenant_.assign(m_.tenants_.size(), 0);
    m_.decoding_.assign(sequences_.size(), 0);
    m_.thrown_out_.assign(sequences_.size(), 0);
    m_.leaves_.assign(sequences_.size(), 0);
    m_.entered_.assign(sequences_.size(), 0);
    m_.running_.clear();
    m_.running_.reserve(sequences_.size());
    for (std::size_t i = 0; i < sequences_.size(); ++i)
      if (sequences_[i].running) enter(i);
    sort_running();
  }

  void play() {
    std::int64_t rows = 0;
    for (std::size_t k = 0; k < m_.running_.size(); ++k) {  // preemption shortens the list from its end
      const std::size_t i = m_.running_[k];
      m_.decoding_[i] = decodes(i);
      if (!m_.decoding_[i] || !make_room(i)) continue;
      take_rows(i, 1);
      ++rows;
    }
    rows_left_ = limits_.max_rows - rows;
    if (rows > 0 && limits_.prefill_rows > 0) rows_left_ = std::min(rows_left_, limits_.prefill_rows);
    if (m_.plan_.preempted.empty()) admit();
    for (const std::size_t i : m_.running_)
      if (!m_.decoding_[i] && due(i) > 0) take_rows(i, due(i), rows_left_);
    if (m_.plan_.slices.empty()) begin_answers();
    give_drafts();
  }

 private:
  bool better(std::size_t a, std::size_t b) const {
    const SequenceView &x = sequences_[a], &y = sequences_[b];
    if (x.priority != y.priority) return x.priority > y.priority;
    const double served_x = m_.tenants_[x.tenant].served, served_y = m_.tenants_[y.tenant].served;
    return served_x != served_y ? served_x < served_y : x.id < y.id;
  }
  void sort_running() {
    std::sort(m_.running_.begin(), m_.running_.end(), [&](std::size_t a, std::size_t b) { return better(a, b); });
  }
  std::int64_t pending(std::size_t i) const { return sequences_[i].length - sequences_[i].computed; }
  // Of these, what may be computed beside the prompts of others.
  std::int64_t due(std::size_t i) const { return pending(i) - waits(i); }
  bool waits(std::size_t i) const { return sequences_[i].gathers || sequences_[i].unready; }
  bool decodes(std::size_t i) const {
    const SequenceView& s = sequences_[i];
    if (!s.running || waits(i) || pending(i) < 1) return false;
    return pending(i) == 1 || blocks_for(limits_, s.length) > s.blocks + outstanding(limits_, s);
  }
  // Blocks which are free and promised to nobody.
  std::int64_t available() const { return free_ - promised_; }

  // Blocks a sequence lacks for its next token, beyond what it was promised.
  std::int64_t lacks(const SequenceView& s) const {
    return blocks_for(limits_, s.computed + 1) - s.blocks - outstanding(limits_, s);
  }

  void enter(std::size_t i) {
    m_.running_.push_back(i);
    ++m_.running_of_tenant_[sequences_[i].tenant];
    promised_ += outstanding(limits_, sequences_[i]);
  }

  // Preempts from the worst rank up until sequence i can go on; false if it was itself the worst.
  bool make_room(std::size_t i) {
    while (lacks(sequences_[i]) > available()) {
      const std::size_t victim = m_.running_.back();
      preempt(m_.running_.size() - 1);
      if (victim == i) return false;
    }
    return true;
  }

  // Those of better rank have their rows already; the worst have none yet, except where the one to be admitted comes in
  // between (admit): what they were given is taken back.
  void preempt(std::size_t place) {
    const std::size_t i = m_.running_[place];
    m_.running_.erase(m_.running_.begin() + static_cast<std::ptrdiff_t>(place));
    SequenceView& s = sequences_[i];
    promised_ -= outstanding(limits_, s);
    free_ += s.own_blocks;
    s.blocks = s.own_blocks = s.computed = s.promised_tokens = s.cached = s.cached_blocks = s.cached_idle = 0;
    s.running = false;
    --m_.running_of_tenant_[s.tenant];
    m_.thrown_out_[i] = 1;
    rows_left_ += std::erase_if(m_.plan_.slices, [&](const Slice& slice) { return slice.sequence == i; });
    m_.plan_.preempted.push_back(i);
  }

  void take_rows(std::size_t i, std::int64_t wanted) { take_rows(i, wanted, wanted); }
  void take_rows(std::size_t i, std::int64_t wanted, std::int64_t& left) {
    SequenceView& s = sequences_[i];
    std::int64_t tokens = std::min(wanted, left);
    if (s.stop_at > s.computed) tokens = std::min(tokens, s.stop_at - s.computed);
    if (tokens == 0) return;
    left -= tokens;
    promised_ -= outstanding(limits_, s);
    const std::int64_t taken = std::max<std::int64_t>(0, blocks_for(limits_, s.computed + tokens) - s.blocks);
    free_ -= taken;
    s.blocks += taken;
    s.own_blocks += taken;
    promised_ += outstanding(limits_, s);
    m_.plan_.slices.push_back({i, tokens, s.computed + tokens == s.length, 0});
  }

  // Of those who gathered.
  void begin_answers() {
    for (std::size_t k = 0; k < m_.running_.size(); ++k) {  // preemption shortens the list from its end
      const std::size_t i = m_.running_[k];
      m_.decoding_[i] = sequences_[i].gathers && !sequences_[i].unready && pending(i) == 1;
      if (m_.decoding_[i] && make_room(i)) take_rows(i, 1);
    }
  }

  std::int64_t rows_planned() const {
    std::int64_t rows = 0;
    for (const Slice& slice : m_.plan_.slices) rows += slice.tokens;
    return rows;
  }

  // Draft rows take their blocks for this step only, but from what nobody else may claim in it.
  void give_drafts() {
    std::int64_t left = std::min(limits_.max_rows - rows_planned(), limits_.max_draft_rows);
    for (Slice& slice : m_.plan_.slices) {
      SequenceView& s = sequences_[slice.sequence];
      if (!slice.sample || s.drafts == 0) continue;
      const std::int64_t known = s.length;
      const std::int64_t room = (s.blocks + outstanding(limits_, s) + std::max<std::int64_t>(0, available())) * limits_.block_tokens - known;
      slice.drafts = std::max<std::int64_t>(0, std::min({s.drafts, left, room}));
      left -= slice.drafts;
      promised_ -= outstanding(limits_, s);
      const std::int64_t taken = std::max<std::int64_t>(0, blocks_for(limits_, known + slice.drafts) - s.blocks);
      free_ -= taken;
      s.blocks += taken;
      s.own_blocks += taken;
      promised_ += outstanding(limits_, s);
    }
  }

  // ---- admission ----

  bool at_limit(std::uint32_t tenant) const {
    return limits_.max_running_per_tenant > 0 && m_.running_of_tenant_[tenant] >= limits_.max_running_per_tenant;
  }
  bool may_be_admitted(std::size_t i) const {
    const SequenceView& s = sequences_[i];
    return !s.running && !s.resting && !s.held_back && !m_.thrown_out_[i] && !at_limit(s.tenant);
  }
  // The waiting sequence of the best rank, or sequences_.size().
  std::size_t next_to_admit() const {
    std::size_t best = sequences_.size();
    for (std::size_t i = 0; i < sequences_.size(); ++i)
      if (may_be_admitted(i) && (best == sequences_.size() || better(i, best))) best = i;
    return best;
  }
  // Rows that prompts of better rank will take before sequence i.
  std::int64_t rows_ahead_of(std::size_t i) const {
    std::int64_t rows = 0;
    for (const std::size_t r : m_.running_)
      if (!m_.decoding_[r] && better(r, i)) rows += due(r);
    return rows;
  }
  // Blocks that it would share and that count as free. Whoever is preempted may have held some of them.
  std::int64_t idle(const SequenceView& s, bool preempted) const { return preempted ? s.cached_blocks : s.cached_idle; }
  // Free blocks that admitting it takes or promises, with all that is cached, or with whole blocks only.
  std::int64_t need(const SequenceView& s, bool copy, bool preempted) const {
    const std::int64_t all = blocks_for(limits_, promise(limits_, s)) - s.cached_blocks + idle(s, preempted);
    return all + copy;  // while it is copied, the original cannot be given up either
  }
  bool fits(std::int64_t blocks) const {
    return static_cast<std::int64_t>(m_.running_.size()) < limits_.max_sequences && blocks <= available();
  }
  bool gives_way(const SequenceView& victim, const SequenceView& s) const {
    if (victim.resting || victim.priority < s.priority) return true;
    if (victim.priority > s.priority || victim.tenant == s.tenant || limits_.tenant_quantum <= 0) return false;
    // It must have got something out of its turn, or two could throw each other out for ever.
    if (victim.length - victim.computed != 1 || victim.length < victim.promised_tokens) return false;
    const TenantView &rich = m_.tenants_[victim.tenant], &poor = m_.tenants_[s.tenant];
    if (rich.served - poor.served <= limits_.tenant_quantum) return false;
    return static_cast<double>(m_.running_of_tenant_[s.tenant] + 1) / poor.weight <=
           static_cast<double>(m_.running_of_tenant_[victim.tenant]) / rich.weight;
  }
  // Preempts those who give way to sequence i, worst rank first, if that is enough; each changes how many its tenant
  // runs, and with it what is fair. Tried on paper first: nobody leaves in vain.
  bool make_room_for(std::size_t i, bool copy) {
    if (fits(need(sequences_[i], copy, !m_.plan_.preempted.empty()))) return true;
    if (shares_) return false;  // what the others hold alone is not known any more; the next step knows
    const std::int64_t blocks = need(sequences_[i], copy, true);
    std::int64_t free = available(), running = static_cast<std::int64_t>(m_.running_.size());
    const auto enough = [&] { return free >= blocks && running < limits_.max_sequences; };
    std::size_t last = m_.running_.size();  // the best of those who leave
    for (std::size_t place = m_.running_.size(); place-- > 0 && !enough();) {
      const SequenceView& victim = sequences_[m_.running_[place]];
      m_.leaves_[m_.running_[place]] = !m_.entered_[m_.running_[place]] && gives_way(victim, sequences_[i]);
      last = place;
      if (!m_.leaves_[m_.running_[place]]) continue;
      free += victim.own_blocks + outstanding(limits_, victim);
      --running;
      --m_.running_of_tenant_[victim.tenant];
    }
    for (std::size_t place = last; place < m_.running_.size(); ++place)
      if (const std::size_t r = m_.running_[place]; m_.leaves_[r]) ++m_.running_of_tenant_[sequences_[r].tenant];
    if (!enough()) return false;
    for (std::size_t place = m_.running_.size(); place-- > last;)
      if (m_.leaves_[m_.running_[place]]) preempt(place);
    return true;
  }

  void admit() {
    for (;;) {
      const std::size_t i = next_to_admit();
      if (i == sequences_.size() || rows_left_ <= rows_ahead_of(i)) return;
      SequenceView& s = sequences_[i];
      const bool partial = s.cached > s.cached_blocks * limits_.block_tokens;
      const bool copy = partial && make_room_for(i, true);
      if (!copy && !make_room_for(i, false)) {
        m_.plan_.refused = i;
        return;
      }
      s.computed = copy ? s.cached : s.cached_blocks * limits_.block_tokens;
      s.blocks = s.cached_blocks + copy;
      s.own_blocks = idle(s, !m_.plan_.preempted.empty()) + copy;
      free_ -= s.own_blocks;
      s.promised_tokens = promise(limits_, s);
      s.running = true;
      enter(i);
      m_.entered_[i] = 1;
      shares_ |= s.cached_blocks > 0;
      m_.plan_.admitted.push_back({i, s.computed});
      // Who comes next is decided as if these rows were computed.
      m_.tenants_[s.tenant].served += static_cast<double>(pending(i)) / m_.tenants_[s.tenant].weight;
      sort_running();
    }
  }

  Planner& m_;
  const SchedulerLimits& limits_;
  std::vector<SequenceView>& sequences_;
  std::int64_t free_ = 0, promised_ = 0, rows_left_ = 0;
  bool shares_ = false;  // somebody was admitted with blocks that others may hold
};

const StepPlan& Planner::plan(const Snapshot& snapshot) {
  Step(*this, snapshot).play();
  return plan_;
}

StepPlan plan_step(const Snapshot& snapshot) {
  Planner planner;
  return planner.plan(snapshot);
}

std::int64_t promise(const SchedulerLimits& limits, const SequenceView& s) {
  return std::min(s.limit, s.length + limits.growth_tokens);
}

// ---- invariants ------------------------------------------------------------------------------------------------------

namespace {

std::string about(const SequenceView& s, const std::string& what) {
  return "sequence " + std::to_string(s.id) + ": " + what;
}

std::string violation_of(const SchedulerLimits& limits, const SequenceView& s) {
  if (s.computed < 0 || s.computed > s.length || (s.computed == s.length && !s.resting))
    return about(s, "nothing left to compute");
  if (s.limit < s.length) return about(s, "longer than its limit");
  if (blocks_for(limits, s.limit) > limits.total_blocks) return about(s, "its limit exceeds the whole cache");
  if (!s.running && (s.blocks != 0 || s.computed != 0 || s.promised_tokens != 0))
    return about(s, "holds cache while it waits");
  if (s.running && s.blocks < blocks_for(limits, s.computed)) return about(s, "computed tokens without blocks");
  if (s.drafts < 0 || (s.drafts > 0 && s.length + s.drafts > s.limit)) return about(s, "drafts beyond its limit");
  if (s.blocks > blocks_for(limits, s.limit)) return about(s, "more blocks than it can fill");
  if (s.own_blocks < 0 || s.own_blocks > s.blocks) return about(s, "more blocks of its own than it holds");
  return "";
}

std::string violation_of_promises(const Snapshot& snapshot) {
  std::int64_t promised = 0, running = 0;
  std::unordered_map<std::uint64_t, int> ids;
  for (const SequenceView& s : snapshot.sequences) {
    if (++ids[s.id] > 1) return about(s, "occurs twice");
    if (std::string broken = violation_of(snapshot.limits, s); !broken.empty()) return broken;
    running += s.running;
    promised += outstanding(snapshot.limits, s);
  }
  if (promised > snapshot.free_blocks) return "more blocks promised than free";
  if (running > snapshot.limits.max_sequences) return "more sequences running than allowed";
  return "";
}

// What a plan does to the snapshot before anything is computed.
std::string enter_and_leave(Snapshot& after, const StepPlan& plan) {
  for (const std::size_t i : plan.preempted) {
    SequenceView& s = after.sequences[i];
    if (!s.running) return about(s, "preempted though not running");
    after.free_blocks += s.own_blocks;
    s.running = false;
    s.blocks = s.own_blocks = s.computed = s.promised_tokens = 0;
  }
  for (const Admission& admission : plan.admitted) {
    SequenceView& s = after.sequences[admission.sequence];
    if (s.running) return about(s, "admitted though running");
    const std::int64_t whole = s.cached_blocks * after.limits.block_tokens;
    if (admission.cached != whole && admission.cached != s.cached) return about(s, "more taken from the cache than is there");
    s.running = true;
    s.computed = admission.cached;
    const std::int64_t copied = admission.cached > whole;
    s.blocks = s.cached_blocks + copied;
    s.own_blocks = (plan.preempted.empty() ? s.cached_idle : s.cached_blocks) + copied;
    after.free_blocks -= s.own_blocks;
    s.promised_tokens = promise(after.limits, s);
  }
  return "";
}

}  // namespace

std::string violation(const Snapshot& snapshot) {
  if (std::string broken = violation_of_promises(snapshot); !broken.empty()) return broken;
  std::int64_t held = snapshot.shared_blocks;
  for (const SequenceView& s : snapshot.sequences) held += s.own_blocks;
  if (held + snapshot.free_blocks != snapshot.limits.total_blocks) return "blocks held and free do not add up";
  return "";
}

std::string violation(const Snapshot& snapshot, const StepPlan& plan) {
  Snapshot after = snapshot;
  const SchedulerLimits& limits = snapshot.limits;
  if (std::string broken = enter_and_leave(after, plan); !broken.empty()) return broken;
  std::int64_t rows = 0, drafts = 0, free = after.free_blocks;  // free while the step runs
  bool begins = false, others = false;  // an answer of those who gather, and anything else
  std::vector<bool> seen(after.sequences.size());
  for (const Slice& slice : plan.slices) {
    SequenceView& s = after.sequences[slice.sequence];
    if (seen[slice.sequence]) return about(s, "planned twice");
    seen[slice.sequence] = true;
    if (!s.running) return about(s, "planned though not running");
    if (slice.tokens < 1 || s.computed + slice.tokens > s.length) return about(s, "planned more tokens than known");
    if (slice.sample != (s.computed + slice.tokens == s.length)) return about(s, "samples in the wrong place");
    (s.gathers && slice.sample ? begins : others) = true;
    if (s.unready && slice.sample) return about(s, "samples before it is ready");
    if (s.stop_at > s.computed && s.computed + slice.tokens > s.stop_at) return about(s, "runs past where it should stop");
    const std::int64_t taken = std::max<std::int64_t>(0, blocks_for(limits, s.computed + slice.tokens) - s.blocks);
    s.blocks += taken;
    s.own_blocks += taken;
    after.free_blocks -= taken;
    s.computed += slice.tokens;
    rows += slice.tokens + slice.drafts;
    drafts += slice.drafts;
    if (slice.drafts < 0 || slice.drafts > s.drafts || (slice.drafts > 0 && !slice.sample)) return about(s, "drafts nobody made");
    free -= taken + std::max<std::int64_t>(0, blocks_for(limits, s.computed + slice.drafts) - s.blocks);
    s.drafts = 0;
    if (!slice.sample) continue;
    s.resting = s.open;        // until more follows
    if (s.open) continue;      // it keeps its cache
    if (s.length < s.limit) {  // a token follows
      ++s.length;
    } else {                   // it is finished
      after.free_blocks += s.own_blocks;
      s.running = false;
      s.blocks = s.own_blocks = s.computed = s.promised_tokens = 0;
    }
  }
  if (after.free_blocks < 0) return "more blocks planned than free";
  if (free < 0) return "more blocks planned for drafts than free";
  if (drafts > limits.max_draft_rows) return "more draft rows planned than allowed";
  if (rows > limits.max_rows) return "more rows planned than allowed";
  if (begins && others) return "an answer begins that was to wait for the prompts of others";
  // Who is not ready may hold what others wait for.
  const auto unready = [](const SequenceView& s) { return s.unready; };
  const bool work = std::none_of(snapshot.sequences.begin(), snapshot.sequences.end(), unready) &&
                    std::any_of(snapshot.sequences.begin(), snapshot.sequences.end(),
                                [](const SequenceView& s) { return !s.resting && !s.held_back; });
  if (work && plan.slices.empty()) return "nothing planned though there is work";
  return violation_of_promises(after);
}

}  // namespace qw::engine
