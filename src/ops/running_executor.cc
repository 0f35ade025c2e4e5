#include "ops/running_executor.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "ops/delta_rule.h"
#include "ops/elementwise.h"
#include "ops/experts.h"
#include "ops/internal/adapters.h"
#include "ops/internal/arena.h"
#include "ops/internal/forward_plan.h"
#include "ops/internal/packed_weights.h"
#include "ops/ngrams.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/short_conv.h"

namespace qw::ops {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

tensor::Buffer float_buffer(std::int64_t n) { return tensor::Buffer(static_cast<std::size_t>(n) * sizeof(float)); }
float* floats(const tensor::Buffer& b) { return reinterpret_cast<float*>(b.data()); }

// Query rows of one attention piece: keys are read once for all of them, and a long prompt still splits well. With two
// query heads to a key head they fill what the kernels take at once.
constexpr std::int64_t kQueryRows = 32;

// Consecutive rows of one sequence at consecutive positions.
struct Run {
  std::int32_t first, rows;
};

}  // namespace

struct RunningExecutor::State {
  Machine machine;
  Program program;
  RunningOptions options;
  std::shared_ptr<const std::vector<PackedWeight>> weights;
  Adapters adapters;
  ProductObserver* observer = nullptr;
  Adapters::Grouping adapter_rows, adapter_head_rows;  // of the step; the latter among the rows whose logits are wanted
  std::vector<std::int32_t> head_adapters;
  Arena plan;
  std::vector<int> buffers;  // arena buffer by value
  tensor::Buffer arena, prepared, head_rows, logits;
  tensor::Buffer segment_sums;  // of a lone row's attention, by kv head and segment
  bool in_segments = false;     // the step's attention is shared out by segments
  struct Angles {
    RopeSpec spec;
    std::vector<float> frequencies;
    tensor::Buffer cos, sin;
  };
  std::vector<Angles> angles;
  std::vector<std::int32_t> levels;  // of the rows, under dynamic NTK; else empty
  std::int32_t layers = 0;  // of the cache that the program uses
  // Experts: probabilities [N, E]; gate and up [A, F], outputs [A, D] of A = N k assignments; scratch of each thread.
  Routing routing;
  tensor::Buffer probabilities, gate, up, outputs, expert_scratch;
  std::size_t scratch_bytes = 0;  // of one thread
  struct Group {                  // rows of one expert that a piece takes together
    std::int32_t expert, first, rows;
  };
  std::vector<Group> groups;
  // Layers with states: what a sequence's slot holds, and scratch of the delta rule (delta_rule.h).
  std::int64_t state_floats = 0;
  tensor::Buffer keys, gates;
  std::vector<std::pair<std::int32_t, tensor::Buffer>> conv_taps;  // weights of short convolutions [taps, C], by weight id
  struct Stretch {  // the rows of one sequence in this step
    std::int32_t first, rows, slot;
    bool fresh;  // from position 0
  };
  std::vector<Stretch> stretches;  // capacity max_rows
  // The step in progress.
  StepBatch batch;
  std::int64_t rows = 0;
  std::vector<Run> runs;             // capacity max_rows
  std::size_t cursor = 0;            // next op of the program
  std::int32_t prepared_value = -1;  // whose rows `prepared` holds, and for which weights
  kernels::WeightType prepared_type = kernels::WeightType::kF32;
  bool done = false;

  State(Program p, std::shared_ptr<const std::vector<PackedWeight>> w, const RunningOptions& o, const Machine& m)
      : machine(m), program(std::move(p)), options(o), weights(std::move(w)),
        adapters(std::max(o.max_rows, o.max_logit_rows)) {
    head_adapters.reserve(index(options.max_logit_rows));
    for (auto [grouping, n] : {std::pair(&adapter_rows, o.max_rows), std::pair(&adapter_head_rows, o.max_logit_rows)}) {
      grouping->order.reserve(index(n));
      grouping->chunks.reserve(index(n));
    }
    place_values();
    take_workspaces();
    runs.reserve(index(options.max_rows));
  }

  const Op& head_op() const { return program.ops.back(); }
  std::int64_t row_width() const { return head_op().weight.present() ? weight(head_op().weight).out : head_op().in[0].width; }
  const PackedWeight& weight(Weight w) const { return (*weights)[index(w.id)]; }
  const float* vector(Weight w) const { return w.present() ? weight(w).vector() : nullptr; }
  float* value(Value v) const { return reinterpret_cast<float*>(arena.data() + plan.offset(buffers[index(v.id)])); }

  void place_values();
  void take_workspaces();
  Status check(const StepBatch& b) const;
  Status check_rows(const StepBatch& b) const;
  Status find_stretches(const StepBatch& b);
  Status claim_slot(const StepBatch& b, std::size_t first_row);
  void run_delta_rule(const Op& op);
  const std::int32_t* ntk_levels(const RopeSpec& spec);  // of the batch's rows; null where all are 0
  void find_runs();
  const Op& next(OpKind kind);
  const void* prepare(Value x, kernels::WeightType type);
  void write_cache(const Op& op);
  void plan_experts(const Op& op);
  void run_experts(const Op& op);
  void show_experts_in(const Op& op);
  void show_experts_out(const Op& op);
  void expert_in(const Op& op, const Group& group, std::byte* scratch, std::int64_t cut, std::int64_t cuts);
  void expert_out(const Op& op, const Group& group, std::byte* scratch, std::int64_t cut, std::int64_t cuts);
  kernels::AttentionDecodeArgs attention_args(const Op& op, const Run& run, std::int64_t kv_head) const;
  void attend(const Op& op, const Run& run, std::int64_t kv_head);
  void attend_in_segments(const Op& op, const Run& run);
  void plan_segments();
  void attend_all(const Op& op);
};

