#include "ops/internal/packed_weights.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "base/mapped_pages.h"
#include "ops/weight_type.h"
#include "tensor/blocks.h"
#include "tensor/groups.h"

namespace qw::ops {

std::optional<kernels::WeightType> weight_type(tensor::DType type) {
  using kernels::WeightType;
  switch (type) {
    case tensor::DType::kF32: return WeightType::kF32;
    case tensor::DType::kF16: return WeightType::kF16;
    case tensor::DType::kBF16: return WeightType::kBF16;
    case tensor::DType::kQ8_0: return WeightType::kQ8_0;
    case tensor::DType::kQ4_0: return WeightType::kQ4_0;
    case tensor::DType::kQ4_1: return WeightType::kQ4_1;
    case tensor::DType::kQ5_0: return WeightType::kQ5_0;
    case tensor::DType::kQ5_1: return WeightType::kQ5_1;
    case tensor::DType::kQ2_K: return WeightType::kQ2_K;
    case tensor::DType::kQ3_K: return WeightType::kQ3_K;
    case tensor::DType::kQ4_K: return WeightType::kQ4_K;
    case tensor::DType::kQ5_K: return WeightType::kQ5_K;
    case tensor::DType::kQ6_K: return WeightType::kQ6_K;
    case tensor::DType::kIQ4_NL: return WeightType::kIQ4_NL;
    case tensor::DType::kIQ4_XS: return WeightType::kIQ4_XS;
    case tensor::DType::kMXFP4: return WeightType::kMXFP4;
    case tensor::DType::kQ4_Z: return WeightType::kGroups4;
    default: return std::nullopt;
  }
}

namespace {

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
    mark(op.index.key_norm, Use::kVector);
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

// A piece of the work: some rows of one weight.
struct Piece {
  std::size_t weight;
  std::int64_t begin, end;
};
// Bytes of a file that one piece packs, about: small enough to share a token table out over many threads.
constexpr std::int64_t kPieceBytes = 1 << 20;

void pack_rows(const Machine& m, const tensor::ConstView& stored, Use use, const Piece& piece, PackedWeight& w) {
  tensor::Buffer own;  // for as long as it takes to pack them
  const std::int64_t rows = piece.end - piece.begin;
  const tensor::ConstView view =
      tensor::in_memory(use == Use::kVector ? stored : tensor::rows_of(stored, piece.begin, rows), own);
  const std::int64_t columns = view.shape.back(), row_bytes = tensor::row_bytes(view.dtype, columns);
  if (use != Use::kMatrix) {
    auto* to = reinterpret_cast<float*>(w.data.data()) + piece.begin * w.in;
    for (std::int64_t r = 0; r < view.shape.rows(); ++r)
      tensor::decode_row(view.dtype, view.data + r * row_bytes, columns, to + r * columns);
    return;
  }
  std::byte* to = w.data.data() + m.kernels.packed_bytes(w.type, piece.begin, w.in);
  if (view.dtype != tensor::DType::kQ4_Z) return m.kernels.pack(w.type, view.data, rows, w.in, to);
  const std::int64_t groups = w.in / 32;
  std::vector<tensor::Groups4> opened(static_cast<std::size_t>(rows * groups));
  for (std::int64_t r = 0; r < rows; ++r)
    tensor::open_groups(view.dtype, view.data + r * row_bytes, w.in, opened.data() + r * groups);
  m.kernels.pack(w.type, opened.data(), rows, w.in, to);
}

void describe(const tensor::ConstView& view, Use use, PackedWeight& w) {
  w.out = view.shape[0];
  w.in = use == Use::kVector ? 1 : view.shape[1];
  if (use == Use::kMatrix) w.type = *weight_type(view.dtype);
}
std::size_t bytes_of(const Machine& m, const PackedWeight& w, Use use) {
  return use == Use::kMatrix ? m.kernels.packed_bytes(w.type, w.out, w.in)
                             : static_cast<std::size_t>(w.out * w.in) * sizeof(float);
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
  std::size_t total = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (use[i] == Use::kNone) continue;
    describe(weights[i], use[i], packed[i]);
    total += align64(bytes_of(m, packed[i], use[i]));
  }
  // All in one buffer, which then lies in large pages.
  const auto memory = std::make_shared<const tensor::Buffer>(total);
  std::vector<Piece> pieces;
  std::size_t place = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (use[i] == Use::kNone) continue;
    PackedWeight& w = packed[i];
    const std::size_t bytes = bytes_of(m, w, use[i]);
    w.data = WeightBytes(memory, place, bytes);
    place += align64(bytes);
    const std::int64_t row_bytes = tensor::row_bytes(weights[i].dtype, weights[i].shape.back());
    const std::int64_t rows = use[i] == Use::kVector ? w.out : round_up(ceil_div(kPieceBytes, row_bytes), m.kernels.out_granule);
    for (std::int64_t r = 0; r < w.out; r += rows) pieces.push_back({i, r, std::min(w.out, r + rows)});
  }
  for_pieces(m.pool, static_cast<std::int64_t>(pieces.size()), [&](int, std::int64_t p) {
    const Piece& piece = pieces[static_cast<std::size_t>(p)];
    const tensor::ConstView& stored = weights[piece.weight];
    pack_rows(m, stored, use[piece.weight], piece, packed[piece.weight]);
    if (stored.data == nullptr || use[piece.weight] == Use::kVector) return;
    // Else weights would take memory twice until the last of them is packed.
    const std::int64_t row_bytes = tensor::row_bytes(stored.dtype, stored.shape.back());
    base::let_go_of_pages({stored.data + piece.begin * row_bytes, static_cast<std::size_t>((piece.end - piece.begin) * row_bytes)});
  });
  return packed;
}

void packed_products(const Machine& m, std::span<const PackedProduct> products, std::int64_t rows) {
  const std::int64_t granule = m.kernels.out_granule;
  const auto panels = [&](const PackedProduct& p) { return ceil_div(p.weight->out, granule); };
  std::int64_t all = 0;
  for (const PackedProduct& p : products) all += panels(p);
  // How outputs are split does not change them (kernels.h, batch invariance).
  m.pool.parallel_ranges(all, [&](std::int64_t begin, std::int64_t end) {
    for (const PackedProduct& p : products) {
      const std::int64_t n = panels(p), first = std::max<std::int64_t>(begin, 0), last = std::min(end, n);
      if (first < last) {
        m.kernels.matmul({.type = p.weight->type,
                          .packed = p.weight->data.data(),
                          .prepared = p.prepared,
                          .bias = p.bias,
                          .y = p.y,
                          .ldy = p.weight->out,
                          .rows = rows,
                          .out = p.weight->out,
                          .in = p.weight->in,
                          .out_begin = first * granule,
                          .out_end = std::min(last * granule, p.weight->out)});
      }
      begin -= n;
      end -= n;
    }
  });
}

}  // namespace qw::ops
