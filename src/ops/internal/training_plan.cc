#include "ops/internal/training_plan.h"

#include <algorithm>

#include "base/result.h"
#include "ops/delta_rule.h"
#include "ops/internal/forward_plan.h"
#include "ops/internal/index.h"
#include "ops/internal/recompute_plan.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"

namespace qw::ops {
namespace {

class Planner {
 public:
  Planner(const Program& program, const TrainingOptions& options)
      : program_(program), options_(options), n_(static_cast<std::int32_t>(program.ops.size())) {}

  TrainingPlan run() {
    plan_.ops.resize(program_.ops.size());
    plan_.hidden = program_.ops.back().in[0].id;
    decide_gradients();
    recompute_ = make_recompute_plan(program_, options_, plan_.ops);
    plan_.before = recompute_.before;
    set_times();
    share_gradients();
    place_values();
    place_gradients();
    plan_.forward_ops = plan_.ops;
    for (std::int32_t i = 0; i < n_; ++i) place_side_buffers(i);
    plan_.arena.solve();
    return std::move(plan_);
  }

 private:
  // Ops run forward at 0 .. n - 1; then backward, each after those that run again for it and what lies behind.
  void set_times() {
    backward_time_.resize(program_.ops.size());
    again_time_.assign(program_.ops.size(), -1);
    std::int32_t time = n_ - 1;
    for (std::int32_t i = n_ - 1; i >= 0; --i) {
      for (const std::int32_t j : plan_.before[index(i)]) again_time_[index(j)] = ++time;
      backward_time_[index(i)] = ++time;
    }
  }
  std::int32_t backward_time(std::int32_t op) const { return backward_time_[index(op)]; }
  bool trained(Weight w) const {
    return w.present() && !options_.forward_only && (options_.frozen.empty() || !options_.frozen[index(w.id)]);
  }
  std::int64_t value_bytes(std::int32_t value) const {
    return options_.max_tokens * program_.widths[index(value)] * static_cast<std::int64_t>(sizeof(float));
  }

  // A value's gradient is wanted if a trained parameter lies behind it; an op runs backward if its output's is.
  void decide_gradients() {
    std::vector<bool> wanted(program_.widths.size(), false);
    for (std::size_t i = 0; i < program_.ops.size(); ++i) {
      const Op& op = program_.ops[i];
      TrainingPlan::OpPlan& p = plan_.ops[i];
      p.train_weight = trained(op.weight);
      p.train_bias = trained(op.bias);
      for (std::int32_t e = 0; op.kind == OpKind::kExperts && e < op.experts.experts; ++e)
        for (const Weight first : {op.experts.gate, op.experts.up, op.experts.down}) {
          p.train_weight |= trained({first.id + e});
          for (const Adapter& a : options_.adapters) QW_CHECK(a.target.id != first.id + e);  // linear weights only
        }
      for (std::int32_t t = 0; op.kind == OpKind::kNgrams && t < op.ngrams.tables; ++t)
        p.train_weight |= trained({op.ngrams.table.id + t});
      for (std::size_t a = 0; a < options_.adapters.size() && op.kind == OpKind::kLinear; ++a)
        if (options_.adapters[a].target.id == op.weight.id) p.adapter = static_cast<int>(a);
      p.backward = p.train_weight || p.train_bias || (p.adapter >= 0 && !options_.forward_only);
      for (int j = 0; j < gradients(op); ++j) {
        p.wanted[j] = wanted[index(op.in[j].id)];
        p.backward |= p.wanted[j];
      }
      if (op.out.id >= 0) wanted[index(op.out.id)] = p.backward;
    }
    drop_what_is_not_reached();
  }

  // Inputs with a gradient: what chooses the tokens that attention sees has none, nor what looks into other chunks.
  static int gradients(const Op& op) { return op.kind == OpKind::kAttention ? 3 : op.inputs(); }

  // Backward: an op runs if something that runs hands its output a gradient; the first to do so is the first to write it.
  void drop_what_is_not_reached() {
    std::vector<bool> reached(program_.widths.size(), false);
    for (std::int32_t i = n_ - 1; i >= 0; --i) {
      const Op& op = program_.ops[index(i)];
      TrainingPlan::OpPlan& p = plan_.ops[index(i)];
      if (op.out.id >= 0 && !reached[index(op.out.id)]) {
        p.backward = p.train_weight = p.train_bias = false;
        std::fill(std::begin(p.wanted), std::end(p.wanted), false);
      }
      if (!p.backward) continue;
      for (int j = 0; j < op.inputs(); ++j) {
        if (!p.wanted[j]) continue;
        p.first[j] = !reached[index(op.in[j].id)];
        reached[index(op.in[j].id)] = true;
      }
    }
  }