void RunningExecutor::State::place_values() {
  const std::vector<std::int32_t> roots = forward_roots(program, false);
  const auto steps = static_cast<std::int32_t>(program.ops.size());
  std::vector<std::int32_t> last(roots.size(), 0);
  for (std::size_t v = 0; v < roots.size(); ++v)
    last[index(roots[v])] = std::max(last[index(roots[v])], program.last_use[v]);
  last[index(roots[index(head_op().in[0].id)])] = steps;  // final_hidden is read after the forward
  if (program.kept.id >= 0) last[index(roots[index(program.kept.id)])] = steps;
  buffers.assign(roots.size(), -1);
  for (std::size_t v = 0; v < roots.size(); ++v)
    if (index(roots[v]) == v)
      buffers[v] = plan.add(options.max_rows * program.widths[v] * static_cast<std::int64_t>(sizeof(float)),
                            program.maker[v], last[v]);
  for (std::size_t v = 0; v < roots.size(); ++v) buffers[v] = buffers[index(roots[v])];
  plan.solve();
}

void RunningExecutor::State::take_workspaces() {
  arena = tensor::Buffer(index(plan.bytes()));
  std::size_t bytes = 0;
  for (const Op& op : program.ops) {
    if (op.kind == OpKind::kLinear)
      bytes = std::max(bytes, machine.kernels.prepared_bytes(weight(op.weight).type, options.max_rows, op.in[0].width));
    if (op.kind == OpKind::kHead && op.weight.present())
      bytes = std::max(bytes,
                       machine.kernels.prepared_bytes(weight(op.weight).type, options.max_logit_rows, op.in[0].width));
    if (op.kind == OpKind::kShortConv) {
      const std::int64_t taps = weight(op.weight).in;
      state_floats = std::max(state_floats, op.conv.state + (taps - 1) * op.conv.dilation * op.out.width);
      conv_taps.emplace_back(op.weight.id, float_buffer(taps * op.out.width));
      short_conv_taps(vector(op.weight), taps, op.out.width, floats(conv_taps.back().second));
    }
    if (op.kind == OpKind::kNgrams) state_floats = std::max(state_floats, op.ngrams.state + op.ngrams.size - 1);
    if (op.kind == OpKind::kDeltaRule) {
      const DeltaRuleSpec& d = op.delta;
      state_floats = std::max(state_floats, d.state + std::int64_t{d.key_dim} * d.values_width());
      if (const std::int64_t n = options.max_rows * 2 * d.keys_width(); keys.size() < index(n) * sizeof(float)) keys = float_buffer(n);
      if (const std::int64_t n = options.max_rows * 2 * d.value_heads; gates.size() < index(n) * sizeof(float)) gates = float_buffer(n);
    }
    if (op.kind == OpKind::kAttention) layers = std::max(layers, op.attention.layer + 1);
    if (op.kind != OpKind::kRope) continue;
    const bool known = std::any_of(angles.begin(), angles.end(), [&](const Angles& a) { return a.spec == op.rope; });
    const std::int64_t n = options.max_rows * (op.rope.rotary / 2);
    if (op.rope.scaling == RopeScaling::kDynamicNtk) levels.resize(index(options.max_rows));
    if (!known) angles.push_back({op.rope, rope_frequencies(op.rope), float_buffer(n), float_buffer(n)});
  }
  prepared = tensor::Buffer(bytes);
  if (state_floats > 0) stretches.reserve(index(options.max_rows));
  for (const Op& op : program.ops)
    if (op.kind == OpKind::kExperts) plan_experts(op);
  head_rows = float_buffer(options.max_logit_rows * head_op().in[0].width);
  logits = float_buffer(options.max_logit_rows * row_width());
}

// Rows of one expert in one piece: its weights are read once for all of them, and a long prompt still splits well.
constexpr std::int64_t kExpertRows = 32;

void RunningExecutor::State::plan_experts(const Op& op) {
  const ExpertsSpec& spec = op.experts;
  const std::int64_t assigned = options.max_rows * spec.top_k, d = op.out.width, f = spec.width;
  const auto grow = [](tensor::Buffer& b, std::int64_t n) {
    if (b.size() < index(n) * sizeof(float)) b = float_buffer(n);
  };
  if (routing.expert.size() < index(assigned)) {
    Routing larger(options.max_rows, spec);
    larger.begin.resize(std::max(larger.begin.size(), routing.begin.size()));
    routing = std::move(larger);
  }
  routing.begin.resize(std::max(routing.begin.size(), index(spec.experts) + 1));
  grow(probabilities, options.max_rows * spec.experts);
  grow(gate, assigned * f);
  grow(up, assigned * f);
  grow(outputs, assigned * d);
  groups.reserve(std::max(groups.capacity(), index(assigned)));
  std::size_t bytes = 0;
  for (std::int32_t e = 0; e < spec.experts; ++e)
    for (const Weight first : {spec.gate, spec.up, spec.down}) {
      const PackedWeight& w = weight({first.id + e});
      bytes = std::max(bytes, align64(machine.kernels.prepared_bytes(w.type, kExpertRows, w.in)) +
                                  align64(index(kExpertRows * w.in) * sizeof(float)));
    }
  scratch_bytes = std::max(scratch_bytes, bytes);
  const std::size_t all = scratch_bytes * index(machine.pool.size());
  if (expert_scratch.size() < all) expert_scratch = tensor::Buffer(all);
}

