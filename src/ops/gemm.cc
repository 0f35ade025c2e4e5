#include "ops/gemm.h"

#include <algorithm>
#include <cstring>

#include "base/mapped_pages.h"
#include "base/result.h"
#include "ops/elementwise.h"
#include "tensor/blocks.h"

namespace qw::ops {
namespace {

// Rows of C in one piece: 128 rows of up to 4096 inputs fit a 2 MiB second-level cache beside a panel of B.
constexpr std::int64_t kTileRows = 128;
// Below this many row tiles the columns are cut too, so that many threads find work in a short, wide product.
constexpr std::int64_t kWantedTiles = 16;
// Narrowest column tile: packing the rows of A again for each column tile must stay cheap beside the product.
constexpr std::int64_t kTileColumns = 256;

// Rows of C for which columns are packed by who multiplies them: packed A must stay in the second-level cache from
// panel to panel (512 KiB of bfloat16 for a block of 512 inputs). And columns of C: enough pieces for every thread.
constexpr std::int64_t kFewRowsOfC = 512, kManyColumns = 512;
// Columns that one thread packs at a time, beside that: 256 KiB; fewer where there would be less than eight pieces.
constexpr std::int64_t kColumnsAtOnce = 256;
constexpr std::int64_t kWantedColumnPieces = 8;

bool goes_by_columns(const kernels::Kernels& k, std::int64_t m, std::int64_t n) {
  return k.gemm_columns != nullptr && m <= kFewRowsOfC && n >= kManyColumns;
}
std::int64_t columns_at_once(const kernels::Kernels& k, std::int64_t n) {
  return round_up(std::min(kColumnsAtOnce, ceil_div(n, kWantedColumnPieces)), k.gemm_n_granule);
}

struct Tiles {
  std::int64_t rows, columns, row_tiles, column_tiles;
};

Tiles cut(const kernels::Kernels& k, std::int64_t m, std::int64_t n) {
  Tiles t{};
  t.rows = round_up(std::min(kTileRows, m), k.gemm_m_granule);
  t.row_tiles = ceil_div(m, t.rows);
  const std::int64_t wanted = ceil_div(kWantedTiles, t.row_tiles);
  t.columns = round_up(std::max(kTileColumns, ceil_div(n, wanted)), k.gemm_n_granule);
  t.column_tiles = ceil_div(n, t.columns);
  return t;
}

}  // namespace

Matrix::Matrix(const tensor::ConstView& view) : stored(view), constant(true) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(view.data) % alignof(float) == 0;
  if (view.dtype == tensor::DType::kF32 && view.data != nullptr && aligned) f32 = view.f32();
}

void matrix_row(const Matrix& matrix, std::int64_t row, std::int64_t columns, float* out) {
  if (matrix.f32 != nullptr)
    std::memcpy(out, matrix.f32 + row * columns, static_cast<std::size_t>(columns) * sizeof(float));
  else
    tensor::decode(tensor::rows_of(matrix.stored, row, 1), out);
}

const float* matrix_rows(const Machine& machine, const Matrix& matrix, std::int64_t begin, std::int64_t rows,
                         std::int64_t columns, float* room) {
  if (matrix.f32 != nullptr) return matrix.f32 + begin * columns;
  constexpr std::int64_t kRows = 16;  // of some thousand numbers each: worth handing out
  machine.pool.parallel_for(rows, kRows, [&](std::int64_t first, std::int64_t end) {
    tensor::decode(tensor::rows_of(matrix.stored, begin + first, end - first), room + first * columns);
  });
  return room;
}

const float* open_matrix(GemmWorkspace& workspace, const Matrix& matrix, std::int64_t rows, std::int64_t columns) {
  if (matrix.f32 != nullptr) return matrix.f32;
  QW_CHECK(rows * columns <= workspace.opened_);
  return matrix_rows(workspace.machine_, matrix, 0, rows, columns, reinterpret_cast<float*>(workspace.room_.data()));
}

