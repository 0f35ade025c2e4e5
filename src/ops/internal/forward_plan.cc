#include "ops/internal/forward_plan.h"

#include "base/result.h"
#include "ops/internal/index.h"

namespace qw::ops {

std::vector<std::int32_t> reader_counts(const Program& program) {
  std::vector<std::int32_t> readers(program.widths.size(), 0);
  for (const Op& op : program.ops)
    for (int i = 0; i < op.inputs(); ++i) ++readers[index(op.in[i].id)];
  if (program.kept.id >= 0) ++readers[index(program.kept.id)];
  return readers;
}

std::vector<std::int32_t> forward_roots(const Program& program, bool keep_attention) {
  const std::vector<std::int32_t> readers = reader_counts(program);
  std::vector<std::int32_t> roots(program.widths.size());
  auto may_overwrite = [&](Value v) {
    const OpKind made_by = program.ops[index(program.maker[index(v.id)])].kind;
    return readers[index(v.id)] == 1 && !(keep_attention && made_by == OpKind::kAttention);
  };
  for (const Op& op : program.ops) {
    if (op.out.id < 0) continue;
    std::int32_t& root = roots[index(op.out.id)];
    root = op.out.id;
    const bool in_place =
        op.kind == OpKind::kRope || op.kind == OpKind::kEnterGroup || op.kind == OpKind::kSumGroup;
    if (in_place && may_overwrite(op.in[0])) root = roots[index(op.in[0].id)];
    if (op.kind == OpKind::kAdd) {
      if (may_overwrite(op.in[1])) {
        root = roots[index(op.in[1].id)];
      } else if (may_overwrite(op.in[0])) {
        root = roots[index(op.in[0].id)];
      }
    }
  }
  return roots;
}

}  // namespace qw::ops
