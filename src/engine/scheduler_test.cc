#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "base/rng.h"

namespace qw::engine {
namespace {

SchedulerLimits small_limits() { return {16, 4, 4, 0, 4, 10, 0}; }

SequenceView waiting(std::uint64_t id, std::int64_t length, std::int64_t limit, std::int32_t priority = 0) {
  SequenceView s;
  s.id = id;
  s.length = length;
  s.limit = limit;
  s.priority = priority;
  return s;
}
SequenceView running(std::uint64_t id, std::int64_t length, std::int64_t computed, std::int64_t limit,
                     std::int64_t blocks, std::int64_t promised, std::int32_t priority = 0) {
  SequenceView s = waiting(id, length, limit, priority);
  s.running = true;
  s.computed = computed;
  s.blocks = s.own_blocks = blocks;
  s.promised_tokens = promised;
  return s;
}

std::vector<std::size_t> admitted(const StepPlan& plan) {
  std::vector<std::size_t> out;
  for (const Admission& a : plan.admitted) out.push_back(a.sequence);
  return out;
}

TEST(Scheduler, DecodeFirstThenPrefillThenAdmission) {
  // 0 decodes, 1 is in the middle of its prompt, 2 and 3 wait.
  Snapshot s{small_limits(), 0, {}};
  s.limits.max_rows = 12;
  s.sequences = {running(1, 12, 4, 12, 1, 12), running(2, 6, 5, 8, 2, 8), waiting(3, 5, 6), waiting(4, 2, 3)};
  s.free_blocks = 7;
  ASSERT_EQ(violation(s), "");
  const StepPlan plan = plan_step(s);
  EXPECT_EQ(violation(s, plan), "");
  EXPECT_EQ(admitted(plan), (std::vector<std::size_t>{2}));
  EXPECT_EQ(plan.slices, (std::vector<Slice>{{1, 1, true, 0}, {0, 8, true, 0}, {2, 3, false, 0}}));
}

TEST(Scheduler, LongPromptIsCutUnderTheBudget) {
  Snapshot s{small_limits(), 10, {waiting(1, 30, 31)}};
  const StepPlan plan = plan_step(s);
  EXPECT_EQ(plan.slices, (std::vector<Slice>{{0, 16, false}}));
  EXPECT_EQ(violation(s, plan), "");
}

TEST(Scheduler, PriorityThenArrivalDecidesAdmission) {
  Snapshot s{small_limits(), 10, {}};
  s.limits.max_sequences = 2;
  s.sequences = {waiting(7, 2, 3), waiting(5, 2, 3), waiting(9, 2, 3, 1)};
  EXPECT_EQ(admitted(plan_step(s)), (std::vector<std::size_t>{2, 1}));
}

TEST(Scheduler, NobodyOvertakesALongPrompt) {
  Snapshot s{small_limits(), 2, {}};
  s.sequences = {running(1, 32, 31, 33, 8, 32), waiting(2, 20, 21), waiting(3, 1, 2)};
  const StepPlan plan = plan_step(s);
  EXPECT_TRUE(plan.admitted.empty());
  EXPECT_EQ(violation(s, plan), "");
}

TEST(Scheduler, TenantAtItsLimitIsPassedOver) {
  Snapshot s{small_limits(), 10, {waiting(1, 2, 3), waiting(2, 2, 3), waiting(3, 2, 3)}};
  s.limits.max_running_per_tenant = 1;
  s.sequences[2].tenant = 1;
  EXPECT_EQ(admitted(plan_step(s)), (std::vector<std::size_t>{0, 2}));
}

TEST(Scheduler, PreemptsTheYoungestOfTheLowestPriority) {
  // No free block; sequence 1 needs its fourth. 3 has the lowest priority, 4 is younger but more important.
  Snapshot s{small_limits(), 0, {}};
  s.sequences = {running(1, 13, 12, 20, 3, 12), running(2, 8, 7, 12, 2, 8), running(3, 9, 8, 12, 3, 12, -1),
                 running(4, 8, 7, 12, 2, 8, 1)};
  ASSERT_EQ(violation(s), "");
  const StepPlan plan = plan_step(s);
  EXPECT_EQ(plan.preempted, (std::vector<std::size_t>{2}));
  EXPECT_EQ(violation(s, plan), "");
  EXPECT_EQ(plan.slices.size(), 3u);
}

TEST(Scheduler, TheWorstRankPreemptsItself) {
  Snapshot s{small_limits(), 0, {}};
  s.sequences = {running(1, 18, 17, 24, 5, 20), running(2, 21, 20, 24, 5, 20)};
  const StepPlan plan = plan_step(s);
  EXPECT_EQ(plan.preempted, (std::vector<std::size_t>{1}));
  EXPECT_EQ(plan.slices, (std::vector<Slice>{{0, 1, true, 0}}));
}

TEST(Scheduler, DraftsTakeOnlyWhatNobodyElseMayClaim) {
  // Both decode. Sequence 1 has room for two drafts in what it holds; the free blocks are promised to sequence 2.
  Snapshot s{small_limits(), 2, {}};
  s.limits.max_draft_rows = 3;
  s.sequences = {running(1, 14, 13, 24, 4, 16), running(2, 12, 11, 20, 3, 20)};
  s.limits.total_blocks = 9;
  s.sequences[0].drafts = 5;
  ASSERT_EQ(violation(s), "");
  StepPlan plan = plan_step(s);
  EXPECT_EQ(plan.slices, (std::vector<Slice>{{0, 1, true, 2}, {1, 1, true, 0}}));
  EXPECT_EQ(violation(s, plan), "");
  s.sequences[1].drafts = 5;  // these have: up to the limit of drafts in a step
  plan = plan_step(s);
  EXPECT_EQ(plan.slices, (std::vector<Slice>{{0, 1, true, 2}, {1, 1, true, 1}}));
  EXPECT_EQ(violation(s, plan), "");
  plan.slices[1].drafts = 2;
  EXPECT_EQ(violation(s, plan), "more draft rows planned than allowed");
  plan.slices[1].drafts = 6;
  EXPECT_EQ(violation(s, plan), "sequence 2: drafts nobody made");
}

TEST(Scheduler, HigherPriorityTakesARunningSequencesPlace) {
  Snapshot s{small_limits(), 4, {}};
  s.limits.max_sequences = 2;
  s.sequences = {running(1, 9, 8, 12, 3, 12), running(2, 9, 8, 12, 3, 12, -1), waiting(3, 4, 8, 1), waiting(4, 4, 8)};
  const StepPlan plan = plan_step(s);
  EXPECT_EQ(violation(s, plan), "");
  EXPECT_EQ(plan.preempted, (std::vector<std::size_t>{1}));
  EXPECT_EQ(admitted(plan), (std::vector<std::size_t>{2}));
  EXPECT_EQ(plan.slices, (std::vector<Slice>{{0, 1, true}, {2, 4, true}}));
}

TEST(Scheduler, NobodyIsPreemptedInVain) {
  Snapshot s{small_limits(), 1, {}};
  s.sequences = {running(1, 25, 24, 28, 6, 24), running(2, 9, 8, 12, 3, 12, -1), waiting(3, 20, 24, 1)};
  s.sequences[0].priority = 2;  // what the other holds would not be enough
  const StepPlan plan = plan_step(s);
  EXPECT_TRUE(plan.preempted.empty());
  EXPECT_TRUE(plan.admitted.empty());
  EXPECT_EQ(plan.refused, std::optional<std::size_t>(2));
}

TEST(Scheduler, TheLeastServedTenantComesFirst) {
  Snapshot s{small_limits(), 10, {waiting(1, 2, 3), waiting(2, 2, 3), waiting(3, 2, 3), waiting(4, 2, 3)}};
  s.sequences[2].tenant = s.sequences[3].tenant = 1;
  s.tenants = {{10, 1}, {9, 2}};  // two tokens bring the second to 10, two more to 11
  EXPECT_EQ(admitted(plan_step(s)), (std::vector<std::size_t>{2, 0, 3, 1}));
}

TEST(Scheduler, TheBetterServedGivesWayBeyondAQuantum) {
  Snapshot s{small_limits(), 2, {}};
  s.limits.max_sequences = 2;
  s.limits.tenant_quantum = 100;
  s.sequences = {running(1, 13, 12, 16, 4, 12), running(2, 13, 12, 16, 4, 12), waiting(3, 4, 8)};
  s.sequences[2].tenant = 1;
  s.tenants = {{600, 1}, {500, 1}};
  EXPECT_TRUE(plan_step(s).preempted.empty());
  s.tenants[1].served = 499;
  const StepPlan plan = plan_step(s);
  EXPECT_EQ(violation(s, plan), "");
  EXPECT_EQ(plan.preempted, (std::vector<std::size_t>{1}));
  EXPECT_EQ(admitted(plan), (std::vector<std::size_t>{2}));
  s.sequences[1].promised_tokens = s.sequences[0].promised_tokens = 14;  // they had nothing of their turn yet
  EXPECT_TRUE(plan_step(s).preempted.empty());
  s.sequences[1].promised_tokens = s.sequences[0].promised_tokens = 12;
  s.sequences[1].tenant = 1;  // one each already
  EXPECT_TRUE(plan_step(s).preempted.empty());
}

TEST(Scheduler, PromptsLeaveRoomForAnswersInProgress) {
  Snapshot s{small_limits(), 7, {running(1, 12, 11, 13, 3, 13), waiting(2, 14, 15)}};
  s.limits.prefill_rows = 3;
  EXPECT_EQ(plan_step(s).slices, (std::vector<Slice>{{0, 1, true}, {1, 3, false}}));
  s.sequences.erase(s.sequences.begin());
  s.free_blocks = 10;
  EXPECT_EQ(plan_step(s).slices, (std::vector<Slice>{{0, 14, true}}));  // nobody waits for a token
}

TEST(Scheduler, AnswersOfThoseWhoGatherBeginTogether) {
  Snapshot s{small_limits(), 7, {running(1, 9, 8, 12, 3, 12), waiting(2, 14, 15), waiting(3, 4, 5), waiting(4, 1, 3)}};
  s.limits.total_blocks = 12, s.free_blocks = 9;
  for (SequenceView& q : s.sequences) q.gathers = true;
  StepPlan plan = plan_step(s);  // all of the prompts but the last tokens
  EXPECT_EQ(violation(s, plan), "");
  EXPECT_EQ(plan.slices, (std::vector<Slice>{{1, 13, false}, {2, 3, false}}));
  s.sequences = {running(1, 9, 8, 12, 3, 12), running(2, 14, 13, 15, 4, 15), running(3, 4, 3, 5, 1, 5), waiting(4, 1, 3)};
  s.free_blocks = 4;
  for (SequenceView& q : s.sequences) q.gathers = true;
  plan = plan_step(s);
  EXPECT_EQ(violation(s, plan), "");
  EXPECT_EQ(plan.slices, (std::vector<Slice>{{0, 1, true}, {1, 1, true}, {2, 1, true}, {3, 1, true}}));
  std::swap(plan.slices[0], plan.slices[1]);
  plan.slices[0] = {1, 1, true}, s.sequences[0].computed = 7, plan.slices[1] = {0, 1, false};
  EXPECT_EQ(violation(s, plan), "an answer begins that was to wait for the prompts of others");
  // One who does not gather goes on, and the others wait for nobody but the prompts.
  s.sequences[0].computed = 8, s.sequences[0].gathers = false;
  EXPECT_EQ(plan_step(s).slices, (std::vector<Slice>{{0, 1, true}}));
}

TEST(Scheduler, CachedTokensAreNotPlanned) {
  Snapshot s{small_limits(), 10, {waiting(1, 14, 16)}};
  s.sequences[0].cached = 10;
  s.sequences[0].cached_blocks = s.sequences[0].cached_idle = 2;
  StepPlan plan = plan_step(s);
  EXPECT_EQ(plan.admitted, (std::vector<Admission>{{0, 10}}));
  EXPECT_EQ(plan.slices, (std::vector<Slice>{{0, 4, true}}));
  EXPECT_EQ(violation(s, plan), "");
  s.limits.total_blocks = s.free_blocks = 4;  // no room for a copy beside its original: whole blocks only
  plan = plan_step(s);
  EXPECT_EQ(plan.admitted, (std::vector<Admission>{{0, 8}}));
  EXPECT_EQ(violation(s, plan), "");
  s.sequences[0].held_back = true;
  EXPECT_TRUE(plan_step(s).admitted.empty());
}

TEST(Scheduler, SlicesStopWhereASnapshotIsTaken) {
  Snapshot s{small_limits(), 10, {waiting(1, 14, 16)}};
  s.sequences[0].stop_at = 12;
  EXPECT_EQ(plan_step(s).slices, (std::vector<Slice>{{0, 12, false}}));
}

TEST(SchedulerInvariants, SeeBrokenSnapshots) {
  Snapshot sound{small_limits(), 7, {running(1, 12, 4, 12, 3, 12)}};
  ASSERT_EQ(violation(sound), "");
  Snapshot s = sound;
  s.free_blocks = 8;
  EXPECT_EQ(violation(s), "blocks held and free do not add up");
  s = sound;
  s.sequences[0].running = false;
  EXPECT_EQ(violation(s), "sequence 1: holds cache while it waits");
  s = sound;
  s.sequences[0].computed = 12;
  EXPECT_EQ(violation(s), "sequence 1: nothing left to compute");
  s = sound;
  s.sequences.push_back(running(1, 2, 0, 3, 0, 0));
  EXPECT_EQ(violation(s), "sequence 1: occurs twice");
  StepPlan plan;
  EXPECT_EQ(violation(sound, plan), "nothing planned though there is work");
  plan.slices = {{0, 8, false, 0}};
  EXPECT_EQ(violation(sound, plan), "sequence 1: samples in the wrong place");
  plan.slices = {{0, 4, false, 0}, {0, 4, true, 0}};
  EXPECT_EQ(violation(sound, plan), "sequence 1: planned twice");
}

// Plays whole lives of random requests on the plan alone: every snapshot and plan is sound, and all of them finish.
TEST(SchedulerProperty, RandomLivesKeepTheInvariantsAndFinish) {
  base::Rng rng(5);
  std::int64_t preemptions = 0, drafted = 0;
  for (int round = 0; round < 300; ++round) {
    Snapshot s;
    s.limits.max_sequences = 1 + static_cast<std::int64_t>(rng.below(6));
    s.limits.max_rows = s.limits.max_sequences + static_cast<std::int64_t>(rng.below(10));
    s.limits.growth_tokens = 1 + static_cast<std::int64_t>(rng.below(8));
    s.limits.block_tokens = std::int64_t{1} << rng.below(4);
    s.limits.total_blocks = 4 + static_cast<std::int64_t>(rng.below(12));
    s.limits.max_running_per_tenant = static_cast<std::int64_t>(rng.below(3));
    s.limits.max_draft_rows = static_cast<std::int64_t>(rng.below(8));
    s.limits.tenant_quantum = static_cast<double>(rng.below(3)) * 20;
    s.limits.prefill_rows = static_cast<std::int64_t>(rng.below(8));
    s.tenants = {{0, 1}, {0, 1 + static_cast<double>(rng.below(3))}};
    s.free_blocks = s.limits.total_blocks;
    const auto capacity = static_cast<std::uint64_t>(s.limits.total_blocks * s.limits.block_tokens);
    std::uint64_t next_id = 1;
    int to_come = 12;
    for (int step = 0; to_come > 0 || !s.sequences.empty(); ++step) {
      ASSERT_LT(step, 20000) << "no progress in round " << round;
      while (to_come > 0 && (s.sequences.empty() || rng.below(3) == 0)) {
        const auto length = static_cast<std::int64_t>(1 + rng.below(capacity - 1));
        const auto limit = length + static_cast<std::int64_t>(rng.below(capacity - static_cast<std::uint64_t>(length) + 1));
        s.sequences.push_back(waiting(next_id++, length, limit, static_cast<std::int32_t>(rng.below(3))));
        s.sequences.back().tenant = static_cast<std::uint32_t>(rng.below(2));
        --to_come;
      }
      const bool gathering = rng.below(2) == 0;
      for (SequenceView& q : s.sequences) q.gathers = gathering && rng.below(4) != 0;
      for (SequenceView& q : s.sequences)
        q.drafts = q.running ? std::min(static_cast<std::int64_t>(rng.below(5)), q.limit - q.length) : 0;
      ASSERT_EQ(violation(s), "");
      const StepPlan plan = plan_step(s);
      ASSERT_EQ(violation(s, plan), "");
      for (const std::size_t i : plan.preempted) {
        SequenceView& q = s.sequences[i];
        s.free_blocks += q.blocks;
        q.running = false;
        q.blocks = q.own_blocks = q.computed = q.promised_tokens = 0;
        ++preemptions;
      }
      for (const std::size_t i : admitted(plan)) {
        s.sequences[i].running = true;
        s.sequences[i].promised_tokens = promise(s.limits, s.sequences[i]);
      }
      std::vector<std::uint64_t> done;
      for (const Slice& slice : plan.slices) {
        SequenceView& q = s.sequences[slice.sequence];
        q.computed += slice.tokens;
        const std::int64_t need = (q.computed + s.limits.block_tokens - 1) / s.limits.block_tokens;
        s.free_blocks -= std::max<std::int64_t>(0, need - q.blocks);
        q.blocks = std::max(q.blocks, need);
        s.tenants[q.tenant].served += static_cast<double>(slice.tokens) / s.tenants[q.tenant].weight;
        drafted += slice.drafts;
        const auto right = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(slice.drafts) + 1));
        for (std::int64_t i = 0; i < right; ++i) ++q.computed, ++q.length;  // the others leave nothing behind
        const std::int64_t kept = std::max(q.blocks, (q.computed + s.limits.block_tokens - 1) / s.limits.block_tokens);
        s.free_blocks -= kept - std::exchange(q.blocks, kept);
        ASSERT_GE(s.free_blocks, 0);
        q.own_blocks = q.blocks;
        if (slice.sample && ++q.length > q.limit) {
          done.push_back(q.id);
          s.free_blocks += q.blocks;
        }
      }
      for (SequenceView& q : s.sequences) q.drafts = 0;
      std::erase_if(s.sequences, [&](const auto& q) { return std::count(done.begin(), done.end(), q.id) > 0; });
    }
    ASSERT_EQ(s.free_blocks, s.limits.total_blocks);
  }
  EXPECT_GT(preemptions, 200);  // the rare path was taken often
  EXPECT_GT(drafted, 200);
}

}  // namespace
}  // namespace qw::engine
