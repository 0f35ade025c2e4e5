// Causal attention over packed documents with grouped queries, and its gradient (Dao et al., "FlashAttention", 2022:
// only the output and each row's log-sum-exp are kept). A document sees itself alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ops/executor.h"
#include "ops/machine.h"

namespace qw::ops {

struct AttentionArgs {
  AttentionSpec spec;
  kernels::GemmPrecision precision = kernels::GemmPrecision::kF32;  // of the products' factors
  std::span<const std::int32_t> cu_seqlens;  // [documents + 1]
  const float* q = nullptr;                  // [N, H * Dh]
  const float* k = nullptr;                  // [N, K * Dh]
  const float* v = nullptr;
  float* o = nullptr;          // [N, H * Dh]
  float* lse = nullptr;        // [N * H], laid out per document and kv head
  const float* d_o = nullptr;  // backward
  float* dq = nullptr;         // backward, overwritten
  float* dk = nullptr;
  float* dv = nullptr;
  std::int64_t longest = INT64_MAX;  // documents of more tokens are left out
  std::byte* scratch = nullptr;  // attention_scratch_bytes, 64-byte aligned
};

// The kernel's arguments for one document and one kv head with its group of query heads; without scratch.
kernels::AttentionTrainArgs attention_part(const AttentionArgs& args, std::int64_t document, std::int64_t kv_head);

std::size_t attention_scratch_bytes(const Machine& m, kernels::GemmPrecision precision, std::int64_t max_tokens,
                                    std::int64_t head_dim);
void attention_forward(const Machine& m, const AttentionArgs& args, std::int64_t max_tokens);
void attention_backward(const Machine& m, const AttentionArgs& args, std::int64_t max_tokens);

}  // namespace qw::ops
