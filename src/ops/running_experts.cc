// How the running executor takes rows through their experts.
#include <algorithm>
#include <cstring>
#include <utility>

#include "ops/internal/running_state.h"

namespace qw::ops {

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
  if (range.first < range.second)
    multiply_outputs(m, {&w, prepared, nullptr, y}, rows, w.out, range.first, range.second);
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

}  // namespace qw::ops