namespace {

// Outputs [begin, end) of cut `cut` of `cuts`, on the borders the kernels want.
std::pair<std::int64_t, std::int64_t> cut_range(const Machine& m, std::int64_t out, std::int64_t cut, std::int64_t cuts) {
  const std::int64_t grain = round_up(ceil_div(out, cuts), m.kernels.out_granule);
  return {std::min(out, cut * grain), std::min(out, (cut + 1) * grain)};
}

void product(const Machine& m, const PackedWeight& w, const void* prepared, std::int64_t rows, float* y,
             std::pair<std::int64_t, std::int64_t> range) {
  if (range.first >= range.second) return;
  m.kernels.matmul({.type = w.type,
                    .packed = w.data.data(),
                    .prepared = prepared,
                    .bias = nullptr,
                    .y = y,
                    .ldy = w.out,
                    .rows = rows,
                    .out = w.out,
                    .in = w.in,
                    .out_begin = range.first,
                    .out_end = range.second});
}

}  // namespace

// gate and up of one group's rows, some of the outputs.
void RunningExecutor::State::expert_in(const Op& op, const Group& g, std::byte* scratch, std::int64_t cut,
                                       std::int64_t cuts) {
  const std::int64_t d = op.in[0].width, f = op.experts.width;
  auto* x = reinterpret_cast<float*>(scratch);
  std::byte* ready = scratch + align64(index(kExpertRows * d) * sizeof(float));
  for (std::int32_t r = 0; r < g.rows; ++r)
    std::memcpy(x + r * d, value(op.in[0]) + routing.row[index(g.first + r)] * d, index(d) * sizeof(float));
  const PackedWeight &gate_w = weight({op.experts.gate.id + g.expert}), &up_w = weight({op.experts.up.id + g.expert});
  machine.kernels.prepare(gate_w.type, x, d, g.rows, d, ready, 0, g.rows);
  product(machine, gate_w, ready, g.rows, floats(gate) + g.first * f, cut_range(machine, f, cut, cuts));
  if (up_w.type != gate_w.type) machine.kernels.prepare(up_w.type, x, d, g.rows, d, ready, 0, g.rows);
  product(machine, up_w, ready, g.rows, floats(up) + g.first * f, cut_range(machine, f, cut, cuts));
}

// silu(gate) up, row by row so that a row does not depend on its neighbours, and some of the outputs of down.
void RunningExecutor::State::expert_out(const Op& op, const Group& g, std::byte* scratch, std::int64_t cut,
                                        std::int64_t cuts) {
  const std::int64_t d = op.out.width, f = op.experts.width;
  auto* h = reinterpret_cast<float*>(scratch);
  std::byte* ready = scratch + align64(index(kExpertRows * f) * sizeof(float));
  for (std::int32_t r = 0; r < g.rows; ++r)
    machine.kernels.swiglu(floats(gate) + (g.first + r) * f, floats(up) + (g.first + r) * f, f, h + r * f);
  const PackedWeight& down = weight({op.experts.down.id + g.expert});
  machine.kernels.prepare(down.type, h, f, g.rows, f, ready, 0, g.rows);
  product(machine, down, ready, g.rows, floats(outputs) + g.first * d, cut_range(machine, d, cut, cuts));
}

// The rows each expert is given, and what its last product is given.
void RunningExecutor::State::show_experts_in(const Op& op) {
  const ExpertsSpec& spec = op.experts;
  const std::int64_t d = op.in[0].width;
  for (std::int32_t e = 0; e < spec.experts; ++e)
    for (std::int32_t i = routing.begin[index(e)]; i < routing.begin[index(e) + 1]; ++i) {
      const float* x = value(op.in[0]) + routing.row[index(i)] * d;
      observer->on_product({spec.gate.id + e}, x, 1, d);
      observer->on_product({spec.up.id + e}, x, 1, d);
    }
}

void RunningExecutor::State::show_experts_out(const Op& op) {
  const ExpertsSpec& spec = op.experts;
  const std::int64_t f = spec.width;
  std::vector<float> h(index(f));
  for (std::int32_t e = 0; e < spec.experts; ++e)
    for (std::int32_t i = routing.begin[index(e)]; i < routing.begin[index(e) + 1]; ++i) {
      machine.kernels.swiglu(floats(gate) + i * f, floats(up) + i * f, f, h.data());
      observer->on_product({spec.down.id + e}, h.data(), 1, f);
    }
}

void RunningExecutor::State::run_experts(const Op& op) {
  const ExpertsSpec& spec = op.experts;
  routing.top_k = spec.top_k;
  routing.begin.resize(index(spec.experts) + 1);  // within its capacity
  route(machine, spec, value(op.in[1]), rows, floats(probabilities), routing);
  groups.clear();
  for (std::int32_t e = 0; e < spec.experts; ++e)
    for (std::int32_t at = routing.begin[index(e)]; at < routing.begin[index(e) + 1]; at += kExpertRows)
      groups.push_back({e, at, std::min<std::int32_t>(kExpertRows, routing.begin[index(e) + 1] - at)});
  // Few rows choose few experts: their outputs are cut, so that every thread finds work.
  const auto n = static_cast<std::int64_t>(groups.size());
  const std::int64_t cuts = std::max<std::int64_t>(1, ceil_div(4 * machine.pool.size(), n));
  const auto scratch = [&](int worker) { return expert_scratch.data() + scratch_bytes * index(worker); };
  if (observer != nullptr) show_experts_in(op);
  for_pieces(machine.pool, n * cuts, [&](int worker, std::int64_t piece) {
    expert_in(op, groups[index(piece / cuts)], scratch(worker), piece % cuts, cuts);
  });
  if (observer != nullptr) show_experts_out(op);
  for_pieces(machine.pool, n * cuts, [&](int worker, std::int64_t piece) {
    expert_out(op, groups[index(piece / cuts)], scratch(worker), piece % cuts, cuts);
  });
  combine(machine, routing, floats(outputs), rows, op.out.width, value(op.out));
}

