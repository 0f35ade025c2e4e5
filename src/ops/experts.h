// A mixture of experts (Shazeer et al., 2017): each row goes to the top k of E SwiGLU networks by the softmax of its
// router logits, and their outputs add up, weighted by those probabilities (made to sum to one if `normalise`).
//
//   p = softmax(logits),  w_e = p_e or p_e / sum of the chosen,  y = sum over chosen e of w_e down_e(silu(gate_e x) up_e x)
//
// Load balancing (Fedus et al., "Switch transformers", 2021, over k choices): loss = c E sum_e f_e P_e with f_e the
// choices of e per row and P_e the mean of p_e, both over the rows of all layers. f has no gradient.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/executor.h"
#include "ops/gemm.h"

namespace qw::ops {

// Which rows go where. Assignments are ordered by expert, then row; a row's own are in ascending order of expert.
struct Routing {
  Routing() = default;
  Routing(std::int64_t max_rows, const ExpertsSpec& spec);

  std::int32_t top_k = 0;
  std::vector<std::int32_t> expert;  // [rows * k], by row
  std::vector<float> weight;         // [rows * k], by row
  std::vector<std::int32_t> place;   // [rows * k], by row: the assignment's place in the order by expert
  std::vector<std::int32_t> row;     // [rows * k], by place
  std::vector<std::int32_t> begin;   // [E + 1]: places of each expert

  std::int32_t count(std::int32_t e) const {
    return begin[static_cast<std::size_t>(e) + 1] - begin[static_cast<std::size_t>(e)];
  }
};

// Fills `to` (made for at least `rows`) from logits [rows, E]; probabilities [rows, E] gets the softmax. Equal
// probabilities: the lower expert first. Logits that are not finite still choose k experts.
void route(const Machine& m, const ExpertsSpec& spec, const float* logits, std::int64_t rows, float* probabilities,
           Routing& to);
// y[r] = sum over the row's assignments, in order, of weight * outputs[place]; both of width d.
void combine(const Machine& m, const Routing& routing, const float* outputs, std::int64_t rows, std::int64_t d,
             float* y);
// x rows in the order of assignments.
void gather_assigned(const Machine& m, const Routing& routing, const float* x, std::int64_t rows, std::int64_t d,
                     float* to);

// Training. Weights by expert; gradients null where frozen. A = rows * k assignments.
struct ExpertsArgs {
  ExpertsSpec spec;
  std::int64_t rows = 0, d = 0;
  const Routing* routing = nullptr;
  const float* x = nullptr;              // [rows, D]
  const float* probabilities = nullptr;  // [rows, E]
  std::vector<Matrix> gate_w{}, up_w{}, down_w{};
  float* gate = nullptr;     // [A, F], kept for backward
  float* up = nullptr;       // [A, F], kept
  float* outputs = nullptr;  // [A, D], kept
  float* inputs = nullptr;   // [A, D], scratch
  float* hidden = nullptr;   // [A, F], scratch
  float* y = nullptr;        // [rows, D]
  // Backward.
  const float* dy = nullptr;          // [rows, D]
  std::span<const double> balance{};  // [E]: d(loss) / d(p_e) of every row by load balancing; empty: none
  std::vector<float*> dgate_w{}, dup_w{}, ddown_w{};
  float *doutputs = nullptr, *dhidden = nullptr, *dgate = nullptr, *dup = nullptr;  // scratch
  float* dx = nullptr;       // [rows, D], overwritten
  float* dlogits = nullptr;  // [rows, E], overwritten
};
void experts_forward(const Machine& m, GemmWorkspace& workspace, const ExpertsArgs& args);
void experts_backward(const Machine& m, GemmWorkspace& workspace, const ExpertsArgs& args);

// y[r] = x[r] sigmoid(g[r]), one gate a row; and its gradient, which overwrites dx and dg.
void gate_rows_forward(const Machine& m, const float* x, const float* g, std::int64_t rows, std::int64_t d, float* y);
void gate_rows_backward(const Machine& m, const float* x, const float* g, const float* dy, std::int64_t rows,
                        std::int64_t d, float* dx, float* dg);

}  // namespace qw::ops
