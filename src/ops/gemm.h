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
  bool constant = false;
};
// Row `row` of a matrix with rows of `columns` numbers.
void matrix_row(const Matrix& matrix, std::int64_t row, std::int64_t columns, float* out);
// Rows [begin, begin + rows) of it as float32: where they lie, or written to `room`.
const float* matrix_rows(const Machine& machine, const Matrix& matrix, std::int64_t begin, std::int64_t rows,
                         std::int64_t columns, float* room);

// Working memory of products: one packed operand, and scratch for each thread. Sized before the first use by `plan`.
class GemmWorkspace {
 public:
  GemmWorkspace(const Machine& machine, kernels::GemmPrecision precision);
  // Makes room for op(A)[m, k] * op(B)[k, n], and for smaller products.
  void plan(std::int64_t m, std::int64_t n, std::int64_t k);
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
  friend void gemm_by_columns(const Machine&, GemmWorkspace&, const kernels::GemmArgs&, const std::uint16_t*);
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

// The matrix as float32; valid until the next one is opened.
const float* open_matrix(GemmWorkspace& workspace, const Matrix& matrix, std::int64_t rows, std::int64_t columns);

// C = (accumulate ? C : 0) + op(A) op(B); args.precision is set by the workspace.
void gemm(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args);

// The same with a matrix of weights for B, `args.ldb` numbers a row, of `b_rows` rows.
void gemm(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args, const Matrix& b,
          std::int64_t b_rows);

// The same in two halves, for one B and many A (gemm_pack heeds args.precision). `packed` has gemm_packed_b_bytes
// bytes, 64-byte aligned.
void gemm_pack(const Machine& machine, const kernels::GemmArgs& args, void* packed);
void gemm_with(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args, const void* packed);

}  // namespace qw::ops
