// How the running executor takes rows from one product to the next: what a row needs of no other row (norms, rotation,
// gates, sums, writing to the cache, preparing for the next product) is put off until something needs the rows, and
// then done for a few rows at a time, all of it, while they are in a near cache. Threads meet once for all of that, and
// once for the products of one value; for a few rows they need not meet but for the products.
#include <algorithm>

#include "ops/elementwise.h"
#include "ops/experts.h"
#include "ops/internal/running_state.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"

namespace qw::ops {

bool row_by_row(OpKind kind) {
  switch (kind) {
    case OpKind::kRmsNorm:
    case OpKind::kRope:
    case OpKind::kSwiglu:
    case OpKind::kAdd:
    case OpKind::kColumns:
    case OpKind::kGateRows:
    case OpKind::kScale:
    case OpKind::kSilu:
    case OpKind::kMatchRows:
    case OpKind::kRelu:
    case OpKind::kConcat:
      return true;
    default:
      return false;
  }
}

namespace {

// Values whose next rows come into a near cache while these are worked on: another thread wrote half of what is read,
// and what is written was last looked at a layer ago.
class RowsAhead {
 public:
  void add(const float* x, std::int64_t width, bool written) {
    for (std::size_t i = 0; i < count_; ++i)
      if (of_[i].x == x) return;
    if (count_ < of_.size()) of_[count_++] = {x, width, written};
  }
  void ask(std::int64_t begin, std::int64_t end) const {
    for (std::size_t i = 0; i < count_; ++i) {
      const float *at = of_[i].x + begin * of_[i].width, *const last = of_[i].x + end * of_[i].width;
      if (of_[i].written) {
        for (; at < last; at += 16) __builtin_prefetch(at, 1, 2);
      } else {
        for (; at < last; at += 16) __builtin_prefetch(at, 0, 2);
      }
    }
  }