Status RunningExecutor::State::check_rows(const StepBatch& b) const {
  for (std::size_t r = 0; r < b.tokens.size(); ++r) {
    const std::string row = "row " + std::to_string(r) + ": ";
    const std::int32_t s = b.sequences[r], p = b.positions[r];
    if (s < 0 || index(s) >= b.tables.size())
      return fail(ErrorKind::kUsage, row + "sequence " + std::to_string(s) + " has no table");
    const auto room = static_cast<std::int64_t>(b.tables[index(s)].size()) * b.cache->block_tokens;
    if (p < 0 || p >= room)
      return fail(ErrorKind::kUsage,
                  row + "position " + std::to_string(p) + " in a table with room for " + std::to_string(room));
    for (const Op& op : program.ops)
      if (op.kind == OpKind::kEmbed && (b.tokens[r] < 0 || b.tokens[r] >= weight(op.weight).out))
        return fail(ErrorKind::kBadInput, row + "token id " + std::to_string(b.tokens[r]) + " is outside [0, " +
                                              std::to_string(weight(op.weight).out) + ")");
  }
  return {};
}

Status RunningExecutor::State::check(const StepBatch& b) const {
  const auto n = static_cast<std::int64_t>(b.tokens.size());
  if (n < 1 || n > options.max_rows)
    return fail(ErrorKind::kUsage,
                "step of " + std::to_string(n) + " rows, may be 1 to " + std::to_string(options.max_rows));
  if (b.positions.size() != b.tokens.size() || b.sequences.size() != b.tokens.size())
    return fail(ErrorKind::kUsage, "step: tokens, positions and sequences differ in length");
  if (static_cast<std::int64_t>(b.logit_rows.size()) > options.max_logit_rows)
    return fail(ErrorKind::kUsage, "step asks for " + std::to_string(b.logit_rows.size()) + " rows of logits, may be " +
                                       std::to_string(options.max_logit_rows));
  if (!b.adapters.empty() && b.adapters.size() != b.tokens.size())
    return fail(ErrorKind::kUsage, "step: tokens and adapters differ in length");
  for (const std::int32_t a : b.adapters)
    if (a != -1 && !adapters.has(a)) return fail(ErrorKind::kUsage, "step: there is no adapter " + std::to_string(a));
  for (const std::int32_t r : b.logit_rows)
    if (r < 0 || r >= n) return fail(ErrorKind::kUsage, "step: no row " + std::to_string(r) + " to give logits of");
  if (b.cache == nullptr || b.cache->block_tokens <= 0 || b.cache->keys.size() < index(layers) ||
      b.cache->values.size() < index(layers))
    return fail(ErrorKind::kUsage, "step: the cache does not have the model's layers");
  for (const Op& op : program.ops)
    if (op.kind == OpKind::kGiven && b.given.size() != b.tokens.size() * index(op.out.width))
      return fail(ErrorKind::kUsage, "step: " + std::to_string(b.given.size()) + " numbers are given, should be " +
                                         std::to_string(op.out.width) + " for each row");
  if (!levels.empty() && b.prompts.size() != b.tables.size())
    return fail(ErrorKind::kUsage, "step: this model needs the length of every sequence's prompt");
  return check_rows(b);
}

// The sequence of row `r`, which begins its stretch, has a slot of its own whose state is where the row begins.
Status RunningExecutor::State::claim_slot(const StepBatch& b, std::size_t r) {
  const std::int32_t slot = b.slots[index(b.sequences[r])];
  const std::string row = "row " + std::to_string(r) + ": ";
  if (slot < 0 || index(slot) >= b.states->tokens.size())
    return fail(ErrorKind::kUsage, row + "there is no state " + std::to_string(slot));
  if (std::any_of(stretches.begin(), stretches.end(), [&](const Stretch& s) { return s.slot == slot; }))
    return fail(ErrorKind::kUsage, row + "state " + std::to_string(slot) + " serves other rows of the step");
  const std::int64_t seen = b.states->tokens[index(slot)];
  if (b.positions[r] != 0 && b.positions[r] != seen)
    return fail(ErrorKind::kUsage, row + "position " + std::to_string(b.positions[r]) + ", but the state has seen " +
                                       std::to_string(seen) + " tokens");
  stretches.push_back({static_cast<std::int32_t>(r), 0, slot, b.positions[r] == 0});
  return {};
}

Status RunningExecutor::State::find_stretches(const StepBatch& b) {
  stretches.clear();
  if (state_floats == 0) return {};
  if (b.states == nullptr || b.states->slot_floats < state_floats || b.slots.size() != b.tables.size())
    return fail(ErrorKind::kUsage, "step: this model needs the state of every sequence");
  for (std::size_t r = 0; r < b.tokens.size(); ++r) {
    if (r == 0 || b.sequences[r] != b.sequences[r - 1]) QW_TRY(claim_slot(b, r));
    else if (b.positions[r] != b.positions[r - 1] + 1)
      return fail(ErrorKind::kUsage, "row " + std::to_string(r) + ": does not follow the row before it");
    ++stretches.back().rows;
  }
  return {};
}

const std::int32_t* RunningExecutor::State::ntk_levels(const RopeSpec& spec) {
  if (spec.scaling != RopeScaling::kDynamicNtk) return nullptr;
  for (std::int64_t r = 0; r < rows; ++r) levels[index(r)] = ntk_level(spec, batch.prompts[index(batch.sequences[index(r)])]);
  return levels.data();
}

void RunningExecutor::State::find_runs() {
  runs.clear();
  for (std::int64_t r = 0; r < rows; ++r) {
    const bool follows = !runs.empty() && runs.back().rows < kQueryRows &&
                         batch.sequences[index(r)] == batch.sequences[index(r - 1)] &&
                         batch.positions[index(r)] == batch.positions[index(r - 1)] + 1;
    if (follows) {
      ++runs.back().rows;
    } else {
      runs.push_back({static_cast<std::int32_t>(r), 1});
    }
  }
}