  // Is a gradient only read by what made its value, nothing being written over it? A rope turns it in place, what enters a
  // group is summed there, and an add hands its memory on to its inputs, whose other readers would add to it. `earliest`: the first op that reads it.
  bool only_read(Value v, const std::vector<std::int32_t>& readers, std::int32_t& earliest) const {
    const std::int32_t maker = program_.maker[index(v.id)];
    earliest = std::min(earliest, maker);
    const Op& op = program_.ops[index(maker)];
    if (op.kind == OpKind::kRope || op.kind == OpKind::kEnterGroup) return false;
    if (op.kind == OpKind::kSumGroup && readers[index(op.in[0].id)] == 1) return only_read(op.in[0], readers, earliest);
    if (op.kind != OpKind::kAdd) return true;
    for (int j = 0; j < 2; ++j)
      if (readers[index(op.in[j].id)] != 1 || !only_read(op.in[j], readers, earliest)) return false;
    return true;
  }

  // May `d(in[1])` of an add live in d(out), beside d(in[0])? Only if d(in[1]) is only read, and before anyone adds to d(in[0]):
  // backward, its makers must come before every other reader of in[0].
  bool both_sides_may_share(std::int32_t add, const std::vector<std::int32_t>& readers) const {
    const Op& op = program_.ops[index(add)];
    std::int32_t maker = add;
    if (!only_read(op.in[1], readers, maker)) return false;
    for (std::int32_t i = maker; i < add; ++i)
      for (int j = 0; j < program_.ops[index(i)].inputs(); ++j)
        if (program_.ops[index(i)].in[j].id == op.in[0].id) return false;
    return true;
  }

  void share_gradients() {
    const std::vector<std::int32_t> readers = reader_counts(program_);
    gradient_roots_.resize(program_.widths.size());
    for (std::size_t v = 0; v < gradient_roots_.size(); ++v) gradient_roots_[v] = static_cast<std::int32_t>(v);
    for (std::int32_t i = n_ - 1; i >= 0; --i) {
      const Op& op = program_.ops[index(i)];
      TrainingPlan::OpPlan& p = plan_.ops[index(i)];
      if (op.kind == OpKind::kRope || op.kind == OpKind::kEnterGroup || op.kind == OpKind::kSumGroup)
        p.shared[0] = p.wanted[0] && readers[index(op.in[0].id)] == 1;
      if (op.kind == OpKind::kAdd && op.in[0].id != op.in[1].id) {
        p.shared[0] = p.wanted[0] && p.first[0];
        p.shared[1] = p.wanted[1] && readers[index(op.in[1].id)] == 1 && (!p.shared[0] || both_sides_may_share(i, readers));
      }
      for (int j = 0; j < op.inputs(); ++j)
        if (p.shared[j]) gradient_roots_[index(op.in[j].id)] = gradient_roots_[index(op.out.id)];
    }
  }

  struct Life {
    std::int32_t begin = INT32_MAX, end = -1;
    void touch(std::int32_t time) {
      begin = std::min(begin, time);
      end = std::max(end, time);
    }
  };

  std::vector<int> place(const std::vector<Life>& lives, const std::vector<std::int32_t>& roots) {
    std::vector<int> buffers(lives.size(), -1);
    for (std::size_t v = 0; v < lives.size(); ++v)
      if (roots[v] == static_cast<std::int32_t>(v) && lives[v].end >= 0)
        buffers[v] = plan_.arena.add(value_bytes(static_cast<std::int32_t>(v)), lives[v].begin, lives[v].end);
    for (std::size_t v = 0; v < lives.size(); ++v) buffers[v] = buffers[index(roots[v])];
    return buffers;
  }

  // Values that are made in place share memory; with recomputation, only those that are dropped.
  std::vector<std::int32_t> value_roots() const {
    std::vector<std::int32_t> roots = forward_roots(program_, !options_.forward_only);
    if (options_.recompute == Recompute::kNone || options_.forward_only) return roots;
    for (std::size_t v = 0; v < roots.size(); ++v)
      if (!recompute_.dropped[v] || !recompute_.dropped[index(roots[v])]) roots[v] = static_cast<std::int32_t>(v);
    return roots;
  }

  // When the backward pass first comes to an op, or to what runs again for it.
  std::int32_t turn_of(std::int32_t op) const {
    const auto& before = plan_.before[index(op)];
    return before.empty() ? backward_time(op) : again_time_[index(before.front())];
  }

