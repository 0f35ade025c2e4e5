// The inference product on every instruction set this CPU has, against sums in double with derived bounds.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "kernels/internal/fill.h"
#include "kernels/internal/test_data.h"
#include "kernels/kernels.h"

namespace qw::kernels {
namespace {

struct Shape {
  std::int64_t rows, out, in;
};

// Every type with every table this CPU runs; and bfloat16 the way AVX-512 does not choose here.
struct Case {
  const Kernels& k;
  WeightType type;
};
std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (const Isa isa : supported_isas())
    for (const WeightType type : kAllWeightTypes) all.push_back({kernels_for(isa), type});
#if defined(__x86_64__)
  static const Kernels other = [] {
    Kernels k{};
    k.name = "avx512, the other way";
    if (base::best_isa() >= Isa::kAvx512) avx512::fill_matmul(k, !base::bfloat_dots_pay());
    return k;
  }();
  if (base::best_isa() >= Isa::kAvx512) all.push_back({other, WeightType::kBF16});
#endif
  return all;
}

// Packed weights and prepared rows of one product; guards catch a byte written past the end.
struct Product {
  const Kernels& k;
  WeightType type;
  Shape shape;
  std::int64_t ldx;
  std::vector<std::uint8_t> raw;
  std::vector<float> x, bias;
  std::vector<char> packed, prepared;

