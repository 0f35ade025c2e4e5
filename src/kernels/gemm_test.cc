// The training product on every instruction set this CPU has, against sums in double with a derived bound.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/internal/test_data.h"
#include "kernels/kernels.h"

namespace qw::kernels {
namespace {

struct Case {
  GemmPrecision precision;
  bool trans_a, trans_b, accumulate;
  std::int64_t m, n, k;
};

std::string describe(const Case& c, const char* name) {
  return std::string(name) + (c.precision == GemmPrecision::kBF16 ? " bf16" : " f32") + " m=" + std::to_string(c.m) +
         " n=" + std::to_string(c.n) + " k=" + std::to_string(c.k) + (c.trans_a ? " At" : "") +
         (c.trans_b ? " Bt" : "") + (c.accumulate ? " +=" : "");
}

// Strides are larger than the matrices, and what lies between must not be touched.
struct Problem {
  GemmArgs g;
  std::vector<float> a, b, c;
  explicit Problem(const Case& p) {
    const std::int64_t lda = (p.trans_a ? p.m : p.k) + 3, ldb = (p.trans_b ? p.k : p.n) + 5, ldc = p.n + 2;
    a = noise(lda * (p.trans_a ? p.k : p.m), 1);
    b = noise(ldb * (p.trans_b ? p.n : p.k), 2);
    c = noise(ldc * p.m, 3);
    g = {p.precision, p.trans_a, p.trans_b, p.m, p.n, p.k, a.data(), lda, b.data(), ldb, c.data(), ldc, p.accumulate};
  }
};

// Runs the product cut into pieces of m and n (0: whole).
void run(const Kernels& k, const GemmArgs& g, std::int64_t m_step, std::int64_t n_step) {
  if (m_step == 0) m_step = g.m;
  if (n_step == 0) n_step = g.n;
  std::vector<char> packed(k.gemm_packed_b_bytes(g.precision, g.n, g.k) + 1, 'x');
  std::vector<char> scratch(k.gemm_scratch_bytes(g.precision, m_step, g.k) + 1, 'x');
  for (std::int64_t n = 0; n < g.n; n += n_step) k.gemm_pack_b(g, packed.data(), n, std::min(g.n, n + n_step));
  for (std::int64_t m = 0; m < g.m; m += m_step) {
    for (std::int64_t n = 0; n < g.n; n += n_step) {
      k.gemm(g, packed.data(), scratch.data(), m, std::min(g.m, m + m_step), n, std::min(g.n, n + n_step));
    }
  }
  ASSERT_EQ(packed.back(), 'x');
  ASSERT_EQ(scratch.back(), 'x');
}

// |computed - exact| <= gamma * sum |a||b| with gamma = (k + 2) u / (1 - (k + 2) u) (Higham, Accuracy and Stability,
// 3.1), for any order of summing; u = 2^-24, doubled for bf16 because VDPBF16PS may round each half of a pair on its
// own. Elements are rounded to bf16 on both sides before they are compared, so that rounding is no part of the bound;
// 1e-37 allows for tiny numbers being flushed.
void check(const Case& p, const Kernels& k) {
  Problem q(p);
  const std::vector<float> before = q.c;
  run(k, q.g, 0, 0);
  const auto round = [&](float v) { return p.precision == GemmPrecision::kBF16 ? round_to_bfloat(v) : v; };
  const double u = std::ldexp(p.precision == GemmPrecision::kBF16 ? 2.0 : 1.0, -24);
  const double gamma = static_cast<double>(p.k + 2) * u / (1 - static_cast<double>(p.k + 2) * u);
  for (std::int64_t i = 0; i < p.m; ++i) {
    for (std::int64_t j = 0; j < q.g.ldc; ++j) {
      const auto at = static_cast<std::size_t>(i * q.g.ldc + j);
      if (j >= p.n) {
        ASSERT_EQ(q.c[at], before[at]) << describe(p, k.name) << ": wrote between rows of C";
        continue;
      }
      double sum = p.accumulate ? before[at] : 0.0, size = std::fabs(sum);
      for (std::int64_t l = 0; l < p.k; ++l) {
        const double x = round(p.trans_a ? q.g.a[l * q.g.lda + i] : q.g.a[i * q.g.lda + l]);
        const double y = round(p.trans_b ? q.g.b[j * q.g.ldb + l] : q.g.b[l * q.g.ldb + j]);
        sum += x * y;
        size += std::fabs(x * y);
      }
      ASSERT_NEAR(q.c[at], sum, gamma * size + 1e-37) << describe(p, k.name) << " at " << i << "," << j;
    }
  }
}

TEST(Gemm, MatchesDoubleWithinTheDerivedBound) {
  const std::int64_t shapes[][3] = {{1, 1, 1},    {1, 1, 0},     {2, 33, 3},   {14, 32, 32},   {15, 31, 33},
                                    {13, 64, 16}, {40, 70, 100}, {5, 16, 513}, {29, 48, 1100}, {350, 40, 50}};
  for (Isa isa : supported_isas()) {
    const Kernels& k = kernels_for(isa);
    ASSERT_EQ(k.isa, isa);
    ASSERT_EQ(k.gemm == kernels_for(Isa::kPortable).gemm, isa == Isa::kPortable) << "not its own code: " << k.name;
    for (const auto& s : shapes) {
      for (int flags = 0; flags < 16; ++flags) {
        check({flags & 1 ? GemmPrecision::kBF16 : GemmPrecision::kF32, (flags & 2) != 0, (flags & 4) != 0,
               (flags & 8) != 0, s[0], s[1], s[2]},
              k);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Gemm, IsTheSameHoweverItIsCut) {
  for (Isa isa : supported_isas()) {
    const Kernels& k = kernels_for(isa);
    for (int flags = 0; flags < 8; ++flags) {
      const Case c{flags & 1 ? GemmPrecision::kBF16 : GemmPrecision::kF32,
                   (flags & 2) != 0,
                   (flags & 4) != 0,
                   true,
                   61,
                   133,
                   700};
      Problem whole(c), cut(c);
      run(k, whole.g, 0, 0);
      run(k, cut.g, k.gemm_m_granule, k.gemm_n_granule);
      ASSERT_EQ(std::memcmp(whole.c.data(), cut.c.data(), whole.c.size() * 4), 0) << describe(c, k.name);
    }
  }
}

// A row of C does not depend on the rows beside it.
TEST(Gemm, ARowIsTheSameAlone) {
  for (Isa isa : supported_isas()) {
    const Kernels& k = kernels_for(isa);
    for (GemmPrecision precision : {GemmPrecision::kF32, GemmPrecision::kBF16}) {
      for (std::int64_t m = 2; m <= 17; ++m) {
        Problem all({precision, false, true, false, m, 50, 600});
        run(k, all.g, 0, 0);
        for (std::int64_t i = 0; i < m; ++i) {
          std::vector<float> row(50);
          GemmArgs one = all.g;
          one.m = 1;
          one.a += i * one.lda;
          one.c = row.data();
          run(k, one, 0, 0);
          ASSERT_EQ(std::memcmp(row.data(), all.c.data() + i * all.g.ldc, 50 * 4), 0) << k.name << " row " << i;
        }
      }
    }
  }
}

TEST(Gemm, WeightsInBfloatsPackAsTheyDoInFloats) {
  for (const Isa isa : supported_isas()) {
    const Kernels& kernels = kernels_for(isa);
    if (kernels.gemm_pack_b_bfloats == nullptr) continue;
    for (const bool trans_b : {false, true})
      for (const auto& [n, k] : {std::pair{1, 1}, {33, 31}, {47, 513}, {64, 1030}}) {
        Problem p({GemmPrecision::kBF16, false, trans_b, false, 2, n, k});
        std::vector<std::uint16_t> bfloats(p.b.size());
        for (std::size_t i = 0; i < bfloats.size(); ++i) {
          std::uint32_t bits = 0;
          std::memcpy(&bits, &p.b[i], sizeof bits);
          bfloats[i] = static_cast<std::uint16_t>(bits >> 16);
          bits &= 0xffff0000u;
          std::memcpy(&p.b[i], &bits, sizeof bits);
        }
        const std::size_t bytes = kernels.gemm_packed_b_bytes(p.g.precision, n, k);
        std::vector<char> floats(bytes + 1, 'x'), direct(bytes + 1, 'x');
        kernels.gemm_pack_b(p.g, floats.data(), 0, n);
        p.g.b = nullptr;
        for (std::int64_t from = 0; from < n; from += kernels.gemm_n_granule)
          kernels.gemm_pack_b_bfloats(p.g, bfloats.data(), direct.data(), from,
                                      std::min<std::int64_t>(n, from + kernels.gemm_n_granule));
        ASSERT_EQ(floats, direct) << kernels.name << " n " << n << " k " << k << (trans_b ? " Bt" : "");
      }
  }
}

// gemm_columns: the same bytes, however its rows and columns are handed out, of B in float32 and in bfloat16.
TEST(Gemm, ByColumnsIsTheSame) {
  for (Isa isa : supported_isas()) {
    const Kernels& k = kernels_for(isa);
    if (k.gemm_columns == nullptr) continue;
    for (int flags = 0; flags < 16; ++flags) {
      for (const auto& [m, n, depth] : {std::tuple{1, 33, 3}, {15, 64, 32}, {61, 133, 700}, {29, 70, 1100}}) {
        const bool bfloats = (flags & 8) != 0;
        const Case c{bfloats || (flags & 1) != 0 ? GemmPrecision::kBF16 : GemmPrecision::kF32,
                     (flags & 2) != 0,
                     (flags & 4) != 0,
                     (flags & 1) != 0,
                     m,
                     n,
                     depth};
        Problem whole(c), cut(c);
        std::vector<std::uint16_t> halves;
        for (std::size_t i = 0; bfloats && i < whole.b.size(); ++i) {
          std::uint32_t bits = 0;
          std::memcpy(&bits, &whole.b[i], sizeof bits);
          halves.push_back(static_cast<std::uint16_t>(bits >> 16));
          bits &= 0xffff0000u;
          std::memcpy(&whole.b[i], &bits, sizeof bits);
        }
        run(k, whole.g, 0, 0);
        if (bfloats) cut.g.b = nullptr;
        const std::int64_t rows = 2 * k.gemm_m_granule, columns = 3 * k.gemm_n_granule;
        std::vector<char> packed(k.gemm_packed_a_bytes(c.precision, m, depth) + 1, 'x');
        std::vector<char> scratch(k.gemm_columns_scratch_bytes(c.precision, columns, depth) + 1, 'x');
        for (std::int64_t i = 0; i < m; i += rows)
          k.gemm_pack_a(cut.g, packed.data(), i, std::min<std::int64_t>(m, i + rows));
        for (std::int64_t j = 0; j < n; j += columns)
          k.gemm_columns(cut.g, bfloats ? halves.data() : nullptr, packed.data(), scratch.data(), j,
                         std::min<std::int64_t>(n, j + columns));
        ASSERT_EQ(packed.back(), 'x');
        ASSERT_EQ(scratch.back(), 'x');
        ASSERT_EQ(std::memcmp(whole.c.data(), cut.c.data(), whole.c.size() * 4), 0) << describe(c, k.name);
        if (bfloats) continue;
        Problem both(c);  // packed, both
        std::vector<char> packed_b(k.gemm_packed_b_bytes(c.precision, n, depth));
        k.gemm_pack_b(both.g, packed_b.data(), 0, n);
        for (std::int64_t i = 0; i < m; i += rows)
          k.gemm_packed(both.g, packed.data(), packed_b.data(), i, std::min<std::int64_t>(m, i + rows));
        ASSERT_EQ(std::memcmp(whole.c.data(), both.c.data(), whole.c.size() * 4), 0) << describe(c, k.name);
      }
    }
  }
}

// Weights packed once for both directions: the same bytes as packed for each.
TEST(Gemm, WeightsPackedOnceServeBothDirections) {
  for (Isa isa : supported_isas()) {
    const Kernels& k = kernels_for(isa);
    if (k.gemm_columns_packed == nullptr) continue;
    for (const bool forward : {true, false})
      for (const auto& [m, out, in] : {std::tuple{1, 33, 3}, {15, 64, 32}, {61, 133, 1300}, {29, 1100, 70}}) {
        const Case c{GemmPrecision::kBF16, false, forward, m == 15, m, forward ? out : in, forward ? in : out};
        Problem whole(c), cut(c);
        run(k, whole.g, 0, 0);
        GemmArgs forward_args = cut.g;
        forward_args.trans_b = true, forward_args.n = out, forward_args.k = in;
        if (!forward) {  // the same numbers, as rows of `in`
          std::vector<float> rows(static_cast<std::size_t>(out * in));
          for (std::int64_t o = 0; o < out; ++o)
            std::memcpy(rows.data() + o * in, cut.g.b + o * cut.g.ldb, static_cast<std::size_t>(in) * sizeof(float));
          cut.b = rows;
          forward_args.b = cut.b.data(), forward_args.ldb = in;
        }
        std::vector<char> weights(k.gemm_packed_b_bytes(c.precision, out, in));
        k.gemm_pack_b(forward_args, weights.data(), 0, out);
        const std::int64_t columns = 3 * k.gemm_n_granule;
        std::vector<char> packed(k.gemm_packed_a_bytes(c.precision, m, c.k)),
            scratch(k.gemm_columns_scratch_bytes(c.precision, columns, c.k));
        k.gemm_pack_a(cut.g, packed.data(), 0, m);
        cut.g.b = nullptr;
        for (std::int64_t j = 0; j < c.n; j += columns)
          k.gemm_columns_packed(cut.g, weights.data(), packed.data(), scratch.data(), j, std::min(c.n, j + columns));
        ASSERT_EQ(std::memcmp(whole.c.data(), cut.c.data(), whole.c.size() * 4), 0) << describe(c, k.name);
      }
  }
}

TEST(Gemm, NotANumberReachesTheOutput) {
  for (Isa isa : supported_isas()) {
    const Kernels& k = kernels_for(isa);
    for (GemmPrecision precision : {GemmPrecision::kF32, GemmPrecision::kBF16}) {
      Problem p({precision, false, true, false, 20, 40, 70});
      p.a[static_cast<std::size_t>(7 * p.g.lda + 69)] = std::nanf("");
      run(k, p.g, 0, 0);
      for (std::int64_t i = 0; i < 20; ++i) {
        ASSERT_EQ(std::isnan(p.c[static_cast<std::size_t>(i * p.g.ldc + 3)]), i == 7) << k.name << " row " << i;
      }
    }
  }
}

}  // namespace
}  // namespace qw::kernels
