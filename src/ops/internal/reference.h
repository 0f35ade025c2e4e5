// The forward pass and its loss in double, straight from the definitions: the truth that tests hold the float path to.
// Slow and plain on purpose; used by tests only.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <stdexcept>
#include <vector>

#include "base/result.h"
#include "ops/executor.h"
#include "ops/rope.h"
#include "ops/training_graph.h"

namespace qw::ops {

class ReferenceExecutor final : public Executor {
 public:
  using Matrix = std::vector<double>;  // [N, width]

  // `parameters` by id; bound by reference, so a test may nudge one number and run again. `held`: those that the row lengths
  // of adapters with a magnitude are taken of, which have no gradient; null: the same.
  ReferenceExecutor(const std::vector<std::vector<double>>& parameters, const std::vector<tensor::Shape>& shapes,
                    const TrainingBatch& batch, const std::vector<Adapter>& adapters = {},
                    const std::vector<std::vector<double>>* held = nullptr)
      : parameters_(parameters),
        held_(held == nullptr ? parameters : *held),
        shapes_(shapes),
        batch_(batch),
        adapters_(adapters),
        n_(batch.tokens.size()) {}

  // sum over kept rows of weight * nll (weights empty: 1); valid after the forward.
  double loss(std::span<const float> weights = {}) const {
    double sum = 0;
    for (std::size_t r = 0; r < n_; ++r)
      if (batch_.labels[r] >= 0) sum += nll(r) * (weights.empty() ? 1.0 : static_cast<double>(weights[r]));
    return sum;
  }
  double nll(std::size_t row) const {
    const double* x = logits_.data() + row * vocab_;
    double top = x[0], sum = 0;
    for (std::size_t i = 1; i < vocab_; ++i) top = std::max(top, x[i]);
    for (std::size_t i = 0; i < vocab_; ++i) sum += std::exp(x[i] - top);
    return top + std::log(sum) - x[batch_.labels[row]];
  }
  const Matrix& logits() const { return logits_; }  // [N, V]

  Value given(std::int32_t) override { throw std::logic_error("the reference is not given rows"); }
  void keep(Value) override {}
  Value embed(Weight table) override {
    const std::size_t d = dim(table, 1);
    Matrix y(n_ * d);
    for (std::size_t r = 0; r < n_; ++r)
      for (std::size_t i = 0; i < d; ++i)
        y[r * d + i] = parameter(table)[static_cast<std::size_t>(batch_.tokens[r]) * d + i];
    return push(std::move(y), d);
  }

  Value rms_norm(Value x, Weight w, float eps) override { return head_rms_norm(x, w, x.width, eps); }

  Value head_rms_norm(Value x, Weight w, std::int32_t head_dim, float eps) override {
    Matrix y = value(x);
    const auto n = static_cast<std::size_t>(head_dim);
    for (std::size_t g = 0; g < y.size() / n; ++g) {
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i) sum += y[g * n + i] * y[g * n + i];
      const double r = 1 / std::sqrt(sum / static_cast<double>(n) + static_cast<double>(eps));
      for (std::size_t i = 0; i < n; ++i) y[g * n + i] *= r * parameter(w)[(g * n + i) % parameter(w).size()];
    }
    return push(std::move(y), width(x));
  }

  void products(Value x, std::span<const Product> of, std::span<Value> y) override {
    for (std::size_t i = 0; i < of.size(); ++i) y[i] = linear(x, of[i].w, of[i].bias);
  }
  using Executor::products;

