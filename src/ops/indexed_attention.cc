#include "ops/indexed_attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/dot_product.h"
#include "ops/internal/index.h"
#include "ops/rope.h"

namespace qw::ops {
namespace {

void add_scaled(float* y, float s, const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += s * x[i];
}

constexpr std::int64_t kRows = 16;  // of one piece

}  // namespace

IndexedAttention::IndexedAttention(const IndexSpec& spec, const AttentionSpec& attention, std::int64_t max_tokens, int workers)
    : index_(spec), max_tokens_(max_tokens), frequencies_(rope_frequencies(spec.rope)) {
  QW_CHECK(attention.window == 0);
  if (max_tokens <= spec.all_seen()) return;
  const std::int64_t blocks = max_tokens / spec.ratio;
  positions_.resize(index(blocks));
  cos_.resize(index(blocks * (spec.rope.rotary / 2)));
  sin_.resize(cos_.size());
  keys_.resize(index(blocks * spec.dim));
  chosen_.resize(index(max_tokens * spec.blocks));
  order_.resize(index(workers * blocks));
  scores_.resize(index(workers * blocks));
  weights_.resize(index(workers * spec.all_seen()));
  runs_.resize(index(std::int64_t{workers} * (spec.blocks + 1)));
  long_.reserve(index(max_tokens / spec.all_seen() + 1));
}

// Documents of which some rows do not see everything.
bool IndexedAttention::find_long(const AttentionArgs& a) {
  long_.clear();
  std::int64_t keys = 0;
  for (std::size_t d = 0; d + 1 < a.cu_seqlens.size(); ++d) {
    const std::int64_t tokens = a.cu_seqlens[d + 1] - a.cu_seqlens[d];
    if (tokens <= index_.all_seen()) continue;
    long_.push_back({static_cast<std::int64_t>(d), a.cu_seqlens[d], tokens, tokens / index_.ratio, keys});
    keys += long_.back().blocks;
  }
  return !long_.empty();
}

void IndexedAttention::choose(const Machine& m, const IndexedAttentionArgs& args) {
  const std::int64_t dim = index_.dim, ratio = index_.ratio, most = max_tokens_ / ratio;
  for (const Document& d : long_) {
    for_rows(m.pool, d.blocks, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t b = begin; b < end; ++b) {
        positions_[index(d.keys + b)] = static_cast<std::int32_t>(b * ratio);
        float* mean = keys_.data() + (d.keys + b) * dim;
        std::fill(mean, mean + dim, 0.0f);
        for (std::int64_t t = 0; t < ratio; ++t) add_scaled(mean, 1.0f, args.index_k + (d.first + b * ratio + t) * dim, dim);
        for (std::int64_t i = 0; i < dim; ++i) mean[i] /= static_cast<float>(ratio);
      }
    });
  }
  const std::int64_t n = long_.back().keys + long_.back().blocks;
  rope_angles(m, index_.rope, frequencies_, positions_.data(), nullptr, n, cos_.data(), sin_.data());
  index_keys(m, index_, args.key_norm, cos_.data(), sin_.data(), n, keys_.data());
  for (const Document& d : long_) {
    for_pieces(m.pool, d.tokens - index_.all_seen(), [&](int worker, std::int64_t i) {
      const std::int64_t row = d.first + index_.all_seen() + i, blocks = (index_.all_seen() + i + 1) / ratio;
      float* scores = scores_.data() + worker * most;
      for (std::int64_t b = 0; b < blocks; ++b)
        scores[b] = index_score(index_, args.index_q + row * index_.heads * dim, keys_.data() + (d.keys + b) * dim);
      best_blocks(scores, blocks, index_.blocks, order_.data() + worker * most, chosen_.data() + row * index_.blocks);
    });
  }
}

// The runs of tokens that row t of the document sees.
std::int64_t IndexedAttention::seen(const Document& d, std::int64_t t, kernels::CacheRun* runs) const {
  if (t >= index_.all_seen()) return visible_runs(index_, chosen_.data() + (d.first + t) * index_.blocks, t + 1, runs);
  runs[0] = {0, t + 1};
  return 1;
}

