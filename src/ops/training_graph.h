// Replays a recorded program forward and then backward over a batch of packed documents.
//
//   RecordingExecutor recorder(shapes);  model.forward(recorder);
//   TrainingGraph graph(recorder.finish(), shapes, options, kernels, pool);
//   ParameterBuffer weights(graph.parameter_shapes());     // fill; float32 master weights
//   graph.gradients().zero();
//   for each micro-batch:  QW_TRY(graph.forward(weights, batch));  nll += graph.backward(1.0f / kept_in_step);
//   optimiser(weights, graph.gradients());
//
// Preference and policy losses: forward; token_logprobs; choose a weight per row (d loss / d nll_r); backward(scale,
// row_weights).
//
// Losses of the rows themselves (classes, rewards, embeddings): forward; final_hidden; choose the gradient of each row;
// backward_rows. Of a model without the head of a language model (Executor::head) that is the only way.
//
// Results are the same bytes for every thread count. All memory is taken when the graph is made, for max_tokens rows.
// One thread drives a graph; it uses the pool given.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "ops/head.h"
#include "ops/parameter_buffer.h"
#include "ops/program.h"
#include "ops/recompute.h"

namespace qw::ops {

// A low-rank adapter on a linear weight: y = x W^T + scale * (x A^T) B^T, A is [rank, in], B is [out, rank]; with
// `magnitude` (DoRA, linear.h) the rows of W + scale * B A get the lengths m [out]. Adapters add their parameters after the
// model's, adapter by adapter: A, B, and m if there is one (TrainingGraph::adapter_parameter).
struct Adapter {
  Weight target;
  std::int32_t rank = 0;
  float scale = 1;
  bool magnitude = false;
};

struct TrainingOptions {
  std::int64_t max_tokens = 0;  // rows of the largest batch
  kernels::GemmPrecision precision = kernels::GemmPrecision::kF32;
  std::vector<Adapter> adapters;
  Recompute recompute = Recompute::kNone;  // changes memory and time, and no bit of what comes out
  // Outputs of products that only the backward pass will still read lie in bfloat16 until then: half the memory, and what
  // backward reads is rounded. The forward pass and the loss stay as they are.
  bool half_kept = false;
  std::vector<bool> frozen;   // by model parameter; empty = all are trained. Frozen: gradient stays as it is
  bool forward_only = false;  // no gradients are kept (scoring, reference policies); backward is then a bug
  // By model parameter: a frozen one that is read from here in whatever format it has, and is in no ParameterBuffer. Empty
  // views, or an empty list: as usual. What they view must outlive the graph.
  std::vector<tensor::ConstView> stored{};
  // Of a program in slices (slicing.h): makes numbers, on every process of the group, their sums over the group, the same bytes
  // everywhere. Called on the thread that drives the graph, in the same order everywhere. It tells of no failure: whoever made
  // it asks for that when a pass is over.
  std::function<void(std::span<float>)> sum_group{};
};

// N rows of whole documents, one after the other.
struct TrainingBatch {
  std::span<const std::int32_t> tokens;     // [N]
  std::span<const std::int32_t> positions;  // [N], restart at 0 in each document
  std::span<const std::int32_t>
      cu_seqlens;                        // [documents + 1], from 0 to N, ascending: document i is rows [c[i], c[i+1])
  std::span<const std::int32_t> labels;  // [N], the token row r must predict (already shifted); -1 = ignored
};

// Bytes that a graph takes.
struct TrainingNeed {
  std::int64_t parameters = 0;   // of one table of parameter_shapes(), float32: weights, gradients, each moment
  std::int64_t activations = 0;  // with their gradients, for max_tokens rows
  std::int64_t workspaces = 0;   // of products, attention and the like
  std::int64_t head = 0;         // logits of a chunk of rows, and the packed weights of the head
};
// Of a graph made with these, without making it.
TrainingNeed training_need(const Program& program, const std::vector<tensor::Shape>& parameters,
                           const TrainingOptions& options, const kernels::Kernels& kernels, base::ThreadPool& pool);

class TrainingGraph {
 public:
  TrainingGraph(Program program, std::vector<tensor::Shape> parameters, TrainingOptions options,
                const kernels::Kernels& kernels, base::ThreadPool& pool);
  ~TrainingGraph();
  TrainingGraph(const TrainingGraph&) = delete;
  TrainingGraph& operator=(const TrainingGraph&) = delete;

  // Shapes of the model's parameters ([0] for those that are `stored`), then of the adapters'.
  const std::vector<tensor::Shape>& parameter_shapes() const;
  // Where the A of an adapter stands in that table; its B and its magnitude follow.
  std::size_t adapter_parameter(std::size_t adapter) const;
  // Accumulates with +=; same table as parameter_shapes(). Empty when forward_only.
  ParameterBuffer& gradients();
  // Every backward from now on tells each parameter, once, as soon as nothing in it will add to the parameter's gradient any
  // more, on the thread that drives the graph: from the head down to the embedding. Empty: nobody is told.
  void on_final_gradient(std::function<void(std::size_t parameter)> told);
  // All parameters in that order.
  std::vector<std::size_t> final_gradient_order() const;
  // Bytes of activations, gradients of activations and workspaces held.
  std::int64_t arena_bytes() const;

  // Runs everything up to the head. `weights` (same table) and the spans of `batch` must stay as they are until
  // backward returned. Errors: kBadInput for an id, position or boundary out of range; kUsage for too many tokens.
  Status forward(const ParameterBuffer& weights, const TrainingBatch& batch);

  // After forward, of a language model: log p(label_r) of each row (0 where the label is -1). out is [N].
  void token_logprobs(std::span<float> out);
  // After forward: log p(tokens[i] | up to rows[i]) is of interest elsewhere; this gives whole rows. out is [rows, V].
  void logits(std::span<const std::int32_t> rows, float* out);
  // After forward: hidden rows that enter the head, or, of another head, what the model gives. [N, final_width()]
  const float* final_hidden() const;
  std::int64_t final_width() const;

  // After forward: adds the gradient of  loss_scale * sum_r weight_r * -log p(label_r)  over kept rows to gradients()
  // and returns sum_r weight_r * -log p(label_r), unscaled. `row_weights` is [N], or empty for all 1. Once a forward.
  double backward(float loss_scale, std::span<const float> row_weights = {});
  // The same for a loss of the logits of rows that have a label (Head::LogitsLoss): chunk by chunk, never all at once. Returns
  // the loss, unscaled. row_nll() is not set.
  double backward_logits(float loss_scale, const Head::LogitsLoss& loss);
  // After forward: adds the gradient of sum_r <d_rows_r, row_r> over the rows of final_hidden() to gradients(). `d_rows` is
  // [N, final_width()]. Once a forward, in place of backward. Experts are not balanced.
  void backward_rows(std::span<const float> d_rows);
  // After backward: the load-balancing loss of the experts (with its coefficient; 0 without experts). Its gradient went
  // in with the weight loss_scale * kept rows, so that it stands beside a mean over rows as the coefficient says.
  double balance_loss() const;
  // After backward: -log p(label_r) of each row, 0 where ignored. [N]
  std::span<const float> row_nll() const;

  // Floating-point operations of all passes since the last call, counted on the recorded program: two for a multiply-add of products,
  // attention, experts, short convolutions and delta rules; what works on single values, and what is computed a second
  // time to save memory, is left out.
  double take_flops();
  // The same of one pass forward over documents of these borders.
  double forward_flops(std::span<const std::int32_t> cu_seqlens) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qw::ops