// The op of the program that the call in progress must be: the plan of buffers holds for no other order of calls.
const Op& RunningExecutor::State::next(OpKind kind) {
  QW_CHECK(!done && rows > 0 && cursor < program.ops.size() && program.ops[cursor].kind == kind);
  return program.ops[cursor++];
}

const void* RunningExecutor::State::prepare(Value x, kernels::WeightType type) {
  if (prepared_value == x.id && machine.kernels.prepared_as(prepared_type) == machine.kernels.prepared_as(type))
    return prepared.data();
  prepare_rows(machine, type, value(x), rows, x.width, prepared.data());
  prepared_value = x.id;
  prepared_type = type;
  return prepared.data();
}

void RunningExecutor::State::write_cache(const Op& op) {
  const AttentionSpec& s = op.attention;
  const CacheView& cache = *batch.cache;
  const std::int64_t width = std::int64_t{s.kv_heads} * s.head_dim;
  machine.pool.parallel_for(rows, kRowPiece, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int32_t p = batch.positions[index(r)];
      const std::int32_t block = batch.tables[index(batch.sequences[index(r)])][index(p / cache.block_tokens)];
      const auto write = [&](kernels::CachePart part, const float* kv, std::byte* pool) {
        machine.kernels.cache_write(cache.type, part, kv + r * width, s.kv_heads, s.head_dim, cache.block_tokens, block,
                                    p % cache.block_tokens, pool);
      };
      write(kernels::CachePart::kKeys, value(op.in[1]), cache.keys[index(s.layer)]);
      write(kernels::CachePart::kValues, value(op.in[2]), cache.values[index(s.layer)]);
    }
  });
}

kernels::AttentionDecodeArgs RunningExecutor::State::attention_args(const Op& op, const Run& run, std::int64_t kv_head) const {
  const AttentionSpec& s = op.attention;
  const CacheView& cache = *batch.cache;
  const std::int64_t width = std::int64_t{s.heads} * s.head_dim;
  return {.type = cache.type,
          .heads = s.heads,
          .kv_heads = s.kv_heads,
          .head_dim = s.head_dim,
          .scale = s.scale,
          .window = s.window,
          .q = value(op.in[0]) + run.first * width,
          .o = value(op.out) + run.first * width,
          .n_keys = batch.positions[index(run.first)] + 1,
          .block_tokens = cache.block_tokens,
          .blocks = batch.tables[index(batch.sequences[index(run.first)])].data(),
          .k_pool = cache.keys[index(s.layer)],
          .v_pool = cache.values[index(s.layer)],
          .head_begin = kv_head,
          .head_end = kv_head + 1};
}

void RunningExecutor::State::attend(const Op& op, const Run& run, std::int64_t kv_head) {
  const kernels::AttentionDecodeArgs first = attention_args(op, run, kv_head);
  const std::int64_t width = std::int64_t{op.attention.heads} * op.attention.head_dim;
  if (run.rows == 1) {
    machine.kernels.attention_decode(first);
  } else {
    machine.kernels.attention_prefill({.first = first, .rows = run.rows, .ldq = width, .ldo = width});
  }
}

// One row with a long context, shared out by segments: the same bytes as attend gives.
void RunningExecutor::State::attend_in_segments(const Op& op, const Run& run) {
  const kernels::AttentionDecodeArgs args = attention_args(op, run, 0);
  const kernels::AttentionSegments segments = kernels::attention_segments(args.n_keys, args.window);
  const std::int64_t n = segments.end - segments.begin, kv_heads = op.attention.kv_heads;
  const std::int64_t size = machine.kernels.attention_partial_floats(args);
  const auto partials = [&](std::int64_t head) { return floats(segment_sums) + head * n * size; };
  for_pieces(machine.pool, kv_heads * n, [&](int, std::int64_t piece) {
    const std::int64_t head = piece / n, s = piece % n;
    machine.kernels.attention_segment(attention_args(op, run, head), segments.begin + s, partials(head) + s * size);
  });
  for (std::int64_t head = 0; head < kv_heads; ++head)
    machine.kernels.attention_join(attention_args(op, run, head), partials(head));
}

// A lone row gives one piece for each kv head. Where those do not share out evenly, its segments do; makes room for what
// these leave, which a longer context than any before makes larger.
void RunningExecutor::State::plan_segments() {
  in_segments = false;
  if (layers == 0 || runs.size() != 1 || runs[0].rows != 1 || machine.pool.size() == 1) return;
  for (const Op& op : program.ops) {
    if (op.kind != OpKind::kAttention) continue;
    const std::int64_t pieces = op.attention.kv_heads;
    if (pieces % machine.pool.size() == 0 || pieces >= 4 * machine.pool.size()) return;
    const kernels::AttentionDecodeArgs args = attention_args(op, runs[0], 0);
    const kernels::AttentionSegments segments = kernels::attention_segments(args.n_keys, 0);
    if (segments.end < 2) return;
    const std::int64_t need = pieces * segments.end * machine.kernels.attention_partial_floats(args);
    if (segment_sums.size() < index(need) * sizeof(float)) segment_sums = float_buffer(2 * need);
    in_segments = true;
  }
}

void RunningExecutor::State::attend_all(const Op& op) {
  if (in_segments) return attend_in_segments(op, runs[0]);
  // All runs of a prompt read a kv head's keys and values: taken one head after the other, these stay in a near cache.
  const auto n = static_cast<std::int64_t>(runs.size());
  for_pieces(machine.pool, n * op.attention.kv_heads, [&](int, std::int64_t piece) {
    attend(op, runs[index(piece % n)], piece / n);
  });
}

RunningExecutor::RunningExecutor(std::unique_ptr<State> state) : state_(std::move(state)) {}
RunningExecutor::~RunningExecutor() = default;

