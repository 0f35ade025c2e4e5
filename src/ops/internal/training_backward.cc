#include "ops/embed.h"
#include "ops/internal/training_state.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"

namespace qw::ops {

void TrainingGraph::State::linear_back(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = plan.ops[i];
  LinearArgs a = linear_args(i);
  a.dy = gradient(op.out);
  a.dx = p.wanted[0] ? gradient(op.in[0]) : nullptr;
  a.dx_accumulates = !p.first[0];
  a.dw = weight_gradient(op.weight, p.train_weight);
  a.dbias = weight_gradient(op.bias, p.train_bias);
  linear_backward(machine, workspace, a);
}

void TrainingGraph::State::norm_back(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = plan.ops[i];
  float* dx = target(i, 0);  // a temporary, never read, if nobody wants it
  if (!p.wanted[0] || p.first[0]) fill_zero(machine, count(op.in[0]), dx);
  rms_norm_backward(machine, value(op.in[0]), weight(op.weight), buffer(p.inverse), gradient(op.out),
                    rows * (op.out.width / op.norm_width), op.norm_width, dx,
                    weight_gradient(op.weight, p.train_weight), buffer(p.partials), op.norm_sets);
}

void TrainingGraph::State::attention_back(std::size_t i) {
  AttentionArgs a = attention_args(i);
  a.d_o = gradient(program.ops[i].out);
  a.dq = target(i, 0);
  a.dk = target(i, 1);
  a.dv = target(i, 2);
  if (program.ops[i].index.ratio > 0) {
    IndexedAttentionArgs with_index = indexed_args(i);
    with_index.attention = a;
    indexed_attention->backward(machine, with_index);
  } else {
    attention_backward(machine, a, options.max_tokens);
  }
  for (int j = 0; j < 3; ++j) settle(i, j);
}

void TrainingGraph::State::swiglu_back(std::size_t i) {
  const Op& op = program.ops[i];
  swiglu_backward(machine, value(op.in[0]), value(op.in[1]), gradient(op.out), count(op.out), target(i, 0),
                  target(i, 1));
  for (int j = 0; j < 2; ++j) settle(i, j);
}

void TrainingGraph::State::experts_back(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = plan.ops[i];
  ExpertsArgs a = experts_args(i);
  const auto wanted = [&](Weight w) {
    return weight_gradient(w, options.frozen.empty() || !options.frozen[index(w.id)]);
  };
  for (std::int32_t e = 0; e < op.experts.experts; ++e) {
    a.dgate_w.push_back(wanted({op.experts.gate.id + e}));
    a.dup_w.push_back(wanted({op.experts.up.id + e}));
    a.ddown_w.push_back(wanted({op.experts.down.id + e}));
  }
  a.dy = gradient(op.out);
  a.balance = balance[i];
  a.inputs = buffer(p.back_inputs);
  a.hidden = buffer(p.back_hidden);
  a.doutputs = buffer(p.doutputs);
  a.dhidden = buffer(p.dhidden);
  a.dgate = buffer(p.dgate);
  a.dup = buffer(p.dup);
  a.dx = target(i, 0);
  a.dlogits = target(i, 1);
  experts_backward(machine, workspace, a);
  for (int j = 0; j < 2; ++j) settle(i, j);
}

// Load balancing looks at the rows of all layers at once, so its gradient is known once the forward has run.
void TrainingGraph::State::weigh_balance(double scale) {
  std::vector<double> choices, probabilities;
  double seen = 0, coefficient = 0;
  for (std::size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    if (op.kind != OpKind::kExperts || op.experts.balance == 0) continue;
    const auto n = index(op.experts.experts);
    choices.resize(n);
    probabilities.resize(n);
    const float* p = buffer(plan.ops[i].probabilities);
    for (std::size_t e = 0; e < n; ++e) choices[e] += routings[i].count(static_cast<std::int32_t>(e));
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::size_t e = 0; e < n; ++e) probabilities[e] += static_cast<double>(p[index(r) * n + e]);
    seen += static_cast<double>(rows);
    coefficient = static_cast<double>(op.experts.balance);
  }
  balance_loss = 0;
  if (seen == 0) return;
  const double each = coefficient * static_cast<double>(choices.size()) / (seen * seen);
  for (std::size_t e = 0; e < choices.size(); ++e) balance_loss += each * choices[e] * probabilities[e];
  for (std::size_t i = 0; i < program.ops.size(); ++i) {
    if (program.ops[i].kind != OpKind::kExperts || program.ops[i].experts.balance == 0) continue;
    balance[i].assign(choices.begin(), choices.end());
    for (double& b : balance[i]) b *= each * scale;
  }
}

void TrainingGraph::State::gate_rows_back(std::size_t i) {
  const Op& op = program.ops[i];
  gate_rows_backward(machine, value(op.in[0]), value(op.in[1]), gradient(op.out), count(op.in[1]),
                     op.out.width / op.in[1].width, target(i, 0), target(i, 1));
  for (int j = 0; j < 2; ++j) settle(i, j);
}

