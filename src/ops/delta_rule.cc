#include "ops/delta_rule.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace qw::ops {
namespace {

std::size_t bytes(std::int64_t floats) { return static_cast<std::size_t>(floats) * sizeof(float); }

constexpr double kUnitEps = 1e-6;  // of the published models' l2 norm; it stands in no configuration

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }  // the reference goes over at 20

std::int64_t head_floats(const DeltaRuleSpec& s) { return std::int64_t{s.key_dim} * s.value_dim; }

double unit_factor(const Machine& m, const float* x, std::int64_t n) {
  return 1.0 / std::sqrt(m.kernels.sum_squares(x, n) + kUnitEps);
}

double query_scale(const DeltaRuleSpec& s) { return 1.0 / std::sqrt(static_cast<double>(s.key_dim)); }

}  // namespace

void delta_rule_prepare(const Machine& m, const DeltaRuleArgs& a) {
  const DeltaRuleSpec& s = a.spec;
  const std::int64_t dk = s.key_dim;
  for_rows(m.pool, a.rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r) {
      for (std::int64_t h = 0; h < 2 * s.key_heads; ++h) {
        const float* from = a.x + r * s.input_width() + h * dk;
        float* to = a.keys + (h * a.rows + r) * dk;
        const auto f = static_cast<float>(unit_factor(m, from, dk) * (h < s.key_heads ? query_scale(s) : 1.0));
        for (std::int64_t i = 0; i < dk; ++i) to[i] = from[i] * f;
      }
      for (std::int64_t h = 0; h < s.value_heads; ++h) {
        const double f = static_cast<double>(a.forget[r * s.value_heads + h]) + static_cast<double>(a.dt_bias[h]);
        const double g = -std::exp(static_cast<double>(a.a_log[h])) * softplus(f);
        a.gates[(r * 2) * s.value_heads + h] = static_cast<float>(std::exp(g));
        a.gates[(r * 2 + 1) * s.value_heads + h] =
            static_cast<float>(sigmoid(static_cast<double>(a.write[r * s.value_heads + h])));
      }
    }
  });
}

namespace {

// The unit query of row r and a key head.
const float* query_of(const DeltaRuleArgs& a, std::int64_t r, std::int32_t key_head) {
  return a.keys + (std::int64_t{key_head} * a.rows + r) * a.spec.key_dim;
}
const float* key_of(const DeltaRuleArgs& a, std::int64_t r, std::int32_t key_head) {
  return query_of(a, r, a.spec.key_heads + key_head);
}

kernels::DeltaRuleRows rows_of(const DeltaRuleArgs& a, std::int64_t first, std::int64_t n, std::int32_t h, float* state) {
  const DeltaRuleSpec& s = a.spec;
  const float* gates = a.gates + first * 2 * s.value_heads + h;
  return {.rows = n,
          .key_dim = s.key_dim,
          .value_dim = s.value_dim,
          .q = query_of(a, first, s.key_head(h)),
          .k = key_of(a, first, s.key_head(h)),
          .ldk = s.key_dim,
          .v = a.x + first * s.input_width() + 2 * s.keys_width() + std::int64_t{h} * s.value_dim,
          .ldv = s.input_width(),
          .decay = gates,
          .beta = gates + s.value_heads,
          .ldg = 2 * std::int64_t{s.value_heads},
          .y = a.y + first * s.values_width() + std::int64_t{h} * s.value_dim,
          .ldy = s.values_width(),
          .state = state};
}

}  // namespace

std::int64_t DeltaRuleSpec::head_state_floats() const { return kernels::DeltaRuleState{key_dim, value_dim}.floats(); }

void delta_rule_run(const Machine& m, const DeltaRuleArgs& a, std::int64_t first, std::int64_t n, std::int64_t position,
                    std::int32_t h, float* state) {
  m.kernels.delta_rule_chunks({rows_of(a, first, n, h, state), position});
}

std::int64_t delta_rule_state_floats(const DeltaRuleSpec& spec, std::int64_t rows) {
  return ceil_div(rows, kDeltaRuleKept) * spec.value_heads * head_floats(spec);
}

std::int64_t delta_rule_scratch_floats(const Machine& m, const DeltaRuleSpec& spec) {
  // Of each worker: the states after each of the rows between kept ones, the state before them, and the gradient.
  return m.pool.size() * (kDeltaRuleKept + 2) * head_floats(spec);
}

namespace {

// Calls body(first, n, kept) for the rows of each document between kept states, in order; `kept`: a state is kept there.
template <class Body>
void for_stretches(std::int64_t begin, std::int64_t end, Body&& body) {
  for (std::int64_t r = begin; r < end;) {
    const std::int64_t next = std::min(end, (r / kDeltaRuleKept + 1) * kDeltaRuleKept);
    body(r, next - r, r % kDeltaRuleKept == 0);
    r = next;
  }
}

}  // namespace

