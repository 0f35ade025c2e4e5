#include "ops/training_graph.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "ops/attention.h"
#include "ops/delta_rule.h"
#include "ops/elementwise.h"
#include "ops/embed.h"
#include "ops/experts.h"
#include "ops/head.h"
#include "ops/indexed_attention.h"
#include "ops/internal/program_flops.h"
#include "ops/internal/training_plan.h"
#include "ops/linear.h"
#include "ops/ngrams.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/short_conv.h"
#include "tensor/blocks.h"

namespace qw::ops {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

tensor::Buffer float_buffer(std::int64_t n) { return tensor::Buffer(static_cast<std::size_t>(n) * sizeof(float)); }
float* floats(const tensor::Buffer& b) { return reinterpret_cast<float*>(b.data()); }

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
    QW_CHECK(options.stored[i].shape == shapes[i] && (options.forward_only || (!options.frozen.empty() && options.frozen[i])));
    shapes[i] = tensor::Shape{0};
  }
  return shapes;
}

bool stored_in(const TrainingOptions& options, Weight w) {
  return w.present() && index(w.id) < options.stored.size() && !options.stored[index(w.id)].empty();
}

// Room for the largest product of a program. `shapes`: with adapters.
void plan_products(const Program& program, const std::vector<tensor::Shape>& shapes, const TrainingOptions& options,
                   const TrainingPlan& plan, GemmWorkspace& workspace) {
  const auto plan_open = [&](Weight w) {
    if (stored_in(options, w) && Matrix(options.stored[index(w.id)]).f32 == nullptr)
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
      plan_open(op.weight);
      const tensor::Shape& shape = shapes[index(op.weight.id)];
      linear_plan(workspace, options.max_tokens, shape[1], shape[0], a < 0 ? 0 : options.adapters[index(a)].rank);
    }
  }
}

Status check_ids(std::span<const std::int32_t> ids, std::int64_t low, std::int64_t high, const char* what) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < low || ids[i] >= high)
      return fail(ErrorKind::kBadInput, std::string(what) + " " + std::to_string(ids[i]) + " in row " +
                                            std::to_string(i) + " is outside [" + std::to_string(low) + ", " +
                                            std::to_string(high) + ")");
  return {};
}

}  // namespace

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
  plan_products(program, shapes, options, plan, workspace);
  std::size_t attention = 0;
  std::int64_t delta = 0, angles = 0;
  for (const Op& op : program.ops) {
    if (op.kind == OpKind::kAttention)
      attention = std::max(attention, attention_scratch_bytes(machine, options.max_tokens, op.attention.head_dim));
    if (op.kind == OpKind::kDeltaRule) delta = std::max(delta, delta_rule_scratch_floats(machine, op.delta));
  }
  for (const RopeSpec& spec : plan.rope_specs) angles += options.max_tokens * spec.rotary;
  out.workspaces = workspace.planned_bytes() + static_cast<std::int64_t>(attention) + (delta + angles) * kFloat;
  if (const Weight w = program.ops.back().weight; w.present())
    out.head = Head::need(machine, options.precision, shapes[index(w.id)][0], shapes[index(w.id)][1], !options.forward_only);
  return out;
}

struct TrainingGraph::State {
  Machine machine;
  Program program;
  std::size_t model_parameters;
  std::vector<tensor::Shape> shapes;  // with adapters
  TrainingOptions options;
  std::vector<tensor::Shape> held_shapes;  // of those in ParameterBuffers; [0]: stored
  std::vector<tensor::Buffer> opened;  // by parameter: stored ones that other ops than products read, as float32
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
  std::vector<Routing> routings;            // by op; empty but for experts
  std::vector<std::vector<double>> balance;  // by op: gradient of every row's probabilities by load balancing
  double balance_loss = 0;
  const ParameterBuffer* weights = nullptr;
  TrainingBatch batch;
  std::int64_t rows = 0;
  bool ready = false;  // forward ran, backward did not
  std::function<void(std::size_t)> on_final;
  std::vector<std::vector<std::size_t>> final_at;  // by op: parameters to whose gradients it is the last to add, backward