Result<std::unique_ptr<RunningExecutor>> RunningExecutor::create(Program program,
                                                                 std::span<const tensor::ConstView> weights,
                                                                 const RunningOptions& options,
                                                                 const kernels::Kernels& kernels,
                                                                 base::ThreadPool& pool,
                                                                 std::span<const LowRankAdapter> adapters,
                                                                 const Program* beside) {
  if (options.max_rows < 1 || options.max_logit_rows < 1)
    return fail(ErrorKind::kUsage, "a step must have room for at least one row and one row of logits");
  const Machine machine{kernels, pool};
  try {
    QW_ASSIGN(std::vector<PackedWeight> packed, pack_weights(machine, program, beside, weights));
    auto shared = std::make_shared<const std::vector<PackedWeight>>(std::move(packed));
    std::unique_ptr<RunningExecutor> made(new RunningExecutor(
        std::make_unique<State>(std::move(program), std::move(shared), options, machine)));
    for (std::size_t i = 0; i < adapters.size(); ++i) {
      QW_ASSIGN(const PreparedAdapter one, made->prepare_adapter(adapters[i]));
      QW_TRY(made->set_adapter(static_cast<std::int32_t>(i), one));
    }
    return made;
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kResource,
                "no memory for the model's weights and a step of " + std::to_string(options.max_rows) + " rows");
  }
}

Result<std::unique_ptr<RunningExecutor>> RunningExecutor::make_beside(Program program, const RunningOptions& options) const {
  if (options.max_rows < 1 || options.max_logit_rows < 1)
    return fail(ErrorKind::kUsage, "a step must have room for at least one row and one row of logits");
  const Machine& machine = state_->machine;
  try {
    return std::unique_ptr<RunningExecutor>(
        new RunningExecutor(std::make_unique<State>(std::move(program), state_->weights, options, machine)));
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kResource, "no memory for a step of " + std::to_string(options.max_rows) + " rows");
  }
}

Status RunningExecutor::begin(const StepBatch& batch) {
  State& s = *state_;
  QW_TRY(s.check(batch));
  QW_TRY(s.find_stretches(batch));
  s.batch = batch;
  s.rows = static_cast<std::int64_t>(batch.tokens.size());
  s.head_adapters.clear();
  if (!batch.adapters.empty())
    for (const std::int32_t r : batch.logit_rows) s.head_adapters.push_back(batch.adapters[index(r)]);
  s.adapters.group(batch.adapters, s.adapter_rows);
  s.adapters.group(s.head_adapters, s.adapter_head_rows);
  s.cursor = 0;
  s.prepared_value = -1;
  s.done = false;
  s.find_runs();
  s.plan_segments();
  for (const State::Angles& a : s.angles) {
    const std::int32_t* levels = s.ntk_levels(a.spec);
    rope_angles(s.machine, a.spec, a.frequencies, batch.positions.data(), levels, s.rows, floats(a.cos), floats(a.sin));
  }
  return {};
}

std::int64_t RunningExecutor::outputs() const { return state_->row_width(); }

std::int64_t RunningExecutor::prompt_form(std::int64_t prompt_tokens) const {
  std::int64_t form = 0;
  for (const State::Angles& a : state_->angles)
    if (a.spec.scaling == RopeScaling::kDynamicNtk) form = std::max<std::int64_t>(form, ntk_level(a.spec, prompt_tokens));
  return form;
}

void RunningExecutor::observe(ProductObserver* observer) { state_->observer = observer; }

std::int64_t RunningExecutor::state_floats() const { return state_->state_floats; }

std::int32_t RunningExecutor::adapters() const { return state_->adapters.slots(); }

Result<PreparedAdapter> RunningExecutor::prepare_adapter(const LowRankAdapter& adapter) const {
  return PackedAdapter::create(state_->machine.kernels, state_->program, *state_->weights, adapter);
}

Status RunningExecutor::set_adapter(std::int32_t slot, PreparedAdapter adapter) {
  return state_->adapters.set(state_->machine, slot, std::move(adapter));
}

std::int64_t RunningExecutor::adapter_bytes(std::int32_t slot) const { return state_->adapters.bytes(slot); }

std::int64_t adapter_bytes(const PreparedAdapter& adapter) { return adapter->bytes(); }

std::int64_t RunningExecutor::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const PackedWeight& w : *state_->weights) bytes += static_cast<std::int64_t>(w.data.size());
  return bytes + state_->adapters.bytes();
}

std::int64_t RunningExecutor::arena_bytes() const {
  const State& s = *state_;
  std::size_t bytes = s.arena.size() + s.prepared.size() + s.head_rows.size() + s.logits.size() + s.probabilities.size() +
                      s.gate.size() + s.up.size() + s.keys.size() + s.gates.size() + s.outputs.size() + s.expert_scratch.size();
  for (const State::Angles& a : s.angles) bytes += a.cos.size() + a.sin.size();
  for (const auto& taps : s.conv_taps) bytes += taps.second.size();
  return static_cast<std::int64_t>(bytes);
}

std::span<float> RunningExecutor::logits(std::int64_t i) {
  State& s = *state_;
  QW_CHECK(s.done && i >= 0 && index(i) < s.batch.logit_rows.size());
  return {floats(s.logits) + i * outputs(), index(outputs())};
}

std::span<const float> RunningExecutor::kept(std::int64_t r) const {
  const State& s = *state_;
  const Value kept = s.program.kept;
  QW_CHECK(s.done && kept.id >= 0 && r >= 0 && r < s.rows);
  return {s.value(kept) + r * kept.width, index(kept.width)};
}