  Value linear(Value x, Weight w, Weight bias) override {
    Matrix y = product(value(x), width(x), w);
    const std::size_t out = dim(w, 0);
    if (bias.present())
      for (std::size_t i = 0; i < y.size(); ++i) y[i] += parameter(bias)[i % out];
    for (std::size_t a = 0; a < adapters_.size(); ++a) {
      if (adapters_[a].target.id != w.id) continue;
      auto first = static_cast<std::int32_t>(shapes_.size());
      for (std::size_t j = a; j < adapters_.size(); ++j) first -= adapters_[j].magnitude ? 3 : 2;
      const Matrix u = product(value(x), width(x), {first});
      const Matrix more = product(u, dim({first}, 0), {first + 1});
      for (std::size_t i = 0; i < y.size(); ++i) y[i] += static_cast<double>(adapters_[a].scale) * more[i];
      if (!adapters_[a].magnitude) continue;
      const std::vector<double> lengths = row_lengths(adapters_[a], w, first);
      for (std::size_t i = 0; i < y.size(); ++i) {
        const double b = bias.present() ? parameter(bias)[i % out] : 0;
        y[i] = parameter({first + 2})[i % out] / lengths[i % out] * (y[i] - b) + b;
      }
    }
    return push(std::move(y), out);
  }

  Value rope(Value x, const RopeSpec& spec) override {
    Matrix y = value(x);
    const auto w = width(x), hd = static_cast<std::size_t>(spec.head_dim),
               half = static_cast<std::size_t>(spec.rotary / 2);
    const std::vector<float> frequency = rope_frequencies(spec);
    const double scale = spec.scaling == RopeScaling::kYarn ? static_cast<double>(spec.attention_factor) : 1.0;
    for (std::size_t r = 0; r < n_; ++r)
      for (std::size_t h = 0; h < w / hd; ++h)
        for (std::size_t i = 0; i < half; ++i) {
          const double angle = static_cast<double>(rope_place(spec, batch_.positions[r])) * static_cast<double>(frequency[i]);
          double& a = y[r * w + h * hd + i];
          double& b = y[r * w + h * hd + i + half];
          const double c = std::cos(angle) * scale, s = std::sin(angle) * scale, a0 = a;
          a = a0 * c - b * s;
          b = b * c + a0 * s;
        }
    return push(std::move(y), w);
  }

  Value attention(Value q, Value k, Value v, const AttentionSpec& spec) override {
    const auto hd = static_cast<std::size_t>(spec.head_dim), heads = static_cast<std::size_t>(spec.heads),
               group = heads / static_cast<std::size_t>(spec.kv_heads);
    Matrix y(n_ * heads * hd, 0.0);
    for (std::size_t d = 0; d + 1 < batch_.cu_seqlens.size(); ++d) {
      const auto first = static_cast<std::size_t>(batch_.cu_seqlens[d]),
                 end = static_cast<std::size_t>(batch_.cu_seqlens[d + 1]);
      for (std::size_t r = first; r < end; ++r)
        for (std::size_t h = 0; h < heads; ++h)
          attend(value(q), value(k), value(v), first, r, h, h / group, hd, width(q), width(k), spec, y);
    }
    return push(std::move(y), heads * hd);
  }

  // In one chunk, as in training: attention to several is held to the published maths by models/dual_chunk_test.cc.
  Value chunked_attention(Value q, Value, Value, Value k, Value v, const AttentionSpec& spec) override { return attention(q, k, v, spec); }

  Value indexed_attention(Value q, Value k, Value v, Value index_q, Value index_k, const AttentionSpec& spec, const IndexSpec& index) override {
    const auto hd = static_cast<std::size_t>(spec.head_dim), heads = static_cast<std::size_t>(spec.heads),
               group = heads / static_cast<std::size_t>(spec.kv_heads);
    Matrix y(n_ * heads * hd, 0.0);
    for (std::size_t d = 0; d + 1 < batch_.cu_seqlens.size(); ++d) {
      const auto first = static_cast<std::size_t>(batch_.cu_seqlens[d]), end = static_cast<std::size_t>(batch_.cu_seqlens[d + 1]);
      for (std::size_t r = first; r < end; ++r) {
        const std::vector<bool> seen = seen_tokens(value(index_q), value(index_k), first, r, index);
        for (std::size_t h = 0; h < heads; ++h)
          attend(value(q), value(k), value(v), first, r, h, h / group, hd, width(q), width(k), spec, y, seen);
      }
    }
    return push(std::move(y), heads * hd);
  }

  Value swiglu(Value gate, Value up) override {
    Matrix y = value(gate);
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = y[i] / (1 + std::exp(-y[i])) * value(up)[i];
    return push(std::move(y), width(gate));
  }