  Product(const Kernels& kernels, WeightType t, Shape s)
      : k(kernels),
        type(t),
        shape(s),
        ldx(s.in + 3),
        raw(random_weights(t, s.out, s.in, 11)),
        x(noise(ldx * s.rows, 12)),
        bias(noise(s.out, 13)),
        packed(k.packed_bytes(t, s.out, s.in) + 1, 'x') {
    k.pack(type, raw.data(), s.out, s.in, packed.data());
    prepare();
  }
  void prepare() {
    prepared.assign(k.prepared_bytes(type, shape.rows, shape.in) + 1, 'x');
    k.prepare(type, x.data(), ldx, shape.rows, shape.in, prepared.data(), 0, shape.rows);
    ASSERT_EQ(packed.back(), 'x');
    ASSERT_EQ(prepared.back(), 'x');
  }
  MatmulArgs args(std::vector<float>& y, std::int64_t ldy) const {
    return {type,       packed.data(), prepared.data(), bias.data(), y.data(), ldy,
            shape.rows, shape.out,     shape.in,        0,           shape.out};
  }
  std::vector<float> run() const {
    std::vector<float> y(static_cast<std::size_t>(shape.rows * shape.out), std::nanf(""));
    k.matmul(args(y, shape.out));
    return y;
  }
  std::string describe() const {
    return std::string(k.name) + " " + weight_name(type) + " rows=" + std::to_string(shape.rows) +
           " out=" + std::to_string(shape.out) + " in=" + std::to_string(shape.in);
  }
};

// Formats beside the two simplest, which may have minima and groups of 16.
bool is_grouped(WeightType type) { return type >= WeightType::kGroups8; }

std::int64_t padded_in(WeightType type, std::int64_t in) { return round_up(in, block_elements(type)); }

// What the activations become: rounded, or quantised with the scalar quantiser (whose bytes all instruction sets share,
// see ActivationsAreTheSameBytes).
std::vector<double> effective_activations(WeightType type, const float* x, std::int64_t in) {
  std::vector<double> a(static_cast<std::size_t>(in));
  if (is_quantised(type)) {
    for (std::int64_t b = 0; b < in; b += kBlock) {
      ActivationBlock block;
      quantise_activations(x + b, activation_kind(type), block);
      for (std::int64_t j = 0; j < kBlock; ++j)
        a[static_cast<std::size_t>(b + j)] = static_cast<double>(block.d) * block.q[j];
    }
  } else {
    for (std::int64_t i = 0; i < in; ++i) {
      a[static_cast<std::size_t>(i)] = type == WeightType::kBF16 ? round_to_bfloat(x[i]) : x[i];
    }
  }
  return a;
}

// Float formats: gamma_(in + 2) * sum |a w| as for the training product, unit doubled for pairs of bfloat16.
// Quantised formats: block sums are exact integers below 2^24; what rounds is the product of the scales, its product
// with the sum, and the additions over blocks: gamma_(in/32 + 3) * sum |block term|.
// Grouped formats: as quantised ones, but a group's product and its min are two terms that may cancel, each with its
// own roundings: gamma_(4 in/32 + 8) * (sum |group product| + sum |group min|).
void check_grouped(const Product& p) {
  const std::vector<float> y = p.run();
  std::vector<RawGroup> groups(static_cast<std::size_t>(p.shape.out * p.shape.in));  // of every weight, for all rows
  for (std::int64_t i = 0; i < p.shape.out * p.shape.in; ++i)
    groups[static_cast<std::size_t>(i)] = raw_group(p.type, p.raw, p.shape.in, i / p.shape.in, i % p.shape.in);
  const double n = 4.0 * static_cast<double>(p.shape.in / kBlock) + 8, u = 0x1p-24, gamma = n * u / (1 - n * u);
  for (std::int64_t r = 0; r < p.shape.rows; ++r) {
    const std::vector<double> a = effective_activations(p.type, p.x.data() + r * p.ldx, p.shape.in);
    for (std::int64_t o = 0; o < p.shape.out; ++o) {
      double sum = p.bias[static_cast<std::size_t>(o)], size = std::fabs(sum), product = 0, min = 0;
      for (std::int64_t i = 0; i < p.shape.in; ++i) {
        const RawGroup& g = groups[static_cast<std::size_t>(o * p.shape.in + i)];
        product += a[static_cast<std::size_t>(i)] * g.scale * g.q;
        min += a[static_cast<std::size_t>(i)] * g.min;
        if (i % 16 != 15) continue;
        sum += product - min;
        size += std::fabs(std::exchange(product, 0.0)) + std::fabs(std::exchange(min, 0.0));
      }
      ASSERT_NEAR(y[static_cast<std::size_t>(r * p.shape.out + o)], sum, gamma * size + 1e-37)
          << p.describe() << " at row " << r << " output " << o;
    }
  }
}

void check(const Product& p) {
  const bool quantised = is_quantised(p.type);
  if (is_grouped(p.type)) return check_grouped(p);
  const std::vector<float> y = p.run();
  std::vector<double> w(static_cast<std::size_t>(p.shape.out * p.shape.in));  // the same for every row
  for (std::int64_t i = 0; i < p.shape.out * p.shape.in; ++i)
    w[static_cast<std::size_t>(i)] = raw_weight(p.type, p.raw, p.shape.in, i / p.shape.in, i % p.shape.in);
  const double n = static_cast<double>(quantised ? p.shape.in / kBlock + 4 : p.shape.in + 3);
  const double u = std::ldexp(p.type == WeightType::kBF16 ? 2.0 : 1.0, -24), gamma = n * u / (1 - n * u);
  for (std::int64_t r = 0; r < p.shape.rows; ++r) {
    const std::vector<double> a = effective_activations(p.type, p.x.data() + r * p.ldx, p.shape.in);
    for (std::int64_t o = 0; o < p.shape.out; ++o) {
      double sum = p.bias[static_cast<std::size_t>(o)], size = std::fabs(sum), block = 0;
      for (std::int64_t i = 0; i < p.shape.in; ++i) {
        const auto at = static_cast<std::size_t>(o * p.shape.in + i);
        const double term = a[static_cast<std::size_t>(i)] * w[at];
        sum += term;
        block += quantised ? term : std::fabs(term);
        if (!quantised || i % kBlock == kBlock - 1) size += std::fabs(std::exchange(block, 0.0));
      }
      ASSERT_NEAR(y[static_cast<std::size_t>(r * p.shape.out + o)], sum, gamma * size + 1e-37)
          << p.describe() << " at row " << r << " output " << o;
    }
  }
}

TEST(Matmul, EveryInstructionSetRunsItsOwnCode) {
  const Kernels& portable = kernels_for(Isa::kPortable);
  for (Isa isa : supported_isas()) {
    const Kernels& k = kernels_for(isa);
    EXPECT_EQ(k.isa, isa);
    EXPECT_EQ(k.name, base::isa_name(isa));
    EXPECT_EQ(k.matmul == portable.matmul, isa == Isa::kPortable);
    EXPECT_EQ(k.prepare == portable.prepare, isa == Isa::kPortable);
  }
}

// Else one way of multiplying bfloat16 would be tested twice.
TEST(Matmul, PairsOfBfloatAndFloatsRoundDifferently) {
  if (base::best_isa() < Isa::kAvx512) GTEST_SKIP() << "this CPU has no AVX-512";
  const Kernels& other = all_cases().back().k;
  EXPECT_NE(other.matmul, kernels_for(Isa::kAvx512).matmul);
  const Shape s{3, 40, 544};
  EXPECT_NE(Product(other, WeightType::kBF16, s).run(), Product(kernels_for(Isa::kAvx512), WeightType::kBF16, s).run());
}

TEST(Matmul, MatchesDoubleWithinTheDerivedBound) {
  const Shape shapes[] = {{1, 1, 1},    {1, 32, 32},  {2, 33, 31},  {5, 16, 64},   {6, 47, 96},   {7, 31, 100},
                          {13, 65, 64}, {14, 64, 33}, {16, 33, 96}, {29, 40, 544}, {49, 36, 160}, {200, 35, 1536}};
  for (const auto& [k, type] : all_cases()) {
    for (Shape s : shapes) {
      s.in = padded_in(type, s.in);
      check(Product(k, type, s));
      if (HasFatalFailure()) return;
    }
  }
}

// The bound against activations that were never quantised: half a step (amax / 254, or up to twice that where steps are
// powers of two) per element, times |w|.
TEST(Matmul, QuantisingActivationsCostsAtMostHalfAStep) {
  for (Isa isa : supported_isas()) {
    for (WeightType type : kAllWeightTypes) {
      if (!is_quantised(type)) continue;
      const Product p(kernels_for(isa), type, {3, 50, 256});
      const double half_step = (1 + std::ldexp(1.0, -activation_kind(type).step_bits)) / 254;
      const std::vector<float> y = p.run();
      for (std::int64_t r = 0; r < 3; ++r) {
        for (std::int64_t o = 0; o < 50; ++o) {
          double sum = p.bias[static_cast<std::size_t>(o)], bound = 1e-5 * std::fabs(sum);
          for (std::int64_t b = 0; b < 256; b += kBlock) {
            const float* x = p.x.data() + r * p.ldx + b;
            double amax = 0, weights = 0;
            for (std::int64_t j = 0; j < kBlock; ++j) {
              const double w = raw_weight(type, p.raw, 256, o, b + j);
              sum += w * x[j];
              weights += std::fabs(w);
              amax = std::max<double>(amax, std::fabs(x[j]));
            }
            bound +=
                amax * half_step * (1 + 1e-3) * weights;  // 1e-3: rounding of the scale, of x / scale and of the sums
          }
          ASSERT_NEAR(y[static_cast<std::size_t>(r * 50 + o)], sum, bound) << p.describe();
        }
      }
    }
  }
}

TEST(Matmul, ARowIsTheSameAloneAndInAnyBatch) {
  constexpr std::int64_t kOut = 70;
  for (const auto& [k, type] : all_cases()) {
    const std::int64_t kIn = padded_in(type, 288);
    for (std::int64_t rows : {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 31, 32, 33, 47, 50}) {
      const Product all(k, type, {rows, kOut, kIn});
      const std::vector<float> y = all.run();
      for (std::int64_t r = 0; r < rows; ++r) {
        Product one(k, type, {1, kOut, kIn});
        std::copy_n(all.x.data() + r * all.ldx, kIn, one.x.data());
        one.prepare();
        const std::vector<float> alone = one.run();
        ASSERT_EQ(std::memcmp(alone.data(), y.data() + r * kOut, kOut * 4), 0) << all.describe() << " row " << r;
      }
    }
  }
}

// Scales of weights and of rows that are zero, tiny and huge, and rows with what is no number, in the last block too:
// what is added to exponents where there are many rows is multiplied where there are few.
TEST(Matmul, ScalesOfAnySizeAreTheSameAloneAndInAnyBatch) {
  constexpr std::int64_t kOut = 70, kIn = 320, kRows = 40;
  const float sizes[] = {0, 1e-38f, 1e-30f, 1e-19f, -1e-12f, 1, 1e12f, -1e19f, 1e30f};
  for (const auto& [k, type] : all_cases()) {
    if (type != WeightType::kGroups4 && type != WeightType::kMXFP4 && type != WeightType::kQ4_0) continue;
    Product all(k, type, {kRows, kOut, kIn});
    const std::size_t block = static_cast<std::size_t>(raw_row_bytes(type, kBlock));
    for (std::size_t b = 0; b * block < all.raw.size(); b += b % 7 == 0 ? 1 : 3) {
      std::uint8_t* const at = all.raw.data() + b * block;
      const float size = sizes[b % std::size(sizes)];
      if (type == WeightType::kGroups4) std::memcpy(at, &size, sizeof(size));
      if (type == WeightType::kMXFP4) at[0] = static_cast<std::uint8_t>(b * 37);
      if (type == WeightType::kQ4_0) at[0] = at[1] = static_cast<std::uint8_t>(b % 3);
    }
    k.pack(type, all.raw.data(), kOut, kIn, all.packed.data());
    for (std::int64_t r = 0; r < kRows; ++r) {
      float* const row = all.x.data() + r * all.ldx;
      for (std::int64_t i = r % 3 * kBlock; i < kIn; ++i) row[i] *= sizes[static_cast<std::size_t>(r + i / kBlock) % 9];
      if (r % 13 == 5) row[kIn - 1] = std::nanf("");
    }
    all.prepare();
    const std::vector<float> y = all.run();
    for (std::int64_t r = 0; r < kRows; ++r) {
      Product one(k, type, {1, kOut, kIn});
      one.raw = all.raw;
      k.pack(type, one.raw.data(), kOut, kIn, one.packed.data());
      std::copy_n(all.x.data() + r * all.ldx, kIn, one.x.data());
      one.prepare();
      const std::vector<float> alone = one.run();
      for (std::int64_t o = 0; o < kOut; ++o) {
        const float a = alone[static_cast<std::size_t>(o)], b = y[static_cast<std::size_t>(r * kOut + o)];
        ASSERT_TRUE(std::isnan(a) ? std::isnan(b) : std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b))
            << all.describe() << " row " << r << " output " << o << ": " << a << " and " << b;
      }
    }
  }
}

