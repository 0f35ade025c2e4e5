// Rows that end early: behind the last op that looks from row to row, only those go on whose outputs are asked for. Of a
// prompt that is its last row, or none.
#include <algorithm>
#include <cstring>

#include "ops/internal/forward_plan.h"
#include "ops/internal/running_state.h"

namespace qw::ops {
namespace {

// Whether an op looks at other rows, or at what lies in the order of all rows: tokens, angles. Any does that is not known
// to take its rows one by one.
bool needs_every_row(OpKind kind) {
  switch (kind) {
    case OpKind::kRope: return true;
    case OpKind::kLinear:
    case OpKind::kExperts:
    case OpKind::kHead: return false;
    default: return !row_by_row(kind);
  }
}

}  // namespace

void RunningExecutor::State::plan_tail() {
  for (std::size_t i = 0; i < program.ops.size(); ++i)
    if (needs_every_row(program.ops[i].kind)) tail = i + 1;
  const std::vector<std::int32_t> roots = forward_roots(program, false);
  const auto before_tail = [&](std::int32_t op) { return index(op) < tail; };
  for (std::size_t v = 0; v < roots.size(); ++v) {
    const bool is_kept = program.kept.id == static_cast<std::int32_t>(v);
    if (!before_tail(program.maker[v]) || (before_tail(program.last_use[v]) && !is_kept)) continue;
    const bool known = std::any_of(crossing.begin(), crossing.end(), [&](std::int32_t c) { return roots[index(c)] == roots[v]; });
    if (!known) crossing.push_back(static_cast<std::int32_t>(v));
  }
  going_on.reserve(index(options.max_logit_rows));
  going_adapters.reserve(index(options.max_logit_rows));
  going.runs.reserve(index(options.max_logit_rows));
}

void RunningExecutor::State::find_going_on() {
  narrows = narrowed = false;
  going_on.clear();
  if (!batch.only_logit_rows || observer != nullptr) return;
  going_on.assign(batch.logit_rows.begin(), batch.logit_rows.end());
  std::sort(going_on.begin(), going_on.end());
  going_on.erase(std::unique(going_on.begin(), going_on.end()), going_on.end());
  narrows = static_cast<std::int64_t>(going_on.size()) < rows;
  if (!narrows) going_on.clear();
}

// Moves the rows that go on together. Each moves to a place at or before its own, so none is lost on the way.
void RunningExecutor::State::narrow() {
  QW_CHECK(performed == tail);
  for (const std::int32_t v : crossing) {
    const std::int64_t width = program.widths[index(v)];
    float* const x = value({v, static_cast<std::int32_t>(width)});
    for (std::size_t i = 0; i < going_on.size(); ++i)
      if (index(going_on[i]) != i)
        std::memcpy(x + static_cast<std::int64_t>(i) * width, x + going_on[i] * width, index(width) * sizeof(float));
  }
  if (!batch.adapters.empty()) {
    going_adapters.clear();
    for (const std::int32_t r : going_on) going_adapters.push_back(batch.adapters[index(r)]);
    adapters.group(going_adapters, adapter_rows);
  }
  rows = static_cast<std::int64_t>(going_on.size());
  narrowed = true;
}

std::int64_t RunningExecutor::State::place_of(std::int32_t row) const {
  return narrowed ? std::lower_bound(going_on.begin(), going_on.end(), row) - going_on.begin() : row;
}

}  // namespace qw::ops
