#include "ops/internal/packed_weights.h"

#include <algorithm>
#include <optional>
#include <string>

#include "tensor/blocks.h"
#include "tensor/groups.h"

namespace qw::ops {
namespace {

std::optional<kernels::WeightType> weight_type(tensor::DType type) {
  switch (type) {
    case tensor::DType::kF32:
      return kernels::WeightType::kF32;
    case tensor::DType::kF16:
      return kernels::WeightType::kF16;
    case tensor::DType::kBF16:
      return kernels::WeightType::kBF16;
    case tensor::DType::kQ8_0:
      return kernels::WeightType::kQ8_0;
    case tensor::DType::kQ4_0:
      return kernels::WeightType::kQ4_0;
    default:
      if (!tensor::has_groups(type)) return std::nullopt;
      return tensor::fits_groups4(type) ? kernels::WeightType::kGroups4 : kernels::WeightType::kGroups8;
  }
}

// Block formats the kernels do not take as they lie in a file are opened some rows at a time: the opened copy is up to
// three times as large as the file's bytes and must not stand in memory for a whole token table.
template <class Group>
void pack_opened(const kernels::Kernels& k, const tensor::ConstView& view, PackedWeight& w) {
  constexpr std::int64_t kRows = 64;
  const std::int64_t step = round_up(kRows, k.out_granule), groups = w.in / 32;
  const std::int64_t row_bytes = tensor::row_bytes(view.dtype, w.in);
  std::vector<Group> opened(static_cast<std::size_t>(std::min(step, w.out) * groups));
  for (std::int64_t o = 0; o < w.out; o += step) {
    const std::int64_t rows = std::min(step, w.out - o);
    for (std::int64_t r = 0; r < rows; ++r)
      tensor::open_groups(view.dtype, view.data + (o + r) * row_bytes, w.in, opened.data() + r * groups);
    k.pack(w.type, opened.data(), rows, w.in, w.data.data() + k.packed_bytes(w.type, o, w.in));
  }
}

enum class Use : std::uint8_t { kNone, kMatrix, kVector, kTable };  // kTable: a matrix that no product uses

void note_uses(const Program& program, std::vector<Use>& use) {
  auto mark = [&](Weight w, Use how) {
    if (!w.present()) return;
    QW_CHECK(static_cast<std::size_t>(w.id) < use.size());
    use[static_cast<std::size_t>(w.id)] = how;
  };
  for (const Op& op : program.ops) {
    const bool vector = op.kind == OpKind::kRmsNorm || op.kind == OpKind::kDeltaRule;
    mark(op.weight, vector ? Use::kVector : op.kind == OpKind::kShortConv ? Use::kTable : Use::kMatrix);
    mark(op.bias, Use::kVector);
    for (std::int32_t t = 0; op.kind == OpKind::kNgrams && t < op.ngrams.tables; ++t)
      mark({op.ngrams.table.id + t}, Use::kMatrix);
    for (std::int32_t e = 0; op.kind == OpKind::kExperts && e < op.experts.experts; ++e)
      for (const Weight first : {op.experts.gate, op.experts.up, op.experts.down}) mark({first.id + e}, Use::kMatrix);
  }
}

Status check(const tensor::ConstView& view, Use use, std::size_t id) {
  auto bad = [&](const std::string& what) {
    return fail(ErrorKind::kBadInput, "parameter " + std::to_string(id) + ": " + what);
  };
  if (view.empty()) return bad("missing");
  if (!weight_type(view.dtype))
    return bad("weights of type " + std::string(tensor::name(view.dtype)) + " cannot be used");
  const int rank = use == Use::kVector ? 1 : 2;
  if (view.shape.rank() != rank || view.shape.elements() <= 0)
    return bad("shape " + view.shape.to_string() + " is not of rank " + std::to_string(rank));
  if (view.shape.back() % tensor::info(view.dtype).block_elements != 0)
    return bad("rows of " + std::to_string(view.shape.back()) + " are not whole blocks of " +
               std::string(tensor::name(view.dtype)));
  return {};
}

PackedWeight pack(const Machine& m, const tensor::ConstView& stored, Use use) {
  tensor::Buffer own;  // for as long as it takes to pack it
  const tensor::ConstView view = tensor::in_memory(stored, own);
  PackedWeight w;
  if (use != Use::kMatrix) {
    w.out = view.shape[0];
    w.in = use == Use::kTable ? view.shape[1] : 1;
    w.data = tensor::Buffer(static_cast<std::size_t>(w.out * w.in) * sizeof(float));
    auto* to = reinterpret_cast<float*>(w.data.data());
    const std::int64_t columns = view.shape.back(), row = tensor::row_bytes(view.dtype, columns);
    for (std::int64_t r = 0; r < view.shape.rows(); ++r)
      tensor::decode_row(view.dtype, view.data + r * row, columns, to + r * columns);
    return w;
  }
  w.type = *weight_type(view.dtype);
  w.out = view.shape[0];
  w.in = view.shape[1];
  w.data = tensor::Buffer(m.kernels.packed_bytes(w.type, w.out, w.in));
  if (w.type == kernels::WeightType::kGroups8) {
    pack_opened<tensor::Groups8>(m.kernels, view, w);
  } else if (w.type == kernels::WeightType::kGroups4) {
    pack_opened<tensor::Groups4>(m.kernels, view, w);
  } else {
    m.kernels.pack(w.type, view.data, w.out, w.in, w.data.data());
  }
  return w;
}

}  // namespace

Result<std::vector<PackedWeight>> pack_weights(const Machine& m, const Program& program, const Program* beside,
                                               std::span<const tensor::ConstView> weights) {
  std::vector<Use> use(weights.size(), Use::kNone);
  note_uses(program, use);
  if (beside != nullptr) note_uses(*beside, use);
  for (std::size_t i = 0; i < weights.size(); ++i)
    if (use[i] != Use::kNone) QW_TRY(check(weights[i], use[i], i));
  std::vector<PackedWeight> packed(weights.size());
  for_pieces(m.pool, static_cast<std::int64_t>(weights.size()), [&](int, std::int64_t piece) {
    const auto i = static_cast<std::size_t>(piece);
    if (use[i] != Use::kNone) packed[i] = pack(m, weights[i], use[i]);
  });
  return packed;
}

void packed_matmul(const Machine& m, const PackedWeight& w, const void* prepared, std::int64_t rows, const float* bias,
                   float* y) {
  // Four pieces a thread balance the load; how outputs are split does not change them (kernels.h, batch invariance).
  const std::int64_t pieces = 4 * m.pool.size();
  const std::int64_t grain = round_up(ceil_div(w.out, pieces), m.kernels.out_granule);
  m.pool.parallel_for(w.out, grain, [&](std::int64_t begin, std::int64_t end) {
    m.kernels.matmul({.type = w.type,
                      .packed = w.data.data(),
                      .prepared = prepared,
                      .bias = bias,
                      .y = y,
                      .ldy = w.out,
                      .rows = rows,
                      .out = w.out,
                      .in = w.in,
                      .out_begin = begin,
                      .out_end = end});
  });
}

void prepare_rows(const Machine& m, kernels::WeightType type, const float* x, std::int64_t rows, std::int64_t in,
                  void* prepared) {
  constexpr std::int64_t kPiece = 16;  // rows; preparing is a pass over memory, cheap beside the product
  m.pool.parallel_for(rows, kPiece, [&](std::int64_t begin, std::int64_t end) {
    m.kernels.prepare(type, x, in, rows, in, prepared, begin, end);
  });
}

}  // namespace qw::ops