std::span<const float> RunningExecutor::final_hidden(std::int64_t r) const {
  const State& s = *state_;
  QW_CHECK(s.done && r >= 0 && r < s.rows);
  const Value hidden = s.head_op().in[0];
  return {s.value(hidden) + r * hidden.width, index(hidden.width)};
}

Value RunningExecutor::embed(Weight table) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kEmbed);
  const PackedWeight& w = s.weight(table);
  s.machine.pool.parallel_for(s.rows, kRowPiece, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      s.machine.kernels.unpack_row(w.type, w.data.data(), w.out, w.in, s.batch.tokens[index(r)],
                                   s.value(op.out) + r * w.in);
  });
  if (!s.batch.adapters.empty())
    s.adapters.add_look_up(s.machine, table, s.batch.adapters, s.batch.tokens, s.value(op.out));
  return op.out;
}

Value RunningExecutor::given(std::int32_t width) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kGiven);
  QW_CHECK(op.out.width == width);
  std::memcpy(s.value(op.out), s.batch.given.data(), s.batch.given.size_bytes());
  return op.out;
}

void RunningExecutor::keep(Value x) { QW_CHECK(state_->program.kept.id == x.id); }

Value RunningExecutor::rms_norm(Value x, Weight w, float eps) { return head_rms_norm(x, w, x.width, eps); }

Value RunningExecutor::head_rms_norm(Value x, Weight w, std::int32_t head_dim, float eps) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kRmsNorm);
  QW_CHECK(op.in[0].id == x.id && op.norm_width == head_dim);
  rms_norm_forward(s.machine, s.value(x), s.vector(w), eps, s.rows * (x.width / head_dim), head_dim, s.value(op.out),
                   nullptr, op.norm_sets);
  return op.out;
}

Value RunningExecutor::linear(Value x, Weight w, Weight bias) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kLinear);
  QW_CHECK(op.in[0].id == x.id && op.weight.id == w.id);
  const PackedWeight& packed = s.weight(w);
  if (s.observer != nullptr) s.observer->on_product(w, s.value(x), s.rows, x.width);
  packed_matmul(s.machine, packed, s.prepare(x, packed.type), s.rows, s.vector(bias), s.value(op.out));
  if (!s.adapter_rows.empty())
    s.adapters.add_product(s.machine, w, s.adapter_rows, s.value(x), s.vector(bias), s.value(op.out));
  return op.out;
}

Value RunningExecutor::rope(Value x, const RopeSpec& spec) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kRope);
  QW_CHECK(op.in[0].id == x.id);
  const auto a = std::find_if(s.angles.begin(), s.angles.end(), [&](const State::Angles& e) { return e.spec == spec; });
  QW_CHECK(a != s.angles.end());
  if (s.value(x) != s.value(op.out)) copy(s.machine, s.value(x), s.rows * x.width, s.value(op.out));
  rope_forward(s.machine, spec, floats(a->cos), floats(a->sin), s.rows, x.width, s.value(op.out));
  return op.out;
}

Value RunningExecutor::attention(Value q, Value k, Value v, const AttentionSpec& spec) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kAttention);
  QW_CHECK(op.in[0].id == q.id && op.in[1].id == k.id && op.in[2].id == v.id && op.attention.layer == spec.layer);
  s.write_cache(op);
  s.attend_all(op);
  return op.out;
}

Value RunningExecutor::swiglu(Value gate, Value up) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kSwiglu);
  QW_CHECK(op.in[0].id == gate.id && op.in[1].id == up.id);
  swiglu_forward(s.machine, s.value(gate), s.value(up), s.rows * gate.width, s.value(op.out));
  return op.out;
}

Value RunningExecutor::add(Value a, Value b) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kAdd);
  QW_CHECK(op.in[0].id == a.id && op.in[1].id == b.id);
  add_forward(s.machine, s.value(a), s.value(b), s.rows * a.width, s.value(op.out));
  return op.out;
}

Value RunningExecutor::experts(Value x, Value logits, const ExpertsSpec& spec) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kExperts);
  QW_CHECK(op.in[0].id == x.id && op.in[1].id == logits.id && op.experts.gate.id == spec.gate.id);
  s.run_experts(op);
  return op.out;
}

Value RunningExecutor::columns(Value x, std::int32_t begin, std::int32_t width) {
  return head_columns(x, begin, width, x.width);
}

Value RunningExecutor::head_columns(Value x, std::int32_t begin, std::int32_t width, std::int32_t head_dim) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kColumns);
  QW_CHECK(op.in[0].id == x.id && op.first_column == begin && op.column_group == head_dim &&
           op.out.width == width * op.groups());
  columns_forward(s.machine, s.value(x), s.rows * op.groups(), head_dim, begin, width, s.value(op.out));
  return op.out;
}

Value RunningExecutor::gate_rows(Value x, Value gate) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kGateRows);
  QW_CHECK(op.in[0].id == x.id && op.in[1].id == gate.id);
  gate_rows_forward(s.machine, s.value(x), s.value(gate), s.rows * gate.width, x.width / gate.width, s.value(op.out));
  return op.out;
}

Value RunningExecutor::short_conv(Value x, Weight w, const ShortConvSpec& spec) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kShortConv);
  QW_CHECK(op.in[0].id == x.id && op.weight.id == w.id && op.conv.state == spec.state);
  const StateView& states = *s.batch.states;
  const auto taps = std::find_if(s.conv_taps.begin(), s.conv_taps.end(), [&](const auto& e) { return e.first == w.id; });
  QW_CHECK(taps != s.conv_taps.end());
  for (const State::Stretch& t : s.stretches) {
    float* window = states.data + t.slot * states.slot_floats + spec.state;
    const ShortConvArgs args{.rows = t.rows,
                             .width = x.width,
                             .taps = s.weight(w).in,
                             .dilation = spec.dilation,
                             .x = s.value(x) + std::int64_t{t.first} * x.width,
                             .w = s.vector(w),
                             .y = s.value(op.out) + std::int64_t{t.first} * x.width};
    short_conv_forward(s.machine, args, floats(taps->second), t.fresh ? nullptr : window);
    short_conv_advance(args, t.fresh, window);
  }
  return op.out;
}

