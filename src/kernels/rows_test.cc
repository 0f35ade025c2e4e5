// Row kernels of every instruction set against references in double. Each tolerance is a bound on the rounding error,
// built from the operations in the kernel's definition; none is tuned.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/internal/exp.h"
#include "kernels/internal/test_support.h"

namespace qw::kernels {
namespace {

using namespace test;

TEST(ExpTest, RelativeErrorIsWithinTheDerivedBound) {
  double worst = 0;
  for (float x = -87.3F; x < 88.7F; x += 1.37e-4F) {
    const double expected = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::fabs(exp_scalar(x) - expected) / expected);
  }
  EXPECT_LT(worst, kExpRelativeError);
  EXPECT_GT(worst, kExpRelativeError / 8) << "the bound says nothing";
}

TEST(ExpTest, Edges) {
  EXPECT_EQ(exp_scalar(0.0F), 1.0F);
  EXPECT_EQ(exp_scalar(-1e30F), 0.0F);
  EXPECT_EQ(exp_scalar(-INFINITY), 0.0F);
  EXPECT_EQ(exp_scalar(INFINITY), INFINITY);
  EXPECT_EQ(exp_scalar(100.0F), INFINITY);
  EXPECT_TRUE(std::isnan(exp_scalar(NAN)));
  EXPECT_NEAR(exp_scalar(-100.0F), std::exp(-100.0), 1.5e-45);  // a denormal
}

class RowsTest : public testing::TestWithParam<Isa> {
 protected:
  const Kernels& k_ = kernels_for(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Isa, RowsTest, testing::ValuesIn(supported_isas()), isa_param_name);

TEST_P(RowsTest, TableIsTheOneAskedFor) {
  EXPECT_EQ(k_.isa, GetParam());
  EXPECT_EQ(k_.name, base::isa_name(GetParam()));
}

TEST_P(RowsTest, InstructionSetHasItsOwnRows) {
  const Kernels& portable = kernels_for(Isa::kPortable);
  if (GetParam() == Isa::kPortable) return;
  EXPECT_NE(k_.rms_norm, portable.rms_norm);
  EXPECT_NE(k_.adamw, portable.adamw);
  EXPECT_NE(k_.attention_train_forward, portable.attention_train_forward);
  EXPECT_NE(k_.attention_decode, portable.attention_decode);
}

TEST_P(RowsTest, RmsNorm) {
  const float eps = 1e-6F;
  for (std::int64_t n : kLengths) {
    const std::int64_t rows = 3;
    const auto x = random_values(rows * n, 1, 3.0F), w = random_values(n, 2);
    std::vector<float> y(x.size()), inverse(rows);
    k_.rms_norm(x.data(), w.data(), eps, rows, n, y.data(), inverse.data());
    for (std::int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (std::int64_t i = 0; i < n; ++i) sum += std::pow(x[r * n + i], 2.0);
      const double inv = 1 / std::sqrt(sum / n + eps);
      // The root halves the relative error of the sum; mean, eps, root, quotient and two products follow.
      const double relative = (sum_depth(n) / 2 + 6) * kUnit;
      expect_within(inverse[r], inv, inv * relative, "inverse", r);
      for (std::int64_t i = 0; i < n; ++i) {
        const double expected = x[r * n + i] * inv * w[i];
        expect_within(y[r * n + i], expected, std::fabs(expected) * relative, "y", r * n + i);
      }
    }
    std::vector<float> in_place = x;
    k_.rms_norm(in_place.data(), w.data(), eps, rows, n, in_place.data(), nullptr);
    EXPECT_EQ(in_place, y) << n;
  }
}

TEST_P(RowsTest, RmsNormDoesNotDependOnTheOtherRows) {
  const std::int64_t rows = 5, n = 61;
  const auto x = random_values(rows * n, 3), w = random_values(n, 4);
  std::vector<float> all(x.size()), one(n);
  k_.rms_norm(x.data(), w.data(), 1e-5F, rows, n, all.data(), nullptr);
  for (std::int64_t r = 0; r < rows; ++r) {
    k_.rms_norm(x.data() + r * n, w.data(), 1e-5F, 1, n, one.data(), nullptr);
    EXPECT_EQ(std::memcmp(one.data(), all.data() + r * n, n * sizeof(float)), 0);
  }
}

// sum(dy * rms_norm(x)) in double, for finite differences.
double rms_loss(const std::vector<double>& x, const std::vector<double>& w, const std::vector<float>& dy, double eps) {
  double squares = 0, loss = 0;
  for (double v : x) squares += v * v;
  const double inv = 1 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  for (std::size_t i = 0; i < x.size(); ++i) loss += dy[i] * x[i] * inv * w[i];
  return loss;
}

TEST_P(RowsTest, RmsNormBackwardMatchesFiniteDifferences) {
  const double eps = 1e-5;
  for (std::int64_t n : {1, 7, 16, 17, 61, 130}) {
    const auto x = random_values(n, 5), w = random_values(n, 6), dy = random_values(n, 7);
    std::vector<float> y(n), inverse(1), dx(n, 0.5F), dw(n, -0.25F);
    k_.rms_norm(x.data(), w.data(), static_cast<float>(eps), 1, n, y.data(), inverse.data());
    k_.rms_norm_backward(x.data(), w.data(), inverse.data(), dy.data(), 1, n, dx.data(), dw.data());
    const std::vector<double> xd(x.begin(), x.end()), wd(w.begin(), w.end());
    double terms = 0;  // what the mean's rounding error is relative to
    for (std::int64_t i = 0; i < n; ++i) terms += std::fabs(dy[i] * w[i] * x[i] * inverse[0]) / static_cast<double>(n);
    const double step = 1e-5;
    for (std::int64_t i = 0; i < n; ++i) {
      auto up = xd, down = xd;
      up[i] += step, down[i] -= step;
      const double slope = (rms_loss(up, wd, dy, eps) - rms_loss(down, wd, dy, eps)) / (2 * step);
      const double xhat = std::fabs(x[i] * inverse[0]);
      const double bound = inverse[0] * (std::fabs(dy[i] * w[i]) + xhat * terms) * (2 * sum_depth(n) + 16) * kUnit;
      const double difference_error = 1e-6 * (1 + std::pow(inverse[0], 3.0));  // third derivative * step^2, and cancellation
      expect_within(dx[i], 0.5 + slope, bound + kUnit * (1 + std::fabs(slope)) + difference_error, "dx", i);
      up = wd, down = wd;
      up[i] += step, down[i] -= step;
      const double w_slope = (rms_loss(xd, up, dy, eps) - rms_loss(xd, down, dy, eps)) / (2 * step);
      expect_within(dw[i], -0.25 + w_slope, (sum_depth(n) + 8) * kUnit * (1 + std::fabs(w_slope)) + 1e-6, "dw", i);
    }
  }
}

TEST_P(RowsTest, RmsNormBackwardSumsWeightGradientOverRows) {
  const std::int64_t rows = 4, n = 33;
  const auto x = random_values(rows * n, 8), w = random_values(n, 9), dy = random_values(rows * n, 10);
  std::vector<float> y(x.size()), inverse(rows), dx(x.size()), dw(n), dx_one(x.size()), dw_one(n);
  k_.rms_norm(x.data(), w.data(), 1e-6F, rows, n, y.data(), inverse.data());
  k_.rms_norm_backward(x.data(), w.data(), inverse.data(), dy.data(), rows, n, dx.data(), dw.data());
  for (std::int64_t r = 0; r < rows; ++r) {
    k_.rms_norm_backward(x.data() + r * n, w.data(), inverse.data() + r, dy.data() + r * n, 1, n, dx_one.data() + r * n,
                         dw_one.data());
  }
  EXPECT_EQ(dx, dx_one);
  EXPECT_EQ(dw, dw_one);
}

TEST_P(RowsTest, Rope) {
  for (auto [head_dim, rotary] : {std::pair<int, int>{64, 64}, {128, 128}, {48, 48}, {64, 16}, {6, 6}, {34, 34}, {2, 2}}) {
    const std::int64_t rows = 3, heads = 2, ldx = heads * head_dim + 5, half = rotary / 2;
    const auto before = random_values(rows * ldx, 11);
    std::vector<float> cos(rows * half), sin(rows * half), x = before;
    for (std::int64_t i = 0; i < rows * half; ++i) {
      cos[i] = std::cos(0.37F * static_cast<float>(i));
      sin[i] = std::sin(0.37F * static_cast<float>(i));
    }
    k_.rope(x.data(), ldx, rows, heads, head_dim, rotary, cos.data(), sin.data(), false);
    std::vector<double> expected(before.begin(), before.end()), bound(before.size());
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t i = 0; i < half; ++i) {
          const std::int64_t at = r * ldx + h * head_dim + i;
          const double c = cos[r * half + i], s = sin[r * half + i], a = before[at], b = before[at + half];
          expected[at] = a * c - b * s;
          expected[at + half] = b * c + a * s;
          bound[at] = 2 * kUnit * (std::fabs(a * c) + std::fabs(b * s));
          bound[at + half] = 2 * kUnit * (std::fabs(b * c) + std::fabs(a * s));
        }
      }
    }
    for (std::size_t i = 0; i < x.size(); ++i) expect_within(x[i], expected[i], bound[i], "rope", i);
    k_.rope(x.data(), ldx, rows, heads, head_dim, rotary, cos.data(), sin.data(), true);
    for (std::size_t i = 0; i < x.size(); ++i) expect_within(x[i], before[i], 1e-6 * (1 + std::fabs(before[i])) * 3, "back", i);
  }
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