  Value add(Value a, Value b) override {
    Matrix y = value(a);
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += value(b)[i];
    return push(std::move(y), width(a));
  }

  Value experts(Value x, Value logits, const ExpertsSpec& spec) override {
    const std::size_t d = width(x), f = static_cast<std::size_t>(spec.width), n = static_cast<std::size_t>(spec.experts);
    Matrix y(n_ * d, 0.0);
    std::vector<double>& chosen = balance_f_;
    chosen.resize(n), balance_p_.resize(n);
    for (std::size_t r = 0; r < n_; ++r) {
      std::vector<double> p(value(logits).begin() + static_cast<std::ptrdiff_t>(r * n),
                            value(logits).begin() + static_cast<std::ptrdiff_t>((r + 1) * n));
      double sum = 0, kept = 0;
      for (double& q : p) sum += q = std::exp(q);
      for (double& q : p) q /= sum;
      std::vector<std::size_t> order(n);
      for (std::size_t e = 0; e < n; ++e) order[e] = e;
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
      order.resize(static_cast<std::size_t>(spec.top_k));
      for (const std::size_t e : order) kept += p[e];
      for (const std::size_t e : order) expert(x, r, spec, e, p[e] / (spec.normalise ? kept : 1.0), d, f, y);
      for (std::size_t e = 0; e < n; ++e) balance_p_[e] += p[e];
      for (const std::size_t e : order) chosen[e] += 1;
    }
    balance_rows_ += static_cast<double>(n_);
    balance_ = spec.balance;
    return push(std::move(y), d);
  }

  // The load-balancing loss over all layers.
  double balance_loss() const {
    double sum = 0;
    for (std::size_t e = 0; e < balance_f_.size(); ++e) sum += balance_f_[e] * balance_p_[e];
    return sum == 0 ? 0 : static_cast<double>(balance_) * static_cast<double>(balance_f_.size()) * sum / balance_rows_ / balance_rows_;
  }

  Value columns(Value x, std::int32_t begin, std::int32_t n) override { return head_columns(x, begin, n, x.width); }

  Value head_columns(Value x, std::int32_t begin, std::int32_t n, std::int32_t head_dim) override {
    Matrix y;
    const auto d = static_cast<std::size_t>(head_dim);
    for (std::size_t g = 0; g < value(x).size() / d; ++g)
      for (std::int32_t i = 0; i < n; ++i) y.push_back(value(x)[g * d + static_cast<std::size_t>(begin + i)]);
    return push(std::move(y), width(x) / d * static_cast<std::size_t>(n));
  }

  Value gate_rows(Value x, Value gate) override {
    Matrix y = value(x);
    const std::size_t part = width(x) / width(gate);
    for (std::size_t i = 0; i < y.size(); ++i) y[i] /= 1 + std::exp(-value(gate)[i / part]);
    return push(std::move(y), width(x));
  }

  Value short_conv(Value x, Weight w, const ShortConvSpec& spec) override {
    const std::size_t c = width(x), taps = dim(w, 1), apart = static_cast<std::size_t>(spec.dilation);
    Matrix y(n_ * c);
    for (std::size_t r = 0; r < n_; ++r)
      for (std::size_t i = 0; i < c; ++i) {
        double s = 0;
        for (std::size_t back = 0; back < taps && back * apart <= r - first_of(r); ++back)
          s += parameter(w)[i * taps + taps - 1 - back] * value(x)[(r - back * apart) * c + i];
        y[r * c + i] = s / (1 + std::exp(-s));
      }
    return push(std::move(y), c);
  }

  Value delta_rule(Value x, Value forget, Value write, Weight a_log, Weight dt_bias, const DeltaRuleSpec& spec) override {
    Matrix y(n_ * static_cast<std::size_t>(spec.values_width()));
    for (std::int32_t h = 0; h < spec.value_heads; ++h) delta_head(x, forget, write, a_log, dt_bias, spec, h, y);
    return push(std::move(y), static_cast<std::size_t>(spec.values_width()));
  }

