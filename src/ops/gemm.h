// Matrix products of the training path, spread over the threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/machine.h"
#include "tensor/tensor.h"

namespace qw::ops {

// A matrix of weights, row-major and dense: float32 where it lies, or as a file has it (any format, or rows that are
// made when they are wanted), which is opened for each use. What a file has does not change.
struct Matrix {
  Matrix() = default;
  Matrix(const float* in_place) : f32(in_place) {}
  explicit Matrix(const tensor::ConstView& view);

  const float* f32 = nullptr;  // null: `stored` must be opened
  tensor::ConstView stored;
  // bfloat16 weights packed once for x W^T and y W (pack_once); read in place of `stored`. Null: not packed.
  const std::byte* packed_once = nullptr;
  bool constant = false;
};
// Row `row` of a matrix with rows of `columns` numbers.
void matrix_row(const Matrix& matrix, std::int64_t row, std::int64_t columns, float* out);
// Rows [begin, begin + rows) of it as float32: where they lie, or written to `room`.
const float* matrix_rows(const Machine& machine, const Matrix& matrix, std::int64_t begin, std::int64_t rows,
                         std::int64_t columns, float* room);

// What an adapter adds to a product C = op(A) op(B): u = scale op(A) op(D), C += u op(E).
struct LowRankPart {
  std::int64_t rank = 0;
  float scale = 1;
  const float* down = nullptr;  // D: [k, rank], or [rank, k] if `transposed`
  const float* up = nullptr;    // E: [rank, n], or [n, rank] if `transposed`
  bool transposed = false;
  float* u = nullptr;  // [m, rank], written
};

// Working memory of products: one packed operand, and scratch for each thread. Sized before the first use by `plan`.
class GemmWorkspace {
 public:
  GemmWorkspace(const Machine& machine, kernels::GemmPrecision precision);
  // Makes room for op(A)[m, k] * op(B)[k, n], and for smaller products.
  void plan(std::int64_t m, std::int64_t n, std::int64_t k);
  // The same with a part of low rank.
  void plan_low_rank(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t rank);
  // Makes room to open a matrix of so many numbers.
  void plan_open(std::int64_t numbers) { opened_ = std::max(opened_, numbers); }
  // Takes the planned memory; plan() afterwards is a bug.
  void allocate();
  std::int64_t bytes() const { return static_cast<std::int64_t>(memory_.size() + room_.size()); }
  std::int64_t planned_bytes() const;  // what allocate() takes

 private:
  friend void gemm(const Machine&, GemmWorkspace&, kernels::GemmArgs);
  friend void gemm(const Machine&, GemmWorkspace&, kernels::GemmArgs, const Matrix&, std::int64_t);
  friend void gemm_with(const Machine&, GemmWorkspace&, kernels::GemmArgs, const void*);
  friend void gemm_low_rank(const Machine&, GemmWorkspace&, kernels::GemmArgs, const Matrix&, std::int64_t,
                            const LowRankPart&, bool);
  friend void gemm_packed_once(const Machine&, GemmWorkspace&, const kernels::GemmArgs&, const Matrix&,
                               const LowRankPart*, bool);
  friend class ProductByColumns;
  friend const float* open_matrix(GemmWorkspace&, const Matrix&, std::int64_t, std::int64_t);
  Machine machine_;
  kernels::GemmPrecision precision_;
  std::size_t packed_bytes_ = 0, scratch_bytes_ = 0;  // scratch of one thread
  std::int64_t opened_ = 0;                           // numbers of the largest matrix to open
  tensor::Buffer memory_, room_;
};

// Whether products take the matrix as it lies in its file: its bfloat16 numbers are packed without becoming float32
// first, to the same bytes.
bool packs_directly(const Machine& machine, kernels::GemmPrecision precision, const Matrix& matrix);

// Whether products of a matrix [rows, columns] may use it packed once: such weights are as many bytes as in the file, need no
// packing forward, and are turned for the way back.
bool packs_once(const Machine& machine, kernels::GemmPrecision precision, const Matrix& matrix, std::int64_t rows,
                std::int64_t columns);
// The matrix so; the file's pages are let go of as they are read.
tensor::Buffer pack_once(const Machine& machine, const Matrix& matrix, std::int64_t rows, std::int64_t columns);

// The matrix as float32; valid until the next one is opened.
const float* open_matrix(GemmWorkspace& workspace, const Matrix& matrix, std::int64_t rows, std::int64_t columns);

// C = (accumulate ? C : 0) + op(A) op(B); args.precision is set by the workspace.
void gemm(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args);

// The same with a matrix of weights for B, `args.ldb` numbers a row, of `b_rows` rows.
void gemm(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args, const Matrix& b,
          std::int64_t b_rows);

// The same with a part of low rank beside it, to the same bytes as three products and a scaling between them.
// `same_a`: op(A) is that of the product before it in this workspace, where products of m rows and n columns remember
// it (remembers_a), and has not changed.
void gemm_low_rank(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args, const Matrix& b,
                   std::int64_t b_rows, const LowRankPart& part, bool same_a);
bool remembers_a(const Machine& machine, std::int64_t m, std::int64_t n);

// The same in two halves, for one B and many A (gemm_pack heeds args.precision). `packed` has gemm_packed_b_bytes
// bytes, 64-byte aligned.
void gemm_pack(const Machine& machine, const kernels::GemmArgs& args, void* packed);
void gemm_with(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args, const void* packed);

}  // namespace qw::ops