  // Which values lie in half their memory between their last use forward and their first use backward.
  void halve(const std::vector<std::int32_t>& roots) {
    plan_.half.assign(program_.widths.size(), -1);
    plan_.opened.resize(program_.ops.size());
    if (!options_.half_kept || options_.forward_only) return;
    std::vector<std::int32_t> sharers(roots.size(), 0), first(roots.size(), -1);  // first: op, backward, that reads it
    for (const std::int32_t root : roots) ++sharers[index(root)];
    for (std::int32_t i = n_ - 1; i >= 0; --i) {
      const auto read = [&](Value v) { first[index(v.id)] = std::max(first[index(v.id)], i); };
      for (const std::int32_t j : plan_.before[index(i)])
        std::for_each_n(program_.ops[index(j)].in, program_.ops[index(j)].inputs(), read);
      for (const Value v : backward_reads(program_.ops[index(i)], plan_.ops[index(i)])) read(v);
    }
    for (std::size_t v = 0; v < roots.size(); ++v) {
      const auto id = static_cast<std::int32_t>(v);
      const std::int32_t maker = program_.maker[v];
      if (first[v] < 0 || recompute_.dropped[v] || sharers[index(roots[v])] != 1 || id == program_.kept.id || id == plan_.hidden ||
          program_.ops[index(maker)].kind != OpKind::kLinear)
        continue;
      plan_.half[v] = plan_.arena.add(value_bytes(id) / 2, maker, turn_of(first[v]));
      plan_.opened[index(first[v])].push_back({id, program_.widths[v]});
    }
  }
  bool lives_twice(std::int32_t value) const { return recompute_.dropped[index(value)] || plan_.half[index(value)] >= 0; }

  // A value that is kept lives once; one that is dropped or halved, once in each direction.
  void place_values() {
    const std::vector<std::int32_t> roots = value_roots();
    halve(roots);
    std::vector<Life> forward(program_.widths.size()), back(program_.widths.size());
    auto touch = [&](Value v, std::int32_t time) {
      auto& lives = time >= n_ && lives_twice(v.id) ? back : forward;
      lives[index(roots[index(v.id)])].touch(time);
    };
    for (std::int32_t i = 0; i < n_; ++i) {
      const Op& op = program_.ops[index(i)];
      for (const std::int32_t t : {i, again_time_[index(i)]}) {
        if (t < 0) continue;
        if (op.out.id >= 0) touch(op.out, t);
        for (int j = 0; j < op.inputs(); ++j) touch(op.in[j], t);
      }
      if (op.kind == OpKind::kHead) touch(op.in[0], n_);  // logits and log-probabilities may be asked for after forward
      for (const Value v : backward_reads(op, plan_.ops[index(i)])) touch(v, backward_time(i));
      for (const Value v : plan_.opened[index(i)]) touch(v, turn_of(i));
    }
    plan_.forward_value = place(forward, roots);
    plan_.value = place(back, roots);
    for (std::size_t v = 0; v < plan_.value.size(); ++v)
      if (!lives_twice(static_cast<std::int32_t>(v))) plan_.value[v] = plan_.forward_value[v];
  }

  void place_gradients() {
    std::vector<Life> lives(program_.widths.size());
    for (std::int32_t i = 0; i < n_; ++i) {
      const Op& op = program_.ops[index(i)];
      const TrainingPlan::OpPlan& p = plan_.ops[index(i)];
      if (!p.backward) continue;
      const std::int32_t t = backward_time(i);
      if (op.out.id >= 0) lives[index(gradient_roots_[index(op.out.id)])].touch(t);
      for (int j = 0; j < op.inputs(); ++j)
        if (p.wanted[j]) lives[index(gradient_roots_[index(op.in[j].id)])].touch(t);
    }
    plan_.gradient = place(lives, gradient_roots_);
  }

  // What ops keep beside their outputs lives from forward to backward, or once in each direction if they run again.
  void place_side_buffers(std::int32_t i) {
    TrainingPlan::OpPlan &p = plan_.ops[index(i)], &f = plan_.forward_ops[index(i)];
    const Op& op = program_.ops[index(i)];
    const std::int32_t t = backward_time(i), keep_until = p.backward ? t : i, again = again_time_[index(i)];
    if (op.kind == OpKind::kRope) p.angles = f.angles = angles_of(op.rope);
    // The balance of the experts looks at the probabilities of all layers when the forward pass is over.
    if (op.kind == OpKind::kExperts)
      f.probabilities = p.probabilities = plan_.arena.add(options_.max_tokens * op.experts.experts * kFloat, i, keep_until);
    if (again >= 0) {
      place_kept(op, i, i, f);
      place_kept(op, again, std::max(again, keep_until), p);  // some run again for others alone
    } else {
      place_kept(op, i, keep_until, f);
      p = f;
    }
    if (p.backward) place_gradient_scratch(op, t, p);
  }

  int angles_of(const RopeSpec& rope) {
    const auto found = std::find(plan_.rope_specs.begin(), plan_.rope_specs.end(), as_trained(rope));
    const auto at = static_cast<int>(found - plan_.rope_specs.begin());
    if (found == plan_.rope_specs.end()) plan_.rope_specs.push_back(as_trained(rope));
    return at;
  }