  Value scale(Value x, float factor) override {
    Matrix y = value(x);
    for (double& v : y) v *= static_cast<double>(factor);
    return push(std::move(y), width(x));
  }

  Value silu(Value x) override {
    Matrix y = value(x);
    for (double& v : y) v /= 1 + std::exp(-v);
    return push(std::move(y), width(x));
  }

  Value match_rows(Value a, Value b, float scale) override {
    Matrix y(n_);
    for (std::size_t r = 0; r < n_; ++r) {
      double p = 0;
      for (std::size_t i = 0; i < width(a); ++i) p += value(a)[r * width(a) + i] * value(b)[r * width(a) + i];
      p *= static_cast<double>(scale);
      y[r] = std::copysign(std::sqrt(std::max(std::abs(p), 1e-6)), p);
    }
    return push(std::move(y), 1);
  }

  // Straight from ngrams.h: the tokens back to the last end of text before this one, and ends of text beyond.
  Value ngrams(const NgramSpec& spec) override {
    Matrix y;
    const auto dim = static_cast<std::size_t>(spec.dim);
    for (std::size_t r = 0; r < n_; ++r)
      for (std::int32_t h = 0; h < spec.heads(); ++h) {
        std::uint64_t mixed = 0;
        for (std::size_t j = 0; j < static_cast<std::size_t>(h / spec.heads_each) + 2; ++j) {
          bool reached = j <= r - first_of(r);
          for (std::size_t k = 1; reached && k <= j; ++k) reached = batch_.tokens[r - k] != spec.end_of_text;
          mixed ^= static_cast<std::uint64_t>(reached ? batch_.tokens[r - j] : spec.end_of_text) * spec.factors[j];
        }
        const auto at = static_cast<std::size_t>(h);
        const auto row = static_cast<std::int64_t>(mixed % static_cast<std::uint64_t>(spec.sizes[at])) + spec.offsets[at];
        const auto& table = parameters_[static_cast<std::size_t>(spec.table.id + row / spec.rows_each)];
        const auto from = table.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(row % spec.rows_each) * dim);
        y.insert(y.end(), from, from + static_cast<std::ptrdiff_t>(dim));
      }
    return push(std::move(y), static_cast<std::size_t>(spec.heads()) * dim);
  }

  Value relu(Value x) override {
    Matrix y = value(x);
    for (double& v : y) v = std::max(v, 0.0);
    return push(std::move(y), width(x));
  }

  Value concat(Value a, Value b) override {
    Matrix y;
    for (std::size_t r = 0; r < n_; ++r)
      for (const Value v : {a, b})
        for (std::size_t i = 0; i < width(v); ++i) y.push_back(value(v)[r * width(v) + i]);
    return push(std::move(y), width(a) + width(b));
  }

  void head(Value x, Weight w) override {
    vocab_ = dim(w, 0);
    logits_ = product(value(x), width(x), w);
  }

 private:
  // Of W + scale B A; A is parameter `first`.
  std::vector<double> row_lengths(const Adapter& adapter, Weight w, std::int32_t first) const {
    const std::size_t out = dim(w, 0), in = dim(w, 1), rank = dim({first}, 0);
    const auto& weight = held_[static_cast<std::size_t>(w.id)];
    const auto& a = held_[static_cast<std::size_t>(first)];
    const auto& b = held_[static_cast<std::size_t>(first) + 1];
    std::vector<double> lengths(out);
    for (std::size_t o = 0; o < out; ++o) {
      for (std::size_t i = 0; i < in; ++i) {
        double x = weight[o * in + i];
        for (std::size_t k = 0; k < rank; ++k) x += static_cast<double>(adapter.scale) * b[o * rank + k] * a[k * in + i];
        lengths[o] += x * x;
      }
      lengths[o] = std::sqrt(lengths[o]);
    }
    return lengths;
  }
  // First row of row r's document.
  std::size_t first_of(std::size_t r) const {
    const auto after = std::upper_bound(batch_.cu_seqlens.begin(), batch_.cu_seqlens.end(), static_cast<std::int32_t>(r));
    return static_cast<std::size_t>(*(after - 1));
  }
  void delta_head(Value x, Value forget, Value write, Weight a_log, Weight dt_bias, const DeltaRuleSpec& spec,
                  std::int32_t head, Matrix& y) const {
    const auto dk = static_cast<std::size_t>(spec.key_dim), dv = static_cast<std::size_t>(spec.value_dim),
               hv = static_cast<std::size_t>(spec.value_heads), h = static_cast<std::size_t>(head),
               keys = static_cast<std::size_t>(spec.keys_width()), kh = static_cast<std::size_t>(spec.key_head(head));
    Matrix s;
    const auto unit = [&](std::size_t from, double scale) {
      Matrix u(value(x).begin() + static_cast<std::ptrdiff_t>(from), value(x).begin() + static_cast<std::ptrdiff_t>(from + dk));
      double sum = 1e-6;
      for (const double v : u) sum += v * v;
      for (double& v : u) v *= scale / std::sqrt(sum);
      return u;
    };
    for (std::size_t r = 0; r < n_; ++r) {
      if (first_of(r) == r) s.assign(dk * dv, 0.0);
      const std::size_t row = r * width(x);
      const Matrix q = unit(row + kh * dk, 1 / std::sqrt(static_cast<double>(dk))), k = unit(row + keys + kh * dk, 1);
      const double f = value(forget)[r * hv + h] + parameter(dt_bias)[h], beta = 1 / (1 + std::exp(-value(write)[r * hv + h]));
      const double decay = std::exp(-std::exp(parameter(a_log)[h]) * std::log1p(std::exp(f)));
      for (std::size_t j = 0; j < dv; ++j) {
        double known = 0, out = 0;
        for (std::size_t i = 0; i < dk; ++i) known += (s[i * dv + j] *= decay) * k[i];
        const double delta = beta * (value(x)[row + 2 * keys + h * dv + j] - known);
        for (std::size_t i = 0; i < dk; ++i) out += (s[i * dv + j] += k[i] * delta) * q[i];
        y[r * hv * dv + h * dv + j] = out;
      }
    }
  }
  void expert(Value x, std::size_t r, const ExpertsSpec& spec, std::size_t e, double weight, std::size_t d,
              std::size_t f, Matrix& y) const {
    const auto at = [&](Weight w) -> const std::vector<double>& { return parameters_[static_cast<std::size_t>(w.id) + e]; };
    for (std::size_t j = 0; j < f; ++j) {
      double g = 0, u = 0;
      for (std::size_t i = 0; i < d; ++i) {
        g += value(x)[r * d + i] * at(spec.gate)[j * d + i];
        u += value(x)[r * d + i] * at(spec.up)[j * d + i];
      }
      const double h = g / (1 + std::exp(-g)) * u;
      for (std::size_t i = 0; i < d; ++i) y[r * d + i] += weight * h * at(spec.down)[i * f + j];
    }
  }
  static std::size_t width(Value v) { return static_cast<std::size_t>(v.width); }
  const Matrix& value(Value v) const { return values_[static_cast<std::size_t>(v.id)]; }
  const std::vector<double>& parameter(Weight w) const { return parameters_[static_cast<std::size_t>(w.id)]; }
  std::size_t dim(Weight w, int i) const {
    return static_cast<std::size_t>(shapes_[static_cast<std::size_t>(w.id)][i]);
  }
  Value push(Matrix m, std::size_t w) {
    values_.push_back(std::move(m));
    return {static_cast<std::int32_t>(values_.size()) - 1, static_cast<std::int32_t>(w)};
  }
  Matrix product(const Matrix& x, std::size_t in, Weight w) const {
    const std::size_t out = dim(w, 0);
    Matrix y(n_ * out, 0.0);
    for (std::size_t r = 0; r < n_; ++r)
      for (std::size_t o = 0; o < out; ++o)
        for (std::size_t i = 0; i < in; ++i) y[r * out + o] += x[r * in + i] * parameter(w)[o * in + i];
    return y;
  }
  // Which tokens of a document row r sees; the document begins at row `first`.
  std::vector<bool> seen_tokens(const Matrix& q, const Matrix& k, std::size_t first, std::size_t r, const IndexSpec& spec) const {
    const auto dim = static_cast<std::size_t>(spec.dim), ratio = static_cast<std::size_t>(spec.ratio), heads = static_cast<std::size_t>(spec.heads),
               half = static_cast<std::size_t>(spec.rope.rotary / 2), blocks = (r - first + 1) / ratio;
    const std::vector<float> frequency = rope_frequencies(spec.rope);
    std::vector<std::pair<double, std::size_t>> scores;
    for (std::size_t b = 0; b < blocks; ++b) {
      std::vector<double> key(dim, 0.0);
      double squares = 0;
      for (std::size_t i = 0; i < dim; ++i) {
        for (std::size_t t = 0; t < ratio; ++t) key[i] += k[(first + b * ratio + t) * dim + i] / static_cast<double>(ratio);
        squares += key[i] * key[i];
      }
      const double scale = 1 / std::sqrt(squares / static_cast<double>(dim) + static_cast<double>(spec.eps));
      for (std::size_t i = 0; i < dim; ++i) key[i] *= scale * parameter(spec.key_norm)[i];
      for (std::size_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(b * ratio) * static_cast<double>(frequency[i]), x = key[i], y = key[i + half];
        key[i] = x * std::cos(angle) - y * std::sin(angle);
        key[i + half] = y * std::cos(angle) + x * std::sin(angle);
      }
      double score = 0;
      for (std::size_t h = 0; h < heads; ++h) {
        double dot = 0;
        for (std::size_t i = 0; i < dim; ++i) dot += q[(r * heads + h) * dim + i] * key[i];
        score += std::max(dot, 0.0);
      }
      scores.emplace_back(-score, b);
    }
    std::sort(scores.begin(), scores.end());
    scores.resize(std::min(scores.size(), static_cast<std::size_t>(spec.blocks)));
    std::vector<bool> seen(r - first + 1, false);
    for (const auto& [score, b] : scores) std::fill_n(seen.begin() + static_cast<std::ptrdiff_t>(b * ratio), ratio, true);
    std::fill(seen.begin() + static_cast<std::ptrdiff_t>(blocks * ratio), seen.end(), true);
    return seen;
  }

  void attend(const Matrix& q, const Matrix& k, const Matrix& v, std::size_t first, std::size_t r, std::size_t h,
              std::size_t kv, std::size_t hd, std::size_t wq, std::size_t wk, const AttentionSpec& spec,
              Matrix& y, const std::vector<bool>& seen = {}) const {
    std::vector<double> p;
    double top = -INFINITY, sum = 0;
    if (spec.window > 0) first = std::max(first, r + 1 - std::min(r + 1, static_cast<std::size_t>(spec.window)));
    for (std::size_t t = first; t <= r; ++t) {
      double dot = 0;
      for (std::size_t i = 0; i < hd; ++i) dot += q[r * wq + h * hd + i] * k[t * wk + kv * hd + i];
      p.push_back(seen.empty() || seen[t - first] ? dot * static_cast<double>(spec.scale) : -INFINITY);
      top = std::max(top, p.back());
    }
    for (double& x : p) sum += x = std::exp(x - top);
    for (std::size_t t = first; t <= r; ++t)
      for (std::size_t i = 0; i < hd; ++i) y[r * wq + h * hd + i] += p[t - first] / sum * v[t * wk + kv * hd + i];
  }

  const std::vector<std::vector<double>>& parameters_;
  const std::vector<std::vector<double>>& held_;
  const std::vector<tensor::Shape>& shapes_;
  TrainingBatch batch_;
  std::vector<Adapter> adapters_;
  std::size_t n_, vocab_ = 0;
  std::vector<Matrix> values_;
  Matrix logits_;
  std::vector<double> balance_f_, balance_p_;
  double balance_rows_ = 0;
  float balance_ = 0;
};

}  // namespace qw::ops
