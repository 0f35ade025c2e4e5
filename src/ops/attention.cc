#include "ops/attention.h"

namespace qw::ops {
namespace {

std::size_t worker_bytes(const Machine& m, kernels::GemmPrecision precision, std::int64_t max_tokens,
                         std::int64_t head_dim) {
  return align64(m.kernels.attention_scratch_bytes(precision, max_tokens, head_dim));
}

template <class Kernel>
void over_parts(const Machine& m, const AttentionArgs& g, std::int64_t max_tokens, Kernel kernel) {
  const auto documents = static_cast<std::int64_t>(g.cu_seqlens.size()) - 1;
  const std::size_t bytes = worker_bytes(m, g.precision, max_tokens, g.spec.head_dim);
  for_pieces(m.pool, documents * g.spec.kv_heads, [&](int worker, std::int64_t piece) {
    kernels::AttentionTrainArgs a = attention_part(g, piece / g.spec.kv_heads, piece % g.spec.kv_heads);
    if (a.tokens == 0 || a.tokens > g.longest) return;
    a.scratch = g.scratch + bytes * static_cast<std::size_t>(worker);
    kernel(a);
  });
}

}  // namespace

kernels::AttentionTrainArgs attention_part(const AttentionArgs& g, std::int64_t document, std::int64_t kv_head) {
  const AttentionSpec& s = g.spec;
  const std::int64_t first = g.cu_seqlens[static_cast<std::size_t>(document)];
  const std::int64_t tokens = g.cu_seqlens[static_cast<std::size_t>(document) + 1] - first;
  const std::int64_t group = s.heads / s.kv_heads, ldq = std::int64_t{s.heads} * s.head_dim,
                     ldk = std::int64_t{s.kv_heads} * s.head_dim;
  const std::int64_t q = first * ldq + kv_head * group * s.head_dim, k = first * ldk + kv_head * s.head_dim;
  auto at = [](auto* p, std::int64_t offset) { return p == nullptr ? p : p + offset; };
  return {.tokens = tokens,
          .heads_per_kv = group,
          .head_dim = s.head_dim,
          .scale = s.scale,
          .window = s.window,
          .q = g.q + q,
          .ldq = ldq,
          .k = g.k + k,
          .ldk = ldk,
          .v = g.v + k,
          .ldv = ldk,
          .o = g.o + q,
          .ldo = ldq,
          .lse = g.lse + first * s.heads + kv_head * group * tokens,
          .d_o = at(g.d_o, q),
          .dq = at(g.dq, q),
          .dk = at(g.dk, k),
          .dv = at(g.dv, k),
          .scratch = nullptr,
          .precision = g.precision};
}

std::size_t attention_scratch_bytes(const Machine& m, kernels::GemmPrecision precision, std::int64_t max_tokens,
                                    std::int64_t head_dim) {
  return worker_bytes(m, precision, max_tokens, head_dim) * static_cast<std::size_t>(m.pool.size());
}

void attention_forward(const Machine& m, const AttentionArgs& args, std::int64_t max_tokens) {
  over_parts(m, args, max_tokens, m.kernels.attention_train_forward);
}

void attention_backward(const Machine& m, const AttentionArgs& args, std::int64_t max_tokens) {
  over_parts(m, args, max_tokens, m.kernels.attention_train_backward);
}

}  // namespace qw::ops
