#include "ops/internal/training_plan.h"

#include <algorithm>

#include "base/result.h"
#include "ops/delta_rule.h"
#include "ops/internal/forward_plan.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"

namespace qw::ops {
namespace {

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

class Planner {
 public:
  Planner(const Program& program, const TrainingOptions& options)
      : program_(program), options_(options), n_(static_cast<std::int32_t>(program.ops.size())) {}

  TrainingPlan run() {
    plan_.ops.resize(program_.ops.size());
    plan_.hidden = program_.ops.back().in[0].id;
    decide_gradients();
    share_gradients();
    place_values();
    place_gradients();
    for (std::int32_t i = 0; i < n_; ++i) place_side_buffers(i);
    plan_.arena.solve();
    return std::move(plan_);
  }

 private:
  std::int32_t backward_time(std::int32_t op) const { return 2 * n_ - 1 - op; }
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

  // Is a gradient only read by what made its value, nothing being written over it? A rope turns it in place, and an add hands
  // its memory on to its inputs, whose other readers would add to it. `earliest`: the first op that reads it.
  bool only_read(Value v, const std::vector<std::int32_t>& readers, std::int32_t& earliest) const {
    const std::int32_t maker = program_.maker[index(v.id)];
    earliest = std::min(earliest, maker);
    const Op& op = program_.ops[index(maker)];
    if (op.kind == OpKind::kRope) return false;
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
      if (op.kind == OpKind::kRope) p.shared[0] = p.wanted[0] && readers[index(op.in[0].id)] == 1;
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

  void place_values() {
    const std::vector<std::int32_t> roots = forward_roots(program_, !options_.forward_only);
    std::vector<Life> lives(program_.widths.size());
    auto touch = [&](Value v, std::int32_t time) { lives[index(roots[index(v.id)])].touch(time); };
    for (std::int32_t i = 0; i < n_; ++i) {
      const Op& op = program_.ops[index(i)];
      const TrainingPlan::OpPlan& p = plan_.ops[index(i)];
      if (op.out.id >= 0) touch(op.out, i);
      for (int j = 0; j < op.inputs(); ++j) touch(op.in[j], i);
      if (op.kind == OpKind::kHead) touch(op.in[0], n_);  // logits and log-probabilities may be asked for after forward
      if (!p.backward) continue;
      const std::int32_t t = backward_time(i);
      switch (op.kind) {
        case OpKind::kRmsNorm:
          touch(op.in[0], t);
          break;
        case OpKind::kLinear:
          if (p.train_weight || p.adapter >= 0) touch(op.in[0], t);
          break;
        case OpKind::kAttention:
          for (int j = 0; j < op.inputs(); ++j) touch(op.in[j], t);
          touch(op.out, t);
          break;
        case OpKind::kSwiglu:
        case OpKind::kMatchRows:
        case OpKind::kGateRows:
          touch(op.in[0], t);
          touch(op.in[1], t);
          break;
        case OpKind::kDeltaRule:
          for (const Value v : {op.in[0], op.in[1], op.in[2]}) touch(v, t);
          break;
        case OpKind::kExperts:
        case OpKind::kSilu:
        case OpKind::kRelu:
        case OpKind::kShortConv:
          touch(op.in[0], t);
          break;
        default:
          break;
      }
    }
    plan_.value = place(lives, roots);
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

  void place_side_buffers(std::int32_t i) {
    const Op& op = program_.ops[index(i)];
    TrainingPlan::OpPlan& p = plan_.ops[index(i)];
    const std::int32_t t = backward_time(i), keep_until = p.backward ? t : i;
    constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
    const std::int64_t rows = options_.max_tokens;
    switch (op.kind) {
      case OpKind::kRmsNorm: {
        const std::int64_t groups = rows * (op.out.width / op.norm_width);
        p.inverse = plan_.arena.add(groups * kFloat, i, keep_until);
        if (p.backward && !p.wanted[0]) p.temporary[0] = plan_.arena.add(value_bytes(op.in[0].id), t, t);
        if (p.backward)
          p.partials = plan_.arena.add(static_cast<std::int64_t>(rms_norm_partial_bytes(groups, op.norm_width, op.norm_sets)), t, t);
        break;
      }
      case OpKind::kAttention:
        p.lse = plan_.arena.add(rows * op.attention.heads * kFloat, i, keep_until);
        break;
      case OpKind::kLinear:
        if (p.adapter >= 0) {
          const std::int64_t bytes = rows * options_.adapters[index(p.adapter)].rank * kFloat;
          p.u = plan_.arena.add(bytes, i, keep_until);
          p.t = p.backward ? plan_.arena.add(bytes, t, t) : -1;
          if (options_.adapters[index(p.adapter)].magnitude) {
            p.lengths = plan_.arena.add(op.out.width * kFloat, i, keep_until);
            if (p.backward) p.z = plan_.arena.add(value_bytes(op.out.id), i, t);
          }
        }
        break;
      case OpKind::kExperts:
        place_experts(op, i, keep_until, t, p);
        break;
      case OpKind::kDeltaRule:
        place_delta_rule(op, i, keep_until, t, p);
        break;
      case OpKind::kRope: {
        const auto found = std::find(plan_.rope_specs.begin(), plan_.rope_specs.end(), as_trained(op.rope));
        p.angles = static_cast<int>(found - plan_.rope_specs.begin());
        if (found == plan_.rope_specs.end()) plan_.rope_specs.push_back(as_trained(op.rope));
        break;
      }
      default:
        break;
    }
    // These kernels overwrite the gradients they make; one that must add goes through a temporary.
    if (op.kind != OpKind::kAttention && op.kind != OpKind::kSwiglu && op.kind != OpKind::kExperts &&
        op.kind != OpKind::kColumns && op.kind != OpKind::kGateRows && op.kind != OpKind::kRelu &&
        op.kind != OpKind::kScale && op.kind != OpKind::kSilu && op.kind != OpKind::kMatchRows && op.kind != OpKind::kConcat && op.kind != OpKind::kShortConv && op.kind != OpKind::kDeltaRule)
      return;
    for (int j = 0; j < gradients(op); ++j)
      if (p.backward && (!p.wanted[j] || !p.first[j])) p.temporary[j] = plan_.arena.add(value_bytes(op.in[j].id), t, t);
  }

  void place_experts(const Op& op, std::int32_t i, std::int32_t keep_until, std::int32_t t, TrainingPlan::OpPlan& p) {
    constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
    const std::int64_t assigned = options_.max_tokens * op.experts.top_k;
    const std::int64_t wide = assigned * op.out.width * kFloat, inner = assigned * op.experts.width * kFloat;
    p.probabilities = plan_.arena.add(options_.max_tokens * op.experts.experts * kFloat, i, keep_until);
    p.gate = plan_.arena.add(inner, i, keep_until);
    p.up = plan_.arena.add(inner, i, keep_until);
    p.outputs = plan_.arena.add(wide, i, keep_until);
    p.inputs = plan_.arena.add(wide, i, i);
    p.hidden = plan_.arena.add(inner, i, i);
    if (!p.backward) return;
    p.back_inputs = plan_.arena.add(wide, t, t);
    p.back_hidden = plan_.arena.add(inner, t, t);
    p.doutputs = plan_.arena.add(wide, t, t);
    for (int* b : {&p.dhidden, &p.dgate, &p.dup}) *b = plan_.arena.add(inner, t, t);
  }

  void place_delta_rule(const Op& op, std::int32_t i, std::int32_t keep_until, std::int32_t t, TrainingPlan::OpPlan& p) {
    constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
    const std::int64_t rows = options_.max_tokens, keys = rows * 2 * op.delta.keys_width() * kFloat,
                       gates = rows * 2 * op.delta.value_heads * kFloat;
    p.states = plan_.arena.add(delta_rule_state_floats(op.delta, rows) * kFloat, i, keep_until);
    p.keys = plan_.arena.add(keys, i, i);
    p.gates = plan_.arena.add(gates, i, i);
    if (!p.backward) return;
    p.back_keys = plan_.arena.add(keys, t, t);
    p.back_gates = plan_.arena.add(gates, t, t);
    p.back_y = plan_.arena.add(value_bytes(op.out.id), t, t);
  }

  const Program& program_;
  const TrainingOptions& options_;
  std::int32_t n_;
  std::vector<std::int32_t> gradient_roots_;
  TrainingPlan plan_;
};

}  // namespace

TrainingPlan make_training_plan(const Program& program, const TrainingOptions& options) {
  for (const Op& op : program.ops) QW_CHECK(op.kind != OpKind::kGiven);  // what is given has no gradient
  return Planner(program, options).run();
}

}  // namespace qw::ops
