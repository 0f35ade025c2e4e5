#include "ops/running_executor.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "ops/delta_rule.h"
#include "ops/internal/forward_plan.h"
#include "ops/internal/running_state.h"
#include "ops/ngrams.h"
#include "ops/rope.h"
#include "ops/short_conv.h"

namespace qw::ops {
namespace {

// Query rows of one attention piece: keys are read once for all of them, and a long prompt still splits well. With two
// query heads to a key head they fill what the kernels take at once.
constexpr std::int64_t kQueryRows = 32;

}  // namespace

void RunningExecutor::State::place_values() {
  const std::vector<std::int32_t> roots = forward_roots(program, false);
  const std::int32_t after = region.back() + 1;
  std::vector<std::int32_t> last(roots.size(), 0);
  for (std::size_t v = 0; v < roots.size(); ++v)
    last[index(roots[v])] = std::max(last[index(roots[v])], region[index(program.last_use[v])]);
  last[index(roots[index(head_op().in[0].id)])] = after;  // final_hidden is read after the forward
  if (program.kept.id >= 0) last[index(roots[index(program.kept.id)])] = after;
  buffers.assign(roots.size(), -1);
  for (std::size_t v = 0; v < roots.size(); ++v)
    if (index(roots[v]) == v)
      buffers[v] = plan.add(options.max_rows * program.widths[v] * static_cast<std::int64_t>(sizeof(float)),
                            region[index(program.maker[v])], last[v]);
  for (std::size_t v = 0; v < roots.size(); ++v) buffers[v] = buffers[index(roots[v])];
  plan.solve();
}

void RunningExecutor::State::take_workspaces() {
  arena = tensor::Buffer(index(plan.bytes()));
  for (const Op& op : program.ops) {
    if (op.kind == OpKind::kShortConv) {
      const std::int64_t taps = weight(op.weight).in;
      state_floats = std::max(state_floats, op.conv.state + (taps - 1) * op.conv.dilation * op.out.width);
      conv_taps.emplace_back(op.weight.id, float_buffer(taps * op.out.width));
      short_conv_taps(vector(op.weight), taps, op.out.width, floats(conv_taps.back().second));
    }
    if (op.kind == OpKind::kNgrams) state_floats = std::max(state_floats, op.ngrams.state + op.ngrams.size - 1);
    if (op.kind == OpKind::kDeltaRule) {
      const DeltaRuleSpec& d = op.delta;
      state_floats = std::max(state_floats, d.state + d.state_floats());
      if (const std::int64_t n = options.max_rows * 2 * d.keys_width(); keys.size() < index(n) * sizeof(float)) keys = float_buffer(n);
      if (const std::int64_t n = options.max_rows * 2 * d.value_heads; gates.size() < index(n) * sizeof(float)) gates = float_buffer(n);
    }
    if (op.kind == OpKind::kAttention) {
      layers = std::max(layers, op.attention.layer + 1);
      if (op.index.ratio > 0) take_index_workspace(op);
    }
    if (op.kind != OpKind::kRope) continue;
    const bool known = std::any_of(angles.begin(), angles.end(), [&](const Angles& a) { return a.spec == op.rope; });
    const std::int64_t n = options.max_rows * (op.rope.rotary / 2);
    if (looks_at_prompts(op.rope)) prompt_rows.resize(index(options.max_rows));
    if (!known) angles.push_back({op.rope, rope_frequencies(op.rope), float_buffer(n), float_buffer(n)});
  }
  if (state_floats > 0) stretches.reserve(index(options.max_rows));
  for (const Op& op : program.ops)
    if (op.kind == OpKind::kExperts) plan_experts(op);
  head_rows = float_buffer(options.max_logit_rows * head_op().in[0].width);
  logits = float_buffer(options.max_logit_rows * row_width());
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

Status RunningExecutor::State::check_logit_rows(std::span<const std::int32_t> wanted, std::int64_t n) const {
  if (static_cast<std::int64_t>(wanted.size()) > options.max_logit_rows)
    return fail(ErrorKind::kUsage, "step asks for " + std::to_string(wanted.size()) + " rows of logits, may be " +
                                       std::to_string(options.max_logit_rows));
  for (const std::int32_t r : wanted)
    if (r < 0 || r >= n) return fail(ErrorKind::kUsage, "step: no row " + std::to_string(r) + " to give logits of");
  return {};
}

// Which of the wanted rows go through which adapter.
void RunningExecutor::State::group_head_rows() {
  head_adapters.clear();
  if (!batch.adapters.empty())
    for (const std::int32_t r : batch.logit_rows) head_adapters.push_back(batch.adapters[index(r)]);
  adapters.group(head_adapters, adapter_head_rows);
}

Status RunningExecutor::State::check(const StepBatch& b) const {
  const auto n = static_cast<std::int64_t>(b.tokens.size());
  if (n < 1 || n > options.max_rows)
    return fail(ErrorKind::kUsage,
                "step of " + std::to_string(n) + " rows, may be 1 to " + std::to_string(options.max_rows));
  if (b.positions.size() != b.tokens.size() || b.sequences.size() != b.tokens.size())
    return fail(ErrorKind::kUsage, "step: tokens, positions and sequences differ in length");
  QW_TRY(check_logit_rows(b.logit_rows, n));
  if (!b.adapters.empty() && b.adapters.size() != b.tokens.size())
    return fail(ErrorKind::kUsage, "step: tokens and adapters differ in length");
  for (const std::int32_t a : b.adapters)
    if (a != -1 && !adapters.has(a)) return fail(ErrorKind::kUsage, "step: there is no adapter " + std::to_string(a));
  if (b.cache == nullptr || b.cache->block_tokens <= 0 || b.cache->keys.size() < index(layers) ||
      b.cache->values.size() < index(layers))
    return fail(ErrorKind::kUsage, "step: the cache does not have the model's layers");
  if (index_work.spec.ratio > 0 && b.cache->index.size() < index(layers))
    return fail(ErrorKind::kUsage, "step: the cache has no room for the model's index");
  if (index_work.spec.ratio > 0 && b.cache->block_tokens > kMaxIndexedBlock)
    return fail(ErrorKind::kUsage, "step: blocks of the cache of more than " + std::to_string(kMaxIndexedBlock) + " tokens under an index");
  for (const Op& op : program.ops)
    if (op.kind == OpKind::kGiven && b.given.size() != b.tokens.size() * index(op.out.width))
      return fail(ErrorKind::kUsage, "step: " + std::to_string(b.given.size()) + " numbers are given, should be " +
                                         std::to_string(op.out.width) + " for each row");
  if (!prompt_rows.empty() && b.prompts.size() != b.tables.size())
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

void RunningExecutor::State::turn_all() {
  if (!prompt_rows.empty())
    for (std::int64_t r = 0; r < rows; ++r) prompt_rows[index(r)] = batch.prompts[index(batch.sequences[index(r)])];
  for (const Angles& a : angles)
    if (!unseen(a.spec))
      rope_angles(machine, a.spec, a.frequencies, batch.positions.data(), prompt_rows.empty() ? nullptr : prompt_rows.data(), rows,
                  floats(a.cos), floats(a.sin));
}

void RunningExecutor::State::find_runs() {
  const auto add = [&](std::vector<Run>& runs, std::int32_t row) {
    const bool follows = !runs.empty() && runs.back().rows < kQueryRows && runs.back().first + runs.back().rows == row &&
                         batch.sequences[index(row)] == batch.sequences[index(row - 1)] &&
                         batch.positions[index(row)] == batch.positions[index(row - 1)] + 1;
    if (follows) {
      ++runs.back().rows;
    } else {
      runs.push_back({row, 1});
    }
  };
  every.runs.clear();
  for (std::int32_t r = 0; r < rows; ++r) add(every.runs, r);
  going.runs.clear();
  for (const std::int32_t r : going_on) add(going.runs, r);
}

// The op of the program that the call in progress must be: the plan of buffers holds for no other order of calls.
const Op& RunningExecutor::State::next(OpKind kind) {
  if (cursor == tail && narrows && !narrowed) narrow();
  QW_CHECK(!done && (rows > 0 || narrowed) && cursor < program.ops.size() && program.ops[cursor].kind == kind);
  return program.ops[cursor++];
}

// The same for an op that is done at once, when all before it are, and what attention sees is in the cache.
const Op& RunningExecutor::State::now(OpKind kind) {
  const Op& op = next(kind);
  finish_rows(cursor - 1, {}, kind == OpKind::kAttention ? &op : nullptr);
  performed = cursor;
  return op;
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
    QW_ASSIGN(std::vector<PackedWeight> packed, pack_weights(machine, program, beside, weights, options.pack_cache));
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
  s.adapters.group(batch.adapters, s.adapter_rows);
  s.group_head_rows();
  s.cursor = 0;
  s.performed = 0;
  s.done = false;
  s.furthest = *std::max_element(batch.positions.begin(), batch.positions.end());
  s.place_tables();
  s.find_going_on();
  s.find_runs();
  s.plan_segments();
  s.plan_index();
  s.turn_all();
  return {};
}

std::int64_t RunningExecutor::outputs() const { return state_->row_width(); }

std::int64_t RunningExecutor::prompt_form(std::int64_t prompt_tokens) const {
  std::int64_t form = 0;
  for (const State::Angles& a : state_->angles)
    form = std::max(form, ops::prompt_form(a.spec, prompt_tokens));
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
  std::size_t bytes = s.arena.size() + s.head_rows.size() + s.logits.size() + s.probabilities.size() +
                      s.gate.size() + s.up.size() + s.keys.size() + s.gates.size() + s.outputs.size() + s.expert_scratch.size();
  for (const tensor::Buffer& b : s.prepared) bytes += b.size();
  for (const State::Angles& a : s.angles) bytes += a.cos.size() + a.sin.size();
  for (const auto& taps : s.conv_taps) bytes += taps.second.size();
  bytes += s.segment_sums.size();
  return static_cast<std::int64_t>(bytes) + s.index_work.bytes();
}

std::span<float> RunningExecutor::logits(std::int64_t i) {
  State& s = *state_;
  QW_CHECK(s.done && i >= 0 && index(i) < s.batch.logit_rows.size());
  return {floats(s.logits) + i * outputs(), index(outputs())};
}

std::span<const float> RunningExecutor::kept(std::int64_t r) const {
  const State& s = *state_;
  const Value kept = s.program.kept;
  const auto row = static_cast<std::int32_t>(r);
  QW_CHECK(s.done && kept.id >= 0 && r >= 0 && index(r) < s.batch.tokens.size() && s.is_there(row));
  return {s.value(kept) + s.place_of(row) * kept.width, index(kept.width)};
}

std::span<const float> RunningExecutor::final_hidden(std::int64_t r) const {
  const State& s = *state_;
  const auto row = static_cast<std::int32_t>(r);
  QW_CHECK(s.done && r >= 0 && index(r) < s.batch.tokens.size() && s.is_there(row));
  const Value hidden = s.head_op().in[0];
  return {s.value(hidden) + s.place_of(row) * hidden.width, index(hidden.width)};
}

Value RunningExecutor::embed(Weight table) {
  State& s = *state_;
  const Op& op = s.now(OpKind::kEmbed);
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
  const Op& op = s.now(OpKind::kGiven);
  QW_CHECK(op.out.width == width);
  std::memcpy(s.value(op.out), s.batch.given.data(), s.batch.given.size_bytes());
  return op.out;
}

void RunningExecutor::keep(Value x) { QW_CHECK(state_->program.kept.id == x.id); }

Value RunningExecutor::rms_norm(Value x, Weight w, float eps) { return head_rms_norm(x, w, x.width, eps); }

Value RunningExecutor::head_rms_norm(Value x, Weight w, std::int32_t head_dim, float eps) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kRmsNorm);
  QW_CHECK(op.in[0].id == x.id && op.weight.id == w.id && op.eps == eps && op.norm_width == head_dim);
  return op.out;
}

Value RunningExecutor::linear(Value x, Weight w, Weight bias) {
  Value y;
  const Product one{w, bias};
  products(x, {&one, 1}, {&y, 1});
  return y;
}

void RunningExecutor::products(Value x, std::span<const Product> of, std::span<Value> y) {
  State& s = *state_;
  const std::size_t first = s.cursor;
  for (std::size_t i = 0; i < of.size(); ++i) {
    const Op& op = s.next(OpKind::kLinear);
    QW_CHECK(op.in[0].id == x.id && op.weight.id == of[i].w.id && op.bias.id == of[i].bias.id &&
             op.together == (i == 0 ? static_cast<std::int32_t>(of.size()) : 0));
    y[i] = op.out;
  }
  s.multiply(first, of.size());
}

Value RunningExecutor::rope(Value x, const RopeSpec& spec) {
  const Op& op = state_->next(OpKind::kRope);
  QW_CHECK(op.in[0].id == x.id && op.rope == spec);
  return op.out;
}

Value RunningExecutor::attention(Value q, Value k, Value v, const AttentionSpec& spec) {
  State& s = *state_;
  const Op& op = s.now(OpKind::kAttention);
  QW_CHECK(op.in[0].id == q.id && op.in[1].id == k.id && op.in[2].id == v.id && op.attention.layer == spec.layer);
  QW_CHECK(op.index.ratio == 0);
  s.attend_all(op);
  return op.out;
}

Value RunningExecutor::chunked_attention(Value q, Value q_before, Value q_far, Value k, Value v, const AttentionSpec& spec) {
  State& s = *state_;
  const Op& op = s.now(OpKind::kAttention);
  QW_CHECK(op.in[0].id == q.id && op.in[1].id == k.id && op.in[2].id == v.id && op.in[3].id == q_before.id && op.in[4].id == q_far.id &&
           op.attention.layer == spec.layer && op.attention.chunk == spec.chunk);
  s.attend_all(op);
  return op.out;
}

Value RunningExecutor::indexed_attention(Value q, Value k, Value v, Value index_q, Value index_k, const AttentionSpec& spec,
                                         const IndexSpec& index) {
  State& s = *state_;
  const Op& op = s.now(OpKind::kAttention);
  QW_CHECK(op.in[0].id == q.id && op.in[1].id == k.id && op.in[2].id == v.id && op.in[3].id == index_q.id && op.in[4].id == index_k.id &&
           op.attention.layer == spec.layer && op.index.key_norm.id == index.key_norm.id);
  s.attend_indexed(op);
  return op.out;
}

Value RunningExecutor::swiglu(Value gate, Value up) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kSwiglu);
  QW_CHECK(op.in[0].id == gate.id && op.in[1].id == up.id);
  return op.out;
}