TEST(Matmul, TilesGiveTheBytesOfVectors) {
  if (base::best_isa() < Isa::kAmx) GTEST_SKIP() << "this CPU has no tiles";
  for (WeightType type : kAllWeightTypes) {
    if (!is_quantised(type)) continue;
    for (std::int64_t rows : {1, 7, 15, 16, 17, 32, 37, 100}) {  // tiles, parts of one, vectors
      const Shape s{rows, 70, padded_in(type, 800)};
      const std::vector<float> tiles = Product(kernels_for(Isa::kAmx), type, s).run();
      const std::vector<float> vectors = Product(kernels_for(Isa::kAvx512), type, s).run();
      ASSERT_EQ(std::memcmp(tiles.data(), vectors.data(), tiles.size() * 4), 0)
          << weight_name(type) << " rows " << rows;
    }
  }
}

TEST(Matmul, IsTheSameHoweverTheOutputsAndTheRowsToPrepareAreCut) {
  for (const auto& [k, type] : all_cases()) {
    for (std::int64_t rows : {1, 9, 17, 600}) {  // 600 rows of 1024 take more than one block of rows
      Product p(k, type, {rows, 131, 1024});
      const std::vector<float> whole = p.run();
      std::vector<char> prepared(p.prepared.size(), 'x');
      for (std::int64_t r = 0; r < rows; r += 5) {
        k.prepare(type, p.x.data(), p.ldx, rows, 1024, prepared.data(), r, std::min(rows, r + 5));
      }
      ASSERT_EQ(prepared, p.prepared) << p.describe();
      for (std::int64_t step : {k.out_granule, 3 * k.out_granule}) {
        const std::int64_t ldy = 140;
        std::vector<float> y(static_cast<std::size_t>(rows * ldy), 7.0f);
        for (std::int64_t o = 0; o < 131; o += step) {
          MatmulArgs a = p.args(y, ldy);
          a.out_begin = o;
          a.out_end = std::min<std::int64_t>(131, o + step);
          k.matmul(a);
        }
        for (std::int64_t r = 0; r < rows; ++r) {
          ASSERT_EQ(std::memcmp(y.data() + r * ldy, whole.data() + r * 131, 131 * 4), 0) << p.describe();
          for (std::int64_t o = 131; o < ldy; ++o) ASSERT_EQ(y[static_cast<std::size_t>(r * ldy + o)], 7.0f);
        }
      }
    }
  }
}

