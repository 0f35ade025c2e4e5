// y = x W^T + b with an optional low-rank adapter (Hu et al., "LoRA", 2021), and its gradient.
//
//   forward   u = scale x A^T,  y = x W^T + b + u B^T
//   backward  dW += dy^T x,  db += sum over rows of dy,  dB += dy^T u,  t = scale dy B,  dA += t^T x,
//             dx (+)= dy W + t A
//
// With a magnitude (Liu et al., "DoRA", 2024) the rows of W + scale B A get the lengths m. Their own lengths n have no
// gradient, as in the paper (4.3) and in PEFT:
//
//   forward   z = x W^T + u B^T,  y = (m / n) z + b
//   backward  dm += sum over rows of dy z / n;  the above with (m / n) dy in place of dy
#pragma once

#include <cstdint>

#include "ops/gemm.h"

namespace qw::ops {

// Row-major, dense: x [rows, in], w [out, in], y [rows, out]. Pointers may be null where marked.
struct LinearArgs {
  std::int64_t rows = 0, in = 0, out = 0;
  const float* x = nullptr;
  Matrix w;
  const float* bias = nullptr;  // null: none
  float* y = nullptr;           // forward
  const float* dy = nullptr;    // backward
  float* dx = nullptr;          // null: not wanted
  bool dx_accumulates = false;
  float* dw = nullptr;     // null: frozen
  float* dbias = nullptr;  // null: frozen or none
  // Adapter; rank 0: none. u is [rows, rank], written by forward and read by backward; t is scratch, [rows + out,
  // rank].
  std::int64_t rank = 0;
  float scale = 1;
  const float* a = nullptr;  // [rank, in]
  const float* b = nullptr;  // [out, rank]
  bool same_x = false;       // forward: the product before it in this workspace was of the same rows, and x, unchanged
  float* u = nullptr;
  float* t = nullptr;
  float* da = nullptr;
  float* db = nullptr;
  // DoRA; null: none. A row of W + scale B A that is all zeros has no direction and stays so.
  const float* magnitude = nullptr;  // [out]
  float* lengths = nullptr;          // [out], written by forward and read by backward
  float* z = nullptr;                // [rows, out], written by forward, overwritten by backward; null: forward alone
  float* dmagnitude = nullptr;
};

// Makes room in `workspace` for the products of both directions (not to open W: GemmWorkspace::plan_open).
void linear_plan(GemmWorkspace& workspace, std::int64_t max_rows, std::int64_t in, std::int64_t out, std::int64_t rank);
void linear_forward(const Machine& m, GemmWorkspace& workspace, const LinearArgs& args);
void linear_backward(const Machine& m, GemmWorkspace& workspace, const LinearArgs& args);

}  // namespace qw::ops
