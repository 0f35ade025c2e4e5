#include "ops/internal/training_state.h"

#include <string>

#include "ops/rope.h"
#include "tensor/blocks.h"

namespace qw::ops {
namespace {

Status check_ids(std::span<const std::int32_t> ids, std::int64_t low, std::int64_t high, const char* what) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < low || ids[i] >= high)
      return fail(ErrorKind::kBadInput, std::string(what) + " " + std::to_string(ids[i]) + " in row " +
                                            std::to_string(i) + " is outside [" + std::to_string(low) + ", " +
                                            std::to_string(high) + ")");
  return {};
}

}  // namespace

TrainingGraph::State::State(Program p, std::vector<tensor::Shape> parameters, TrainingOptions o, const Machine& m)
    : machine(m),
      program(std::move(p)),
      model_parameters(parameters.size()),
      shapes(with_adapters(parameters, o.adapters)),
      options(std::move(o)),
      held_shapes(held(shapes, options)),
      opened(shapes.size()),
      packed(shapes.size()),
      plan(make_training_plan(program, options)),
      cost(program, plan, shapes, options),
      gradients(options.forward_only ? std::vector<tensor::Shape>{} : held_shapes),
      arena(static_cast<std::size_t>(plan.arena.bytes())),
      workspace(m, options.precision),
      nll(index(options.max_tokens)) {
  QW_CHECK(options.max_tokens > 0 && (options.frozen.empty() || options.frozen.size() == model_parameters));
  QW_CHECK(options.stored.empty() || options.stored.size() == model_parameters);
  for (const Op& op : program.ops)
    QW_CHECK((op.kind != OpKind::kEnterGroup && op.kind != OpKind::kSumGroup) || options.sum_group);
  if (const Weight w = program.ops.back().weight; w.present())
    head.emplace(m, head_spec(w, shapes, options, m));
  open_small_weights();
  pack_weights();
  take_workspaces();
}

void TrainingGraph::State::open_weight(Weight w) {
  if (!is_stored(w) || Matrix(options.stored[index(w.id)]).f32 != nullptr || opened[index(w.id)].size() > 0) return;
  opened[index(w.id)] = float_buffer(shapes[index(w.id)].elements());
  tensor::decode(options.stored[index(w.id)], floats(opened[index(w.id)]));
}

void TrainingGraph::State::open_small_weights() {
  for (const Op& op : program.ops) {
    if (op.kind != OpKind::kLinear && op.kind != OpKind::kHead && op.kind != OpKind::kEmbed) open_weight(op.weight);
    open_weight(op.bias);
    if (op.index.ratio > 0) open_weight(op.index.key_norm);
    for (std::int32_t t = 0; op.kind == OpKind::kNgrams && t < op.ngrams.tables; ++t)
      open_weight({op.ngrams.table.id + t});
  }
}

// Of linear layers; the head packs its own. One whose rows an adapter measures (DoRA) is read as it is stored.
void TrainingGraph::State::pack_weights() {
  for (std::size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    const int adapter = plan.ops[i].adapter;
    if (op.kind != OpKind::kLinear || (adapter >= 0 && options.adapters[index(adapter)].magnitude)) continue;
    tensor::Buffer& to = packed[index(op.weight.id)];
    const tensor::Shape& shape = shapes[index(op.weight.id)];
    if (to.size() == 0 && packed_once_in(op.weight, shape, options, machine))
      to = pack_once(machine, Matrix(options.stored[index(op.weight.id)]), shape[0], shape[1]);
  }
}

