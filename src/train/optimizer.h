// AdamW (also with moments of 8 bits), Muon, SGD and Adafactor over a parameter table. The same bytes for every thread count: elementwise work is cut at fixed
// places, sums run over fixed pieces in fixed order, matrix products keep the kernels' promise.
//
// AdamW: Loshchilov & Hutter, "Decoupled weight decay regularization" (ICLR 2019); decay before the update, on tensors
// of rank 2 only. Muon: Jordan et al. (2024), momentum orthogonalised by five Newton-Schulz steps; scaling of Liu et
// al., "Muon is scalable for LLM training" (2025). SGD: v = momentum v + g, w -= lr v. Adafactor: Shazeer & Stern (2018), the
// second moment of a matrix as the product of its rows' and its columns' means, no first moment, updates of a root mean
// square of at most 1, the learning rate as given (neither relative to the step nor to the weights). Weights decay apart
// from the gradient in all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "ops/parameter_buffer.h"
#include "train/communicator.h"
#include "train/config.h"

namespace qw::train {

// Elementwise work is cut every 16384 floats of a parameter (64 KiB an operand: four of them stay in a 256 KiB second-level
// cache), at the same places whatever the thread count. Moments may be shared out at these places.
inline constexpr std::int64_t kUpdateChunk = 16384;

// How one parameter is treated.
enum class UpdateRule : std::uint8_t { kFrozen, kAdamw, kAdamwNoDecay, kMuon, kSgd, kSgdNoDecay, kAdafactor, kAdafactorNoDecay, kAdamw8bit,
                                       kAdamw8bitNoDecay };
// That of a parameter outside Muon, by the optimizer of a run.
UpdateRule plain_rule(OptimizerKind kind, bool decays);

// Whether a parameter's update looks at all of its gradient at once, so that it cannot be shared out.
bool updates_whole(UpdateRule rule);

// Sums of squares of the chunks of all gradients that are trained, in order; 0 where `owned` (by parameter; empty: everything)
// leaves a chunk to others. Then the norm that they make.
std::vector<double> squares_of(const ops::ParameterBuffer& gradients, const std::vector<UpdateRule>& rules,
                               const std::vector<Communicator::Range>& owned, const kernels::Kernels& kernels,
                               base::ThreadPool& pool);
double norm_of(const ops::ParameterBuffer& gradients, const std::vector<UpdateRule>& rules, const std::vector<double>& squares);
// Those sums by parameter, whose sum is the square of the norm.
std::vector<double> squares_by_parameter(const ops::ParameterBuffer& gradients, const std::vector<UpdateRule>& rules,
                                         const std::vector<double>& squares);
// Square root of the sum of squares of all gradients that are trained.
double gradient_norm(const ops::ParameterBuffer& gradients, const std::vector<UpdateRule>& rules,
                     const kernels::Kernels& kernels, base::ThreadPool& pool);

// Five Newton-Schulz steps towards the nearest orthogonal matrix, in place on x [rows, cols] (float32 products unless
// `precision` says otherwise).
class NewtonSchulz {
 public:
  NewtonSchulz(std::int64_t max_rows, std::int64_t max_cols, kernels::GemmPrecision precision,
               const kernels::Kernels& kernels, base::ThreadPool& pool);
  ~NewtonSchulz();
  void orthogonalise(float* x, std::int64_t rows, std::int64_t cols);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Bytes that an optimizer takes.
struct OptimizerNeed {
  std::int64_t moments = 0;     // moment_bytes()
  std::int64_t workspaces = 0;  // of Muon and Adafactor
};
// Of one that is made with these, without making it.
OptimizerNeed optimizer_need(const std::vector<tensor::Shape>& shapes, const std::vector<UpdateRule>& rules,
                             const OptimizerConfig& config, kernels::GemmPrecision muon_precision,
                             const kernels::Kernels& kernels, base::ThreadPool& pool);

class Optimizer {
 public:
  Optimizer(const std::vector<tensor::Shape>& shapes, std::vector<UpdateRule> rules, const OptimizerConfig& config,
            kernels::GemmPrecision muon_precision, const kernels::Kernels& kernels, base::ThreadPool& pool,
            std::vector<float> lr_ratios = {},   // by parameter, multiplies its learning rate; empty: 1
            // Of each parameter the numbers this optimizer updates and has moments of (cut at multiples of kUpdateChunk; all or
            // nothing where updates_whole); empty: all.
            std::vector<Communicator::Range> owned = {});
  ~Optimizer();

  // One update: step counts from 1; `lr_factor` is the schedule's; gradients are multiplied by `gradient_scale`.
  void step(ops::ParameterBuffer& weights, const ops::ParameterBuffer& gradients, std::int64_t step, double lr_factor,
            double gradient_scale);

  // First moments (Muon, SGD: momentum) of every parameter, and second moments of those under AdamW and Adafactor (of a
  // matrix the means by row, then by column); shape [0] where there are none, [n] where n numbers are owned. Where there are codes, the scale of each
  // block of them (internal/dynamic_code.h).
  ops::ParameterBuffer& first_moments();
  ops::ParameterBuffer& second_moments();
  // The codes of moments of 8 bits; empty where moments are floats: in the other rules, and of parameters of less than
  // 4096 numbers, which weigh nothing.
  std::span<std::uint8_t> first_codes(std::size_t parameter);
  std::span<std::uint8_t> second_codes(std::size_t parameter);
  std::int64_t moment_bytes() const;  // of all of these
  // What the first and second moments, and codes, of a parameter would be without `owned`: [0] and 0 where there are none.
  tensor::Shape first_shape(std::size_t parameter) const;
  tensor::Shape second_shape(std::size_t parameter) const;
  std::int64_t codes(std::size_t parameter) const;
  const std::vector<UpdateRule>& rules() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qw::train