Value RunningExecutor::add(Value a, Value b) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kAdd);
  QW_CHECK(op.in[0].id == a.id && op.in[1].id == b.id);
  return op.out;
}

Value RunningExecutor::experts(Value x, Value logits, const ExpertsSpec& spec) {
  State& s = *state_;
  const Op& op = s.now(OpKind::kExperts);
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
  return op.out;
}

Value RunningExecutor::gate_rows(Value x, Value gate) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kGateRows);
  QW_CHECK(op.in[0].id == x.id && op.in[1].id == gate.id);
  return op.out;
}

Value RunningExecutor::short_conv(Value x, Weight w, const ShortConvSpec& spec) {
  State& s = *state_;
  const Op& op = s.now(OpKind::kShortConv);
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
  const std::int64_t heads = op.delta.value_heads, size = op.delta.head_state_floats();
  for_pieces(machine.pool, static_cast<std::int64_t>(stretches.size()) * heads, [&](int, std::int64_t piece) {
    const Stretch& t = stretches[index(piece / heads)];
    const std::int64_t h = piece % heads;
    float* state = states.data + t.slot * states.slot_floats + op.delta.state + h * size;
    delta_rule_run(machine, args, t.first, t.rows, batch.positions[index(t.first)], static_cast<std::int32_t>(h), state);
  });
}