GemmWorkspace::GemmWorkspace(const Machine& machine, kernels::GemmPrecision precision)
    : machine_(machine), precision_(precision) {}

void GemmWorkspace::plan(std::int64_t m, std::int64_t n, std::int64_t k) {
  QW_CHECK(memory_.size() == 0);
  const std::int64_t packed = goes_by_columns(machine_.kernels, m, n) ? kManyColumns - 1 : n;  // of smaller products
  packed_bytes_ = std::max(packed_bytes_, align64(machine_.kernels.gemm_packed_b_bytes(precision_, packed, k)));
  const std::int64_t rows = cut(machine_.kernels, m, n).rows;
  // Kernels cut k into blocks of equal length, the longest of which are a power of two of inputs: a shorter k may need
  // more.
  const auto need = [&](std::int64_t inputs) {
    scratch_bytes_ = std::max(scratch_bytes_, align64(machine_.kernels.gemm_scratch_bytes(precision_, rows, inputs)));
  };
  for (std::int64_t inputs = 1; inputs < k; inputs *= 2) need(inputs);
  need(k);
  if (!goes_by_columns(machine_.kernels, 1, n)) return;
  const std::int64_t few = std::min(m, kFewRowsOfC), columns = columns_at_once(machine_.kernels, n);
  packed_bytes_ = std::max(packed_bytes_, align64(machine_.kernels.gemm_packed_a_bytes(precision_, few, k)));
  const auto need_columns = [&](std::int64_t inputs) {
    scratch_bytes_ =
        std::max(scratch_bytes_, align64(machine_.kernels.gemm_columns_scratch_bytes(precision_, columns, inputs)));
  };
  for (std::int64_t inputs = 1; inputs < k; inputs *= 2) need_columns(inputs);
  need_columns(k);
}

// Beside packed A: D, and u as A of the product with E. `packed_bytes_` holds all three.
void GemmWorkspace::plan_low_rank(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t rank) {
  plan(m, n, k);
  plan(m, rank, k);
  plan(m, n, rank);
  if (!goes_by_columns(machine_.kernels, 1, n)) return;
  const kernels::Kernels& kernels = machine_.kernels;
  const std::int64_t few = std::min(m, kFewRowsOfC);
  packed_bytes_ = std::max(packed_bytes_, align64(kernels.gemm_packed_a_bytes(precision_, few, k)) +
                                              align64(kernels.gemm_packed_b_bytes(precision_, rank, k)) +
                                              align64(kernels.gemm_packed_a_bytes(precision_, few, rank)));
}

std::int64_t GemmWorkspace::planned_bytes() const {
  return static_cast<std::int64_t>(packed_bytes_ + scratch_bytes_ * static_cast<std::size_t>(machine_.pool.size()) +
                                   64) +
         opened_ * static_cast<std::int64_t>(sizeof(float));
}

void GemmWorkspace::allocate() {
  memory_ = tensor::Buffer(packed_bytes_ + scratch_bytes_ * static_cast<std::size_t>(machine_.pool.size()) + 64);
  room_ = tensor::Buffer(static_cast<std::size_t>(opened_) * sizeof(float));
}

void gemm_pack(const Machine& machine, const kernels::GemmArgs& args, void* packed) {
  const std::int64_t grain = round_up(kTileColumns, machine.kernels.gemm_n_granule);
  machine.pool.parallel_for(args.n, grain, [&](std::int64_t begin, std::int64_t end) {
    machine.kernels.gemm_pack_b(args, packed, begin, end);
  });
}

bool packs_directly(const Machine& machine, kernels::GemmPrecision precision, const Matrix& matrix) {
  return precision == kernels::GemmPrecision::kBF16 && machine.kernels.gemm_pack_b_bfloats != nullptr &&
         matrix.f32 == nullptr && matrix.stored.dtype == tensor::DType::kBF16 && matrix.stored.data != nullptr &&
         reinterpret_cast<std::uintptr_t>(matrix.stored.data) % alignof(std::uint16_t) == 0;
}

