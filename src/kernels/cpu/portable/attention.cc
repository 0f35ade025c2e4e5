// Attention in plain C++, row by row: the other instruction sets must agree with these.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/result.h"
#include "kernels/internal/cache_element.h"
#include "kernels/internal/cache_gather.h"
#include "kernels/internal/exp.h"
#include "kernels/internal/fill.h"

namespace qw::kernels::portable {
namespace {

float dot(const float* a, const float* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return static_cast<float>(sum);
}

// The first of the `keys` positions up to a query that it sees.
std::int64_t first_key(std::int64_t keys, std::int64_t window) { return window > 0 ? std::max<std::int64_t>(0, keys - window) : 0; }

void add_scaled(float* y, float s, const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += s * x[i];
}

// Scratch: scores of one row.
std::size_t attention_scratch_bytes(GemmPrecision, std::int64_t tokens, std::int64_t) {
  return static_cast<std::size_t>(tokens) * sizeof(float);
}

void train_forward(const AttentionTrainArgs& a) {
  auto* p = static_cast<float*>(a.scratch);
  for (std::int64_t g = 0; g < a.heads_per_kv; ++g) {
    for (std::int64_t t = 0; t < a.tokens; ++t) {
      const float* q = a.q + t * a.ldq + g * a.head_dim;
      float* o = a.o + t * a.ldo + g * a.head_dim;
      float max = -std::numeric_limits<float>::infinity();
      const std::int64_t first = first_key(t + 1, a.window);
      for (std::int64_t j = first; j <= t; ++j) {
        p[j] = dot(q, a.k + j * a.ldk, a.head_dim) * a.scale;
        max = std::max(max, p[j]);
      }
      double sum = 0;
      for (std::int64_t j = first; j <= t; ++j) sum += p[j] = exp_scalar(p[j] - max);
      std::fill(o, o + a.head_dim, 0.0F);
      for (std::int64_t j = first; j <= t; ++j) add_scaled(o, p[j], a.v + j * a.ldv, a.head_dim);
      const auto scale = static_cast<float>(1.0 / sum);
      for (std::int64_t i = 0; i < a.head_dim; ++i) o[i] *= scale;
      a.lse[g * a.tokens + t] = static_cast<float>(max + std::log(sum));
    }
  }
}

// P = exp(S - LSE); D = rowsum(dO o O); dV = P^T dO; dS = P o (dO V^T - D) scale; dQ = dS K; dK = dS^T Q (Dao et al.,
// "FlashAttention", algorithm 4).
void train_backward(const AttentionTrainArgs& a) {
  const std::int64_t d = a.head_dim;
  for (std::int64_t t = 0; t < a.tokens; ++t) {
    std::fill(a.dk + t * a.ldk, a.dk + t * a.ldk + d, 0.0F);
    std::fill(a.dv + t * a.ldv, a.dv + t * a.ldv + d, 0.0F);
  }
  for (std::int64_t g = 0; g < a.heads_per_kv; ++g) {
    for (std::int64_t t = 0; t < a.tokens; ++t) {
      const float* q = a.q + t * a.ldq + g * d;
      const float* d_o = a.d_o + t * a.ldo + g * d;
      float* dq = a.dq + t * a.ldq + g * d;
      std::fill(dq, dq + d, 0.0F);
      const float row = dot(d_o, a.o + t * a.ldo + g * d, d);
      for (std::int64_t j = first_key(t + 1, a.window); j <= t; ++j) {
        const float p = exp_scalar(dot(q, a.k + j * a.ldk, d) * a.scale - a.lse[g * a.tokens + t]);
        const float ds = p * (dot(d_o, a.v + j * a.ldv, d) - row) * a.scale;
        add_scaled(a.dv + j * a.ldv, p, d_o, d);
        add_scaled(dq, ds, a.k + j * a.ldk, d);
        add_scaled(a.dk + j * a.ldk, ds, q, d);
      }
    }
  }
}

// One query head against its kv head: what one segment gives, and all of them joined (online softmax, Milakov and
// Gimelshein): the largest score, the sum of exponentials, and the values weighed by them.
struct Partial {
  float max, sum;
  float o[kMaxHeadDim];
};

void attend_segment(const AttentionDecodeArgs& a, std::int64_t kv_head, const float* q, std::int64_t segment, Partial& to) {
  const std::int64_t begin = std::max(first_key(a.n_keys, a.window), segment * kAttentionSegment);
  const std::int64_t n = std::min(a.n_keys, (segment + 1) * kAttentionSegment) - begin, d = a.head_dim;
  float p[kAttentionSegment];
  std::int64_t at[kAttentionSegment];
  to.max = -std::numeric_limits<float>::infinity();
  for (std::int64_t j = 0; j < n; ++j) {
    const std::int64_t pos = begin + j;
    at[j] = cache_index(a.kv_heads, d, a.block_tokens, a.blocks[pos / a.block_tokens], kv_head, pos % a.block_tokens);
    double s = 0;
    for (std::int64_t i = 0; i < d; ++i) s += static_cast<double>(q[i]) * cache_load(a.type, a.k_pool, at[j] + i);
    p[j] = static_cast<float>(s) * a.scale;
    to.max = std::max(to.max, p[j]);
  }
  double sum = 0;
  std::fill(to.o, to.o + d, 0.0F);
  for (std::int64_t j = 0; j < n; ++j) {
    p[j] = exp_scalar(p[j] - to.max);
    sum += p[j];
    for (std::int64_t i = 0; i < d; ++i) to.o[i] += p[j] * cache_load(a.type, a.v_pool, at[j] + i);
  }
  to.sum = static_cast<float>(sum);
}

void join(Partial& total, const Partial& part, std::int64_t d) {
  const float max = std::max(total.max, part.max);
  const float keep = exp_scalar(total.max - max), add = exp_scalar(part.max - max);
  total.max = max;
  total.sum = total.sum * keep + part.sum * add;
  for (std::int64_t i = 0; i < d; ++i) total.o[i] = total.o[i] * keep + part.o[i] * add;
}

void write_output(const Partial& total, std::int64_t d, float* o) {
  const float scale = 1.0F / total.sum;
  for (std::int64_t i = 0; i < d; ++i) o[i] = total.o[i] * scale;
}

void decode(const AttentionDecodeArgs& a) {
  QW_CHECK(a.n_keys > 0 && a.head_dim <= kMaxHeadDim && a.heads % a.kv_heads == 0);
  const std::int64_t group = a.heads / a.kv_heads;
  const AttentionSegments segments = attention_segments(a.n_keys, a.window);
  for (std::int64_t h = a.head_begin * group; h < a.head_end * group; ++h) {
    Partial total, part;
    for (std::int64_t s = segments.begin; s < segments.end; ++s) {
      attend_segment(a, h / group, a.q + h * a.head_dim, s, s == segments.begin ? total : part);
      if (s > segments.begin) join(total, part, a.head_dim);
    }
    write_output(total, a.head_dim, a.o + h * a.head_dim);
  }
}

constexpr std::int64_t kPartialFloats = sizeof(Partial) / sizeof(float);

std::int64_t query_heads(const AttentionDecodeArgs& a) { return (a.head_end - a.head_begin) * (a.heads / a.kv_heads); }
std::int64_t partial_floats(const AttentionDecodeArgs& a) { return query_heads(a) * kPartialFloats; }

void segment(const AttentionDecodeArgs& a, std::int64_t s, float* partial) {
  const std::int64_t group = a.heads / a.kv_heads, first = a.head_begin * group;
  for (std::int64_t i = 0; i < query_heads(a); ++i) {
    const std::int64_t h = first + i;
    attend_segment(a, h / group, a.q + h * a.head_dim, s, reinterpret_cast<Partial*>(partial)[i]);
  }
}

void join_segments(const AttentionDecodeArgs& a, const float* partials) {
  const std::int64_t heads = query_heads(a), first = a.head_begin * (a.heads / a.kv_heads);
  const AttentionSegments segments = attention_segments(a.n_keys, a.window);
  const auto* parts = reinterpret_cast<const Partial*>(partials);
  for (std::int64_t i = 0; i < heads; ++i) {
    Partial total = parts[i];
    for (std::int64_t s = 1; s < segments.end - segments.begin; ++s) join(total, parts[s * heads + i], a.head_dim);
    write_output(total, a.head_dim, a.o + (first + i) * a.head_dim);
  }
}

void prefill(const AttentionPrefillArgs& a) {
  AttentionDecodeArgs row = a.first;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    decode(row);
    row.q += a.ldq;
    row.o += a.ldo;
    ++row.n_keys;
  }
}

void cache_write(CacheType type, CachePart, const float* kv, std::int64_t kv_heads, std::int64_t head_dim,
                 std::int64_t block_tokens, std::int32_t block, std::int64_t slot, void* pool) {
  for (std::int64_t h = 0; h < kv_heads; ++h)
    cache_store(type, pool, cache_index(kv_heads, head_dim, block_tokens, block, h, slot), kv + h * head_dim, head_dim);
}

void cache_gather(const CacheGatherArgs& a) {
  gather(a, [](const StripCopy& c) { c.rows(); });
}

}  // namespace

void fill_attention(Kernels& table) {
  table.attention_scratch_bytes = attention_scratch_bytes;
  table.attention_train_forward = train_forward;
  table.attention_train_backward = train_backward;
  table.attention_decode = decode;
  table.attention_prefill = prefill;
  table.attention_partial_floats = partial_floats;
  table.attention_segment = segment;
  table.attention_join = join_segments;
  table.cache_write = cache_write;
  table.cache_gather = cache_gather;
}

}  // namespace qw::kernels::portable