Value RunningExecutor::delta_rule(Value x, Value forget, Value write, Weight a_log, Weight dt_bias,
                                  const DeltaRuleSpec& spec) {
  State& s = *state_;
  const Op& op = s.now(OpKind::kDeltaRule);
  QW_CHECK(op.in[0].id == x.id && op.in[1].id == forget.id && op.in[2].id == write.id && op.weight.id == a_log.id &&
           op.bias.id == dt_bias.id && op.delta.state == spec.state);
  s.run_delta_rule(op);
  return op.out;
}

Value RunningExecutor::scale(Value x, float factor) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kScale);
  QW_CHECK(op.in[0].id == x.id && op.factor == factor);
  return op.out;
}

Value RunningExecutor::silu(Value x) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kSilu);
  QW_CHECK(op.in[0].id == x.id);
  return op.out;
}

Value RunningExecutor::match_rows(Value a, Value b, float scale) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kMatchRows);
  QW_CHECK(op.in[0].id == a.id && op.in[1].id == b.id && op.factor == scale);
  return op.out;
}

Value RunningExecutor::ngrams(const NgramSpec& spec) {
  State& s = *state_;
  const Op& op = s.now(OpKind::kNgrams);
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
  return op.out;
}

Value RunningExecutor::concat(Value a, Value b) {
  State& s = *state_;
  const Op& op = s.next(OpKind::kConcat);
  QW_CHECK(op.in[0].id == a.id && op.in[1].id == b.id);
  return op.out;
}

