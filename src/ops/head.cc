#include "ops/head.h"

#include <algorithm>
#include <cstring>

#include "base/result.h"
#include "ops/elementwise.h"
#include "ops/internal/float_buffer.h"

namespace qw::ops {
namespace {

// Logits of one chunk: about 16 MiB of floats. Larger chunks stop paying once dW (read and written once a chunk) is
// small beside the products; smaller ones keep big vocabularies affordable. At least 64 rows, so that a product is
// still a product; at most 1024.
constexpr std::int64_t kChunkFloats = std::int64_t{4} << 20;
constexpr std::int64_t kMinRows = 64, kMaxRows = 1024;
// Of a W that is packed anew for every chunk, or turned, where that takes a twentieth of the products: 80 MiB, 138 rows
// of a vocabulary of 152 K; twice that if its gradient is made as well, which every chunk reads and writes. W packed
// both ways would be 594 MiB there.
constexpr std::int64_t kChunkFloatsPacked = std::int64_t{20} << 20;

// Rows of W in a piece: 8192 of 1024 numbers are 32 MiB opened, and enough columns for every thread.
constexpr std::int64_t kPieceRows = 8192;

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

std::int64_t Head::rows_of_chunk(const HeadSpec& spec) {
  const std::int64_t floats = spec.packs_once         ? kChunkFloatsPacked
                              : !spec.packs_when_used ? kChunkFloats
                              : spec.frozen           ? kChunkFloatsPacked
                                                      : 2 * kChunkFloatsPacked;
  return std::min(std::clamp(floats / spec.vocab, kMinRows, kMaxRows), std::max<std::int64_t>(1, spec.max_rows));
}

void Head::plan(GemmWorkspace& workspace, const HeadSpec& spec) {
  const std::int64_t chunk = rows_of_chunk(spec), piece = std::min(kPieceRows, spec.vocab);
  workspace.plan(chunk, piece, spec.d);
  if (!spec.backward) return;
  workspace.plan(chunk, spec.d, piece);
  workspace.plan(spec.vocab, spec.d, chunk);
}

std::int64_t Head::need(const Machine& machine, const HeadSpec& spec) {
  GemmWorkspace workspace(machine, spec.precision);
  plan(workspace, spec);
  const auto packed_bytes = machine.kernels.gemm_packed_b_bytes;
  std::size_t bytes =
      static_cast<std::size_t>(rows_of_chunk(spec) * (spec.vocab + spec.d * (spec.backward ? 2 : 1))) * sizeof(float);
  for (std::int64_t begin = 0; begin < spec.vocab && !spec.packs_when_used && !spec.packs_once; begin += kPieceRows) {
    const std::int64_t rows = std::min(kPieceRows, spec.vocab - begin);
    bytes += packed_bytes(spec.precision, rows, spec.d);
    if (spec.backward) bytes += packed_bytes(spec.precision, spec.d, rows);
  }
  return workspace.planned_bytes() + static_cast<std::int64_t>(bytes);
}

Head::Head(const Machine& machine, const HeadSpec& spec)
    : machine_(machine),
      precision_(spec.precision),
      vocab_(spec.vocab),
      d_(spec.d),
      chunk_(rows_of_chunk(spec)),
      packs_when_used_(spec.packs_when_used),
      packs_once_(spec.packs_once),
      workspace_(machine, spec.precision) {
  const auto packed_bytes = machine.kernels.gemm_packed_b_bytes;
  for (std::int64_t begin = 0; begin < vocab_; begin += kPieceRows) {
    Piece& piece = pieces_.emplace_back(Piece{begin, std::min(kPieceRows, vocab_ - begin), {}, {}});
    if (packs_when_used_ || packs_once_) continue;
    piece.forward = tensor::Buffer(packed_bytes(precision_, piece.rows, d_));
    if (spec.backward) piece.backward = tensor::Buffer(packed_bytes(precision_, d_, piece.rows));
  }
  plan(workspace_, spec);
  logits_ = float_buffer(chunk_ * vocab_);
  rows_h_ = float_buffer(chunk_ * d_);
  rows_.resize(static_cast<std::size_t>(chunk_));
  if (spec.backward) rows_dh_ = float_buffer(chunk_ * d_);
  workspace_.allocate();
}

std::int64_t Head::bytes() const {
  std::size_t bytes = logits_.size() + rows_h_.size() + rows_dh_.size();
  for (const Piece& piece : pieces_) bytes += packs_once_ ? 0 : piece.forward.size() + piece.backward.size();
  return workspace_.bytes() + static_cast<std::int64_t>(bytes);
}

void Head::gather(const float* h, std::span<const std::int32_t> rows) {
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::memcpy(floats(rows_h_) + static_cast<std::int64_t>(i) * d_, h + rows[i] * d_,
                static_cast<std::size_t>(d_) * sizeof(float));
}

kernels::GemmArgs Head::forward_args(const Piece& piece, std::int64_t rows) const {
  kernels::GemmArgs g{};
  g.precision = precision_;
  g.trans_b = true;
  g.m = rows, g.n = piece.rows, g.k = d_;
  g.lda = g.ldb = d_, g.ldc = vocab_;
  return g;
}

// Pieces add up, in order.
kernels::GemmArgs Head::dh_args(const Piece& piece, std::int64_t rows) const {
  kernels::GemmArgs g{};
  g.precision = precision_;
  g.m = rows, g.n = d_, g.k = piece.rows;
  g.lda = vocab_, g.ldb = g.ldc = d_;
  g.accumulate = piece.begin > 0;
  return g;
}

void Head::pack(const Matrix& w, bool backward) {
  bool& done = backward && !packs_once_ ? packed_backward_ : packed_forward_;
  QW_CHECK(!packs_when_used_ || w.f32 != nullptr || packs_directly(machine_, precision_, w));
  if (packs_when_used_ || (w.constant && done)) return;
  if (packs_once_) {
    QW_CHECK(w.constant);
    for (Piece& piece : pieces_) {
      const Matrix rows(tensor::rows_of(w.stored, piece.begin, piece.rows));
      piece.forward = ops::pack_once(machine_, rows, piece.rows, d_);
    }
    done = true;
    return;
  }
  tensor::Buffer room;
  if (w.f32 == nullptr) room = float_buffer(std::min(kPieceRows, vocab_) * d_);
  for (Piece& piece : pieces_) {
    kernels::GemmArgs args = backward ? dh_args(piece, 0) : forward_args(piece, 0);
    args.b = matrix_rows(machine_, w, piece.begin, piece.rows, d_, floats(room));
    gemm_pack(machine_, args, backward ? piece.backward.data() : piece.forward.data());
  }
  done = w.constant;
}

void Head::multiply(const kernels::GemmArgs& args, const Matrix& w, const Piece& piece, bool backward) {
  if (packs_once_) {
    Matrix rows;
    rows.packed_once = piece.forward.data();
    return gemm(machine_, workspace_, args, rows, piece.rows);
  }
  if (!packs_when_used_)
    return gemm_with(machine_, workspace_, args, (backward ? piece.backward : piece.forward).data());
  const Matrix rows =
      w.f32 != nullptr ? Matrix(w.f32 + piece.begin * d_) : Matrix(tensor::rows_of(w.stored, piece.begin, piece.rows));
  gemm(machine_, workspace_, args, rows, piece.rows);
}

void Head::chunk_logits(const float* h, const Matrix& w, std::span<const std::int32_t> rows, float* out) {
  gather(h, rows);
  for (const Piece& piece : pieces_) {
    kernels::GemmArgs args = forward_args(piece, static_cast<std::int64_t>(rows.size()));
    args.a = floats(rows_h_);
    args.c = out + piece.begin;
    multiply(args, w, piece, false);
  }
}

// The next chunk of rows with a label, from `cursor` on; empty at the end.
std::span<const std::int32_t> Head::kept_rows(std::span<const std::int32_t> labels, std::int64_t& cursor) {
  std::size_t n = 0;
  for (; cursor < static_cast<std::int64_t>(labels.size()) && n < rows_.size(); ++cursor)
    if (labels[static_cast<std::size_t>(cursor)] >= 0) rows_[n++] = static_cast<std::int32_t>(cursor);
  return {rows_.data(), n};
}

void Head::logits(const float* h, const Matrix& w, std::span<const std::int32_t> rows, float* out) {
  pack(w, false);
  for (std::size_t i = 0; i < rows.size(); i += static_cast<std::size_t>(chunk_)) {
    const auto chunk = rows.subspan(i, std::min(rows.size() - i, static_cast<std::size_t>(chunk_)));
    chunk_logits(h, w, chunk, out + static_cast<std::int64_t>(i) * vocab_);
  }
}

void Head::logprobs(const float* h, const Matrix& w, std::span<const std::int32_t> labels, std::span<float> out) {
  QW_CHECK(out.size() == labels.size());
  pack(w, false);
  std::fill(out.begin(), out.end(), 0.0f);
  std::int64_t cursor = 0;
  for (auto rows = kept_rows(labels, cursor); !rows.empty(); rows = kept_rows(labels, cursor)) {
    chunk_logits(h, w, rows, floats(logits_));
    machine_.pool.parallel_for(static_cast<std::int64_t>(rows.size()), 1, [&](std::int64_t b, std::int64_t e) {
      for (std::int64_t i = b; i < e; ++i) {
        const auto r = static_cast<std::size_t>(rows[static_cast<std::size_t>(i)]);
        const float* x = floats(logits_) + i * vocab_;
        out[r] = x[labels[r]] - machine_.kernels.log_sum_exp(x, vocab_);
      }
    });
  }
}

void Head::begin_backward(const Matrix& w, std::int64_t rows, float* dh) {
  pack(w, false);
  if (dh == nullptr) return;
  pack(w, true);
  fill_zero(machine_, rows * d_, dh);
}

void Head::chunk_backward(const Matrix& w, std::span<const std::int32_t> rows, float* dh, float* dw) {
  const auto n = static_cast<std::int64_t>(rows.size());
  const float* logits = floats(logits_);
  if (dw != nullptr) gemm(machine_, workspace_, dw_args(precision_, n, vocab_, d_, logits, floats(rows_h_), dw));
  if (dh == nullptr) return;
  for (const Piece& piece : pieces_) {
    kernels::GemmArgs args = dh_args(piece, n);
    args.a = logits + piece.begin;
    args.c = floats(rows_dh_);
    multiply(args, w, piece, true);
  }
  for (std::int64_t i = 0; i < n; ++i)
    std::memcpy(dh + rows[static_cast<std::size_t>(i)] * d_, floats(rows_dh_) + i * d_,
                static_cast<std::size_t>(d_) * sizeof(float));
}

double Head::backward(const float* h, const Matrix& w, std::span<const std::int32_t> labels,
                      std::span<const float> weights, float scale, std::span<float> nll, float* dh, float* dw) {
  QW_CHECK(nll.size() == labels.size() && (weights.empty() || weights.size() == labels.size()));
  begin_backward(w, static_cast<std::int64_t>(labels.size()), dh);
  std::fill(nll.begin(), nll.end(), 0.0f);
  std::int64_t cursor = 0;
  for (auto rows = kept_rows(labels, cursor); !rows.empty(); rows = kept_rows(labels, cursor)) {
    float* logits = floats(logits_);
    chunk_logits(h, w, rows, logits);
    machine_.pool.parallel_for(static_cast<std::int64_t>(rows.size()), 1, [&](std::int64_t b, std::int64_t e) {
      for (std::int64_t i = b; i < e; ++i) {
        const auto r = static_cast<std::size_t>(rows[static_cast<std::size_t>(i)]);
        const float weight = weights.empty() ? 1.0f : weights[r];
        nll[r] = machine_.kernels.cross_entropy(logits + i * vocab_, vocab_, labels[r], scale * weight);
      }
    });
    chunk_backward(w, rows, dh, dw);
  }
  double total = 0;
  for (std::size_t r = 0; r < labels.size(); ++r)
    if (labels[r] >= 0) total += static_cast<double>(nll[r]) * static_cast<double>(weights.empty() ? 1.0f : weights[r]);
  return total;
}

double Head::backward_logits(const float* h, const Matrix& w, std::span<const std::int32_t> labels,
                             const LogitsLoss& loss, float scale, float* dh, float* dw) {
  begin_backward(w, static_cast<std::int64_t>(labels.size()), dh);
  double total = 0;
  std::int64_t cursor = 0;
  for (auto rows = kept_rows(labels, cursor); !rows.empty(); rows = kept_rows(labels, cursor)) {
    const std::int64_t n = static_cast<std::int64_t>(rows.size()) * vocab_;
    float* logits = floats(logits_);
    chunk_logits(h, w, rows, logits);
    total += loss(rows, {logits, static_cast<std::size_t>(n)});
    scale_forward(machine_, logits, scale, n, logits);
    chunk_backward(w, rows, dh, dw);
  }
  return total;
}

}  // namespace qw::ops
