#include "ops/internal/recompute_plan.h"

#include <algorithm>

#include "ops/internal/index.h"

namespace qw::ops {
namespace {

// The last op that reads each value (its maker if none does); the number of ops for one that is kept after the pass.
std::vector<std::int32_t> last_readers(const Program& program) {
  std::vector<std::int32_t> last = program.last_use;
  if (program.kept.id >= 0) last[index(program.kept.id)] = static_cast<std::int32_t>(program.ops.size());
  return last;
}

// The first op of each piece: after every op behind which as few values are still to be read as anywhere.
std::vector<std::int32_t> piece_starts(const Program& program, const std::vector<std::int32_t>& last) {
  const auto n = static_cast<std::int32_t>(program.ops.size());
  std::vector<std::int32_t> crossing(program.ops.size() + 1, 0);  // at op i: of values made before it, read from it on
  for (std::size_t v = 0; v < last.size(); ++v)
    for (std::int32_t i = program.maker[v] + 1; i <= std::min(last[v], n - 1); ++i) ++crossing[index(i)];
  const std::int32_t fewest = n > 1 ? *std::min_element(crossing.begin() + 1, crossing.begin() + n) : 0;
  std::vector<std::int32_t> starts{0};
  for (std::int32_t i = 1; i < n; ++i)
    if (crossing[index(i)] == fewest) starts.push_back(i);
  return starts;
}

bool mixes_tokens(OpKind kind) { return kind == OpKind::kAttention || kind == OpKind::kDeltaRule; }

// Joins pieces, so that each has at most one op that mixes tokens.
std::vector<std::int32_t> layer_starts(const Program& program, const std::vector<std::int32_t>& pieces) {
  std::vector<std::int32_t> starts;
  bool mixed = true;
  for (std::size_t s = 0; s < pieces.size(); ++s) {
    const std::int32_t end = s + 1 < pieces.size() ? pieces[s + 1] : static_cast<std::int32_t>(program.ops.size());
    const bool mixes = std::any_of(program.ops.begin() + pieces[s], program.ops.begin() + end,
                                   [](const Op& op) { return mixes_tokens(op.kind); });
    if (starts.empty() || (mixes && mixed)) starts.push_back(pieces[s]), mixed = false;
    mixed |= mixes;
  }
  return starts;
}

// Ops whose output is made anew from a few passes over memory.
bool cheap(OpKind kind) {
  switch (kind) {
    case OpKind::kRmsNorm:
    case OpKind::kRope:
    case OpKind::kSwiglu:
    case OpKind::kAdd:
    case OpKind::kColumns:
    case OpKind::kGateRows:
    case OpKind::kScale:
    case OpKind::kSilu:
    case OpKind::kRelu:
    case OpKind::kConcat:
    case OpKind::kEnterGroup:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::vector<Value> backward_reads(const Op& op, const TrainingPlan::OpPlan& plan) {
  if (!plan.backward) return {};
  switch (op.kind) {
    case OpKind::kLinear:
      return plan.train_weight || plan.adapter >= 0 ? std::vector<Value>{op.in[0]} : std::vector<Value>{};
    case OpKind::kAttention: {
      std::vector<Value> out(op.in, op.in + op.inputs());
      out.push_back(op.out);
      return out;
    }
    case OpKind::kSwiglu:
    case OpKind::kMatchRows:
    case OpKind::kGateRows:
      return {op.in[0], op.in[1]};
    case OpKind::kDeltaRule:
      return {op.in[0], op.in[1], op.in[2]};
    case OpKind::kRmsNorm:
    case OpKind::kExperts:
    case OpKind::kSilu:
    case OpKind::kRelu:
    case OpKind::kShortConv:
      return {op.in[0]};
    default:
      return {};
  }
}

RecomputePlan make_recompute_plan(const Program& program, const TrainingOptions& options,
                                  const std::vector<TrainingPlan::OpPlan>& ops) {
  RecomputePlan out{std::vector<bool>(program.widths.size(), false),
                    std::vector<std::vector<std::int32_t>>(program.ops.size())};
  if (options.recompute == Recompute::kNone || options.forward_only) return out;
  const bool full = options.recompute == Recompute::kFull;
  const std::vector<std::int32_t> last = last_readers(program), pieces = piece_starts(program, last),
                                  layers = layer_starts(program, pieces);
  const std::vector<std::int32_t>& starts = full ? layers : pieces;
  const std::int32_t end = layers.back();  // of what is looked at
  const auto piece_of = [&](std::int32_t op) {
    return std::upper_bound(starts.begin(), starts.end(), op) - starts.begin();
  };
  for (std::size_t v = 0; v < out.dropped.size(); ++v) {
    const std::int32_t maker = program.maker[v];
    out.dropped[v] = maker < end && last[v] < end && piece_of(maker) == piece_of(last[v]) &&
                     (full || cheap(program.ops[index(maker)].kind));
  }
  std::vector<bool> needed(program.widths.size(), false);
  for (std::size_t i = 0; i < program.ops.size(); ++i)
    for (const Value v : backward_reads(program.ops[i], ops[i])) needed[index(v.id)] = true;
  for (std::int32_t i = end - 1; i >= 0; --i) {
    const Op& op = program.ops[index(i)];
    // What these keep beside their outputs is larger than what enters them.
    const bool large = full && ops[index(i)].backward && (op.kind == OpKind::kExperts || op.kind == OpKind::kDeltaRule);
    if (op.out.id < 0 || (!large && !(out.dropped[index(op.out.id)] && needed[index(op.out.id)]))) continue;
    for (int j = 0; j < op.inputs(); ++j) needed[index(op.in[j].id)] = true;
    const auto next = std::upper_bound(starts.begin(), starts.end(), i);
    auto& before =
        out.before[index((next == starts.end() ? static_cast<std::int32_t>(program.ops.size()) : *next) - 1)];
    before.insert(before.begin(), i);
  }
  return out;
}

}  // namespace qw::ops