void RunningExecutor::head(Value x, Weight w) {
  State& s = *state_;
  const Op& op = s.now(OpKind::kHead);
  QW_CHECK(op.in[0].id == x.id && op.weight.id == w.id);
  s.done = true;
  for (const State::Stretch& t : s.stretches)
    s.batch.states->tokens[index(t.slot)] = s.batch.positions[index(t.first)] + t.rows;
  s.give_logits(x, w);
}

Status RunningExecutor::compute_logits(std::span<const std::int32_t> rows) {
  State& s = *state_;
  QW_CHECK(s.done);
  QW_TRY(s.check_logit_rows(rows, static_cast<std::int64_t>(s.batch.tokens.size())));
  for (const std::int32_t r : rows)
    if (!s.is_there(r))
      return fail(ErrorKind::kUsage, "step: row " + std::to_string(r) + " was not taken to the end");
  s.batch.logit_rows = rows;
  s.group_head_rows();
  s.give_logits(s.head_op().in[0], s.head_op().weight);
  return {};
}

void RunningExecutor::State::give_logits(Value x, Weight w) {
  const auto n = static_cast<std::int64_t>(batch.logit_rows.size());
  if (n == 0) return;
  float* const to = floats(w.present() ? head_rows : logits);
  for (std::int64_t i = 0; i < n; ++i)
    std::memcpy(to + i * x.width, value(x) + place_of(batch.logit_rows[index(i)]) * x.width,
                index(x.width) * sizeof(float));
  if (!w.present()) return;
  const PackedWeight& packed = weight(w);
  if (observer != nullptr) observer->on_product(w, floats(head_rows), n, x.width);
  std::byte* const into = prepared[0].data();
  for_few_rows(machine.pool, n, [&](std::int64_t begin, std::int64_t end) {
    machine.kernels.prepare(packed.type, floats(head_rows), x.width, n, x.width, into, begin, end);
  });
  const PackedProduct product{&packed, into, nullptr, floats(logits)};
  packed_products(machine, {&product, 1}, n);
  if (!adapter_head_rows.empty())
    adapters.add_product(machine, w, adapter_head_rows, floats(head_rows), nullptr, floats(logits));
}

}  // namespace qw::ops