 private:
  struct Rows {
    const float* x;
    std::int64_t width;
    bool written;
  };
  std::array<Rows, 12> of_;
  std::size_t count_ = 0;
};

}  // namespace

// Values that live in one region have places of their own, in whatever order its rows are done.
void RunningExecutor::State::plan_regions() {
  std::int32_t current = -1;
  for (std::size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    const bool goes_on = op.together == 0 || (i > 0 && row_by_row(op.kind) && row_by_row(program.ops[i - 1].kind));
    if (!goes_on) ++current;
    region.push_back(current);
  }
}

// Where the rows of each product are prepared: of one call each kind has its own place, and a later product of the same
// value finds it as long as nothing else was put there.
void RunningExecutor::State::plan_preparing() {
  struct Held {
    std::int32_t value;
    kernels::WeightType kind;
    std::size_t bytes;
  };
  std::vector<Held> held(1, {-1, kernels::WeightType::kF32, 0});
  preparing.assign(program.ops.size(), {0, false});
  std::size_t used = 0;  // places, by the products of the call so far
  for (std::size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    if (op.kind == OpKind::kHead && op.weight.present())
      held[0].bytes = std::max(held[0].bytes, machine.kernels.prepared_bytes(weight(op.weight).type,
                                                                             options.max_logit_rows, op.in[0].width));
    if (i == tail)
      for (Held& h : held) h.value = -1;  // rows may have moved
    if (op.kind != OpKind::kLinear) continue;
    if (op.together > 0) used = 0;
    const kernels::WeightType type = weight(op.weight).type, kind = machine.kernels.prepared_as(type);
    std::size_t at = 0;
    while (at < held.size() && !(held[at].value == op.in[0].id && held[at].kind == kind)) ++at;
    preparing[i].now = at == held.size();
    if (preparing[i].now) {
      at = used;
      if (at == held.size()) held.push_back({});
      held[at].value = op.in[0].id;
      held[at].kind = kind;
      held[at].bytes = std::max(held[at].bytes, machine.kernels.prepared_bytes(type, options.max_rows, op.in[0].width));
    }
    used = std::max(used, at + 1);
    preparing[i].into = static_cast<std::int32_t>(at);
  }
  for (const Held& h : held) prepared.emplace_back(h.bytes);
}

// Rows [begin, end) of an op that takes rows one by one.
void RunningExecutor::State::perform_rows(const Op& op, std::int64_t begin, std::int64_t end) {
  const Machine alone{machine.kernels, lone_thread};
  const std::int64_t n = end - begin;
  const auto rows_of = [&](Value v) { return value(v) + begin * v.width; };
  const Value x = op.in[0], b = op.in[1];
  float* const y = rows_of(op.out);
  switch (op.kind) {
    case OpKind::kRmsNorm:
      return rms_norm_forward(alone, rows_of(x), vector(op.weight), op.eps, n * (x.width / op.norm_width),
                              op.norm_width, y, nullptr, op.norm_sets);
    case OpKind::kRope: {
      const auto a = std::find_if(angles.begin(), angles.end(), [&](const Angles& e) { return e.spec == op.rope; });
      QW_CHECK(a != angles.end());
      if (unseen(op.rope)) return;
      if (rows_of(x) != y) copy(alone, rows_of(x), n * x.width, y);
      const std::int64_t half = op.rope.rotary / 2;
      return rope_forward(alone, op.rope, floats(a->cos) + begin * half, floats(a->sin) + begin * half, n, x.width, y);
    }
    case OpKind::kSwiglu:
      return swiglu_forward(alone, rows_of(x), rows_of(b), n * x.width, y);
    case OpKind::kAdd:
      return add_forward(alone, rows_of(x), rows_of(b), n * x.width, y);
    case OpKind::kColumns:
      return columns_forward(alone, rows_of(x), n * op.groups(), op.column_group, op.first_column,
                             op.out.width / op.groups(), y);
    case OpKind::kGateRows:
      return gate_rows_forward(alone, rows_of(x), rows_of(b), n * b.width, x.width / b.width, y);
    case OpKind::kScale:
      return scale_forward(alone, rows_of(x), op.factor, n * x.width, y);
    case OpKind::kSilu:
      return silu_forward(alone, rows_of(x), n * x.width, y);
    case OpKind::kMatchRows:
      return match_rows_forward(alone, rows_of(x), rows_of(b), op.factor, n, x.width, y);
    case OpKind::kRelu:
      return relu_forward(alone, rows_of(x), n * x.width, y);
    case OpKind::kConcat:
      return concat_forward(alone, rows_of(x), x.width, rows_of(b), b.width, n, y);
    default:
      QW_CHECK(false);
  }
}

// Does what has been put off of ops before `upto`; then keys and values of `cached` go to the cache, and rows are
// prepared for `products`, as they are planned.
void RunningExecutor::State::finish_rows(std::size_t upto, std::span<const Op> products, const Op* cached) {
  const std::span<const Op> ops = std::span(program.ops).subspan(performed, upto - performed);
  const std::size_t first = products.empty() ? 0 : static_cast<std::size_t>(products.data() - program.ops.data());
  const auto prepare = [&](std::size_t i) { return preparing[first + i].now; };
  performed = upto;
  bool any = !ops.empty() || cached != nullptr;
  for (std::size_t i = 0; i < products.size(); ++i) any |= prepare(i);
  if (!any) return;
  RowsAhead ahead;
  const auto is_made_here = [&](std::int32_t id) {
    return std::any_of(ops.begin(), ops.end(), [&](const Op& op) { return op.out.id == id; });
  };
  const auto reads = [&](Value v) {
    if (!is_made_here(v.id)) ahead.add(value(v), v.width, false);
  };
  if (rows > kFewRows) {  // else there are no next ones
    for (const Op& op : ops) {
      for (int i = 0; i < op.inputs(); ++i) reads(op.in[i]);
      ahead.add(value(op.out), op.out.width, true);
    }
    for (std::size_t i = 0; i < products.size(); ++i)
      if (prepare(i)) reads(products[i].in[0]);
  }
  for_few_rows(machine.pool, rows, [&](std::int64_t begin, std::int64_t end) {
    ahead.ask(end, std::min(rows, end + kFewRows));
    for (const Op& op : ops) perform_rows(op, begin, end);
    if (cached != nullptr) write_cache(*cached, begin, end);
    for (std::size_t i = 0; i < products.size(); ++i) {
      const Value x = products[i].in[0];
      if (prepare(i))
        machine.kernels.prepare(weight(products[i].weight).type, value(x), x.width, rows, x.width,
                                prepared[index(preparing[first + i].into)].data(), begin, end);
    }
  });
}

// Whether nothing but the SwiGLU behind two products reads them, in this step.
bool RunningExecutor::State::are_gated(std::size_t first, std::size_t n) const {
  constexpr std::int64_t kFewest = 32;  // fewer rows leave a near cache to what memory brings
  if (n != 2 || first + n >= program.ops.size() || rows < kFewest || rows > kMostGatedRows) return false;
  if (observer != nullptr || !adapter_rows.empty()) return false;
  const Op& op = program.ops[first + n];
  if (op.kind != OpKind::kSwiglu) return false;
  for (std::size_t i = 0; i < n; ++i) {
    const Value made = program.ops[first + i].out;
    if (op.in[i].id != made.id || program.kept.id == made.id ||
        program.last_use[index(made.id)] != static_cast<std::int32_t>(first + n))
      return false;
  }
  return true;
}

// Products [first, first + n) of the program, which are of one value, all at once.
void RunningExecutor::State::multiply(std::size_t first, std::size_t n) {
  const std::span<const Op> ops = std::span(program.ops).subspan(first, n);
  finish_rows(first, ops);
  performed = first + n;
  if (rows == 0) return;
  const Value x = ops[0].in[0];
  std::array<PackedProduct, kMostProducts> all;
  for (std::size_t i = 0; i < n; ++i) {
    if (observer != nullptr) observer->on_product(ops[i].weight, value(x), rows, x.width);
    all[i] = {&weight(ops[i].weight), prepared[index(preparing[first + i].into)].data(), vector(ops[i].bias),
              value(ops[i].out)};
  }
  if (are_gated(first, n)) {
    performed = first + n + 1;
    return gated_products(machine, all[0], all[1], rows, value(program.ops[first + n].out));
  }
  packed_products(machine, {all.data(), n}, rows);
  if (adapter_rows.empty()) return;
  for (std::size_t i = 0; i < n; ++i)
    adapters.add_product(machine, ops[i].weight, adapter_rows, value(x), all[i].bias, all[i].y);
}

}  // namespace qw::ops