void TrainingGraph::State::conv_back(std::size_t i) {
  const Op& op = program.ops[i];
  ShortConvArgs a = conv_args(i);
  a.dy = gradient(op.out);
  a.dx = target(i, 0);
  a.dw = weight_gradient(op.weight, plan.ops[i].train_weight);
  short_conv_backward(machine, a, batch.cu_seqlens);
  settle(i, 0);
}

void TrainingGraph::State::delta_back(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = plan.ops[i];
  DeltaRuleTraining t = delta_args(i);
  t.forward.y = buffer(p.back_y);
  t.forward.keys = buffer(p.back_keys);
  t.forward.gates = buffer(p.back_gates);
  t.dy = gradient(op.out);
  t.dx = target(i, 0);
  t.dforget = target(i, 1);
  t.dwrite = target(i, 2);
  t.da_log = weight_gradient(op.weight, p.train_weight);
  t.ddt_bias = weight_gradient(op.bias, p.train_bias);
  delta_rule_backward(machine, t);
  for (int j = 0; j < 3; ++j) settle(i, j);
}

void TrainingGraph::State::rope_back(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = plan.ops[i];
  const State::Angles& a = angles[index(p.angles)];
  // Nobody reads it after this op, so it is turned in place.
  rope_backward(machine, op.rope, floats(a.cos), floats(a.sin), rows, op.out.width, gradient(op.out));
  hand_on(i, 0);
}

// d(out), as it is, to an input.
void TrainingGraph::State::hand_on(std::size_t i, int j) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = plan.ops[i];
  if (!p.wanted[j] || p.shared[j]) return;
  if (p.first[j]) {
    copy(machine, gradient(op.out), count(op.in[j]), gradient(op.in[j]));
  } else {
    accumulate(machine, gradient(op.out), count(op.in[j]), gradient(op.in[j]));
  }
}

void TrainingGraph::State::run_backward(std::size_t i) {
  const Op& op = program.ops[i];
  if (!plan.ops[i].backward) return;
  packed_value = -1;
  switch (op.kind) {
    case OpKind::kEmbed:
      embed_backward(machine, batch.tokens.data(), gradient(op.out), rows, op.out.width,
                     gradients.data(index(op.weight.id)));
      break;
    case OpKind::kRmsNorm:
      norm_back(i);
      break;
    case OpKind::kLinear:
      linear_back(i);
      break;
    case OpKind::kRope:
      rope_back(i);
      break;
    case OpKind::kAttention:
      attention_back(i);
      break;
    case OpKind::kSwiglu:
      swiglu_back(i);
      break;
    case OpKind::kAdd:
      for (int j = 0; j < 2; ++j) hand_on(i, j);
      break;
    case OpKind::kExperts:
      experts_back(i);
      break;
    case OpKind::kColumns:
      columns_backward(machine, gradient(op.out), rows * op.groups(), op.column_group, op.first_column,
                       op.out.width / op.groups(), target(i, 0));
      settle(i, 0);
      break;
    case OpKind::kGateRows:
      gate_rows_back(i);
      break;
    case OpKind::kShortConv:
      conv_back(i);
      break;
    case OpKind::kDeltaRule:
      delta_back(i);
      break;
    case OpKind::kScale:
      scale_forward(machine, gradient(op.out), op.factor, count(op.out), target(i, 0));
      settle(i, 0);
      break;
    case OpKind::kSilu:
      silu_backward(machine, value(op.in[0]), gradient(op.out), count(op.out), target(i, 0));
      settle(i, 0);
      break;
    case OpKind::kMatchRows:
      match_rows_backward(machine, value(op.in[0]), value(op.in[1]), op.factor, gradient(op.out), rows, op.in[0].width,
                          target(i, 0), target(i, 1));
      for (int j = 0; j < 2; ++j) settle(i, j);
      break;
    case OpKind::kNgrams: {
      std::vector<const float*> tables;
      std::vector<float*> gradients_of;
      ngrams_backward(machine, ngram_args(i, tables, gradients_of));
      break;
    }
    case OpKind::kRelu:
      relu_backward(machine, value(op.in[0]), gradient(op.out), count(op.out), target(i, 0));
      settle(i, 0);
      break;
    case OpKind::kConcat:
      for (int j = 0; j < 2; ++j) {
        columns_forward(machine, gradient(op.out), rows, op.out.width, j == 0 ? 0 : op.in[0].width, op.in[j].width,
                        target(i, j));
        settle(i, j);
      }
      break;
    case OpKind::kEnterGroup:  // as a rotation, in place
      options.sum_group({gradient(op.out), index(count(op.out))});
      hand_on(i, 0);
      break;
    case OpKind::kSumGroup:
      hand_on(i, 0);
      break;
    case OpKind::kGiven:
      break;
    case OpKind::kHead:
      break;  // see TrainingGraph::backward
  }
}

}  // namespace qw::ops