void delta_rule_forward(const Machine& m, const DeltaRuleTraining& t) {
  const DeltaRuleArgs& a = t.forward;
  const DeltaRuleSpec& s = a.spec;
  delta_rule_prepare(m, a);
  const auto documents = static_cast<std::int64_t>(t.cu_seqlens.size()) - 1;
  for_pieces(m.pool, documents * s.value_heads, [&](int worker, std::int64_t piece) {
    const std::int64_t d = piece / s.value_heads, size = head_floats(s);
    const auto h = static_cast<std::int32_t>(piece % s.value_heads);
    float* state = t.scratch + worker * (kDeltaRuleKept + 2) * size;
    std::memset(state, 0, bytes(size));
    for_stretches(t.cu_seqlens[static_cast<std::size_t>(d)], t.cu_seqlens[static_cast<std::size_t>(d) + 1],
                  [&](std::int64_t first, std::int64_t n, bool kept) {
                    if (kept) std::memcpy(t.states + (first / kDeltaRuleKept * s.value_heads + h) * size, state, bytes(size));
                    m.kernels.delta_rule(rows_of(a, first, n, h, state));
                  });
  });
}

namespace {

// The gradient of one row and value head. `s1` is e^g S before (made here), `s2` the state after; ds comes in as the
// gradient of the state after and leaves as that of the state before. dq, dk (unit vectors) add.
struct RowGradient {
  const float *q, *k, *v, *dy, *before, *s2;
  float decay, beta;
  float *ds, *dq, *dk, *dv;
  double dg = 0, dbeta = 0;