namespace {

// Of a matrix that packs directly.
void gemm_pack(const Machine& machine, const kernels::GemmArgs& args, const Matrix& b, void* packed) {
  const auto* from = reinterpret_cast<const std::uint16_t*>(b.stored.data);
  const std::int64_t grain = round_up(kTileColumns, machine.kernels.gemm_n_granule);
  machine.pool.parallel_for(args.n, grain, [&](std::int64_t n_begin, std::int64_t n_end) {
    machine.kernels.gemm_pack_b_bfloats(args, from, packed, n_begin, n_end);
  });
}

}  // namespace

void gemm_with(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args, const void* packed) {
  args.precision = workspace.precision_;
  if (args.m == 0 || args.n == 0) return;
  const Tiles t = cut(machine.kernels, args.m, args.n);
  QW_CHECK(machine.kernels.gemm_scratch_bytes(args.precision, t.rows, args.k) <= workspace.scratch_bytes_);
  std::byte* scratch = workspace.memory_.data() + workspace.packed_bytes_;
  // Column tiles of one row tile follow each other, so that its rows of A stay in cache.
  for_pieces(machine.pool, t.row_tiles * t.column_tiles, [&](int worker, std::int64_t piece) {
    const std::int64_t m = piece / t.column_tiles * t.rows, n = piece % t.column_tiles * t.columns;
    machine.kernels.gemm(args, packed, scratch + workspace.scratch_bytes_ * static_cast<std::size_t>(worker), m,
                         std::min(args.m, m + t.rows), n, std::min(args.n, n + t.columns));
  });
}

namespace {

// u = op(A) op(D), not scaled.
kernels::GemmArgs down_args(kernels::GemmArgs g, const LowRankPart& part) {
  g.trans_b = part.transposed;
  g.b = part.down, g.ldb = part.transposed ? g.k : part.rank;
  g.n = g.ldc = part.rank;
  g.c = part.u, g.accumulate = false;
  return g;
}
// C += u op(E)
kernels::GemmArgs up_args(kernels::GemmArgs g, const LowRankPart& part) {
  g.trans_a = false, g.trans_b = part.transposed;
  g.a = part.u, g.lda = g.k = part.rank;
  g.b = part.up, g.ldb = part.transposed ? part.rank : g.n;
  g.accumulate = true;
  return g;
}

}  // namespace

// A product whose columns are packed by who multiplies them.
class ProductByColumns {
 public:
  // B is read from what `bfloats` or `packed_once` points to, or from args.b.
  ProductByColumns(const Machine& machine, GemmWorkspace& workspace, const kernels::GemmArgs& args,
                   const std::uint16_t* bfloats, const std::byte* packed_once = nullptr)
      : k_(machine.kernels),
        pool_(machine.pool),
        workspace_(workspace),
        args_(args),
        bfloats_(bfloats),
        packed_once_(packed_once) {
    QW_CHECK(a_bytes(args) <= workspace.packed_bytes_);
  }

  void pack_a() {
    pool_.parallel_for(args_.m, grain(), [&](std::int64_t begin, std::int64_t end) {
      k_.gemm_pack_a(args_, workspace_.memory_.data(), begin, end);
    });
  }
  void multiply() {
    const std::int64_t columns = checked_columns(args_);
    for_pieces(pool_, ceil_div(args_.n, columns), [&](int worker, std::int64_t piece) {
      multiply_columns(worker, piece * columns, std::min(args_.n, (piece + 1) * columns));
    });
  }

