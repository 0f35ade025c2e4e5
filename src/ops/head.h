// The language-model head with cross-entropy, in chunks of rows, so that [N, V] logits never exist at once (the idea of
// Liger kernels' fused linear cross-entropy, 2024). Rows without a label are skipped before the product.
//
//   logits = h W^T,  nll_r = log sum exp(logits_r) - logits_r[label_r]
//   dlogits = (softmax - onehot) scale weight_r,  dh = dlogits W,  dW += dlogits^T h
//
// A constant W must be the same one in every call.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "ops/gemm.h"

namespace qw::ops {

struct HeadSpec {
  kernels::GemmPrecision precision = kernels::GemmPrecision::kF32;
  std::int64_t vocab = 0, d = 0;  // W is [vocab, d]
  std::int64_t max_rows = 0;      // of one call
  bool backward = true;
  bool frozen = false;           // no gradient of W is asked for
  bool packs_when_used = false;  // W is float32 or packs directly (gemm.h), and is held nowhere in packed form
  bool packs_once = false;       // W does (gemm.h), and is held so, in place of its file's pages
};

class Head {
 public:
  Head(const Machine& machine, const HeadSpec& spec);
  std::int64_t chunk_rows() const { return chunk_; }
  std::int64_t bytes() const;  // but those of a W that is packed once
  // What such a head takes, without making it.
  static std::int64_t need(const Machine& machine, const HeadSpec& spec);
  std::int64_t vocab() const { return vocab_; }

  // Logits of the named rows of h [*, d]: out [rows.size(), vocab].
  void logits(const float* h, const Matrix& w, std::span<const std::int32_t> rows, float* out);
  // out[r] = log p(labels[r]), 0 where labels[r] < 0.
  void logprobs(const float* h, const Matrix& w, std::span<const std::int32_t> labels, std::span<float> out);
  // Loss and gradients. nll[r] is set for every row; dh [N, d] is overwritten (0 where ignored) unless null; dw
  // accumulates unless null. weights empty: all 1. Returns sum of weight * nll over kept rows, in row order.
  double backward(const float* h, const Matrix& w, std::span<const std::int32_t> labels, std::span<const float> weights,
                  float scale, std::span<float> nll, float* dh, float* dw);
  // The same for any loss of logits. `loss` is told rows that have a label and their logits [rows.size(), vocab], which
  // it overwrites with its gradient by them; it returns its sum over these rows. Chunk by chunk, rows ascending;
  // gradients are multiplied by `scale`. Returns the sum.
  using LogitsLoss = std::function<double(std::span<const std::int32_t> rows, std::span<float> logits)>;
  double backward_logits(const float* h, const Matrix& w, std::span<const std::int32_t> labels, const LogitsLoss& loss,
                         float scale, float* dh, float* dw);

 private:
  void begin_backward(const Matrix& w, std::int64_t rows, float* dh);
  // From dlogits (in logits_) of a chunk whose hidden rows are gathered.
  void chunk_backward(const Matrix& w, std::span<const std::int32_t> rows, float* dh, float* dw);
  void gather(const float* h, std::span<const std::int32_t> rows);
  static std::int64_t rows_of_chunk(const HeadSpec& spec);
  static void plan(GemmWorkspace& workspace, const HeadSpec& spec);
  // W in pieces of so many rows, so that no more of one that must be opened is open at a time.
  struct Piece {
    std::int64_t begin, rows;
    // Packed for h W^T and for dlogits W; empty where W is packed when it is used. Packed once: `forward` is for both.
    tensor::Buffer forward, backward;
  };
  void pack(const Matrix& w, bool backward);
  kernels::GemmArgs forward_args(const Piece& piece, std::int64_t rows) const;
  kernels::GemmArgs dh_args(const Piece& piece, std::int64_t rows) const;
  // A product with a piece.
  void multiply(const kernels::GemmArgs& args, const Matrix& w, const Piece& piece, bool backward);
  void chunk_logits(const float* h, const Matrix& w, std::span<const std::int32_t> rows, float* out);
  std::span<const std::int32_t> kept_rows(std::span<const std::int32_t> labels, std::int64_t& cursor);

  Machine machine_;
  kernels::GemmPrecision precision_;
  std::int64_t vocab_, d_, chunk_;
  bool packs_when_used_, packs_once_;
  GemmWorkspace workspace_;
  std::vector<Piece> pieces_;
  bool packed_forward_ = false, packed_backward_ = false;  // of a constant W: once is enough
  tensor::Buffer logits_, rows_h_, rows_dh_;
  std::vector<std::int32_t> rows_;
};

}  // namespace qw::ops
