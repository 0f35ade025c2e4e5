#include "ops/head.h"

#include <algorithm>
#include <cstring>

#include "base/result.h"
#include "ops/elementwise.h"

namespace qw::ops {
namespace {

// Logits of one chunk: about 16 MiB of floats. Larger chunks stop paying once dW (read and written once a chunk) is
// small beside the products; smaller ones keep big vocabularies affordable. At least 64 rows, so that a product is
// still a product; at most 1024.
constexpr std::int64_t kChunkFloats = std::int64_t{4} << 20;
constexpr std::int64_t kMinRows = 64, kMaxRows = 1024;

float* floats(const tensor::Buffer& b) { return reinterpret_cast<float*>(b.data()); }
tensor::Buffer float_buffer(std::int64_t n) { return tensor::Buffer(static_cast<std::size_t>(n) * sizeof(float)); }

kernels::GemmArgs forward_args(kernels::GemmPrecision p, std::int64_t rows, std::int64_t vocab, std::int64_t d,
                               const float* h, const float* w, float* out) {
  return {.precision = p,
          .trans_a = false,
          .trans_b = true,
          .m = rows,
          .n = vocab,
          .k = d,
          .a = h,
          .lda = d,
          .b = w,
          .ldb = d,
          .c = out,
          .ldc = vocab,
          .accumulate = false};
}

kernels::GemmArgs dh_args(kernels::GemmPrecision p, std::int64_t rows, std::int64_t vocab, std::int64_t d,
                          const float* dlogits, const float* w, float* dh) {
  return {.precision = p,
          .trans_a = false,
          .trans_b = false,
          .m = rows,
          .n = d,
          .k = vocab,
          .a = dlogits,
          .lda = vocab,
          .b = w,
          .ldb = d,
          .c = dh,
          .ldc = d,
          .accumulate = false};
}

kernels::GemmArgs dw_args(kernels::GemmPrecision p, std::int64_t rows, std::int64_t vocab, std::int64_t d,
                          const float* dlogits, const float* h, float* dw) {
  return {.precision = p,
          .trans_a = true,
          .trans_b = false,
          .m = vocab,
          .n = d,
          .k = rows,
          .a = dlogits,
          .lda = vocab,
          .b = h,
          .ldb = d,
          .c = dw,
          .ldc = d,
          .accumulate = true};
}

}  // namespace

Head::Head(const Machine& machine, kernels::GemmPrecision precision, std::int64_t vocab, std::int64_t d, bool backward)
    : machine_(machine),
      precision_(precision),
      vocab_(vocab),
      d_(d),
      chunk_(std::clamp(kChunkFloats / vocab, kMinRows, kMaxRows)),
      workspace_(machine, precision) {
  const kernels::Kernels& k = machine.kernels;
  workspace_.plan(chunk_, vocab, d);
  packed_forward_ = tensor::Buffer(k.gemm_packed_b_bytes(precision, vocab, d));
  logits_ = float_buffer(chunk_ * vocab);
  rows_h_ = float_buffer(chunk_ * d);
  rows_.resize(static_cast<std::size_t>(chunk_));
  if (backward) {
    workspace_.plan(chunk_, d, vocab);
    workspace_.plan(vocab, d, chunk_);
    packed_backward_ = tensor::Buffer(k.gemm_packed_b_bytes(precision, d, vocab));
    rows_dh_ = float_buffer(chunk_ * d);
  }
  workspace_.allocate();
}

std::int64_t Head::bytes() const {
  return workspace_.bytes() + static_cast<std::int64_t>(packed_forward_.size() + packed_backward_.size() +
                                                        logits_.size() + rows_h_.size() + rows_dh_.size());
}

void Head::gather(const float* h, std::span<const std::int32_t> rows) {
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::memcpy(floats(rows_h_) + static_cast<std::int64_t>(i) * d_, h + rows[i] * d_,
                static_cast<std::size_t>(d_) * sizeof(float));
}

void Head::pack_forward(const float* w) {
  gemm_pack(machine_, forward_args(precision_, 0, vocab_, d_, nullptr, w, nullptr), packed_forward_.data());
}

void Head::chunk_logits(const float* h, std::span<const std::int32_t> rows, float* out) {
  gather(h, rows);
  gemm_with(machine_, workspace_,
            forward_args(precision_, static_cast<std::int64_t>(rows.size()), vocab_, d_, floats(rows_h_), nullptr, out),
            packed_forward_.data());
}

// The next chunk of rows with a label, from `cursor` on; empty at the end.
std::span<const std::int32_t> Head::kept_rows(std::span<const std::int32_t> labels, std::int64_t& cursor) {
  std::size_t n = 0;
  for (; cursor < static_cast<std::int64_t>(labels.size()) && n < rows_.size(); ++cursor)
    if (labels[static_cast<std::size_t>(cursor)] >= 0) rows_[n++] = static_cast<std::int32_t>(cursor);
  return {rows_.data(), n};
}

void Head::logits(const float* h, const float* w, std::span<const std::int32_t> rows, float* out) {
  pack_forward(w);
  for (std::size_t i = 0; i < rows.size(); i += static_cast<std::size_t>(chunk_)) {
    const auto chunk = rows.subspan(i, std::min(rows.size() - i, static_cast<std::size_t>(chunk_)));
    chunk_logits(h, chunk, out + static_cast<std::int64_t>(i) * vocab_);
  }
}

void Head::logprobs(const float* h, const float* w, std::span<const std::int32_t> labels, std::span<float> out) {
  QW_CHECK(out.size() == labels.size());
  pack_forward(w);
  std::fill(out.begin(), out.end(), 0.0f);
  std::int64_t cursor = 0;
  for (auto rows = kept_rows(labels, cursor); !rows.empty(); rows = kept_rows(labels, cursor)) {
    chunk_logits(h, rows, floats(logits_));
    machine_.pool.parallel_for(static_cast<std::int64_t>(rows.size()), 1, [&](std::int64_t b, std::int64_t e) {
      for (std::int64_t i = b; i < e; ++i) {
        const auto r = static_cast<std::size_t>(rows[static_cast<std::size_t>(i)]);
        const float* x = floats(logits_) + i * vocab_;
        out[r] = x[labels[r]] - machine_.kernels.log_sum_exp(x, vocab_);
      }
    });
  }
}

double Head::backward(const float* h, const float* w, std::span<const std::int32_t> labels,
                      std::span<const float> weights, float scale, std::span<float> nll, float* dh, float* dw) {
  QW_CHECK(nll.size() == labels.size() && (weights.empty() || weights.size() == labels.size()));
  pack_forward(w);
  if (dh != nullptr) {
    gemm_pack(machine_, dh_args(precision_, 0, vocab_, d_, nullptr, w, nullptr), packed_backward_.data());
    fill_zero(machine_, static_cast<std::int64_t>(labels.size()) * d_, dh);
  }
  std::fill(nll.begin(), nll.end(), 0.0f);
  std::int64_t cursor = 0;
  for (auto rows = kept_rows(labels, cursor); !rows.empty(); rows = kept_rows(labels, cursor)) {
    const auto n = static_cast<std::int64_t>(rows.size());
    float* logits = floats(logits_);
    chunk_logits(h, rows, logits);
    machine_.pool.parallel_for(n, 1, [&](std::int64_t b, std::int64_t e) {
      for (std::int64_t i = b; i < e; ++i) {
        const auto r = static_cast<std::size_t>(rows[static_cast<std::size_t>(i)]);
        const float weight = weights.empty() ? 1.0f : weights[r];
        nll[r] = machine_.kernels.cross_entropy(logits + i * vocab_, vocab_, labels[r], scale * weight);
      }
    });
    if (dw != nullptr) gemm(machine_, workspace_, dw_args(precision_, n, vocab_, d_, logits, floats(rows_h_), dw));
    if (dh == nullptr) continue;
    gemm_with(machine_, workspace_, dh_args(precision_, n, vocab_, d_, logits, nullptr, floats(rows_dh_)),
              packed_backward_.data());
    for (std::int64_t i = 0; i < n; ++i)
      std::memcpy(dh + rows[static_cast<std::size_t>(i)] * d_, floats(rows_dh_) + i * d_,
                  static_cast<std::size_t>(d_) * sizeof(float));
  }
  double total = 0;
  for (std::size_t r = 0; r < labels.size(); ++r)
    if (labels[r] >= 0) total += static_cast<double>(nll[r]) * static_cast<double>(weights.empty() ? 1.0f : weights[r]);
  return total;
}

}  // namespace qw::ops
