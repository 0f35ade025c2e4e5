#include "ops/internal/packed_weights.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/mapped_pages.h"
#include "base/sha256.h"
#include "ops/pack_cache.h"
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

// Fills the places of all that is used.
void pack_all(const Machine& m, std::span<const tensor::ConstView> weights, const std::vector<Use>& use, std::vector<PackedWeight>& packed) {
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (use[i] == Use::kNone) continue;
    const PackedWeight& w = packed[i];
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
}

// Changes whenever what stands for a weight, or how it is packed, is no longer what it was; nothing where weights are made and not
// read from files. Files are told by their identity: reading them would take as long as packing.
std::optional<std::string> cache_key(const Machine& m, std::span<const tensor::ConstView> weights, const std::vector<Use>& use) {
  base::Sha256 hash;
  const auto number = [&](std::uint64_t n) { hash.update(std::as_bytes(std::span(&n, 1))); };
  hash.update(m.kernels.name);
  number(static_cast<std::uint64_t>(m.kernels.out_granule));
  std::set<kernels::WeightType> types;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    number(static_cast<std::uint64_t>(use[i]));
    if (use[i] == Use::kNone) continue;
    const tensor::ConstView& w = weights[i];
    if (w.maker != nullptr) return std::nullopt;
    const auto from = base::mapped_from({w.data, static_cast<std::size_t>(w.bytes())});
    if (!from) return std::nullopt;
    for (const std::uint64_t n : {from->file.device, from->file.inode, from->file.bytes, static_cast<std::uint64_t>(from->file.modified_ns),
                                  static_cast<std::uint64_t>(from->file.changed_ns), from->at, static_cast<std::uint64_t>(w.dtype)})
      number(n);
    hash.update(w.shape.to_string());
    if (use[i] == Use::kMatrix) types.insert(*weight_type(w.dtype));
  }
  // What these kernels make of a pattern, for those that pack otherwise to find nothing of theirs.
  constexpr std::int64_t kProbeIn = 512;
  std::vector<std::byte> pattern(static_cast<std::size_t>(m.kernels.out_granule * kProbeIn) * sizeof(float));
  for (std::size_t i = 0; i < pattern.size(); ++i) pattern[i] = static_cast<std::byte>(i * 37 + i / 251);
  for (const kernels::WeightType type : types) {
    tensor::Buffer made(m.kernels.packed_bytes(type, m.kernels.out_granule, kProbeIn));
    m.kernels.pack(type, pattern.data(), m.kernels.out_granule, kProbeIn, made.data());
    hash.update({made.data(), made.size()});
  }
  return hash.hex();
}

}  // namespace

Result<std::vector<PackedWeight>> pack_weights(const Machine& m, const Program& program, const Program* beside,
                                               std::span<const tensor::ConstView> weights, const PackCache* cache) {
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
  const std::optional<std::string> key = cache != nullptr ? cache_key(m, weights, use) : std::nullopt;
  std::shared_ptr<std::byte> memory = key ? cache->find(*key, total, m.pool) : nullptr;
  const bool found = memory != nullptr;
  if (!found) memory = weight_memory(total);  // all in one, which then lies in large pages
  std::size_t place = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (use[i] == Use::kNone) continue;
    const std::size_t bytes = bytes_of(m, packed[i], use[i]);
    packed[i].data = WeightBytes(memory, place, bytes);
    place += align64(bytes);
  }
  if (found) return packed;
  pack_all(m, weights, use, packed);
  if (key) cache->keep(*key, {memory.get(), total}, m.pool);
  return packed;
}

void multiply_outputs(const Machine& m, const PackedProduct& p, std::int64_t rows, std::int64_t ldy, std::int64_t begin,
                      std::int64_t end) {
  m.kernels.matmul({.type = p.weight->type,
                    .packed = p.weight->data.data(),
                    .prepared = p.prepared,
                    .bias = p.bias,
                    .y = p.y,
                    .ldy = ldy,
                    .rows = rows,
                    .out = p.weight->out,
                    .in = p.weight->in,
                    .out_begin = begin,
                    .out_end = end});
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
      if (first < last)
        multiply_outputs(m, p, rows, p.weight->out, first * granule, std::min(last * granule, p.weight->out));
      begin -= n;
      end -= n;
    }
  });
}

void gated_products(const Machine& m, const PackedProduct& gate, const PackedProduct& up, std::int64_t rows,
                    float* out) {
  constexpr std::int64_t kOutputs = 64;  // of both, of 256 rows: an eighth of a second cache of 1 MB
  QW_CHECK(rows <= kMostGatedRows && kOutputs % m.kernels.out_granule == 0);
  const std::int64_t width = gate.weight->out;
  m.pool.parallel_for(ceil_div(width, kOutputs), 1, [&](std::int64_t first, std::int64_t last) {
    alignas(64) float sums[2][kMostGatedRows * kOutputs];
    for (std::int64_t piece = first; piece < last; ++piece) {
      const std::int64_t begin = piece * kOutputs, n = std::min(kOutputs, width - begin);
      for (const auto& [product, y] : {std::pair(gate, sums[0]), std::pair(up, sums[1])})
        multiply_outputs(m, {product.weight, product.prepared, product.bias, y - begin}, rows, kOutputs, begin,
                         begin + n);
      for (std::int64_t r = 0; r < rows; ++r)
        m.kernels.swiglu(sums[0] + r * kOutputs, sums[1] + r * kOutputs, n, out + r * width + begin);
    }
  });
}

}  // namespace qw::ops