std::vector<float> gates(std::int64_t n) {
  auto gate = random_values(n, 12, 6.0F);
  const float edges[] = {0.0F, -0.0F, 88.0F, -88.0F, 120.0F, -120.0F, 1e30F, -1e30F, 20.0F, -20.0F};
  for (std::int64_t i = 0; i < std::min<std::int64_t>(n, 10); ++i) gate[i] = edges[i];
  return gate;
}

TEST_P(RowsTest, Swiglu) {
  for (std::int64_t n : kLengths) {
    const auto gate = gates(n), up = random_values(n, 13);
    std::vector<float> out(n);
    k_.swiglu(gate.data(), up.data(), n, out.data());
    for (std::int64_t i = 0; i < n; ++i) {
      const double expected = gate[i] * sigmoid(gate[i]) * up[i];
      // exp, sum, quotient and two products; under exp's range silu is taken as zero.
      const double bound = std::fabs(expected) * (kExpRelativeError + 5 * kUnit) + 1e-35 * std::fabs(up[i]) + 1e-44;
      expect_within(out[i], expected, bound, "swiglu", i);
    }
  }
}

TEST_P(RowsTest, ShortConvIsItsSumThroughSilu) {
  const std::int64_t taps = 5;
  for (std::int64_t n : kLengths) {
    const std::int64_t ldw = n + 3;
    const auto w = random_values(taps * ldw, 31), x = random_values(taps * n, 32, 2.0F);
    const float* const rows[] = {nullptr, x.data() + n, x.data() + 2 * n, nullptr, x.data() + 4 * n};
    std::vector<float> y(n), sums(n), ones(n, 1.0F), expected(n);
    for (std::int64_t j : {1, 2, 4})
      for (std::int64_t i = 0; i < n; ++i) sums[i] += w[j * ldw + i] * x[j * n + i];
    k_.swiglu(sums.data(), ones.data(), n, expected.data());
    k_.short_conv(rows, w.data(), ldw, taps, n, y.data());
    EXPECT_EQ(y, expected);
  }
}

