// Recurrent layers in plain C++: the other instruction sets must agree with these.
#include <algorithm>

#include "kernels/dot_product.h"
#include "kernels/internal/fill.h"

namespace qw::kernels::portable {
namespace {

constexpr std::int64_t kColumns = 32;  // pass together: 16 KiB of the state at the published key width of 128

// One token through columns [0, n) of the state; s, v and y begin at the first of them.
template <std::int64_t n>
void token(const DeltaRuleRows& a, std::int64_t t, const float* v, float* s, float* y) {
  const float *q = a.q + t * a.ldk, *k = a.k + t * a.ldk, decay = a.decay[t * a.ldg], beta = a.beta[t * a.ldg];
  float delta[n] = {}, seen[n] = {}, both = 0;
  for (std::int64_t i = 0; i < a.key_dim; ++i) {
    both += k[i] * q[i];
    for (std::int64_t j = 0; j < n; ++j) {
      delta[j] += s[i * a.value_dim + j] * k[i];
      seen[j] += s[i * a.value_dim + j] * q[i];
    }
  }
  for (std::int64_t j = 0; j < n; ++j) {
    delta[j] = beta * (v[j] - decay * delta[j]);
    y[j] = decay * seen[j] + delta[j] * both;
  }
  for (std::int64_t i = 0; i < a.key_dim; ++i)
    for (std::int64_t j = 0; j < n; ++j) s[i * a.value_dim + j] = s[i * a.value_dim + j] * decay + k[i] * delta[j];
}

void delta_rule(const DeltaRuleRows& a) {
  for (std::int64_t c = 0; c < a.value_dim;) {
    const bool wide = a.value_dim - c >= kColumns;
    for (std::int64_t t = 0; t < a.rows; ++t) {
      const auto one = wide ? token<kColumns> : token<1>;
      one(a, t, a.v + t * a.ldv + c, a.state + c, a.y + t * a.ldy + c);
    }
    c += wide ? kColumns : 1;
  }
}

// Of the chunk that a row is in: its rows' keys and what they write, the row's place in it, and D(t) and D(t, i) (kernels.h).
struct Chunk {
  std::int64_t row;
  const float* keys;
  float* writes;
  const float* decays;
  float known[kDeltaChunk], seen[kDeltaChunk];  // k_i . k and k_i . q
};

// One token through columns [0, n) of a strip of S, whose rows are `lds` apart; v, y and c.writes begin at the first of them.
template <std::int64_t n>
void chunk_token(const DeltaRuleRows& a, std::int64_t t, const Chunk& c, const float* s, std::int64_t lds, const float* v, float* y) {
  const float *q = a.q + t * a.ldk, *k = a.k + t * a.ldk;
  float rest[n] = {}, out[n] = {};
  for (std::int64_t e = 0; e < a.key_dim; ++e)
    for (std::int64_t j = 0; j < n; ++j) {
      rest[j] += s[e * lds + j] * k[e];
      out[j] += s[e * lds + j] * q[e];
    }
  for (std::int64_t j = 0; j < n; ++j) {
    rest[j] = v[j] - c.decays[0] * rest[j];
    out[j] = c.decays[0] * out[j];
  }
  for (std::int64_t i = 0; i < c.row; ++i) {
    const float known = c.decays[1 + i] * c.known[i], seen = c.decays[1 + i] * c.seen[i], *u = c.writes + i * a.value_dim;
    for (std::int64_t j = 0; j < n; ++j) {
      rest[j] -= known * u[j];
      out[j] += seen * u[j];
    }
  }
  float* u = c.writes + c.row * a.value_dim;
  for (std::int64_t j = 0; j < n; ++j) {
    u[j] = a.beta[t * a.ldg] * rest[j];
    y[j] = out[j] + c.seen[c.row] * u[j];
  }
}

// A whole chunk into columns [0, n) of a strip of S.
template <std::int64_t n>
void take_in(const DeltaRuleRows& a, const Chunk& c, float* s, std::int64_t lds) {
  float w[kDeltaChunk][n];
  for (std::int64_t i = 0; i < kDeltaChunk; ++i)
    for (std::int64_t j = 0; j < n; ++j) w[i][j] = c.decays[1 + i] * c.writes[i * a.value_dim + j];
  for (std::int64_t e = 0; e < a.key_dim; ++e) {
    float sum[n];
    for (std::int64_t j = 0; j < n; ++j) sum[j] = c.decays[0] * s[e * lds + j];
    for (std::int64_t i = 0; i < kDeltaChunk; ++i) {
      const float k = c.keys[i * a.key_dim + e];
      for (std::int64_t j = 0; j < n; ++j) sum[j] += k * w[i][j];
    }
    for (std::int64_t j = 0; j < n; ++j) s[e * lds + j] = sum[j];
  }
}

void chunk_row(const DeltaRuleRows& a, std::int64_t t, std::int64_t row) {
  const DeltaRuleState at{a.key_dim, a.value_dim};
  float *keys = a.state + at.keys(), *decays = a.state + at.decays();
  const float *k = a.k + t * a.ldk, *q = a.q + t * a.ldk, decay = a.decay[t * a.ldg];
  std::copy(k, k + a.key_dim, keys + row * a.key_dim);
  decays[0] = (row == 0 ? 1.0F : decays[0]) * decay;
  decays[1 + row] = 1.0F;
  for (std::int64_t i = 0; i < row; ++i) decays[1 + i] *= decay;
  Chunk c{.row = row, .keys = keys, .writes = a.state + at.writes(), .decays = decays, .known = {}, .seen = {}};
  for (std::int64_t i = 0; i <= row; ++i) {
    c.known[i] = dot_product(keys + i * a.key_dim, k, a.key_dim);
    c.seen[i] = dot_product(keys + i * a.key_dim, q, a.key_dim);
  }
  for (std::int64_t column = 0; column < a.value_dim;) {  // S lies in strips: [columns / kColumns, key_dim, kColumns], then the rest
    const bool wide = a.value_dim - column >= kColumns;
    const std::int64_t whole = a.value_dim / kColumns * kColumns, lds = wide ? kColumns : a.value_dim - whole;
    float* s = a.state + (wide ? column : whole) * a.key_dim + (wide ? 0 : column - whole);
    (wide ? chunk_token<kColumns> : chunk_token<1>)(a, t, c, s, lds, a.v + t * a.ldv + column, a.y + t * a.ldy + column);
    if (row + 1 == kDeltaChunk) (wide ? take_in<kColumns> : take_in<1>)(a, c, s, lds);
    column += wide ? kColumns : 1;
    c.writes += wide ? kColumns : 1;
  }
}

void delta_rule_chunks(const DeltaRuleChunks& c) {
  const DeltaRuleRows& a = c.rows;
  if (c.position == 0) std::fill(a.state, a.state + a.key_dim * a.value_dim, 0.0F);
  for (std::int64_t t = 0; t < a.rows; ++t) chunk_row(a, t, (c.position + t) % kDeltaChunk);
}

}  // namespace

void fill_recurrent(Kernels& table) {
  table.delta_rule = delta_rule;
  table.delta_rule_chunks = delta_rule_chunks;
}

}  // namespace qw::kernels::portable
