// Recurrent layers in plain C++: the other instruction sets must agree with these.
#include <algorithm>

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

}  // namespace

void fill_recurrent(Kernels& table) { table.delta_rule = delta_rule; }

}  // namespace qw::kernels::portable