TEST_P(RowsTest, SwigluBackward) {
  for (std::int64_t n : kLengths) {
    const auto gate = gates(n), up = random_values(n, 14), dout = random_values(n, 15);
    std::vector<float> dgate(n), dup(n);
    k_.swiglu_backward(gate.data(), up.data(), dout.data(), n, dgate.data(), dup.data());
    for (std::int64_t i = 0; i < n; ++i) {
      const double a = gate[i], b = up[i], g = dout[i], s = sigmoid(a);
      const auto silu = [](double v) { return v * sigmoid(v); };
      const double relative = kExpRelativeError + 6 * kUnit;
      // 1 - s cancels for large a: its absolute error is that of s, which a then multiplies.
      const double bound = 2 * std::fabs(g * b) * s * (1 + std::fabs(a)) * relative + 1e-35;
      expect_within(dgate[i], g * b * (s + a * s * (1 - s)), bound, "dgate", i);
      expect_within(dup[i], g * silu(a), std::fabs(g * silu(a)) * relative + 1e-35, "dup", i);
      if (std::fabs(a) > 50) continue;  // differences of silu say nothing beyond
      const double step = 1e-5;
      const double slope = g * b * (silu(a + step) - silu(a - step)) / (2 * step);
      expect_within(dgate[i], slope, bound + 1e-8 * std::fabs(g * b) * (1 + std::fabs(a)), "dgate by differences", i);
    }
  }
}

