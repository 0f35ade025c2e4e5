#include "ops/experts.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/elementwise.h"
#include "ops/internal/index.h"
#include "ops/linear.h"

namespace qw::ops {
namespace {

double sigmoid(float x) { return 1.0 / (1.0 + std::exp(-static_cast<double>(x))); }

// The k largest of p[0, n), ascending by index. NaN counts as less than everything.
void choose(const float* p, std::int32_t n, std::int32_t k, std::int32_t* chosen) {
  const auto before = [p](std::int32_t a, std::int32_t b) {
    const float pa = std::isnan(p[a]) ? -1.0f : p[a], pb = std::isnan(p[b]) ? -1.0f : p[b];
    return pa > pb || (pa == pb && a < b);
  };
  std::int32_t have = 0;  // chosen[0, have): best first
  for (std::int32_t e = 0; e < n; ++e) {
    if (have == k && !before(e, chosen[k - 1])) continue;
    std::int32_t at = have < k ? have++ : k - 1;
    for (; at > 0 && before(e, chosen[at - 1]); --at) chosen[at] = chosen[at - 1];
    chosen[at] = e;
  }
  std::sort(chosen, chosen + k);
}

}  // namespace

Routing::Routing(std::int64_t max_rows, const ExpertsSpec& spec) : top_k(spec.top_k) {
  const std::size_t n = index(max_rows * spec.top_k);
  expert.resize(n);
  weight.resize(n);
  place.resize(n);
  row.resize(n);
  begin.resize(index(spec.experts) + 1);
}

void route(const Machine& m, const ExpertsSpec& spec, const float* logits, std::int64_t rows, float* probabilities,
           Routing& to) {
  const std::int64_t n = spec.experts, k = spec.top_k;
  for_rows(m.pool, rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r) {
      float* p = probabilities + r * n;
      if (p != logits + r * n) std::memcpy(p, logits + r * n, index(n) * sizeof(float));
      m.kernels.softmax(p, n);
      std::int32_t* chosen = to.expert.data() + r * k;
      choose(p, spec.experts, spec.top_k, chosen);
      float sum = 0;
      for (std::int64_t j = 0; j < k; ++j) sum += p[chosen[j]];
      for (std::int64_t j = 0; j < k; ++j) to.weight[index(r * k + j)] = spec.normalise ? p[chosen[j]] / sum : p[chosen[j]];
    }
  });
  std::fill(to.begin.begin(), to.begin.end(), 0);
  for (std::int64_t a = 0; a < rows * k; ++a) ++to.begin[index(to.expert[index(a)]) + 1];
  for (std::size_t e = 1; e < to.begin.size(); ++e) to.begin[e] += to.begin[e - 1];
  // begin[e] walks to the next expert's place while rows are placed, and is set back afterwards.
  for (std::int64_t a = 0; a < rows * k; ++a) {
    const std::int32_t at = to.begin[index(to.expert[index(a)])]++;
    to.place[index(a)] = at;
    to.row[index(at)] = static_cast<std::int32_t>(a / k);
  }
  for (std::size_t e = to.begin.size() - 1; e > 0; --e) to.begin[e] = to.begin[e - 1];
  to.begin[0] = 0;
}

void combine(const Machine& m, const Routing& routing, const float* outputs, std::int64_t rows, std::int64_t d,
             float* y) {
  const std::int64_t k = routing.top_k;
  for_rows(m.pool, rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r) {
      float* out = y + r * d;
      std::fill(out, out + d, 0.0f);
      for (std::int64_t j = 0; j < k; ++j) {
        const float w = routing.weight[index(r * k + j)];
        const float* from = outputs + routing.place[index(r * k + j)] * d;
        for (std::int64_t i = 0; i < d; ++i) out[i] += w * from[i];
      }
    }
  });
}

void gather_assigned(const Machine& m, const Routing& routing, const float* x, std::int64_t rows, std::int64_t d,
                     float* to) {
  for_rows(m.pool, rows * routing.top_k, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t a = first; a < end; ++a)
      std::memcpy(to + a * d, x + routing.row[index(a)] * d, index(d) * sizeof(float));
  });
}

void experts_forward(const Machine& m, GemmWorkspace& workspace, const ExpertsArgs& g) {
  const std::int64_t f = g.spec.width, d = g.d;
  gather_assigned(m, *g.routing, g.x, g.rows, d, g.inputs);
  for (std::int32_t e = 0; e < g.spec.experts; ++e) {
    const std::int64_t n = g.routing->count(e), at = g.routing->begin[index(e)];
    if (n == 0) continue;
    const auto product = [&](std::int64_t in, std::int64_t out, const float* x, const Matrix& w, float* y) {
      linear_forward(m, workspace, {.rows = n, .in = in, .out = out, .x = x, .w = w, .y = y});
    };
    product(d, f, g.inputs + at * d, g.gate_w[index(e)], g.gate + at * f);
    product(d, f, g.inputs + at * d, g.up_w[index(e)], g.up + at * f);
    swiglu_forward(m, g.gate + at * f, g.up + at * f, n * f, g.hidden + at * f);
    product(f, d, g.hidden + at * f, g.down_w[index(e)], g.outputs + at * d);
  }
  combine(m, *g.routing, g.outputs, g.rows, d, g.y);
}

