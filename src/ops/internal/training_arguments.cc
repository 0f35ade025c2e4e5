#include "ops/internal/training_state.h"

namespace qw::ops {

LinearArgs TrainingGraph::State::linear_args(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = op_plan(i);
  LinearArgs a{.rows = rows,
               .in = op.in[0].width,
               .out = op.out.width,
               .x = value(op.in[0]),
               .w = matrix(op.weight),
               .bias = weight(op.bias),
               .y = value(op.out)};
  if (p.adapter < 0) return a;
  const Adapter& adapter = options.adapters[index(p.adapter)];
  const std::size_t id = adapter_parameter(index(p.adapter));
  a.rank = adapter.rank;
  a.scale = adapter.scale;
  a.a = weights->data(id);
  a.b = weights->data(id + 1);
  a.u = buffer(p.u);
  a.t = buffer(p.t);
  if (!options.forward_only) {
    a.da = gradients.data(id);
    a.db = gradients.data(id + 1);
  }
  if (!adapter.magnitude) return a;
  a.magnitude = weights->data(id + 2);
  a.lengths = buffer(p.lengths);
  a.z = buffer(p.z);
  if (!options.forward_only) a.dmagnitude = gradients.data(id + 2);
  return a;
}

AttentionArgs TrainingGraph::State::attention_args(std::size_t i) const {
  const Op& op = program.ops[i];
  return {.spec = op.attention,
          .precision = options.precision,
          .cu_seqlens = batch.cu_seqlens,
          .q = value(op.in[0]),
          .k = value(op.in[1]),
          .v = value(op.in[2]),
          .o = value(op.out),
          .lse = buffer(op_plan(i).lse),
          .scratch = attention_scratch.data()};
}

IndexedAttentionArgs TrainingGraph::State::indexed_args(std::size_t i) const {
  const Op& op = program.ops[i];
  return {.attention = attention_args(i),
          .index_q = value(op.in[3]),
          .index_k = value(op.in[4]),
          .key_norm = weight(op.index.key_norm)};
}

ExpertsArgs TrainingGraph::State::experts_args(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = op_plan(i);
  ExpertsArgs a{.spec = op.experts,
                .rows = rows,
                .d = op.out.width,
                .routing = &routings[i],
                .x = value(op.in[0]),
                .probabilities = buffer(p.probabilities)};
  for (std::int32_t e = 0; e < op.experts.experts; ++e) {
    a.gate_w.push_back(matrix({op.experts.gate.id + e}));
    a.up_w.push_back(matrix({op.experts.up.id + e}));
    a.down_w.push_back(matrix({op.experts.down.id + e}));
  }
  a.gate = buffer(p.gate);
  a.up = buffer(p.up);
  a.outputs = buffer(p.outputs);
  a.inputs = buffer(p.inputs);
  a.hidden = buffer(p.hidden);
  a.y = value(op.out);
  return a;
}

NgramTraining TrainingGraph::State::ngram_args(std::size_t i, std::vector<const float*>& tables,
                                               std::vector<float*>& gradients_of) {
  const Op& op = program.ops[i];
  for (std::int32_t t = 0; t < op.ngrams.tables; ++t) {
    const Weight w{op.ngrams.table.id + t};
    tables.push_back(weight(w));
    const bool train = !options.forward_only && (options.frozen.empty() || !options.frozen[index(w.id)]);
    gradients_of.push_back(weight_gradient(w, train));
  }
  return {.spec = &op.ngrams,
          .tokens = batch.tokens,
          .cu_seqlens = batch.cu_seqlens,
          .tables = tables,
          .y = value(op.out),
          .dy = gradient(op.out),
          .dtables = gradients_of};
}

ShortConvArgs TrainingGraph::State::conv_args(std::size_t i) const {
  const Op& op = program.ops[i];
  return {.rows = rows,
          .width = op.out.width,
          .taps = weight_shape(op.weight)[1],
          .dilation = op.conv.dilation,
          .x = value(op.in[0]),
          .w = weight(op.weight),
          .y = value(op.out)};
}

DeltaRuleTraining TrainingGraph::State::delta_args(std::size_t i) const {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = op_plan(i);
  return {.forward = {.spec = op.delta,
                      .rows = rows,
                      .x = value(op.in[0]),
                      .forget = value(op.in[1]),
                      .write = value(op.in[2]),
                      .a_log = weight(op.weight),
                      .dt_bias = weight(op.bias),
                      .y = value(op.out),
                      .keys = buffer(p.keys),
                      .gates = buffer(p.gates)},
          .cu_seqlens = batch.cu_seqlens,
          .states = buffer(p.states),
          .scratch = floats(delta_scratch)};
}

}  // namespace qw::ops