TEST_P(RowsTest, ElementwiseResultsDoNotDependOnTheSplit) {
  const std::int64_t n = 301;
  const auto a = random_values(n, 16, 4.0F), b = random_values(n, 17), c = random_values(n, 18);
  std::vector<float> whole(n), parts(n), whole2(n), parts2(n);
  k_.swiglu(a.data(), b.data(), n, whole.data());
  k_.swiglu_backward(a.data(), b.data(), c.data(), n, whole.data(), whole2.data());
  std::vector<float> w1 = a, w2 = a, m1 = b, m2 = b, v1(n, 0.3F), v2(n, 0.3F);
  const auto adamw = [&](std::vector<float>& w, std::vector<float>& m, std::vector<float>& v, std::int64_t from, std::int64_t count) {
    k_.adamw(w.data() + from, c.data() + from, m.data() + from, v.data() + from, count, 1e-2F, 0.9F, 0.95F, 1e-8F, 1e-3F,
             0.1F, 0.05F, 0.5F);
  };
  adamw(w1, m1, v1, 0, n);
  std::int64_t from = 0;
  for (std::int64_t count : {1, 2, 15, 16, 17, 50, 61, 139}) {
    k_.swiglu_backward(a.data() + from, b.data() + from, c.data() + from, count, parts.data() + from, parts2.data() + from);
    adamw(w2, m2, v2, from, count);
    from += count;
  }
  ASSERT_EQ(from, n);
  EXPECT_EQ(whole, parts);
  EXPECT_EQ(whole2, parts2);
  EXPECT_EQ(w1, w2);
  EXPECT_EQ(m1, m2);
  EXPECT_EQ(v1, v2);
}

TEST_P(RowsTest, AddIsExactAndMayAlias) {
  for (std::int64_t n : kLengths) {
    const auto a = random_values(n, 19), b = random_values(n, 20);
    std::vector<float> out(n), alias = a;
    k_.add(a.data(), b.data(), n, out.data());
    k_.add(alias.data(), b.data(), n, alias.data());
    for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(out[i], a[i] + b[i]);
    EXPECT_EQ(out, alias);
  }
}

struct SoftmaxReference {
  double lse, relative;  // relative error any probability may have, apart from its own exponent's rounding
  std::vector<double> p, own;
};

SoftmaxReference softmax_reference(const std::vector<float>& x) {
  SoftmaxReference ref;
  const double max = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (float v : x) sum += std::exp(v - max);
  ref.lse = max + std::log(sum);
  ref.relative = (sum_depth(static_cast<std::int64_t>(x.size())) + 4) * kUnit + 2 * kExpRelativeError;
  for (float v : x) {
    ref.p.push_back(std::exp(v - ref.lse));
    ref.own.push_back(kUnit * (max - v));  // rounding of v - max
    ref.relative += ref.p.back() * ref.own.back();
  }
  return ref;
}

const std::vector<std::int64_t> kVocabularies = {1, 7, 16, 17, 61, 1000, 8192, 151936};

std::vector<std::vector<float>> logit_rows(std::int64_t n) {
  auto shifted = random_values(n, 22, 5.0F);
  for (float& v : shifted) v += 1e4F;
  return {random_values(n, 21, 3.0F), shifted, random_values(n, 23, 300.0F), std::vector<float>(n, -7.0F)};
}

TEST_P(RowsTest, SoftmaxAndLogSumExp) {
  for (std::int64_t n : kVocabularies) {
    for (auto x : logit_rows(n)) {
      const SoftmaxReference ref = softmax_reference(x);
      const double lse_bound = ref.relative + 2 * kUnit * std::fabs(ref.lse);
      expect_within(k_.log_sum_exp(x.data(), n), ref.lse, lse_bound, "log_sum_exp", n);
      expect_within(k_.softmax(x.data(), n), ref.lse, lse_bound, "softmax's return", n);
      for (std::int64_t i = 0; i < n; ++i) {
        expect_within(x[i], ref.p[i], ref.p[i] * (ref.relative + ref.own[i]) + 3e-45, "p", i);
      }
    }
  }
}

