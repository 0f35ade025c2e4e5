#include "ops/internal/training_need.h"

#include <algorithm>

#include "ops/attention.h"
#include "ops/delta_rule.h"
#include "ops/internal/index.h"
#include "ops/linear.h"

namespace qw::ops {

std::vector<tensor::Shape> with_adapters(std::vector<tensor::Shape> shapes, const std::vector<Adapter>& adapters) {
  const std::size_t n = shapes.size();
  for (const Adapter& a : adapters) {
    QW_CHECK(a.rank > 0 && a.target.id >= 0 && index(a.target.id) < n);
    const tensor::Shape target = shapes[index(a.target.id)];
    QW_CHECK(target.rank() == 2);
    shapes.push_back(tensor::Shape{a.rank, target[1]});
    shapes.push_back(tensor::Shape{target[0], a.rank});
    if (a.magnitude) shapes.push_back(tensor::Shape{target[0]});
  }
  return shapes;
}

std::vector<tensor::Shape> held(std::vector<tensor::Shape> shapes, const TrainingOptions& options) {
  for (std::size_t i = 0; i < options.stored.size(); ++i) {
    if (options.stored[i].empty()) continue;
    QW_CHECK(options.stored[i].shape == shapes[i] &&
             (options.forward_only || (!options.frozen.empty() && options.frozen[i])));
    shapes[i] = tensor::Shape{0};
  }
  return shapes;
}

bool stored_in(const TrainingOptions& options, Weight w) {
  return w.present() && index(w.id) < options.stored.size() && !options.stored[index(w.id)].empty();
}

bool packed_once_in(Weight w, const tensor::Shape& shape, const TrainingOptions& options, const Machine& machine) {
  return !options.forward_only && stored_in(options, w) &&
         packs_once(machine, options.precision, Matrix(options.stored[index(w.id)]), shape[0], shape[1]);
}

void plan_products(const Program& program, const std::vector<tensor::Shape>& shapes, const TrainingOptions& options,
                   const TrainingPlan& plan, const Machine& machine, GemmWorkspace& workspace) {
  const auto plan_open = [&](Weight w, bool in_floats = false) {
    if (!stored_in(options, w)) return;
    const Matrix matrix(options.stored[index(w.id)]);
    if (matrix.f32 == nullptr && (in_floats || !packs_directly(machine, options.precision, matrix)))
      workspace.plan_open(shapes[index(w.id)].elements());
  };
  for (std::size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    if (op.kind == OpKind::kExperts) {
      for (std::int32_t e = 0; e < op.experts.experts; ++e)
        for (const Weight first : {op.experts.gate, op.experts.up, op.experts.down}) plan_open({first.id + e});
      linear_plan(workspace, options.max_tokens, op.out.width, op.experts.width, 0);
      linear_plan(workspace, options.max_tokens, op.experts.width, op.out.width, 0);
    }
    if (op.kind == OpKind::kLinear) {
      const int a = plan.ops[i].adapter;
      plan_open(op.weight, a >= 0 && options.adapters[index(a)].magnitude);
      const tensor::Shape& shape = shapes[index(op.weight.id)];
      linear_plan(workspace, options.max_tokens, shape[1], shape[0], a < 0 ? 0 : options.adapters[index(a)].rank);
    }
  }
}

namespace {

// From so many weights on (64 MiB as bfloat16) packing them for every chunk of rows costs less than holding them packed
// both ways.
constexpr std::int64_t kLargeHead = std::int64_t{1} << 25;

bool packed_when_used(const Weight& w, const tensor::Shape& shape, const TrainingOptions& options,
                      const Machine& machine) {
  const Matrix stored = stored_in(options, w) ? Matrix(options.stored[index(w.id)]) : Matrix();
  if (packs_directly(machine, options.precision, stored)) return true;
  const bool in_floats = !stored_in(options, w) || stored.f32 != nullptr;
  return in_floats && shape.elements() >= kLargeHead && machine.kernels.gemm_columns != nullptr;
}

}  // namespace

HeadSpec head_spec(const Weight& w, const std::vector<tensor::Shape>& shapes, const TrainingOptions& options,
                   const Machine& machine) {
  const tensor::Shape& shape = shapes[index(w.id)];
  const bool once = packed_once_in(w, shape, options, machine);
  return {.precision = options.precision,
          .vocab = shape[0],
          .d = shape[1],
          .max_rows = options.max_tokens,
          .backward = !options.forward_only,
          .frozen = !options.frozen.empty() && options.frozen[index(w.id)],
          .packs_when_used = !once && packed_when_used(w, shape, options, machine),
          .packs_once = once};
}

TrainingNeed training_need(const Program& program, const std::vector<tensor::Shape>& parameters,
                           const TrainingOptions& options, const kernels::Kernels& kernels, base::ThreadPool& pool) {
  const Machine machine{kernels, pool};
  const auto shapes = with_adapters(parameters, options.adapters);
  const TrainingPlan plan = make_training_plan(program, options);
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  TrainingNeed out;
  for (const tensor::Shape& shape : held(shapes, options)) out.parameters += (shape.elements() + 15) / 16 * 16 * kFloat;
  out.activations = plan.arena.bytes();
  GemmWorkspace workspace(machine, options.precision);
  plan_products(program, shapes, options, plan, machine, workspace);
  std::size_t attention = 0;
  std::int64_t delta = 0, angles = 0;
  for (const Op& op : program.ops) {
    if (op.kind == OpKind::kAttention)
      attention = std::max(
          attention, attention_scratch_bytes(machine, options.precision, options.max_tokens, op.attention.head_dim));
    if (op.kind == OpKind::kDeltaRule) delta = std::max(delta, delta_rule_scratch_floats(machine, op.delta));
  }
  for (const RopeSpec& spec : plan.rope_specs) angles += options.max_tokens * spec.rotary;
  out.workspaces = workspace.planned_bytes() + static_cast<std::int64_t>(attention) + (delta + angles) * kFloat;
  if (const Weight w = program.ops.back().weight; w.present())
    out.head = Head::need(machine, head_spec(w, shapes, options, machine));
  return out;
}

}  // namespace qw::ops
