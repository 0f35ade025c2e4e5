#include "ops/gemm.h"

#include <algorithm>
#include <cstring>

#include "base/result.h"
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

void gemm_by_columns(const Machine& machine, GemmWorkspace& workspace, const kernels::GemmArgs& args,
                     const std::uint16_t* bfloats) {
  const kernels::Kernels& k = machine.kernels;
  if (args.m == 0) return;
  const std::int64_t columns = columns_at_once(k, args.n), grain = 4 * k.gemm_m_granule;
  QW_CHECK(k.gemm_packed_a_bytes(args.precision, args.m, args.k) <= workspace.packed_bytes_ &&
           k.gemm_columns_scratch_bytes(args.precision, columns, args.k) <= workspace.scratch_bytes_);
  std::byte *packed = workspace.memory_.data(), *scratch = packed + workspace.packed_bytes_;
  machine.pool.parallel_for(args.m, grain,
                            [&](std::int64_t begin, std::int64_t end) { k.gemm_pack_a(args, packed, begin, end); });
  for_pieces(machine.pool, ceil_div(args.n, columns), [&](int worker, std::int64_t piece) {
    k.gemm_columns(args, bfloats, packed, scratch + workspace.scratch_bytes_ * static_cast<std::size_t>(worker),
                   piece * columns, std::min(args.n, (piece + 1) * columns));
  });
}

void gemm(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args) {
  args.precision = workspace.precision_;
  if (goes_by_columns(machine.kernels, args.m, args.n)) return gemm_by_columns(machine, workspace, args, nullptr);
  QW_CHECK(machine.kernels.gemm_packed_b_bytes(args.precision, args.n, args.k) <= workspace.packed_bytes_);
  gemm_pack(machine, args, workspace.memory_.data());
  gemm_with(machine, workspace, args, workspace.memory_.data());
}

void gemm(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args, const Matrix& b,
          std::int64_t b_rows) {
  args.precision = workspace.precision_;
  if (!packs_directly(machine, args.precision, b)) {
    args.b = open_matrix(workspace, b, b_rows, args.ldb);
    return gemm(machine, workspace, args);
  }
  if (goes_by_columns(machine.kernels, args.m, args.n))
    return gemm_by_columns(machine, workspace, args, reinterpret_cast<const std::uint16_t*>(b.stored.data));
  QW_CHECK(machine.kernels.gemm_packed_b_bytes(args.precision, args.n, args.k) <= workspace.packed_bytes_);
  gemm_pack(machine, args, b, workspace.memory_.data());
  gemm_with(machine, workspace, args, workspace.memory_.data());
}

}  // namespace qw::ops