  void run(std::int64_t dk_n, std::int64_t dv_n) {
    for (std::int64_t j = 0; j < dv_n; ++j) dv[j] = 0;
    for (std::int64_t i = 0; i < dk_n; ++i) {  // y = S^T q; d(delta) into dv
      double sum = 0;
      for (std::int64_t j = 0; j < dv_n; ++j) {
        sum += static_cast<double>(s2[i * dv_n + j]) * static_cast<double>(dy[j]);
        ds[i * dv_n + j] += q[i] * dy[j];
        dv[j] += ds[i * dv_n + j] * k[i];
      }
      dq[i] += static_cast<float>(sum);
    }
    for (std::int64_t j = 0; j < dv_n; ++j) {
      double known = 0;
      for (std::int64_t i = 0; i < dk_n; ++i)
        known += static_cast<double>(before[i * dv_n + j]) * static_cast<double>(k[i]);
      known *= static_cast<double>(decay);
      const double rest = static_cast<double>(v[j]) - known;
      dbeta += static_cast<double>(dv[j]) * rest;
      finish_column(j, dk_n, dv_n, static_cast<float>(static_cast<double>(beta) * rest));
    }
  }
  // S2 = S1 + k delta^T, delta = beta (v - S1^T k), S1 = e^g S0, for column j.
  void finish_column(std::int64_t j, std::int64_t dk_n, std::int64_t dv_n, float delta) {
    const float ddelta = dv[j];
    dv[j] = beta * ddelta;
    for (std::int64_t i = 0; i < dk_n; ++i) {
      float& g = ds[i * dv_n + j];
      const float s1 = decay * before[i * dv_n + j];
      dk[i] += g * delta - s1 * dv[j];
      g -= k[i] * dv[j];
      dg += static_cast<double>(g) * static_cast<double>(s1);
      g *= decay;
    }
  }
};

// The rows of one document and key head, backward. dx gets the gradients of the unit vectors and the values; dforget and
// dwrite those of g and beta.
void document_backward(const Machine& m, const DeltaRuleTraining& t, std::int64_t d, std::int32_t key_head, float* scratch) {
  const DeltaRuleArgs& a = t.forward;
  const DeltaRuleSpec& s = a.spec;
  const std::int64_t size = head_floats(s), dk = s.key_dim, dv = s.value_dim, kw = s.keys_width(), in = s.input_width();
  const std::int64_t begin = t.cu_seqlens[static_cast<std::size_t>(d)], end = t.cu_seqlens[static_cast<std::size_t>(d) + 1];
  float *after = scratch, *start = scratch + kDeltaRuleKept * size, *ds = start + size;
  for (std::int64_t r = begin; r < end; ++r)
    for (std::int64_t part = 0; part < 2; ++part)
      std::memset(t.dx + r * in + part * kw + key_head * dk, 0, bytes(dk));
  for (std::int32_t h = 0; h < s.value_heads; ++h) {
    if (s.key_head(h) != key_head) continue;
    std::memset(ds, 0, bytes(size));
    for (std::int64_t last = end; last > begin;) {
      const std::int64_t first = std::max(begin, (last - 1) / kDeltaRuleKept * kDeltaRuleKept);
      if (first == begin) std::memset(start, 0, bytes(size));
      else std::memcpy(start, t.states + (first / kDeltaRuleKept * s.value_heads + h) * size, bytes(size));
      for (std::int64_t r = first; r < last; ++r) {
        float* state = after + (r - first) * size;
        std::memcpy(state, r == first ? start : state - size, bytes(size));
        m.kernels.delta_rule(rows_of(a, r, 1, h, state));
      }
      for (std::int64_t r = last; r-- > first;) {
        float* dx = t.dx + r * in;
        RowGradient g{.q = query_of(a, r, key_head), .k = key_of(a, r, key_head),
                      .v = a.x + r * in + 2 * kw + h * dv, .dy = t.dy + r * s.values_width() + h * dv,
                      .before = r == first ? start : after + (r - first - 1) * size, .s2 = after + (r - first) * size,
                      .decay = a.gates[(r * 2) * s.value_heads + h], .beta = a.gates[(r * 2 + 1) * s.value_heads + h],
                      .ds = ds, .dq = dx + key_head * dk, .dk = dx + kw + key_head * dk, .dv = dx + 2 * kw + h * dv};
        g.run(dk, dv);
        t.dforget[r * s.value_heads + h] = static_cast<float>(g.dg);
        t.dwrite[r * s.value_heads + h] = static_cast<float>(g.dbeta);
      }
      last = first;
    }
  }
}

// From the gradients of unit vectors to those of the vectors: u = f x, f = c rsqrt(sum x^2 + eps):
// dx = f du - x (x . du) f^3 / c^2.
void unit_backward(const Machine& m, const float* x, double c, std::int64_t n, float* du) {
  const double r = unit_factor(m, x, n), f = r * c;
  double dot = 0;
  for (std::int64_t i = 0; i < n; ++i) dot += static_cast<double>(x[i]) * static_cast<double>(du[i]);
  for (std::int64_t i = 0; i < n; ++i)
    du[i] = static_cast<float>(f * static_cast<double>(du[i]) - static_cast<double>(x[i]) * dot * f * r * r);
}

// Row r's gates: dforget and dwrite hold d(g) and d(beta).
void gates_backward(const DeltaRuleTraining& t, std::int64_t h, double& da_log, double& ddt_bias) {
  const DeltaRuleArgs& a = t.forward;
  const double rate = -std::exp(static_cast<double>(a.a_log[h]));
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const std::int64_t at = r * a.spec.value_heads + h;
    const double f = static_cast<double>(a.forget[at]) + static_cast<double>(a.dt_bias[h]);
    const double dg = static_cast<double>(t.dforget[at]), df = dg * rate * sigmoid(f);
    const double beta = sigmoid(static_cast<double>(a.write[at]));
    da_log += dg * rate * softplus(f);
    ddt_bias += df;
    t.dforget[at] = static_cast<float>(df);
    t.dwrite[at] = static_cast<float>(static_cast<double>(t.dwrite[at]) * beta * (1 - beta));
  }
}

}  // namespace

void delta_rule_backward(const Machine& m, const DeltaRuleTraining& t) {
  const DeltaRuleArgs& a = t.forward;
  const DeltaRuleSpec& s = a.spec;
  delta_rule_prepare(m, a);
  const auto documents = static_cast<std::int64_t>(t.cu_seqlens.size()) - 1;
  for_pieces(m.pool, documents * s.key_heads, [&](int worker, std::int64_t piece) {
    document_backward(m, t, piece / s.key_heads, static_cast<std::int32_t>(piece % s.key_heads),
                      t.scratch + worker * (kDeltaRuleKept + 2) * head_floats(s));
  });
  for_rows(m.pool, a.rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r)
      for (std::int64_t h = 0; h < 2 * s.key_heads; ++h)
        unit_backward(m, a.x + r * s.input_width() + h * s.key_dim, h < s.key_heads ? query_scale(s) : 1.0, s.key_dim,
                      t.dx + r * s.input_width() + h * s.key_dim);
  });
  for (std::int64_t h = 0; h < s.value_heads; ++h) {
    double da_log = 0, ddt_bias = 0;
    gates_backward(t, h, da_log, ddt_bias);
    if (t.da_log != nullptr) t.da_log[h] += static_cast<float>(da_log);
    if (t.ddt_bias != nullptr) t.ddt_bias[h] += static_cast<float>(ddt_bias);
  }
}

}  // namespace qw::ops
