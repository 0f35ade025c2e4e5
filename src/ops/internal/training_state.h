// What a training graph holds while it works, and the steps it is made of. One subject a file:
//   training_need.cc       what must be held           training_forward.cc   each op forward
//   training_state.cc      making it, final gradients  training_backward.cc  each op backward
//   training_arguments.cc  what each op works on       training_graph.cc     passes over all ops
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "ops/attention.h"
#include "ops/delta_rule.h"
#include "ops/elementwise.h"
#include "ops/experts.h"
#include "ops/indexed_attention.h"
#include "ops/internal/float_buffer.h"
#include "ops/internal/index.h"
#include "ops/internal/program_flops.h"
#include "ops/internal/training_need.h"
#include "ops/internal/training_plan.h"
#include "ops/linear.h"
#include "ops/ngrams.h"
#include "ops/short_conv.h"
#include "ops/training_graph.h"

namespace qw::ops {

struct TrainingGraph::State {
  Machine machine;
  Program program;
  std::size_t model_parameters;
  std::vector<tensor::Shape> shapes;  // with adapters
  TrainingOptions options;
  std::vector<tensor::Shape> held_shapes;  // of those in ParameterBuffers; [0]: stored
  std::vector<tensor::Buffer> opened;      // by parameter: stored ones that other ops than products read, as float32
  std::vector<tensor::Buffer> packed;      // by parameter: stored ones that products read packed once
  TrainingPlan plan;
  ProgramFlops cost;
  double flops = 0;  // of passes that nobody asked about yet
  ParameterBuffer gradients;
  tensor::Buffer arena, attention_scratch, delta_scratch;
  GemmWorkspace workspace;
  std::optional<Head> head;  // of a language model
  struct Angles {
    std::vector<float> frequencies;
    tensor::Buffer cos, sin;
  };
  std::vector<Angles> angles;
  std::vector<float> nll;
  std::optional<IndexedAttention> indexed_attention;  // of programs with an index
  std::vector<Routing> routings;                      // by op; empty but for experts
  std::vector<std::vector<double>> balance;           // by op: gradient of every row's probabilities by load balancing
  double balance_loss = 0;
  const ParameterBuffer* weights = nullptr;
  TrainingBatch batch;
  std::int64_t rows = 0;
  bool ready = false;       // forward ran, backward did not
  bool below_head = false;  // backward runs
  std::int32_t packed_value = -1;  // whose rows the last product forward left packed in the workspace
  std::function<void(std::size_t)> on_final;
  std::vector<std::vector<std::size_t>>
      final_at;  // by op: parameters to whose gradients it is the last to add, backward

  State(Program p, std::vector<tensor::Shape> parameters, TrainingOptions o, const Machine& m);

  bool is_stored(Weight w) const { return stored_in(options, w); }
  void open_weight(Weight w);
  // Norms, biases, taps, rates, tables of n-grams: what is neither the matrix of a product nor looked up by token.
  void open_small_weights();

  const tensor::Shape& weight_shape(Weight w) const {
    QW_CHECK(w.present());
    return shapes[index(w.id)];
  }

  void pack_weights();
  void take_workspaces();

  float* buffer(int b) const { return b < 0 ? nullptr : reinterpret_cast<float*>(arena.data() + plan.arena.offset(b)); }
  float* value(Value v) const { return buffer((below_head ? plan.value : plan.forward_value)[index(v.id)]); }
  const TrainingPlan::OpPlan& op_plan(std::size_t i) const { return (below_head ? plan.ops : plan.forward_ops)[i]; }
  float* gradient(Value v) const { return buffer(plan.gradient[index(v.id)]); }
  std::int64_t count(Value v) const { return rows * v.width; }
  // For products and look-ups by token.
  Matrix matrix(Weight w) const {
    if (!is_stored(w)) return Matrix(weights->data(index(w.id)));
    Matrix stored(options.stored[index(w.id)]);
    stored.packed_once = packed[index(w.id)].data();
    return stored;
  }
  // For all else.
  const float* weight(Weight w) const {
    if (!w.present()) return nullptr;
    if (!is_stored(w)) return weights->data(index(w.id));
    const float* in_place = Matrix(options.stored[index(w.id)]).f32;
    return in_place != nullptr ? in_place : floats(opened[index(w.id)]);
  }
  std::size_t adapter_parameter(std::size_t adapter) const;
  // Parameters to whose gradients an op may add.
  std::vector<std::size_t> parameters_of(std::size_t i) const;
  void find_final_ops();
  void tell_final(std::size_t i) const {
    if (!on_final) return;
    for (const std::size_t p : final_at[i]) on_final(p);
  }
  float* weight_gradient(Weight w, bool train) { return train ? gradients.data(index(w.id)) : nullptr; }

  Status check(const TrainingBatch& b) const;

  LinearArgs linear_args(std::size_t i);
  AttentionArgs attention_args(std::size_t i) const;
  IndexedAttentionArgs indexed_args(std::size_t i) const;
  ExpertsArgs experts_args(std::size_t i);
  NgramTraining ngram_args(std::size_t i, std::vector<const float*>& tables, std::vector<float*>& gradients_of);
  ShortConvArgs conv_args(std::size_t i) const;
  DeltaRuleTraining delta_args(std::size_t i) const;

  void run_forward(std::size_t i);

  // What an op made forward, for the backward pass; and what that needs before an op's turn.
  void put_away(std::size_t i);
  void take_out(std::size_t i);
  std::uint16_t* half(Value v) const {
    return reinterpret_cast<std::uint16_t*>(arena.data() + plan.arena.offset(plan.half[index(v.id)]));
  }

  void run_backward(std::size_t i);
  void linear_back(std::size_t i);
  void norm_back(std::size_t i);
  void attention_back(std::size_t i);
  void swiglu_back(std::size_t i);
  void experts_back(std::size_t i);
  void gate_rows_back(std::size_t i);
  void conv_back(std::size_t i);
  void delta_back(std::size_t i);
  void rope_back(std::size_t i);
  void hand_on(std::size_t i, int j);
  void weigh_balance(double scale);
  // From the head's input to all parameters; `balance_scale`: the weight of the experts' balance.
  void run_backward_below_head(double balance_scale);
  double kept_labels() const {
    return static_cast<double>(
        std::count_if(batch.labels.begin(), batch.labels.end(), [](std::int32_t l) { return l >= 0; }));
  }
  // Where an overwriting kernel puts d(in[j]), and the addition that follows if others wrote before.
  float* target(std::size_t i, int j) const {
    const int temporary = plan.ops[i].temporary[j];
    return temporary >= 0 ? buffer(temporary) : gradient(program.ops[i].in[j]);
  }
  void settle(std::size_t i, int j) {
    const TrainingPlan::OpPlan& p = plan.ops[i];
    const Value v = program.ops[i].in[j];
    if (p.wanted[j] && p.temporary[j] >= 0) accumulate(machine, buffer(p.temporary[j]), count(v), gradient(v));
  }
};

}  // namespace qw::ops
