// How the running executor takes rows through their experts.
#include <algorithm>
#include <cstring>
#include <utility>

#include "ops/internal/running_state.h"

namespace qw::ops {

// Rows of one expert that are copied at a time to be prepared.
constexpr std::int64_t kCopiedRows = 16;
// Pieces that each thread would take if all were alike.
constexpr std::int64_t kPiecesEach = 4;

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
  expert_pieces.reserve(std::max(expert_pieces.capacity(), index(assigned + kPiecesEach * machine.pool.size())));
  std::size_t bytes = 0;
  for (std::int32_t e = 0; e < spec.experts; ++e)
    for (const Weight first : {spec.gate, spec.up, spec.down}) {
      const PackedWeight& w = weight({first.id + e});
      bytes = std::max(bytes, align64(machine.kernels.prepared_bytes(w.type, options.max_rows, w.in)) +
                                  align64(index(kCopiedRows * w.in) * sizeof(float)));
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
  if (range.first < range.second)
    multiply_outputs(m, {&w, prepared, nullptr, y}, rows, w.out, range.first, range.second);
}

}  // namespace

// Some of the outputs of gate and up of one expert's rows, and SwiGLU of these, in place of gate's.
void RunningExecutor::State::expert_in(const Op& op, const ExpertPiece& p, std::byte* scratch) {
  const std::int64_t d = op.in[0].width, f = op.experts.width;
  auto* x = reinterpret_cast<float*>(scratch);
  std::byte* prepared_rows = scratch + align64(index(kCopiedRows * d) * sizeof(float));
  const auto prepare = [&](kernels::WeightType type) {
    for (std::int64_t begin = 0; begin < p.rows; begin += kCopiedRows) {
      const std::int64_t end = std::min<std::int64_t>(p.rows, begin + kCopiedRows);
      for (std::int64_t r = begin; r < end; ++r)
        std::memcpy(x + (r - begin) * d, value(op.in[0]) + routing.row[index(p.first + r)] * d, index(d) * sizeof(float));
      machine.kernels.prepare(type, x - begin * d, d, p.rows, d, prepared_rows, begin, end);
    }
  };
  const PackedWeight &gate_w = weight({op.experts.gate.id + p.expert}), &up_w = weight({op.experts.up.id + p.expert});
  const auto range = cut_range(machine, f, p.cut, p.cuts);
  float *const gates_of = floats(gate) + p.first * f, *const ups = floats(up) + p.first * f;
  prepare(gate_w.type);
  product(machine, gate_w, prepared_rows, p.rows, gates_of, range);
  if (up_w.type != gate_w.type) prepare(up_w.type);
  product(machine, up_w, prepared_rows, p.rows, ups, range);
  for (std::int64_t r = 0; r < p.rows; ++r) {
    const std::int64_t at = r * f + range.first;
    machine.kernels.swiglu(gates_of + at, ups + at, range.second - range.first, gates_of + at);
  }
}

// Some of the outputs of down.
void RunningExecutor::State::expert_out(const Op& op, const ExpertPiece& p, std::byte* scratch) {
  const std::int64_t d = op.out.width, f = op.experts.width;
  const PackedWeight& down = weight({op.experts.down.id + p.expert});
  machine.kernels.prepare(down.type, floats(gate) + p.first * f, f, p.rows, f, scratch, 0, p.rows);
  product(machine, down, scratch, p.rows, floats(outputs) + p.first * d, cut_range(machine, d, p.cut, p.cuts));
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
  for (std::int32_t e = 0; e < spec.experts; ++e)
    for (std::int32_t i = routing.begin[index(e)]; i < routing.begin[index(e) + 1]; ++i)
      observer->on_product({spec.down.id + e}, floats(gate) + i * f, 1, f);
}

// All rows of an expert go together, so that its weights come from memory once a step. Where they are more than a
// thread's fair part of all, their outputs are cut; and what is long begins first, for the threads to end together.
void RunningExecutor::State::plan_pieces(std::int32_t experts) {
  expert_pieces.clear();
  const std::int64_t assigned = routing.begin[index(experts)], parts = kPiecesEach * machine.pool.size();
  for (std::int32_t e = 0; e < experts; ++e) {
    const std::int32_t first = routing.begin[index(e)], n = routing.begin[index(e) + 1] - first;
    if (n == 0) continue;
    const auto cuts = static_cast<std::int32_t>(ceil_div(n * parts, assigned));
    for (std::int32_t cut = 0; cut < cuts; ++cut) expert_pieces.push_back({e, first, n, cut, cuts});
  }
  std::sort(expert_pieces.begin(), expert_pieces.end(), [](const ExpertPiece& a, const ExpertPiece& b) {
    const std::int64_t of_a = std::int64_t{a.rows} * b.cuts, of_b = std::int64_t{b.rows} * a.cuts;
    return of_a != of_b ? of_a > of_b : std::pair(a.expert, a.cut) < std::pair(b.expert, b.cut);
  });
}

void RunningExecutor::State::run_experts(const Op& op) {
  if (rows == 0) return;
  const ExpertsSpec& spec = op.experts;
  routing.top_k = spec.top_k;
  routing.begin.resize(index(spec.experts) + 1);  // within its capacity
  route(machine, spec, value(op.in[1]), rows, floats(probabilities), routing);
  plan_pieces(spec.experts);
  const auto n = static_cast<std::int64_t>(expert_pieces.size());
  const auto scratch = [&](int worker) { return expert_scratch.data() + scratch_bytes * index(worker); };
  if (observer != nullptr) show_experts_in(op);
  for_pieces(machine.pool, n, [&](int worker, std::int64_t i) { expert_in(op, expert_pieces[index(i)], scratch(worker)); });
  if (observer != nullptr) show_experts_out(op);
  for_pieces(machine.pool, n, [&](int worker, std::int64_t i) { expert_out(op, expert_pieces[index(i)], scratch(worker)); });
  combine(machine, routing, floats(outputs), rows, op.out.width, value(op.out));
}

}  // namespace qw::ops