TEST(Matmul, ThreadsOnDisjointOutputsGiveTheSameBytes) {
  for (const auto& [k, type] : all_cases()) {
    const Product p(k, type, {9, 256, 512});
    const std::vector<float> whole = p.run();
    std::vector<float> y(whole.size());
    std::vector<std::thread> threads;
    for (std::int64_t o = 0; o < 256; o += 64) {
      threads.emplace_back([&, o] {
        MatmulArgs a = p.args(y, 256);
        a.out_begin = o;
        a.out_end = o + 64;
        k.matmul(a);
      });
    }
    for (std::thread& t : threads) t.join();
    ASSERT_EQ(std::memcmp(y.data(), whole.data(), y.size() * 4), 0) << p.describe();
  }
}

TEST(Matmul, WithoutBiasAddsNothing) {
  for (Isa isa : supported_isas()) {
    Product p(kernels_for(isa), WeightType::kF32, {2, 40, 64});
    std::fill(p.bias.begin(), p.bias.end(), 0.0f);
    const std::vector<float> zero_bias = p.run();
    std::vector<float> y(80);
    MatmulArgs a = p.args(y, 40);
    a.bias = nullptr;
    p.k.matmul(a);
    EXPECT_EQ(y, zero_bias);
  }
}

TEST(Matmul, UnpackedRowsAreTheWeightsExactly) {
  for (const auto& [k, type] : all_cases()) {
    for (Shape s : {Shape{1, 1, 32}, Shape{1, 77, 96}, Shape{1, 32, 45}, Shape{1, 40, 700}}) {
      s.in = padded_in(type, s.in);
      const Product p(k, type, s);
      std::vector<float> y(static_cast<std::size_t>(s.in));
      for (std::int64_t o = 0; o < s.out; ++o) {
        p.k.unpack_row(type, p.packed.data(), s.out, s.in, o, y.data());
        for (std::int64_t i = 0; i < s.in; ++i) {
          ASSERT_EQ(y[static_cast<std::size_t>(i)], static_cast<float>(raw_weight(type, p.raw, s.in, o, i)))
              << p.describe() << " row " << o << " element " << i;
        }
      }
    }
  }
}

