// The working memory of products: what was planned for a product serves every smaller one.
#include "ops/gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/cpu.h"

namespace qw::ops {
namespace {

TEST(Gemm, ASmallerProductFindsRoomInWhatWasPlanned) {
  constexpr std::int64_t kM = 40, kN = 24, kMost = 1100;
  base::ThreadPool pool(2);
  std::vector<float> a(kM * kMost), b(kMost * kN), c(kM * kN);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 7) - 3;
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 5) - 2;
  for (int isa = 0; isa <= static_cast<int>(base::best_isa()); ++isa) {
    const Machine machine{kernels::kernels_for(static_cast<base::Isa>(isa)), pool};
    for (const auto precision : {kernels::GemmPrecision::kF32, kernels::GemmPrecision::kBF16})
      // Planned lengths that are cut into two blocks and more; shorter ones, each a block of its own up to 256 or 512.
      for (const std::int64_t most : {std::int64_t{300}, std::int64_t{700}, kMost}) {
        GemmWorkspace workspace(machine, precision);
        workspace.plan(kM, kN, most);
        workspace.allocate();
        for (const std::int64_t k : {std::int64_t{1}, std::int64_t{255}, std::int64_t{256}, std::int64_t{300},
                                     std::int64_t{512}, std::int64_t{700}, kMost}) {
          if (k > most) continue;
          gemm(machine, workspace,
               {.precision = precision,
                .trans_a = false,
                .trans_b = false,
                .m = kM,
                .n = kN,
                .k = k,
                .a = a.data(),
                .lda = kMost,
                .b = b.data(),
                .ldb = kN,
                .c = c.data(),
                .ldc = kN,
                .accumulate = false});
          for (const std::int64_t row : {std::int64_t{0}, kM - 1}) {
            double wanted = 0;  // small integers: exact in every precision
            for (std::int64_t i = 0; i < k; ++i)
              wanted += static_cast<double>(a[static_cast<std::size_t>(row * kMost + i)]) *
                        static_cast<double>(b[static_cast<std::size_t>(i * kN + 3)]);
            ASSERT_EQ(c[static_cast<std::size_t>(row * kN + 3)], wanted)
                << machine.kernels.name << " k " << k << " of " << most;
          }
        }
      }
  }
}

// Few rows and many columns are handed out by columns; the same columns in narrower products, by rows.
TEST(Gemm, FewRowsOfManyColumnsAreTheSameInParts) {
  constexpr std::int64_t kM = 37, kN = 1100, kK = 600;
  base::ThreadPool pool(3);
  std::vector<float> a(kM * kK), b(kN * kK);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 251) / 64 - 2;
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 241) / 64 - 2;
  for (int isa = 0; isa <= static_cast<int>(base::best_isa()); ++isa) {
    const Machine machine{kernels::kernels_for(static_cast<base::Isa>(isa)), pool};
    for (const auto precision : {kernels::GemmPrecision::kF32, kernels::GemmPrecision::kBF16}) {
      GemmWorkspace workspace(machine, precision);
      workspace.plan(kM, kN, kK);
      workspace.allocate();
      std::vector<float> whole(kM * kN, 1), parts(kM * kN, 1);
      for (const bool accumulate : {false, true}) {
        kernels::GemmArgs args{};
        args.trans_b = true, args.accumulate = accumulate;
        args.m = kM, args.k = kK, args.lda = args.ldb = kK, args.ldc = kN;
        args.a = a.data();
        const auto columns = [&](std::int64_t begin, std::int64_t n, std::vector<float>& c) {
          args.n = n, args.b = b.data() + begin * kK, args.c = c.data() + begin;
          gemm(machine, workspace, args);
        };
        columns(0, kN, whole);
        for (std::int64_t begin = 0; begin < kN; begin += 100) columns(begin, 100, parts);
        ASSERT_EQ(whole, parts) << machine.kernels.name;
      }
    }
  }
}

// A part of low rank beside a product: the bytes of three products and a scaling, with rows that are still packed, too.
TEST(Gemm, APartOfLowRankIsTheSameAsItsProducts) {
  constexpr std::int64_t kM = 61, kN = 700, kK = 600, kRank = 9;
  constexpr float kScale = 1.5f;
  base::ThreadPool pool(3);
  const auto numbers = [](std::int64_t n, std::size_t period) {
    std::vector<float> out(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(i % period) / 64 - 2;
    return out;
  };
  const std::vector<float> a = numbers(kM * kK, 251), b = numbers(kN * kK, 241), down = numbers(kRank * kK, 239),
                           up = numbers(kN * kRank, 233);
  for (int isa = 0; isa <= static_cast<int>(base::best_isa()); ++isa) {
    const Machine machine{kernels::kernels_for(static_cast<base::Isa>(isa)), pool};
    for (const auto precision : {kernels::GemmPrecision::kF32, kernels::GemmPrecision::kBF16})
      for (const bool transposed : {false, true}) {
        GemmWorkspace workspace(machine, precision);
        workspace.plan_low_rank(kM, kN, kK, kRank);
        workspace.allocate();
        const auto product = [&](std::int64_t n, std::int64_t k, const float* x, const float* w, float* c, bool more) {
          return kernels::GemmArgs{.precision = precision,
                                   .trans_a = false,
                                   .trans_b = transposed,
                                   .m = kM,
                                   .n = n,
                                   .k = k,
                                   .a = x,
                                   .lda = k,
                                   .b = w,
                                   .ldb = transposed ? k : n,
                                   .c = c,
                                   .ldc = n,
                                   .accumulate = more};
        };
        std::vector<float> c(kM * kN), u(kM * kRank), wanted(kM * kN), wanted_u(kM * kRank);
        gemm(machine, workspace, product(kN, kK, a.data(), b.data(), wanted.data(), false));
        gemm(machine, workspace, product(kRank, kK, a.data(), down.data(), wanted_u.data(), false));
        for (float& x : wanted_u) x *= kScale;
        gemm(machine, workspace, product(kN, kRank, wanted_u.data(), up.data(), wanted.data(), true));
        const LowRankPart part{.rank = kRank,
                               .scale = kScale,
                               .down = down.data(),
                               .up = up.data(),
                               .transposed = transposed,
                               .u = u.data()};
        for (const bool same_a : {false, true}) {
          if (same_a && !remembers_a(machine, kM, kN)) continue;
          std::fill(c.begin(), c.end(), 7.0f);
          std::fill(u.begin(), u.end(), 7.0f);
          gemm_low_rank(machine, workspace, product(kN, kK, same_a ? nullptr : a.data(), nullptr, c.data(), false),
                        Matrix(b.data()), transposed ? kN : kK, part, same_a);
          ASSERT_EQ(u, wanted_u) << machine.kernels.name;
          ASSERT_EQ(c, wanted) << machine.kernels.name;
        }
      }
  }
}

}  // namespace
}  // namespace qw::ops