void IndexedAttention::row_forward(const Document& doc, const kernels::AttentionTrainArgs& p, std::int64_t t, int worker) {
  kernels::CacheRun* runs = runs_.data() + std::int64_t{worker} * (index_.blocks + 1);
  float* w = weights_.data() + worker * index_.all_seen();
  const std::int64_t n = seen(doc, t, runs), d = p.head_dim;
  const auto over = [&](auto body) {
    std::int64_t i = 0;
    for (const kernels::CacheRun* r = runs; r < runs + n; ++r)
      for (std::int64_t j = r->begin; j < r->begin + r->tokens; ++j) body(i++, j);
  };
  for (std::int64_t g = 0; g < p.heads_per_kv; ++g) {
    const float* q = p.q + t * p.ldq + g * d;
    float* o = p.o + t * p.ldo + g * d;
    float max = -INFINITY;
    over([&](std::int64_t i, std::int64_t j) { max = std::max(max, w[i] = kernels::dot_product(q, p.k + j * p.ldk, d) * p.scale); });
    double sum = 0;
    std::fill(o, o + d, 0.0f);
    over([&](std::int64_t i, std::int64_t j) {
      w[i] = std::exp(w[i] - max);
      sum += static_cast<double>(w[i]);
      add_scaled(o, w[i], p.v + j * p.ldv, d);
    });
    for (std::int64_t i = 0; i < d; ++i) o[i] *= static_cast<float>(1 / sum);
    p.lse[g * p.tokens + t] = max + static_cast<float>(std::log(sum));
  }
}

// As kernels' attention (Dao et al., "FlashAttention", algorithm 4); dk and dv of the document add up row by row.
void IndexedAttention::row_backward(const Document& doc, const kernels::AttentionTrainArgs& p, std::int64_t t, int worker) {
  kernels::CacheRun* runs = runs_.data() + std::int64_t{worker} * (index_.blocks + 1);
  const std::int64_t n = seen(doc, t, runs), d = p.head_dim;
  for (std::int64_t g = 0; g < p.heads_per_kv; ++g) {
    const std::int64_t at = t * p.ldq + g * d;
    const float *q = p.q + at, *d_o = p.d_o + at;
    float* dq = p.dq + at;
    std::fill(dq, dq + d, 0.0f);
    const float row = kernels::dot_product(d_o, p.o + at, d);
    for (const kernels::CacheRun* r = runs; r < runs + n; ++r)
      for (std::int64_t j = r->begin; j < r->begin + r->tokens; ++j) {
        const float *k = p.k + j * p.ldk, *v = p.v + j * p.ldv;
        const float w = std::exp(kernels::dot_product(q, k, d) * p.scale - p.lse[g * p.tokens + t]);
        const float ds = w * (kernels::dot_product(d_o, v, d) - row) * p.scale;
        add_scaled(p.dv + j * p.ldv, w, d_o, d);
        add_scaled(dq, ds, k, d);
        add_scaled(p.dk + j * p.ldk, ds, q, d);
      }
  }
}

void IndexedAttention::forward(const Machine& m, const IndexedAttentionArgs& args) {
  const AttentionArgs& a = args.attention;
  attention_forward(m, a, max_tokens_);
  if (!find_long(a)) return;
  choose(m, args);
  for (const Document& d : long_) {
    const std::int64_t rows = d.tokens - index_.all_seen(), pieces = ceil_div(rows, kRows);
    for_pieces(m.pool, pieces * a.spec.kv_heads, [&](int worker, std::int64_t piece) {
      const kernels::AttentionTrainArgs p = attention_part(a, d.number, piece / pieces);
      const std::int64_t begin = index_.all_seen() + piece % pieces * kRows;
      for (std::int64_t t = begin; t < std::min(begin + kRows, d.tokens); ++t) row_forward(d, p, t, worker);
    });
  }
}

void IndexedAttention::backward(const Machine& m, const IndexedAttentionArgs& args) {
  AttentionArgs a = args.attention;
  a.longest = index_.all_seen();
  attention_backward(m, a, max_tokens_);
  if (!find_long(a)) return;
  choose(m, args);
  for_pieces(m.pool, static_cast<std::int64_t>(long_.size()) * a.spec.kv_heads, [&](int worker, std::int64_t piece) {
    const Document& d = long_[index(piece / a.spec.kv_heads)];
    const kernels::AttentionTrainArgs p = attention_part(a, d.number, piece % a.spec.kv_heads);
    for (std::int64_t t = 0; t < d.tokens; ++t) {
      std::fill(p.dk + t * p.ldk, p.dk + t * p.ldk + a.spec.head_dim, 0.0f);
      std::fill(p.dv + t * p.ldv, p.dv + t * p.ldv + a.spec.head_dim, 0.0f);
    }
    for (std::int64_t t = 0; t < d.tokens; ++t) row_backward(d, p, t, worker);
  });
}

}  // namespace qw::ops