  // From when an op runs forward until nobody needs it.
  void place_kept(const Op& op, std::int32_t from, std::int32_t until, TrainingPlan::OpPlan& p) {
    const std::int64_t rows = options_.max_tokens;
    switch (op.kind) {
      case OpKind::kRmsNorm:
        p.inverse = plan_.arena.add(rows * (op.out.width / op.norm_width) * kFloat, from, until);
        break;
      case OpKind::kAttention:
        p.lse = plan_.arena.add(rows * op.attention.heads * kFloat, from, until);
        break;
      case OpKind::kLinear:
        if (p.adapter < 0) break;
        p.u = plan_.arena.add(rows * options_.adapters[index(p.adapter)].rank * kFloat, from, until);
        if (!options_.adapters[index(p.adapter)].magnitude) break;
        p.lengths = plan_.arena.add(op.out.width * kFloat, from, until);
        if (p.backward) p.z = plan_.arena.add(value_bytes(op.out.id), from, until);
        break;
      case OpKind::kExperts: {
        const std::int64_t assigned = rows * op.experts.top_k;
        const std::int64_t wide = assigned * op.out.width * kFloat, inner = assigned * op.experts.width * kFloat;
        p.gate = plan_.arena.add(inner, from, until);
        p.up = plan_.arena.add(inner, from, until);
        p.outputs = plan_.arena.add(wide, from, until);
        p.inputs = plan_.arena.add(wide, from, from);
        p.hidden = plan_.arena.add(inner, from, from);
        break;
      }
      case OpKind::kDeltaRule:
        p.states = plan_.arena.add(delta_rule_state_floats(op.delta, rows) * kFloat, from, until);
        p.keys = plan_.arena.add(rows * 2 * op.delta.keys_width() * kFloat, from, from);
        p.gates = plan_.arena.add(rows * 2 * op.delta.value_heads * kFloat, from, from);
        break;
      default:
        break;
    }
  }

  // While an op runs backward.
  void place_gradient_scratch(const Op& op, std::int32_t t, TrainingPlan::OpPlan& p) {
    const std::int64_t rows = options_.max_tokens;
    switch (op.kind) {
      case OpKind::kRmsNorm: {
        const std::int64_t groups = rows * (op.out.width / op.norm_width);
        if (!p.wanted[0]) p.temporary[0] = plan_.arena.add(value_bytes(op.in[0].id), t, t);
        p.partials = plan_.arena.add(static_cast<std::int64_t>(rms_norm_partial_bytes(groups, op.norm_width, op.norm_sets)), t, t);
        return;
      }
      case OpKind::kLinear:
        if (p.adapter >= 0)
          p.t = plan_.arena.add((rows + op.out.width) * options_.adapters[index(p.adapter)].rank * kFloat, t, t);
        return;
      case OpKind::kExperts: {
        const std::int64_t assigned = rows * op.experts.top_k;
        const std::int64_t wide = assigned * op.out.width * kFloat, inner = assigned * op.experts.width * kFloat;
        p.back_inputs = plan_.arena.add(wide, t, t);
        p.back_hidden = plan_.arena.add(inner, t, t);
        p.doutputs = plan_.arena.add(wide, t, t);
        for (int* b : {&p.dhidden, &p.dgate, &p.dup}) *b = plan_.arena.add(inner, t, t);
        break;
      }
      case OpKind::kDeltaRule:
        p.back_keys = plan_.arena.add(rows * 2 * op.delta.keys_width() * kFloat, t, t);
        p.back_gates = plan_.arena.add(rows * 2 * op.delta.value_heads * kFloat, t, t);
        p.back_y = plan_.arena.add(value_bytes(op.out.id), t, t);
        break;
      case OpKind::kAttention:
      case OpKind::kSwiglu:
      case OpKind::kColumns:
      case OpKind::kGateRows:
      case OpKind::kRelu:
      case OpKind::kScale:
      case OpKind::kSilu:
      case OpKind::kMatchRows:
      case OpKind::kConcat:
      case OpKind::kShortConv:
        break;
      default:
        return;
    }
    // These kernels overwrite the gradients they make; one that must add goes through a temporary.
    for (int j = 0; j < gradients(op); ++j)
      if (!p.wanted[j] || !p.first[j]) p.temporary[j] = plan_.arena.add(value_bytes(op.in[j].id), t, t);
  }

  static constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  const Program& program_;
  const TrainingOptions& options_;
  std::int32_t n_;
  std::vector<std::int32_t> gradient_roots_, backward_time_, again_time_;
  RecomputePlan recompute_;
  TrainingPlan plan_;
};

}  // namespace

TrainingPlan make_training_plan(const Program& program, const TrainingOptions& options) {
  for (const Op& op : program.ops) QW_CHECK(op.kind != OpKind::kGiven);  // what is given has no gradient
  return Planner(program, options).run();
}

}  // namespace qw::ops