TEST_P(RowsTest, CrossEntropy) {
  const float scale = 0.125F;
  for (std::int64_t n : kVocabularies) {
    for (const auto& x : logit_rows(n)) {
      const SoftmaxReference ref = softmax_reference(x);
      for (std::int64_t label : {std::int64_t{0}, n / 2, n - 1}) {
        std::vector<float> d = x;
        const double loss = ref.lse - x[label];
        expect_within(k_.cross_entropy(d.data(), n, label, scale), loss, ref.relative + kUnit * std::fabs(loss) + 1e-12, "loss", label);
        for (std::int64_t i = 0; i < n; ++i) {
          const double expected = (ref.p[i] - (i == label ? 1 : 0)) * scale;
          const double bound = scale * (ref.p[i] * (ref.relative + ref.own[i] + kUnit) + (i == label ? kUnit : 0)) + 3e-45;
          expect_within(d[i], expected, bound, "dlogits", i);
        }
      }
    }
  }
}

TEST_P(RowsTest, SumSquares) {
  for (std::int64_t n : kLengths) {
    const auto x = random_values(n, 24, 1e15F);  // squares leave float's range
    long double sum = 0;
    for (float v : x) sum += static_cast<long double>(v) * v;
    const auto expected = static_cast<double>(sum);
    expect_within(k_.sum_squares(x.data(), n), expected, expected * static_cast<double>(n + 1) * 0x1p-53, "sum", n);
  }
}

TEST_P(RowsTest, AdamW) {
  const float lr = 3e-3F, b1 = 0.9F, b2 = 0.95F, eps = 1e-8F, decay = lr * 0.1F, grad_scale = 0.7F;
  for (std::int64_t n : kLengths) {
    const auto w0 = random_values(n, 25), g0 = random_values(n, 26, 0.1F);
    std::vector<float> w = w0, m(n), v(n);
    std::vector<double> wd(w0.begin(), w0.end()), md(n), vd(n), w_bound(n), m_bound(n), v_bound(n);
    for (int t = 1; t <= 4; ++t) {
      const double bc1 = 1 - std::pow(static_cast<double>(b1), t), bc2 = 1 - std::pow(static_cast<double>(b2), t);
      std::vector<float> g = g0;
      for (std::int64_t i = 0; i < n; ++i) g[i] = g0[(i + t) % n];
      k_.adamw(w.data(), g.data(), m.data(), v.data(), n, lr, b1, b2, eps, decay, static_cast<float>(bc1),
               static_cast<float>(bc2), grad_scale);
      for (std::int64_t i = 0; i < n; ++i) {
        const double grad = static_cast<double>(g[i]) * grad_scale;
        m_bound[i] += 3 * kUnit * (std::fabs(md[i]) + std::fabs(grad));
        v_bound[i] += 4 * kUnit * (vd[i] + grad * grad);
        md[i] = b1 * md[i] + (1.0 - b1) * grad;
        vd[i] = b2 * vd[i] + (1.0 - b2) * grad * grad;
        const double root = std::sqrt(vd[i] / bc2) + eps;
        const double update = lr * md[i] / bc1 / root;
        // Relative error of the root is half that of v.
        w_bound[i] += 3 * kUnit * std::fabs(wd[i]) +
                      std::fabs(update) * (10 * kUnit + v_bound[i] / (2 * vd[i])) + lr * m_bound[i] / bc1 / root;
        wd[i] = wd[i] * (1 - static_cast<double>(decay)) - update;
        expect_within(m[i], md[i], m_bound[i] + 1e-44, "m", i);
        expect_within(v[i], vd[i], v_bound[i] + 1e-44, "v", i);
        expect_within(w[i], wd[i], w_bound[i], "w", i);
      }
    }
  }
}

TEST_P(RowsTest, AdamWLeavesAParameterWithoutGradientToDecayAlone) {
  std::vector<float> w(20, 2.0F), g(20), m(20), v(20);
  k_.adamw(w.data(), g.data(), m.data(), v.data(), 20, 0.1F, 0.9F, 0.95F, 1e-8F, 0.25F, 0.1F, 0.05F, 1.0F);
  for (float x : w) EXPECT_EQ(x, 1.5F);
}

}  // namespace
}  // namespace qw::kernels