  State(Program p, std::vector<tensor::Shape> parameters, TrainingOptions o, const Machine& m)
      : machine(m),
        program(std::move(p)),
        model_parameters(parameters.size()),
        shapes(with_adapters(parameters, o.adapters)),
        options(std::move(o)),
        held_shapes(held(shapes, options)),
        opened(shapes.size()),
        plan(make_training_plan(program, options)),
        cost(program, plan, shapes, options),
        gradients(options.forward_only ? std::vector<tensor::Shape>{} : held_shapes),
        arena(static_cast<std::size_t>(plan.arena.bytes())),
        workspace(m, options.precision),
        nll(index(options.max_tokens)) {
    QW_CHECK(options.max_tokens > 0 && (options.frozen.empty() || options.frozen.size() == model_parameters));
    QW_CHECK(options.stored.empty() || options.stored.size() == model_parameters);
    if (const Weight w = program.ops.back().weight; w.present())
      head.emplace(m, options.precision, weight_shape(w)[0], weight_shape(w)[1], !options.forward_only);
    open_small_weights();
    take_workspaces();
  }

  bool is_stored(Weight w) const { return stored_in(options, w); }
  void open_weight(Weight w) {
    if (!is_stored(w) || Matrix(options.stored[index(w.id)]).f32 != nullptr || opened[index(w.id)].size() > 0) return;
    opened[index(w.id)] = float_buffer(shapes[index(w.id)].elements());
    tensor::decode(options.stored[index(w.id)], floats(opened[index(w.id)]));
  }
  // Norms, biases, taps, rates, tables of n-grams: what is neither the matrix of a product nor looked up by token.
  void open_small_weights() {
    for (const Op& op : program.ops) {
      if (op.kind != OpKind::kLinear && op.kind != OpKind::kHead && op.kind != OpKind::kEmbed) open_weight(op.weight);
      open_weight(op.bias);
      if (op.index.ratio > 0) open_weight(op.index.key_norm);
      for (std::int32_t t = 0; op.kind == OpKind::kNgrams && t < op.ngrams.tables; ++t) open_weight({op.ngrams.table.id + t});
    }
  }

  const tensor::Shape& weight_shape(Weight w) const {
    QW_CHECK(w.present());
    return shapes[index(w.id)];
  }

  void take_workspaces() {
    std::size_t attention = 0;
    std::int64_t delta = 0;
    routings.resize(program.ops.size());
    balance.resize(program.ops.size());
    for (std::size_t i = 0; i < program.ops.size(); ++i) {
      const Op& op = program.ops[i];
      if (op.kind == OpKind::kAttention)
        attention = std::max(attention, attention_scratch_bytes(machine, options.max_tokens, op.attention.head_dim));
      if (op.kind == OpKind::kAttention && op.index.ratio > 0 && !indexed_attention)
        indexed_attention.emplace(op.index, op.attention, options.max_tokens, machine.pool.size());
      if (op.kind == OpKind::kDeltaRule) delta = std::max(delta, delta_rule_scratch_floats(machine, op.delta));
      if (op.kind == OpKind::kExperts) routings[i] = Routing(options.max_tokens, op.experts);
    }
    plan_products(program, shapes, options, plan, workspace);
    attention_scratch = tensor::Buffer(attention);
    delta_scratch = float_buffer(delta);
    workspace.allocate();
    for (const RopeSpec& spec : plan.rope_specs) {
      const std::int64_t n = options.max_tokens * (spec.rotary / 2);
      angles.push_back({rope_frequencies(spec), float_buffer(n), float_buffer(n)});
    }
  }