bool anchors(Isa isa) { return isa == Isa::kAvx512 || isa == Isa::kAmx; }

// As kUnitSteps says it, of eight anchored blocks.
void join_sums(ActivationBlock* unit) {
  std::uint32_t largest = 0;  // as of all numbers that are not negative, bits grow with them
  for (int b = 0; b < kUnitBlocks; ++b) largest = std::max(largest, std::bit_cast<std::uint32_t>(unit[b].d));
  const float begin = std::bit_cast<float>(largest) / kUnitSteps, scale = begin / anchor_of(1);
  for (int b = 0; b < kUnitBlocks; b += 2) {
    const auto integer = [&](float sum) {
      return scale > 0 ? static_cast<std::uint32_t>(std::lrint(sum / scale)) & 0xffffu : 0;
    };
    unit[b].sum[1] = std::bit_cast<float>(integer(unit[b].sum[0]) | integer(unit[b + 1].sum[0]) << 16);
    unit[b + 1].sum[1] = begin;
  }
}

// One row is stored as its blocks one after the other on every instruction set, so bytes can be compared.
TEST(Matmul, ActivationsAreTheSameBytes) {
  std::vector<float> x = noise(32 * 27, 21);
  for (int j = 32; j < 64; ++j) x[static_cast<std::size_t>(j)] = 0;
  for (int j = 64; j < 96; ++j) x[static_cast<std::size_t>(j)] *= 1e-31f;
  for (int j = 96; j < 128; ++j) x[static_cast<std::size_t>(j)] *= 1e37f;  // no number where scales are powers of two
  for (int j = 128; j < 160; ++j) x[static_cast<std::size_t>(j)] = static_cast<float>(j - 144) * 0.5f;  // ties
  x[144] = 63.5f;
  x[170] = std::numeric_limits<float>::infinity();
  x[200] = std::nanf("");
  // Units of eight blocks: the first is not finite, the second has blocks of very different sizes, the third is zeros.
  for (int j = 256; j < 512; ++j) x[static_cast<std::size_t>(j)] *= std::ldexp(1.0f, j / 32 * 5 % 23 - 11);
  for (int j = 512; j < 768; ++j) x[static_cast<std::size_t>(j)] = 0;
  const auto blocks = static_cast<std::int64_t>(x.size()) / kBlock;
  for (Isa isa : supported_isas()) {
    const Kernels& k = kernels_for(isa);
    for (WeightType type : {WeightType::kQ8_0, WeightType::kQ4_0, WeightType::kQ4_K, WeightType::kQ6_K,
                            WeightType::kQ2_K, WeightType::kQ5_K, WeightType::kIQ4_XS}) {
      const ActivationKind kind = activation_kind(type);
      std::vector<ActivationBlock> got(static_cast<std::size_t>(blocks)), want(got.size());
      ASSERT_EQ(k.prepared_bytes(type, 1, blocks * kBlock), got.size() * sizeof(ActivationBlock));
      k.prepare(type, x.data(), blocks * kBlock, 1, blocks * kBlock, got.data(), 0, 1);
      for (std::int64_t b = 0; b < blocks; ++b) {
        quantise_activations(x.data() + b * kBlock, kind, want[static_cast<std::size_t>(b)]);
      }
      if (anchors(isa)) {
        for (ActivationBlock& block : want) anchor(kind, block);
        if (kind.has_units())
          for (std::size_t b = 0; b + kUnitBlocks <= want.size(); b += kUnitBlocks) join_sums(&want[b]);
      }
      for (std::size_t b = 0; b < want.size(); ++b)
        ASSERT_EQ(std::memcmp(&want[b], &got[b], sizeof(want[b])), 0) << k.name << " block " << b;
    }
  }
}