  // Threads meet three times: rows of A and D are packed; rows of u are made, and packed; columns are multiplied.
  void multiply_with(const LowRankPart& part, bool same_a) {
    const kernels::GemmArgs down = down_args(args_, part), up = up_args(args_, part);
    std::byte* const a = workspace_.memory_.data();
    std::byte* const d = a + align64(a_bytes(args_));
    std::byte* const u = d + align64(k_.gemm_packed_b_bytes(args_.precision, part.rank, args_.k));
    QW_CHECK(static_cast<std::size_t>(u - a) + a_bytes(up) <= workspace_.packed_bytes_);
    const std::int64_t pieces = ceil_div(args_.m, grain()),
                       columns = std::max(checked_columns(args_), checked_columns(up));
    const auto rows = [&](std::int64_t piece) {
      return std::pair{piece * grain(), std::min(args_.m, (piece + 1) * grain())};
    };
    for_pieces(pool_, same_a ? 1 : pieces + 1, [&](int, std::int64_t piece) {
      if (piece == 0) return k_.gemm_pack_b(down, d, 0, part.rank);
      const auto [begin, end] = rows(piece - 1);
      k_.gemm_pack_a(args_, a, begin, end);
    });
    for_pieces(pool_, pieces, [&](int, std::int64_t piece) {
      const auto [begin, end] = rows(piece);
      k_.gemm_packed(down, a, d, begin, end);
      for (std::int64_t i = begin * part.rank; i < end * part.rank; ++i) part.u[i] *= part.scale;
      k_.gemm_pack_a(up, u, begin, end);
    });
    for_pieces(pool_, ceil_div(args_.n, columns), [&](int worker, std::int64_t piece) {
      const std::int64_t begin = piece * columns, end = std::min(args_.n, begin + columns);
      multiply_columns(worker, begin, end);
      k_.gemm_columns(up, nullptr, u, scratch(worker), begin, end);  // while these columns of C are in its cache
    });
  }

 private:
  void multiply_columns(int worker, std::int64_t begin, std::int64_t end) const {
    if (packed_once_ != nullptr)
      return k_.gemm_columns_packed(args_, packed_once_, workspace_.memory_.data(), scratch(worker), begin, end);
    k_.gemm_columns(args_, bfloats_, workspace_.memory_.data(), scratch(worker), begin, end);
  }
  std::int64_t grain() const { return 4 * k_.gemm_m_granule; }
  std::size_t a_bytes(const kernels::GemmArgs& g) const { return k_.gemm_packed_a_bytes(g.precision, g.m, g.k); }
  std::byte* scratch(int worker) const {
    return workspace_.memory_.data() + workspace_.packed_bytes_ +
           workspace_.scratch_bytes_ * static_cast<std::size_t>(worker);
  }
  std::int64_t checked_columns(const kernels::GemmArgs& g) const {
    const std::int64_t columns = columns_at_once(k_, g.n);
    QW_CHECK(k_.gemm_columns_scratch_bytes(g.precision, columns, g.k) <= workspace_.scratch_bytes_);
    return columns;
  }
  const kernels::Kernels& k_;
  base::ThreadPool& pool_;
  GemmWorkspace& workspace_;
  const kernels::GemmArgs args_;
  const std::uint16_t* bfloats_;
  const std::byte* packed_once_;
};

bool packs_once(const Machine& machine, kernels::GemmPrecision precision, const Matrix& matrix, std::int64_t rows,
                std::int64_t columns) {
  return machine.kernels.gemm_columns_packed != nullptr && packs_directly(machine, precision, matrix) &&
         goes_by_columns(machine.kernels, 1, rows) && goes_by_columns(machine.kernels, 1, columns);
}

tensor::Buffer pack_once(const Machine& machine, const Matrix& matrix, std::int64_t rows, std::int64_t columns) {
  kernels::GemmArgs args{};
  args.precision = kernels::GemmPrecision::kBF16, args.trans_b = true;
  args.n = rows, args.k = args.ldb = columns;
  tensor::Buffer packed(machine.kernels.gemm_packed_b_bytes(args.precision, rows, columns));
  gemm_pack(machine, args, matrix, packed.data());
  base::let_go_of_pages({matrix.stored.data, static_cast<std::size_t>(matrix.stored.bytes())});
  return packed;
}

