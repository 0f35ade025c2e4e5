#include "ops/training_graph.h"

#include <utility>

#include "ops/internal/training_state.h"
#include "ops/rope.h"

namespace qw::ops {

TrainingGraph::TrainingGraph(Program program, std::vector<tensor::Shape> parameters, TrainingOptions options,
                             const kernels::Kernels& kernels, base::ThreadPool& pool)
    : state_(std::make_unique<State>(std::move(program), std::move(parameters), std::move(options),
                                     Machine{kernels, pool})) {}

TrainingGraph::~TrainingGraph() = default;

const std::vector<tensor::Shape>& TrainingGraph::parameter_shapes() const { return state_->held_shapes; }
std::size_t TrainingGraph::adapter_parameter(std::size_t adapter) const { return state_->adapter_parameter(adapter); }
ParameterBuffer& TrainingGraph::gradients() { return state_->gradients; }
void TrainingGraph::on_final_gradient(std::function<void(std::size_t)> told) {
  if (told && state_->final_at.empty()) state_->find_final_ops();
  state_->on_final = std::move(told);
}
const float* TrainingGraph::final_hidden() const {
  QW_CHECK(state_->ready);
  return state_->value({state_->plan.hidden, 0});
}
std::int64_t TrainingGraph::final_width() const { return state_->program.ops.back().in[0].width; }
double TrainingGraph::balance_loss() const { return state_->balance_loss; }
std::span<const float> TrainingGraph::row_nll() const { return {state_->nll.data(), index(state_->rows)}; }

std::vector<std::size_t> TrainingGraph::final_gradient_order() const {
  if (state_->final_at.empty()) state_->find_final_ops();
  std::vector<std::size_t> order;
  for (std::size_t i = state_->final_at.size(); i-- > 0;)
    order.insert(order.end(), state_->final_at[i].begin(), state_->final_at[i].end());
  return order;
}

double TrainingGraph::take_flops() { return std::exchange(state_->flops, 0); }
double TrainingGraph::forward_flops(std::span<const std::int32_t> cu_seqlens) const {
  return state_->cost.forward(cu_seqlens);
}

std::int64_t TrainingGraph::arena_bytes() const {
  std::int64_t bytes = static_cast<std::int64_t>(state_->arena.size() + state_->attention_scratch.size() +
                                                 state_->delta_scratch.size()) +
                       state_->workspace.bytes() + (state_->head ? state_->head->bytes() : 0);
  for (const auto& w : state_->opened) bytes += static_cast<std::int64_t>(w.size());
  for (const auto& a : state_->angles) bytes += static_cast<std::int64_t>(a.cos.size() + a.sin.size());
  return bytes;
}

Status TrainingGraph::forward(const ParameterBuffer& weights, const TrainingBatch& batch) {
  State& s = *state_;
  QW_CHECK(weights.shapes() == s.held_shapes);
  QW_TRY(s.check(batch));
  s.weights = &weights;
  s.batch = batch;
  s.rows = static_cast<std::int64_t>(batch.tokens.size());
  for (std::size_t i = 0; i < s.angles.size(); ++i)
    rope_angles(s.machine, s.plan.rope_specs[i], s.angles[i].frequencies, batch.positions.data(), nullptr, s.rows,
                floats(s.angles[i].cos), floats(s.angles[i].sin));
  s.packed_value = -1;
  for (std::size_t i = 0; i < s.program.ops.size(); ++i) {
    s.run_forward(i);
    s.put_away(i);
  }
  s.flops += s.cost.forward(batch.cu_seqlens);
  s.ready = true;
  return {};
}

void TrainingGraph::token_logprobs(std::span<float> out) {
  State& s = *state_;
  QW_CHECK(s.ready && s.head && out.size() == s.batch.labels.size());
  s.head->logprobs(final_hidden(), s.matrix(s.program.ops.back().weight), s.batch.labels, out);
}

void TrainingGraph::logits(std::span<const std::int32_t> rows, float* out) {
  State& s = *state_;
  QW_CHECK(s.ready && s.head);
  for (const std::int32_t r : rows) QW_CHECK(r >= 0 && r < s.rows);
  s.head->logits(final_hidden(), s.matrix(s.program.ops.back().weight), rows, out);
}

void TrainingGraph::State::put_away(std::size_t i) {
  const Value v = program.ops[i].out;
  if (v.id >= 0 && plan.half[index(v.id)] >= 0) to_bf16(machine, value(v), count(v), half(v));
}
void TrainingGraph::State::take_out(std::size_t i) {
  for (const Value v : plan.opened[i]) from_bf16(machine, half(v), count(v), value(v));
}

void TrainingGraph::State::run_backward_below_head(double balance_scale) {
  weigh_balance(balance_scale);
  tell_final(program.ops.size() - 1);
  below_head = true;
  packed_value = -1;
  for (std::size_t i = program.ops.size() - 1; i-- > 0;) {
    take_out(i);
    for (const std::int32_t again : plan.before[i]) run_forward(index(again));
    run_backward(i);
    tell_final(i);
  }
  flops += cost.backward(batch.cu_seqlens);
  ready = below_head = false;
}

double TrainingGraph::backward(float loss_scale, std::span<const float> row_weights) {
  State& s = *state_;
  QW_CHECK(s.ready && s.head && !s.options.forward_only);
  const std::size_t last = s.program.ops.size() - 1;
  const Op& op = s.program.ops[last];
  const TrainingPlan::OpPlan& p = s.plan.ops[last];
  const double loss = s.head->backward(final_hidden(), s.matrix(op.weight), s.batch.labels, row_weights, loss_scale,
                                       {s.nll.data(), index(s.rows)}, p.wanted[0] ? s.gradient(op.in[0]) : nullptr,
                                       s.weight_gradient(op.weight, p.train_weight));
  s.run_backward_below_head(static_cast<double>(loss_scale) * s.kept_labels());
  return loss;
}

double TrainingGraph::backward_logits(float loss_scale, const Head::LogitsLoss& loss) {
  State& s = *state_;
  QW_CHECK(s.ready && s.head && !s.options.forward_only);
  const std::size_t last = s.program.ops.size() - 1;
  const Op& op = s.program.ops[last];
  const TrainingPlan::OpPlan& p = s.plan.ops[last];
  const double total = s.head->backward_logits(final_hidden(), s.matrix(op.weight), s.batch.labels, loss, loss_scale,
                                               p.wanted[0] ? s.gradient(op.in[0]) : nullptr,
                                               s.weight_gradient(op.weight, p.train_weight));
  s.run_backward_below_head(static_cast<double>(loss_scale) * s.kept_labels());
  return total;
}

void TrainingGraph::backward_rows(std::span<const float> d_rows) {
  State& s = *state_;
  QW_CHECK(s.ready && !s.options.forward_only && d_rows.size() == index(s.rows * final_width()));
  const std::size_t last = s.program.ops.size() - 1;
  if (s.plan.ops[last].wanted[0])
    copy(s.machine, d_rows.data(), s.rows * final_width(), s.gradient(s.program.ops[last].in[0]));
  s.run_backward_below_head(0);
}

}  // namespace qw::ops