void RunningExecutor::State::run_delta_rule(const Op& op) {
  const DeltaRuleArgs args{.spec = op.delta,
                           .rows = rows,
                           .x = value(op.in[0]),
                           .forget = value(op.in[1]),
                           .write = value(op.in[2]),
                           .a_log = vector(op.weight),
                           .dt_bias = vector(op.bias),
                           .y = value(op.out),
                           .keys = floats(keys),
                           .gates = floats(gates)};
  delta_rule_prepare(machine, args);
  const StateView& states = *batch.states;
  const std::int64_t heads = op.delta.value_heads, size = std::int64_t{op.delta.key_dim} * op.delta.value_dim;
  for_pieces(machine.pool, static_cast<std::int64_t>(stretches.size()) * heads, [&](int, std::int64_t piece) {
    const Stretch& t = stretches[index(piece / heads)];
    const std::int64_t h = piece % heads;
    float* state = states.data + t.slot * states.slot_floats + op.delta.state + h * size;
    if (t.fresh) std::fill(state, state + size, 0.0f);
    delta_rule_run(machine, args, t.first, t.rows, static_cast<std::int32_t>(h), state);
  });
}

Value RunningExecutor::delta_rule(Value x, Value forget, Value write, Weight a_log, Weight dt_bias,
                                  const DeltaRuleSpec& spec) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kDeltaRule);
  QW_CHECK(op.in[0].id == x.id && op.in[1].id == forget.id && op.in[2].id == write.id && op.weight.id == a_log.id &&
           op.bias.id == dt_bias.id && op.delta.state == spec.state);
  s.run_delta_rule(op);
  return op.out;
}

Value RunningExecutor::scale(Value x, float factor) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kScale);
  QW_CHECK(op.in[0].id == x.id && op.factor == factor);
  scale_forward(s.machine, s.value(x), factor, s.rows * x.width, s.value(op.out));
  return op.out;
}

Value RunningExecutor::silu(Value x) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kSilu);
  QW_CHECK(op.in[0].id == x.id);
  silu_forward(s.machine, s.value(x), s.rows * x.width, s.value(op.out));
  return op.out;
}

Value RunningExecutor::match_rows(Value a, Value b, float scale) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kMatchRows);
  QW_CHECK(op.in[0].id == a.id && op.in[1].id == b.id && op.factor == scale);
  match_rows_forward(s.machine, s.value(a), s.value(b), scale, s.rows, a.width, s.value(op.out));
  return op.out;
}

Value RunningExecutor::ngrams(const NgramSpec& spec) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kNgrams);
  QW_CHECK(op.ngrams.table.id == spec.table.id && op.ngrams.state == spec.state);
  const StateView& states = *s.batch.states;
  for (const State::Stretch& t : s.stretches) {
    float* history = states.data + t.slot * states.slot_floats + spec.state;
    const auto tokens = s.batch.tokens.subspan(index(t.first), index(t.rows));
    for_rows(s.machine.pool, t.rows, [&](std::int64_t begin, std::int64_t end) {
      for_ngrams(spec, tokens, t.fresh ? nullptr : history, begin, end, [&](std::int64_t r, std::int32_t h, std::int64_t row) {
        const PackedWeight& w = s.weight({spec.table.id + static_cast<std::int32_t>(row / spec.rows_each)});
        s.machine.kernels.unpack_row(w.type, w.data.data(), w.out, w.in, row % spec.rows_each,
                                     s.value(op.out) + (t.first + r) * op.out.width + h * spec.dim);
      });
    });
    ngrams_advance(spec, tokens, t.fresh, history);
  }
  return op.out;
}

Value RunningExecutor::relu(Value x) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kRelu);
  QW_CHECK(op.in[0].id == x.id);
  relu_forward(s.machine, s.value(x), s.rows * x.width, s.value(op.out));
  return op.out;
}

Value RunningExecutor::concat(Value a, Value b) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kConcat);
  QW_CHECK(op.in[0].id == a.id && op.in[1].id == b.id);
  concat_forward(s.machine, s.value(a), a.width, s.value(b), b.width, s.rows, s.value(op.out));
  return op.out;
}

void RunningExecutor::head(Value x, Weight w) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kHead);
  QW_CHECK(op.in[0].id == x.id && op.weight.id == w.id);
  s.done = true;
  for (const State::Stretch& t : s.stretches)
    s.batch.states->tokens[index(t.slot)] = s.batch.positions[index(t.first)] + t.rows;
  const auto n = static_cast<std::int64_t>(s.batch.logit_rows.size());
  if (n == 0) return;
  float* const rows = floats(w.present() ? s.head_rows : s.logits);
  for (std::int64_t i = 0; i < n; ++i)
    std::memcpy(rows + i * x.width, s.value(x) + s.batch.logit_rows[index(i)] * x.width,
                index(x.width) * sizeof(float));
  if (!w.present()) return;
  const PackedWeight& packed = s.weight(w);
  if (s.observer != nullptr) s.observer->on_product(w, floats(s.head_rows), n, x.width);
  prepare_rows(s.machine, packed.type, floats(s.head_rows), n, x.width, s.prepared.data());
  s.prepared_value = -1;
  packed_matmul(s.machine, packed, s.prepared.data(), n, nullptr, floats(s.logits));
  if (!s.adapter_head_rows.empty())
    s.adapters.add_product(s.machine, w, s.adapter_head_rows, floats(s.head_rows), nullptr, floats(s.logits));
}

}  // namespace qw::ops