namespace {

// Gradients of the probabilities' logits, and of the experts' outputs.
void router_backward(const Machine& m, const ExpertsArgs& g) {
  const std::int64_t n = g.spec.experts, k = g.spec.top_k, d = g.d;
  for_rows(m.pool, g.rows, [&](std::int64_t first, std::int64_t end) {
    std::vector<double> dp(index(n));
    for (std::int64_t r = first; r < end; ++r) {
      const float* p = g.probabilities + r * n;
      for (std::int64_t e = 0; e < n; ++e) dp[index(e)] = g.balance.empty() ? 0.0 : g.balance[index(e)];
      double weighted = 0, sum = 0;  // sum over the chosen of w dw, and of p
      std::vector<double> dw(index(k));
      for (std::int64_t j = 0; j < k; ++j) {
        const std::size_t a = index(r * k + j);
        const float *dy = g.dy + r * d, *y = g.outputs + g.routing->place[a] * d;
        float* to = g.doutputs + g.routing->place[a] * d;
        for (std::int64_t i = 0; i < d; ++i) {
          dw[index(j)] += static_cast<double>(dy[i]) * static_cast<double>(y[i]);
          to[i] = g.routing->weight[a] * dy[i];
        }
        weighted += dw[index(j)] * static_cast<double>(g.routing->weight[a]);
        sum += static_cast<double>(p[g.routing->expert[a]]);
      }
      for (std::int64_t j = 0; j < k; ++j)
        dp[index(g.routing->expert[index(r * k + j)])] +=
            g.spec.normalise ? (dw[index(j)] - weighted) / sum : dw[index(j)];
      double mean = 0;
      for (std::int64_t e = 0; e < n; ++e) mean += dp[index(e)] * static_cast<double>(p[e]);
      for (std::int64_t e = 0; e < n; ++e)
        g.dlogits[r * n + e] = static_cast<float>(static_cast<double>(p[e]) * (dp[index(e)] - mean));
    }
  });
}

}  // namespace

void experts_backward(const Machine& m, GemmWorkspace& workspace, const ExpertsArgs& g) {
  const std::int64_t f = g.spec.width, d = g.d, k = g.spec.top_k;
  router_backward(m, g);
  gather_assigned(m, *g.routing, g.x, g.rows, d, g.inputs);
  float* dinputs = g.doutputs;  // an expert's dy is read before its dx is written there
  for (std::int32_t e = 0; e < g.spec.experts; ++e) {
    const std::int64_t n = g.routing->count(e), at = g.routing->begin[index(e)];
    if (n == 0) continue;
    const auto product = [&](std::int64_t in, std::int64_t out, const float* x, const Matrix& w, const float* dy,
                             float* dx, bool adds, float* dw) {
      linear_backward(m, workspace, {.rows = n, .in = in, .out = out, .x = x, .w = w, .dy = dy, .dx = dx,
                                     .dx_accumulates = adds, .dw = dw});
    };
    float *gate = g.gate + at * f, *up = g.up + at * f, *x = g.inputs + at * d;
    swiglu_forward(m, gate, up, n * f, g.hidden + at * f);
    product(f, d, g.hidden + at * f, g.down_w[index(e)], g.doutputs + at * d, g.dhidden + at * f, false,
            g.ddown_w[index(e)]);
    swiglu_backward(m, gate, up, g.dhidden + at * f, n * f, g.dgate + at * f, g.dup + at * f);
    product(d, f, x, g.gate_w[index(e)], g.dgate + at * f, dinputs + at * d, false, g.dgate_w[index(e)]);
    product(d, f, x, g.up_w[index(e)], g.dup + at * f, dinputs + at * d, true, g.dup_w[index(e)]);
  }
  for_rows(m.pool, g.rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r) {
      float* to = g.dx + r * d;
      std::fill(to, to + d, 0.0f);
      for (std::int64_t j = 0; j < k; ++j) {
        const float* from = dinputs + g.routing->place[index(r * k + j)] * d;
        for (std::int64_t i = 0; i < d; ++i) to[i] += from[i];
      }
    }
  });
}

void gate_rows_forward(const Machine& m, const float* x, const float* g, std::int64_t rows, std::int64_t d, float* y) {
  if (d == 1) {
    constexpr std::int64_t kPiece = 16384;  // 64 KiB of each operand
    m.pool.parallel_for(rows, kPiece, [&](std::int64_t b, std::int64_t e) { m.kernels.gate(x + b, g + b, e - b, y + b); });
    return;
  }
  for_rows(m.pool, rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r) {
      const auto s = static_cast<float>(sigmoid(g[r]));
      for (std::int64_t i = 0; i < d; ++i) y[r * d + i] = s * x[r * d + i];
    }
  });
}

void gate_rows_backward(const Machine& m, const float* x, const float* g, const float* dy, std::int64_t rows,
                        std::int64_t d, float* dx, float* dg) {
  for_rows(m.pool, rows, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t r = first; r < end; ++r) {
      const double s = sigmoid(g[r]);
      double sum = 0;
      for (std::int64_t i = 0; i < d; ++i) {
        sum += static_cast<double>(dy[r * d + i]) * static_cast<double>(x[r * d + i]);
        dx[r * d + i] = static_cast<float>(s) * dy[r * d + i];
      }
      dg[r] = static_cast<float>(s * (1 - s) * sum);
    }
  });
}

}  // namespace qw::ops