void TrainingGraph::State::take_workspaces() {
  std::size_t attention = 0;
  std::int64_t delta = 0;
  routings.resize(program.ops.size());
  balance.resize(program.ops.size());
  for (std::size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    if (op.kind == OpKind::kAttention)
      attention = std::max(
          attention, attention_scratch_bytes(machine, options.precision, options.max_tokens, op.attention.head_dim));
    if (op.kind == OpKind::kAttention && op.index.ratio > 0 && !indexed_attention)
      indexed_attention.emplace(op.index, op.attention, options.max_tokens, machine.pool.size());
    if (op.kind == OpKind::kDeltaRule) delta = std::max(delta, delta_rule_scratch_floats(machine, op.delta));
    if (op.kind == OpKind::kExperts) routings[i] = Routing(options.max_tokens, op.experts);
  }
  plan_products(program, shapes, options, plan, machine, workspace);
  attention_scratch = tensor::Buffer(attention);
  delta_scratch = float_buffer(delta);
  workspace.allocate();
  for (const RopeSpec& spec : plan.rope_specs) {
    const std::int64_t n = options.max_tokens * (spec.rotary / 2);
    angles.push_back({rope_frequencies(spec), float_buffer(n), float_buffer(n)});
  }
}

std::size_t TrainingGraph::State::adapter_parameter(std::size_t adapter) const {
  std::size_t id = model_parameters;
  for (std::size_t j = 0; j < adapter; ++j) id += options.adapters[j].magnitude ? 3 : 2;
  return id;
}

std::vector<std::size_t> TrainingGraph::State::parameters_of(std::size_t i) const {
  const Op& op = program.ops[i];
  std::vector<std::size_t> out;
  for (const Weight w : {op.weight, op.bias, op.index.key_norm})
    if (w.present()) out.push_back(index(w.id));
  for (std::int32_t e = 0; op.kind == OpKind::kExperts && e < op.experts.experts; ++e)
    for (const Weight first : {op.experts.gate, op.experts.up, op.experts.down}) out.push_back(index(first.id + e));
  for (std::int32_t t = 0; op.kind == OpKind::kNgrams && t < op.ngrams.tables; ++t)
    out.push_back(index(op.ngrams.table.id + t));
  if (const int a = plan.ops[i].adapter; a >= 0)
    for (std::size_t j = 0; j < (options.adapters[index(a)].magnitude ? 3u : 2u); ++j)
      out.push_back(adapter_parameter(index(a)) + j);
  return out;
}

void TrainingGraph::State::find_final_ops() {
  final_at.assign(program.ops.size(), {});
  std::vector<std::size_t> last(shapes.size(), program.ops.size() - 1);  // of no op's: final once the head is through
  for (std::size_t i = program.ops.size(); i-- > 0;)
    for (const std::size_t p : parameters_of(i)) last[p] = i;
  for (std::size_t p = 0; p < last.size(); ++p) final_at[last[p]].push_back(p);
}

Status TrainingGraph::State::check(const TrainingBatch& b) const {
  const auto n = static_cast<std::int64_t>(b.tokens.size());
  if (n == 0 || n > options.max_tokens)
    return fail(ErrorKind::kUsage, "batch of " + std::to_string(n) + " tokens; the graph was made for 1 to " +
                                       std::to_string(options.max_tokens));
  if (b.positions.size() != b.tokens.size() || b.labels.size() != b.tokens.size())
    return fail(ErrorKind::kUsage, "batch: tokens, positions and labels differ in length");
  if (b.cu_seqlens.size() < 2 || b.cu_seqlens.front() != 0 || b.cu_seqlens.back() != n ||
      !std::is_sorted(b.cu_seqlens.begin(), b.cu_seqlens.end()))
    return fail(ErrorKind::kBadInput, "batch: document borders must rise from 0 to " + std::to_string(n));
  for (const Op& op : program.ops)
    if (op.kind == OpKind::kEmbed) QW_TRY(check_ids(b.tokens, 0, weight_shape(op.weight)[0], "token id"));
  std::int64_t furthest = std::int64_t{1} << 31;
  for (const Op& op : program.ops)  // as_trained: one chunk
    if (op.kind == OpKind::kAttention && op.attention.chunk > 0) furthest = op.attention.chunk;
  QW_TRY(check_ids(b.positions, 0, furthest, "position"));
  return head ? check_ids(b.labels, -1, head->vocab(), "label") : Status{};
}

}  // namespace qw::ops
