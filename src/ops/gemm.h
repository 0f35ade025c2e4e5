// Matrix products of the training path, spread over the threads.
#pragma once

#include <cstdint>

#include "ops/machine.h"
#include "tensor/tensor.h"

namespace qw::ops {

// Working memory of products: one packed operand, and scratch for each thread. Sized before the first use by `plan`.
class GemmWorkspace {
 public:
  GemmWorkspace(const Machine& machine, kernels::GemmPrecision precision);
  // Makes room for op(A)[m, k] * op(B)[k, n].
  void plan(std::int64_t m, std::int64_t n, std::int64_t k);
  // Takes the planned memory; plan() afterwards is a bug.
  void allocate();
  std::int64_t bytes() const { return static_cast<std::int64_t>(memory_.size()); }

 private:
  friend void gemm(const Machine&, GemmWorkspace&, kernels::GemmArgs);
  friend void gemm_with(const Machine&, GemmWorkspace&, kernels::GemmArgs, const void*);
  Machine machine_;
  kernels::GemmPrecision precision_;
  std::size_t packed_bytes_ = 0, scratch_bytes_ = 0;  // scratch of one thread
  tensor::Buffer memory_;
};

// C = (accumulate ? C : 0) + op(A) op(B); args.precision is set by the workspace.
void gemm(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args);

// The same in two halves, for one B and many A (gemm_pack heeds args.precision). `packed` has gemm_packed_b_bytes
// bytes, 64-byte aligned.
void gemm_pack(const Machine& machine, const kernels::GemmArgs& args, void* packed);
void gemm_with(const Machine& machine, GemmWorkspace& workspace, kernels::GemmArgs args, const void* packed);

}  // namespace qw::ops