// kFewRowsOfC rows at a time.
void gemm_packed_once(const Machine& machine, GemmWorkspace& workspace, const kernels::GemmArgs& args, const Matrix& b,
                      const LowRankPart* part, bool same_a) {
  QW_CHECK(!args.trans_a);
  for (std::int64_t m = 0; m < args.m; m += kFewRowsOfC) {
    kernels::GemmArgs some = args;
    some.m = std::min(kFewRowsOfC, args.m - m);
    some.a += m * args.lda;
    some.c += m * args.ldc;
    ProductByColumns product(machine, workspace, some, nullptr, b.packed_once);
    if (part != nullptr) {
      LowRankPart some_part = *part;
      some_part.u += m * part->rank;
      product.multiply_with(some_part, same_a && args.m <= kFewRowsOfC);
    } else {
      product.pack_a();
      product.multiply();
    }
  }
}

void gemm(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args) {
  args.precision = workspace.precision_;
  if (args.m == 0 || args.n == 0) return;
  if (goes_by_columns(machine.kernels, args.m, args.n)) {
    ProductByColumns product(machine, workspace, args, nullptr);
    product.pack_a();
    return product.multiply();
  }
  QW_CHECK(machine.kernels.gemm_packed_b_bytes(args.precision, args.n, args.k) <= workspace.packed_bytes_);
  gemm_pack(machine, args, workspace.memory_.data());
  gemm_with(machine, workspace, args, workspace.memory_.data());
}

void gemm(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args, const Matrix& b,
          std::int64_t b_rows) {
  args.precision = workspace.precision_;
  if (b.packed_once != nullptr) return gemm_packed_once(machine, workspace, args, b, nullptr, false);
  if (!packs_directly(machine, args.precision, b)) {
    args.b = open_matrix(workspace, b, b_rows, args.ldb);
    return gemm(machine, workspace, args);
  }
  if (args.m == 0 || args.n == 0) return;
  if (goes_by_columns(machine.kernels, args.m, args.n)) {
    ProductByColumns product(machine, workspace, args, reinterpret_cast<const std::uint16_t*>(b.stored.data));
    product.pack_a();
    return product.multiply();
  }
  QW_CHECK(machine.kernels.gemm_packed_b_bytes(args.precision, args.n, args.k) <= workspace.packed_bytes_);
  gemm_pack(machine, args, b, workspace.memory_.data());
  gemm_with(machine, workspace, args, workspace.memory_.data());
}

bool remembers_a(const Machine& machine, std::int64_t m, std::int64_t n) {
  return goes_by_columns(machine.kernels, m, n);
}

void gemm_low_rank(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args, const Matrix& b,
                   std::int64_t b_rows, const LowRankPart& part, bool same_a) {
  args.precision = workspace.precision_;
  if (args.m == 0 || args.n == 0) return;
  if (b.packed_once != nullptr) return gemm_packed_once(machine, workspace, args, b, &part, same_a);
  if (goes_by_columns(machine.kernels, args.m, args.n)) {
    const bool direct = packs_directly(machine, args.precision, b);
    if (!direct) args.b = open_matrix(workspace, b, b_rows, args.ldb);
    ProductByColumns product(machine, workspace, args,
                             direct ? reinterpret_cast<const std::uint16_t*>(b.stored.data) : nullptr);
    return product.multiply_with(part, same_a);
  }
  gemm(machine, workspace, args, b, b_rows);
  gemm(machine, workspace, down_args(args, part));
  scale_forward(machine, part.u, part.scale, args.m * part.rank, part.u);
  gemm(machine, workspace, up_args(args, part));
}

}  // namespace qw::ops