  float* buffer(int b) const { return b < 0 ? nullptr : reinterpret_cast<float*>(arena.data() + plan.arena.offset(b)); }
  float* value(Value v) const { return buffer(plan.value[index(v.id)]); }
  float* gradient(Value v) const { return buffer(plan.gradient[index(v.id)]); }
  std::int64_t count(Value v) const { return rows * v.width; }
  // For products and look-ups by token.
  Matrix matrix(Weight w) const {
    return is_stored(w) ? Matrix(options.stored[index(w.id)]) : Matrix(weights->data(index(w.id)));
  }
  // For all else.
  const float* weight(Weight w) const {
    if (!w.present()) return nullptr;
    if (!is_stored(w)) return weights->data(index(w.id));
    const float* in_place = Matrix(options.stored[index(w.id)]).f32;
    return in_place != nullptr ? in_place : floats(opened[index(w.id)]);
  }
  std::size_t adapter_parameter(std::size_t adapter) const {
    std::size_t id = model_parameters;
    for (std::size_t j = 0; j < adapter; ++j) id += options.adapters[j].magnitude ? 3 : 2;
    return id;
  }
  // Parameters to whose gradients an op may add.
  std::vector<std::size_t> parameters_of(std::size_t i) const {
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
  void find_final_ops() {
    final_at.assign(program.ops.size(), {});
    std::vector<std::size_t> last(shapes.size(), program.ops.size() - 1);  // of no op's: final once the head is through
    for (std::size_t i = program.ops.size(); i-- > 0;)
      for (const std::size_t p : parameters_of(i)) last[p] = i;
    for (std::size_t p = 0; p < last.size(); ++p) final_at[last[p]].push_back(p);
  }
  void tell_final(std::size_t i) const {
    if (!on_final) return;
    for (const std::size_t p : final_at[i]) on_final(p);
  }
  float* weight_gradient(Weight w, bool train) { return train ? gradients.data(index(w.id)) : nullptr; }

  Status check(const TrainingBatch& b) const;
  void run_forward(std::size_t i);
  void run_backward(std::size_t i);
  NgramTraining ngram_args(std::size_t i, std::vector<const float*>& tables, std::vector<float*>& gradients_of);
  LinearArgs linear_args(std::size_t i);
  AttentionArgs attention_args(std::size_t i) const;
  IndexedAttentionArgs indexed_args(std::size_t i) const;
  void linear_back(std::size_t i);
  void norm_back(std::size_t i);
  void attention_back(std::size_t i);
  void swiglu_back(std::size_t i);
  ExpertsArgs experts_args(std::size_t i);
  void experts_back(std::size_t i);
  void gate_rows_back(std::size_t i);
  ShortConvArgs conv_args(std::size_t i) const;
  void conv_back(std::size_t i);
  DeltaRuleTraining delta_args(std::size_t i) const;
  void delta_back(std::size_t i);
  void weigh_balance(double scale);
  // From the head's input to all parameters; `balance`: the weight of the experts' balance.
  void run_backward_below_head(double balance);
  double kept_labels() const {
    return static_cast<double>(
        std::count_if(batch.labels.begin(), batch.labels.end(), [](std::int32_t l) { return l >= 0; }));
  }
  void rope_back(std::size_t i);
  void add_back(std::size_t i);
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

LinearArgs TrainingGraph::State::linear_args(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = plan.ops[i];
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
          .cu_seqlens = batch.cu_seqlens,
          .q = value(op.in[0]),
          .k = value(op.in[1]),
          .v = value(op.in[2]),
          .o = value(op.out),
          .lse = buffer(plan.ops[i].lse),
          .scratch = attention_scratch.data()};
}

IndexedAttentionArgs TrainingGraph::State::indexed_args(std::size_t i) const {
  const Op& op = program.ops[i];
  return {.attention = attention_args(i), .index_q = value(op.in[3]), .index_k = value(op.in[4]), .key_norm = weight(op.index.key_norm)};
}

void TrainingGraph::State::run_forward(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = plan.ops[i];
  switch (op.kind) {
    case OpKind::kEmbed:
      embed_forward(machine, matrix(op.weight), batch.tokens.data(), rows, op.out.width, value(op.out));
      break;
    case OpKind::kRmsNorm:
      rms_norm_forward(machine, value(op.in[0]), weight(op.weight), op.eps, rows * (op.out.width / op.norm_width),
                       op.norm_width, value(op.out), buffer(p.inverse), op.norm_sets);
      break;
    case OpKind::kLinear:
      linear_forward(machine, workspace, linear_args(i));
      break;
    case OpKind::kRope: {
      const State::Angles& a = angles[index(p.angles)];
      if (value(op.in[0]) != value(op.out)) copy(machine, value(op.in[0]), count(op.out), value(op.out));
      rope_forward(machine, op.rope, floats(a.cos), floats(a.sin), rows, op.out.width, value(op.out));
      break;
    }
    case OpKind::kAttention:
      if (op.index.ratio > 0) indexed_attention->forward(machine, indexed_args(i));
      else attention_forward(machine, attention_args(i), options.max_tokens);
      break;
    case OpKind::kSwiglu:
      swiglu_forward(machine, value(op.in[0]), value(op.in[1]), count(op.out), value(op.out));
      break;
    case OpKind::kAdd:
      add_forward(machine, value(op.in[0]), value(op.in[1]), count(op.out), value(op.out));
      break;
    case OpKind::kExperts:
      route(machine, op.experts, value(op.in[1]), rows, buffer(p.probabilities), routings[i]);
      experts_forward(machine, workspace, experts_args(i));
      break;
    case OpKind::kColumns:
      columns_forward(machine, value(op.in[0]), rows * op.groups(), op.column_group, op.first_column,
                      op.out.width / op.groups(), value(op.out));
      break;
    case OpKind::kGateRows:
      gate_rows_forward(machine, value(op.in[0]), value(op.in[1]), count(op.in[1]), op.out.width / op.in[1].width,
                        value(op.out));
      break;
    case OpKind::kShortConv: {
      const ShortConvArgs whole = conv_args(i);
      std::vector<float> by_tap(static_cast<std::size_t>(whole.taps * whole.width));
      short_conv_taps(whole.w, whole.taps, whole.width, by_tap.data());
      for (std::size_t d = 0; d + 1 < batch.cu_seqlens.size(); ++d) {
        ShortConvArgs a = whole;
        a.rows = batch.cu_seqlens[d + 1] - batch.cu_seqlens[d];
        a.x += batch.cu_seqlens[d] * a.width;
        a.y += batch.cu_seqlens[d] * a.width;
        short_conv_forward(machine, a, by_tap.data(), nullptr);
      }
      break;
    }
    case OpKind::kDeltaRule:
      delta_rule_forward(machine, delta_args(i));
      break;
    case OpKind::kScale:
      scale_forward(machine, value(op.in[0]), op.factor, count(op.out), value(op.out));
      break;
    case OpKind::kSilu:
      silu_forward(machine, value(op.in[0]), count(op.out), value(op.out));
      break;
    case OpKind::kMatchRows:
      match_rows_forward(machine, value(op.in[0]), value(op.in[1]), op.factor, rows, op.in[0].width, value(op.out));
      break;
    case OpKind::kNgrams: {
      std::vector<const float*> tables;
      std::vector<float*> none;
      ngrams_forward(machine, ngram_args(i, tables, none));
      break;
    }
    case OpKind::kRelu:
      relu_forward(machine, value(op.in[0]), count(op.out), value(op.out));
      break;
    case OpKind::kConcat:
      concat_forward(machine, value(op.in[0]), op.in[0].width, value(op.in[1]), op.in[1].width, rows, value(op.out));
      break;
    case OpKind::kGiven:
      break;  // such programs are not trained (make_training_plan)
    case OpKind::kHead:
      break;  // runs with its gradient, or when logits are asked for
  }
}

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

ExpertsArgs TrainingGraph::State::experts_args(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = plan.ops[i];
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

NgramTraining TrainingGraph::State::ngram_args(std::size_t i, std::vector<const float*>& tables, std::vector<float*>& gradients_of) {
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

void TrainingGraph::State::conv_back(std::size_t i) {
  const Op& op = program.ops[i];
  ShortConvArgs a = conv_args(i);
  a.dy = gradient(op.out);
  a.dx = target(i, 0);
  a.dw = weight_gradient(op.weight, plan.ops[i].train_weight);
  short_conv_backward(machine, a, batch.cu_seqlens);
  settle(i, 0);
}

DeltaRuleTraining TrainingGraph::State::delta_args(std::size_t i) const {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = plan.ops[i];
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
  float* dy = gradient(op.out);  // nobody reads it after this op, so it is turned in place
  rope_backward(machine, op.rope, floats(a.cos), floats(a.sin), rows, op.out.width, dy);
  if (p.shared[0]) return;
  if (p.first[0]) {
    copy(machine, dy, count(op.in[0]), gradient(op.in[0]));
  } else {
    accumulate(machine, dy, count(op.in[0]), gradient(op.in[0]));
  }
}

void TrainingGraph::State::add_back(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = plan.ops[i];
  for (int j = 0; j < 2; ++j) {
    if (!p.wanted[j] || p.shared[j]) continue;
    if (p.first[j]) {
      copy(machine, gradient(op.out), count(op.in[j]), gradient(op.in[j]));
    } else {
      accumulate(machine, gradient(op.out), count(op.in[j]), gradient(op.in[j]));
    }
  }
}

void TrainingGraph::State::run_backward(std::size_t i) {
  const Op& op = program.ops[i];
  if (!plan.ops[i].backward) return;
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
      add_back(i);
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
    case OpKind::kGiven:
      break;
    case OpKind::kHead:
      break;  // see TrainingGraph::backward
  }
}

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
  for (std::size_t i = 0; i < s.program.ops.size(); ++i) s.run_forward(i);
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

void TrainingGraph::State::run_backward_below_head(double balance) {
  weigh_balance(balance);
  tell_final(program.ops.size() - 1);
  for (std::size_t i = program.ops.size() - 1; i-- > 0;) {
    run_backward(i);
    tell_final(i);
  }
  flops += cost.backward(batch.cu_seqlens);
  ready = false;
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
  if (s.plan.ops[last].wanted[0]) copy(s.machine, d_rows.data(), s.rows * final_width(), s.gradient(s.program.ops[last].in[0]));
  s.run_backward_below_head(0);
}

}  // namespace qw::ops