TEST(Matmul, NotANumberReachesTheOutput) {
  for (const auto& [k, type] : all_cases()) {
    for (float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      for (std::int64_t rows : {8, 20}) {
        Product p(k, type, {rows, 40, padded_in(type, 64)});
        p.x[static_cast<std::size_t>(5 * p.ldx + 63)] = bad;
        p.prepare();
        const std::vector<float> y = p.run();
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t o = 0; o < 40; ++o) {
            ASSERT_EQ(std::isfinite(y[static_cast<std::size_t>(r * 40 + o)]), r != 5) << p.describe() << " row " << r;
          }
        }
      }
    }
  }
}

TEST(ScalarFormats, EveryHalfIsDecodedAsItsDefinitionSays) {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const int exponent = static_cast<int>(h >> 10 & 31), mantissa = static_cast<int>(h & 1023);
    const float got = half_to_float(static_cast<std::uint16_t>(h));
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(got), mantissa != 0) << h;
      ASSERT_EQ(std::isinf(got), mantissa == 0) << h;
    } else {
      const double size = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      ASSERT_EQ(got, static_cast<float>((h & 0x8000u) != 0 ? -size : size)) << h;
    }
    ASSERT_EQ(std::signbit(got), (h & 0x8000u) != 0) << h;
  }
}

TEST(ScalarFormats, BfloatRoundsToNearestEven) {
  EXPECT_EQ(float_to_bfloat(1.0f), 0x3f80);
  EXPECT_EQ(float_to_bfloat(1.0f + 0x1p-8f), 0x3f80);             // tie, to even below
  EXPECT_EQ(float_to_bfloat(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81);  // above the tie
  EXPECT_EQ(float_to_bfloat(1.0f + 3 * 0x1p-8f), 0x3f82);         // tie, to even above
  EXPECT_EQ(float_to_bfloat(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(float_to_bfloat(-std::numeric_limits<float>::infinity()), 0xff80);
  EXPECT_TRUE(std::isnan(round_to_bfloat(std::bit_cast<float>(0x7f800001u))));
  EXPECT_TRUE(std::isnan(round_to_bfloat(std::bit_cast<float>(0x7fffffffu))));
}

}  // namespace
}  // namespace qw::kernels
