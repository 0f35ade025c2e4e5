// Row kernels in plain C++, written for reading: the other instruction sets must agree with these. Sums run in double.
#include <algorithm>
#include <cmath>

#include "base/result.h"
#include "kernels/internal/exp.h"
#include "kernels/internal/fill.h"

namespace qw::kernels::portable {
namespace {

void rms_norm(const float* x, const float* w, float eps, std::int64_t rows, std::int64_t n, float* y, float* inverse) {
  for (std::int64_t r = 0; r < rows; ++r, x += n, y += n) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
    const auto inv = static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(n) + eps));
    for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] * inv * w[i];
    if (inverse != nullptr) inverse[r] = inv;
  }
}

// dx = inv (g - xhat mean(g xhat)) with g = dy w, xhat = x inv.
void rms_norm_backward(const float* x, const float* w, const float* inverse, const float* dy, std::int64_t rows,
                       std::int64_t n, float* dx, float* dw) {
  for (std::int64_t r = 0; r < rows; ++r, x += n, dy += n, dx += n) {
    const float inv = inverse[r];
    double dot = 0;
    for (std::int64_t i = 0; i < n; ++i) dot += static_cast<double>(dy[i]) * w[i] * x[i];
    const auto mean = static_cast<float>(dot * inv / static_cast<double>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      const float xhat = x[i] * inv;
      dw[i] += dy[i] * xhat;
      dx[i] += inv * (dy[i] * w[i] - xhat * mean);
    }
  }
}

void rope(float* x, std::int64_t ldx, std::int64_t rows, std::int64_t heads, std::int64_t head_dim, std::int64_t rotary,
          const float* cos, const float* sin, bool inverse) {
  const std::int64_t half = rotary / 2;
  const float sign = inverse ? -1.0F : 1.0F;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t h = 0; h < heads; ++h) {
      float* p = x + r * ldx + h * head_dim;
      for (std::int64_t i = 0; i < half; ++i) {
        const float c = cos[r * half + i], s = sign * sin[r * half + i];
        const float a = p[i], b = p[i + half];
        p[i] = a * c - b * s;
        p[i + half] = b * c + a * s;
      }
    }
  }
}

float sigmoid(float x) { return 1.0F / (1.0F + exp_scalar(-x)); }

void swiglu(const float* gate, const float* up, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

void gate(const float* x, const float* g, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = x[i] * sigmoid(g[i]);
}

void short_conv(const float* const* x, const float* w, std::int64_t ldw, std::int64_t taps, std::int64_t n, float* y) {
  for (std::int64_t i = 0; i < n; ++i) {
    float sum = 0;
    for (std::int64_t j = 0; j < taps; ++j)
      if (x[j] != nullptr) sum += w[j * ldw + i] * x[j][i];
    y[i] = sum * sigmoid(sum);
  }
}

void swiglu_backward(const float* gate, const float* up, const float* dout, std::int64_t n, float* dgate, float* dup) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float a = gate[i], b = up[i], g = dout[i], s = sigmoid(a);
    dgate[i] = g * b * (s * (1.0F + a * (1.0F - s)));
    dup[i] = g * (a * s);
  }
}

void add(const float* a, const float* b, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = a[i] + b[i];
}

// exp(x - max) into `out` (which may be x); returns the sum.
double exp_row(const float* x, std::int64_t n, float max, float* out) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    out[i] = exp_scalar(x[i] - max);
    sum += out[i];
  }
  return sum;
}

float softmax(float* x, std::int64_t n) {
  const float max = *std::max_element(x, x + n);
  const double sum = exp_row(x, n, max, x);
  const auto scale = static_cast<float>(1.0 / sum);
  for (std::int64_t i = 0; i < n; ++i) x[i] *= scale;
  return static_cast<float>(max + std::log(sum));
}

float log_sum_exp(const float* x, std::int64_t n) {
  const float max = *std::max_element(x, x + n);
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += exp_scalar(x[i] - max);
  return static_cast<float>(max + std::log(sum));
}

float cross_entropy(float* logits, std::int64_t n, std::int64_t label, float scale) {
  QW_CHECK(label >= 0 && label < n);
  const float max = *std::max_element(logits, logits + n);
  const double target = static_cast<double>(logits[label]) - max;
  const double sum = exp_row(logits, n, max, logits);
  const auto factor = static_cast<float>(scale / sum);
  for (std::int64_t i = 0; i < n; ++i) logits[i] *= factor;
  logits[label] -= scale;
  return static_cast<float>(std::log(sum) - target);
}

double sum_squares(const float* x, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

// Loshchilov and Hutter, "Decoupled Weight Decay Regularization".
void adamw(float* w, const float* g, float* m, float* v, std::int64_t n, float lr, float beta1, float beta2, float eps,
           float decay, float bias_correction1, float bias_correction2, float grad_scale) {
  const float keep = 1.0F - decay;
  const float step = lr / bias_correction1;
  const float root = 1.0F / std::sqrt(bias_correction2);
  for (std::int64_t i = 0; i < n; ++i) {
    const float grad = g[i] * grad_scale;
    m[i] = beta1 * m[i] + (1.0F - beta1) * grad;
    v[i] = beta2 * v[i] + (1.0F - beta2) * (grad * grad);
    w[i] = w[i] * keep - step * m[i] / (std::sqrt(v[i]) * root + eps);
  }
}

}  // namespace

void fill_rows(Kernels& table) {
  table.rms_norm = rms_norm;
  table.rms_norm_backward = rms_norm_backward;
  table.rope = rope;
  table.swiglu = swiglu;
  table.gate = gate;
  table.short_conv = short_conv;
  table.swiglu_backward = swiglu_backward;
  table.add = add;
  table.softmax = softmax;
  table.cross_entropy = cross_entropy;
  table.log_sum_exp = log_sum_exp;
  table.sum_squares = sum_squares;
  table.adamw = adamw;
}

}  // namespace qw::kernels::portable
