// Attention of every instruction set against a reference in double that also computes how far rounding may carry each
// result: (k + 2) u sum|a b| for a dot product of k terms, relative errors of exp and of its argument for P.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>

#include "kernels/internal/cache_element.h"
#include "kernels/internal/exp.h"
#include "kernels/internal/fill.h"
#include "kernels/internal/test_support.h"

namespace qw::kernels {
namespace {

using namespace test;
using Doubles = std::vector<double>;

// A value and the bound of its float counterpart's error.
struct Bounded {
  Doubles value, bound;
  explicit Bounded(std::int64_t n) : value(static_cast<std::size_t>(n)), bound(static_cast<std::size_t>(n)) {}
};

struct Shape {
  std::int64_t tokens, group, dim;
  std::int64_t window = 0;
  std::int64_t first(std::int64_t t) const { return window > 0 ? std::max<std::int64_t>(0, t + 1 - window) : 0; }
};

// One sequence, one kv head; q and o are [T, group, dim], k and v [T, dim], all contiguous here.
struct Problem {
  Shape shape;
  double scale;
  Doubles q, k, v, d_o;
  double score_unit = 0, weight_unit = 0;  // what rounding operands of both products adds, relative to each term
  double query_unit = 0;                   // what rounding queries adds, relative to the largest component
  GemmPrecision precision = GemmPrecision::kF32;
  double factor_unit = 0;                  // of backward: what rounding both factors adds, relative to each term
};

struct Reference {
  Bounded o, lse, dq, dk, dv;
  explicit Reference(Shape s)
      : o(s.tokens * s.group * s.dim), lse(s.tokens * s.group), dq(s.tokens * s.group * s.dim), dk(s.tokens * s.dim),
        dv(s.tokens * s.dim) {}
};

struct Row {
  Doubles s, s_error, p, p_error;  // p_error is relative
};

double dot(const double* a, const double* b, std::int64_t n) { return std::inner_product(a, a + n, b, 0.0); }

double dot_magnitude(const double* a, const double* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += std::fabs(a[i] * b[i]);
  return sum;
}

void forward_row(const Problem& pr, std::int64_t g, std::int64_t t, Row& row, Reference& ref) {
  const std::int64_t d = pr.shape.dim, n = t + 1, at = (t * pr.shape.group + g) * d, first = pr.shape.first(t);
  const double* q = pr.q.data() + at;
  row = {Doubles(n), Doubles(n), Doubles(n), Doubles(n)};
  double max = -INFINITY, worst = 0, sum = 0, largest = 0;
  for (std::int64_t i = 0; i < d; ++i) largest = std::max(largest, std::fabs(q[i]));
  for (std::int64_t j = first; j < n; ++j) {
    row.s[j] = dot(q, pr.k.data() + j * d, d) * pr.scale;
    row.s_error[j] = (static_cast<double>(d + 3) * kUnit + pr.score_unit) * pr.scale * dot_magnitude(q, pr.k.data() + j * d, d);
    for (std::int64_t i = 0; i < d; ++i) row.s_error[j] += largest * pr.query_unit * pr.scale * std::fabs(pr.k[j * d + i]);
    max = std::max(max, row.s[j]);
    worst = std::max(worst, row.s_error[j]);
  }
  for (std::int64_t j = first; j < n; ++j) sum += std::exp(row.s[j] - max);
  const double lse = max + std::log(sum);
  double average = 0;
  for (std::int64_t j = first; j < n; ++j) {
    row.p[j] = std::exp(row.s[j] - lse);
    // Both ends of the exponent's difference are rounded, and so is the difference.
    row.p_error[j] = row.s_error[j] + worst + kUnit * (2 * std::fabs(row.s[j]) + 2 * std::fabs(max) + 2) + 2 * kExpRelativeError;
    average += row.p[j] * row.p_error[j];
  }
  const double tail = static_cast<double>(n + 8) * kUnit;
  ref.lse.value[g * pr.shape.tokens + t] = lse;
  const double lse_error = average + tail + 2 * kUnit * std::fabs(lse);
  ref.lse.bound[g * pr.shape.tokens + t] = lse_error;
  for (std::int64_t j = first; j < n; ++j) {
    for (std::int64_t i = 0; i < d; ++i) {
      const double term = row.p[j] * pr.v[j * d + i];
      ref.o.value[at + i] += term;
      ref.o.bound[at + i] += std::fabs(term) * (row.p_error[j] + average + 2 * tail + pr.weight_unit);
    }
    // What backward recomputes: exp(S - LSE).
    row.p_error[j] = row.s_error[j] + lse_error + kUnit * (2 * std::fabs(row.s[j]) + std::fabs(lse) + 2) + kExpRelativeError;
  }
}

void backward_row(const Problem& pr, std::int64_t g, std::int64_t t, const Row& row, Reference& ref) {
  const std::int64_t d = pr.shape.dim, at = (t * pr.shape.group + g) * d;
  const double dot_unit = static_cast<double>(d + 3) * kUnit;
  const double sum_unit = static_cast<double>(pr.shape.tokens * pr.shape.group + 4) * kUnit + pr.factor_unit;
  const double* d_o = pr.d_o.data() + at;
  const double row_dot = dot(d_o, ref.o.value.data() + at, d);
  const double row_error = dot_unit * dot_magnitude(d_o, ref.o.value.data() + at, d) + dot_magnitude(d_o, ref.o.bound.data() + at, d);
  for (std::int64_t j = pr.shape.first(t); j <= t; ++j) {
    const double* v = pr.v.data() + j * d;
    const double dp = dot(d_o, v, d);
    const double dp_error = (dot_unit + pr.factor_unit) * dot_magnitude(d_o, v, d);
    const double ds = row.p[j] * (dp - row_dot) * pr.scale;
    const double ds_error = row.p[j] * pr.scale *
                            (std::fabs(dp - row_dot) * (row.p_error[j] + 4 * kUnit) + dp_error + row_error);
    for (std::int64_t i = 0; i < d; ++i) {
      const auto accumulate = [&](Bounded& out, std::int64_t index, double a, double a_error, double b) {
        out.value[index] += a * b;
        out.bound[index] += std::fabs(b) * (a_error + sum_unit * (std::fabs(a) + a_error));
      };
      accumulate(ref.dv, j * d + i, row.p[j], row.p[j] * row.p_error[j], d_o[i]);
      accumulate(ref.dq, at + i, ds, ds_error, pr.k[j * d + i]);
      accumulate(ref.dk, j * d + i, ds, ds_error, pr.q[at + i]);
    }
  }
}

Reference reference(const Problem& pr) {
  Reference ref(pr.shape);
  Row row;
  for (std::int64_t g = 0; g < pr.shape.group; ++g) {
    for (std::int64_t t = 0; t < pr.shape.tokens; ++t) {
      forward_row(pr, g, t, row, ref);
      backward_row(pr, g, t, row, ref);
    }
  }
  return ref;
}

Doubles widen(const std::vector<float>& x) { return {x.begin(), x.end()}; }

Problem make_problem(Shape s, float spread) {
  const std::int64_t nq = s.tokens * s.group * s.dim, nk = s.tokens * s.dim;
  return {s, static_cast<float>(1 / std::sqrt(static_cast<double>(s.dim))), widen(random_values(nq, 31, spread)),
          widen(random_values(nk, 32, spread)), widen(random_values(nk, 33)), widen(random_values(nq, 34))};
}

// A problem laid out for the kernels, with gaps between the rows that must stay untouched.
struct Buffers {
  std::int64_t gap = 3, ldq, ldk;
  std::vector<float> q, k, v, o, lse, d_o, dq, dk, dv;
  std::vector<std::byte> scratch;
  const std::byte* end = nullptr;  // of what the kernels may write there
  AttentionTrainArgs args{};

  static std::vector<float> spread_rows(const Doubles& x, std::int64_t rows, std::int64_t width, std::int64_t ld) {
    std::vector<float> y(static_cast<std::size_t>(rows * ld), 77.0F);
    for (std::int64_t r = 0; r < rows; ++r) std::copy_n(x.begin() + r * width, width, y.begin() + r * ld);
    return y;
  }

  Buffers(const Kernels& kernels, const Problem& pr) {
    const auto [tokens, group, dim, window] = pr.shape;
    ldq = group * dim + gap, ldk = dim + gap;
    q = spread_rows(pr.q, tokens, group * dim, ldq), d_o = spread_rows(pr.d_o, tokens, group * dim, ldq);
    k = spread_rows(pr.k, tokens, dim, ldk), v = spread_rows(pr.v, tokens, dim, ldk);
    o.assign(q.size(), 77.0F), dq = o, dk.assign(k.size(), 77.0F), dv = dk;
    lse.assign(static_cast<std::size_t>(group * tokens), 0.0F);
    const std::size_t bytes = kernels.attention_scratch_bytes(pr.precision, tokens, dim);
    scratch.assign(bytes + 128, std::byte{0x7F});  // 0x7F7F7F7F: huge if read
    auto base = reinterpret_cast<std::uintptr_t>(scratch.data());
    void* aligned = scratch.data() + (64 - base % 64) % 64;
    args = {tokens, group, dim, static_cast<float>(pr.scale), window, q.data(), ldq, k.data(), ldk, v.data(), ldk, o.data(), ldq,
            lse.data(), d_o.data(), dq.data(), dk.data(), dv.data(), aligned, pr.precision};
    end = static_cast<std::byte*>(aligned) + bytes;
  }
};

void expect_rows(const Bounded& expected, const std::vector<float>& actual, std::int64_t width, std::int64_t ld,
                 const char* what) {
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const auto r = static_cast<std::int64_t>(i) / ld, c = static_cast<std::int64_t>(i) % ld;
    if (c >= width) {
      ASSERT_EQ(actual[i], 77.0F) << what << " wrote between rows";
      continue;
    }
    expect_within(actual[i], expected.value[r * width + c], expected.bound[r * width + c] + 1e-30, what, r * width + c);
    if (testing::Test::HasFailure()) return;
  }
}

class AttentionTest : public testing::TestWithParam<Isa> {
 protected:
  const Kernels& k_ = kernels_for(GetParam());

  void check(Shape s, float spread) {
    SCOPED_TRACE(testing::Message() << "T=" << s.tokens << " group=" << s.group << " Dh=" << s.dim << " window=" << s.window << " spread=" << spread);
    const Problem pr = make_problem(s, spread);
    const Reference ref = reference(pr);
    Buffers b(k_, pr);
    k_.attention_train_forward(b.args);
    expect_rows(ref.o, b.o, s.group * s.dim, b.ldq, "o");
    expect_rows(ref.lse, b.lse, s.tokens, s.tokens, "lse");
    k_.attention_train_backward(b.args);
    expect_rows(ref.dv, b.dv, s.dim, b.ldk, "dv");
    expect_rows(ref.dq, b.dq, s.group * s.dim, b.ldq, "dq");
    expect_rows(ref.dk, b.dk, s.dim, b.ldk, "dk");
  }
};
INSTANTIATE_TEST_SUITE_P(Isa, AttentionTest, testing::ValuesIn(supported_isas()), isa_param_name);

TEST_P(AttentionTest, TrainAgreesWithDouble) {
  for (std::int64_t tokens : {1, 7, 16, 17, 61, 64, 65, 130, 257}) check({tokens, 2, 64}, 1.0F);
}

TEST_P(AttentionTest, TrainAgreesOnEveryHeadSize) {
  for (std::int64_t dim : {1, 8, 16, 20, 32, 48, 61, 80, 96, 128, 256}) check({75, 3, dim}, 1.0F);
}

TEST_P(AttentionTest, TrainAgreesForEveryGroup) {
  for (std::int64_t group : {1, 4, 7}) check({100, group, 32}, 1.0F);
}

TEST_P(AttentionTest, TrainAgreesInAWindow) {
  for (std::int64_t window : {1, 2, 16, 63, 64, 65, 100, 200, 257, 300}) check({257, 2, 32, window}, 1.0F);
  for (std::int64_t tokens : {1, 64, 65, 130}) check({tokens, 3, 20, 40}, 1.0F);
}

TEST_P(AttentionTest, TrainAgreesWithLargeScores) { check({90, 2, 64}, 12.0F); }

// Forward loss sum(dO o O) in double as a function of all inputs, for finite differences of the reference's gradient.
double loss(const Problem& pr) {
  Reference ref(pr.shape);
  Row row;
  double sum = 0;
  for (std::int64_t g = 0; g < pr.shape.group; ++g) {
    for (std::int64_t t = 0; t < pr.shape.tokens; ++t) forward_row(pr, g, t, row, ref);
  }
  for (std::size_t i = 0; i < pr.d_o.size(); ++i) sum += pr.d_o[i] * ref.o.value[i];
  return sum;
}

TEST_P(AttentionTest, BackwardMatchesFiniteDifferences) {
  const Shape s{9, 2, 6};
  const Problem pr = make_problem(s, 1.0F);
  Buffers b(k_, pr);
  k_.attention_train_forward(b.args);
  k_.attention_train_backward(b.args);
  const auto compare = [&](Doubles Problem::*input, const std::vector<float>& actual, std::int64_t width, std::int64_t ld) {
    for (std::size_t i = 0; i < (pr.*input).size(); ++i) {
      const double step = 1e-5;
      Problem up = pr, down = pr;
      (up.*input)[i] += step, (down.*input)[i] -= step;
      const double slope = (loss(up) - loss(down)) / (2 * step);
      const auto at = static_cast<std::int64_t>(i);
      // Differences: step^2 and cancellation, under 1e-8; kernel: some hundred roundings of terms of order one.
      expect_within(actual[at / width * ld + at % width], slope, 1e-5, "slope", at);
    }
  };
  compare(&Problem::q, b.dq, s.group * s.dim, b.ldq);
  compare(&Problem::k, b.dk, s.dim, b.ldk);
  compare(&Problem::v, b.dv, s.dim, b.ldk);
}

TEST_P(AttentionTest, TrainRowsDoNotDependOnLaterTokens) {
  const Problem whole = make_problem({150, 2, 64}, 1.0F);
  Problem part = whole;
  part.shape.tokens = 83;
  Buffers a(k_, whole), b(k_, part);
  k_.attention_train_forward(a.args);
  k_.attention_train_forward(b.args);
  EXPECT_EQ(std::memcmp(a.o.data(), b.o.data(), sizeof(float) * static_cast<std::size_t>(83 * a.ldq)), 0);
}

// Pairs of bfloat16 in training, also where they do not pay (base::bfloat_dots_pay).
TEST(PairTrainingTest, AgreesWithDouble) {
  if (base::best_isa() < Isa::kAvx512) GTEST_SKIP() << "no pairs of bfloat16";
#if defined(__x86_64__)
  Kernels k = kernels_for(Isa::kAvx512);
  avx512::fill_attention(k, true);
  // Of every product both factors are rounded to 8 bits.
  constexpr double kRounded = 0x1.01p-7;
  std::vector<Shape> shapes;
  for (const std::int64_t tokens : {1, 2, 7, 33, 61, 64, 65, 130, 257}) shapes.push_back({tokens, 2, 64});
  for (const std::int64_t dim : {32, 96, 128, 160, 256}) shapes.push_back({75, 3, dim});
  for (const std::int64_t window : {1, 2, 63, 64, 65, 100, 200, 257, 300}) shapes.push_back({257, 2, 32, window});
  for (const Shape& s : shapes) {
    SCOPED_TRACE(testing::Message() << "T=" << s.tokens << " group=" << s.group << " Dh=" << s.dim << " window=" << s.window);
    Problem pr = make_problem(s, 1.0F);
    pr.precision = GemmPrecision::kBF16;
    pr.score_unit = pr.weight_unit = pr.factor_unit = kRounded;
    const Reference ref = reference(pr);
    Buffers b(k, pr);
    k.attention_train_forward(b.args);
    expect_rows(ref.o, b.o, s.group * s.dim, b.ldq, "o");
    expect_rows(ref.lse, b.lse, s.tokens, s.tokens, "lse");
    k.attention_train_backward(b.args);
    expect_rows(ref.dv, b.dv, s.dim, b.ldk, "dv");
    expect_rows(ref.dq, b.dq, s.group * s.dim, b.ldq, "dq");
    expect_rows(ref.dk, b.dk, s.dim, b.ldk, "dk");
    ASSERT_EQ(*b.end, std::byte{0x7F}) << "wrote behind the scratch";
    if (testing::Test::HasFailure()) return;
  }
#endif
}

TEST(PairTrainingTest, RowsDoNotDependOnLaterTokens) {
  if (base::best_isa() < Isa::kAvx512) GTEST_SKIP() << "no pairs of bfloat16";
#if defined(__x86_64__)
  Kernels k = kernels_for(Isa::kAvx512);
  avx512::fill_attention(k, true);
  Problem whole = make_problem({150, 2, 64}, 1.0F);
  whole.precision = GemmPrecision::kBF16;
  Problem part = whole, floats = whole;
  part.shape.tokens = 83;
  floats.precision = GemmPrecision::kF32;
  Buffers a(k, whole), b(k, part), c(k, floats);
  for (Buffers* x : {&a, &b, &c}) k.attention_train_forward(x->args);
  EXPECT_EQ(std::memcmp(a.o.data(), b.o.data(), sizeof(float) * static_cast<std::size_t>(83 * a.ldq)), 0);
  EXPECT_NE(a.o, c.o);  // another precision is another way
#endif
}

// ---- paged cache --------------------------------------------------------------------------------------------------------

TEST(CacheElementTest, HalfRoundsToTheNearest) {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const float x = half_to_float(static_cast<std::uint16_t>(h));
    if (x == x) {
      ASSERT_EQ(float_to_half(x), h);
    } else {
      ASSERT_TRUE(std::isnan(half_to_float(float_to_half(x))));
    }
    if (h >= 0x7C00) continue;
    // Between a half and its upper neighbour: below the middle down, above it up, on it to the even one.
    const double low = x, high = h == 0x7BFF ? 65536.0 : half_to_float(static_cast<std::uint16_t>(h + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    ASSERT_EQ(float_to_half(middle), h + (h & 1U));
    ASSERT_EQ(float_to_half(std::nextafter(middle, 0.0F)), h);
    ASSERT_EQ(float_to_half(-std::nextafter(middle, 1e9F)), (h + 1) | 0x8000U);
  }
  EXPECT_EQ(float_to_half(1e20F), 0x7C00);
  EXPECT_EQ(float_to_half(-INFINITY), 0xFC00);
}

// A pool full of NaN in which one sequence owns scattered blocks.
struct Cache {
  CacheType type;
  std::int64_t kv_heads, dim, block_tokens, n_keys, window = 0;
  std::vector<std::int32_t> blocks;
  std::vector<std::byte> k, v;
  Doubles k_values, v_values;  // [n_keys, kv_heads, dim], as the type rounds them

  Cache(const Kernels& kernels, CacheType t, std::int64_t heads, std::int64_t d, std::int64_t per_block, std::int64_t keys, float spread)
      : type(t), kv_heads(heads), dim(d), block_tokens(per_block), n_keys(keys) {
    const auto count = (keys + per_block - 1) / per_block;
    blocks.resize(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) blocks[i] = static_cast<std::int32_t>((count - i) * 2);
    const auto bytes = static_cast<std::size_t>(cache_bytes(t, (count * 2 + 1) * heads * per_block * d));
    k.assign(bytes, std::byte{0xFF}), v.assign(bytes, std::byte{0xFF});
    for (std::int64_t pos = 0; pos < keys; ++pos) {
      const auto seed = static_cast<std::uint32_t>(pos) * 2;
      write(kernels, CachePart::kKeys, pos, random_values(heads * d, 100 + seed, spread), &k_values);
      write(kernels, CachePart::kValues, pos, random_values(heads * d, 101 + seed), &v_values);
    }
  }
  void write(const Kernels& kernels, CachePart part, std::int64_t pos, const std::vector<float>& x, Doubles* rounded = nullptr) {
    std::vector<std::byte>& pool = part == CachePart::kKeys ? k : v;
    kernels.cache_write(type, part, x.data(), kv_heads, dim, block_tokens, blocks[pos / block_tokens], pos % block_tokens, pool.data());
    if (rounded == nullptr) return;
    std::vector<std::byte> row(static_cast<std::size_t>(cache_bytes(type, kv_heads * dim)));
    cache_store(type, row.data(), 0, x.data(), kv_heads * dim);
    for (std::int64_t i = 0; i < kv_heads * dim; ++i) rounded->push_back(cache_load(type, row.data(), i));
  }
  Doubles head(const Doubles& values, std::int64_t head) const {
    Doubles x;
    for (std::int64_t pos = 0; pos < n_keys; ++pos)
      for (std::int64_t i = 0; i < dim; ++i) x.push_back(values[(pos * kv_heads + head) * dim + i]);
    return x;
  }
  AttentionDecodeArgs args(std::int64_t group, const float* q, float* o) const {
    return {type, kv_heads * group, kv_heads, dim, static_cast<float>(1 / std::sqrt(static_cast<double>(dim))), window, q, o,
            n_keys, block_tokens, blocks.data(), k.data(), v.data(), 0, kv_heads};
  }
};

constexpr std::array kPlainTypes = {CacheType::kF32, CacheType::kF16, CacheType::kBF16};
constexpr std::array kScaledTypes = {CacheType::kQ8, CacheType::kQ4};
constexpr std::array kCacheTypes = {CacheType::kF32, CacheType::kF16, CacheType::kBF16, CacheType::kQ8, CacheType::kQ4};

// Every table this CPU runs; and that of AVX-512 with the way over a cache of bfloat16 that it does not choose here.
struct Way {
  Isa isa;
  bool other;
};
std::vector<Way> all_ways() {
  std::vector<Way> ways;
  for (const Isa isa : supported_isas()) ways.push_back({isa, false});
#if defined(__x86_64__)
  if (base::best_isa() >= Isa::kAvx512) ways.push_back({Isa::kAvx512, true});
#endif
  return ways;
}
const Kernels& table_of(const Way& way) {
  if (!way.other) return kernels_for(way.isa);
  static const Kernels other = [] {
    Kernels k = kernels_for(Isa::kAvx512);
#if defined(__x86_64__)
    avx512::fill_attention(k, !base::bfloat_dots_pay());
#endif
    return k;
  }();
  return other;
}
std::string way_name(const testing::TestParamInfo<Way>& info) {
  return std::string(base::isa_name(info.param.isa)) + (info.param.other ? "_the_other_way" : "");
}

class CachedAttentionTest : public testing::TestWithParam<Way> {
 protected:
  const Kernels& k_ = table_of(GetParam());

  // Of these, those that the way is about.
  template <std::size_t n>
  std::vector<CacheType> types(const std::array<CacheType, n>& all) const {
    std::vector<CacheType> some;
    for (const CacheType type : all)
      if (!GetParam().other || type == CacheType::kBF16) some.push_back(type);
    return some;
  }
};
INSTANTIATE_TEST_SUITE_P(Isa, CachedAttentionTest, testing::ValuesIn(all_ways()), way_name);

// Whether a table multiplies pairs of bfloat16 in vectors: see pair_attention.inc.
bool in_pairs(const Kernels& k, const Cache& cache) {
  const bool chosen = k.isa == Isa::kAvx512 && (&k == &kernels_for(Isa::kAvx512)) == base::bfloat_dots_pay();
  return chosen && cache.type == CacheType::kBF16 && cache.dim % 16 == 0 && cache.block_tokens % 32 == 0;
}

// What products of bfloat16 round, relative to a term: of scores, the query (and the opened key); of outputs, the
// probability (and the opened value). Tiles keep 16 bits of both for kF16 and leave out the product of what rounding left twice.
std::pair<double, double> rounded_operands(const Kernels& k, const Cache& cache) {
  const CacheType type = cache.type;
  if (in_pairs(k, cache)) return {0x1p-9, 0x1p-9};
  if (k.isa != Isa::kAmx || type == CacheType::kF32) return {0, 0};
  if (type == CacheType::kF16) return {0x1p-16, 0x1p-16};
  if (type == CacheType::kBF16) return {0x1p-9, 0x1p-9};
  return {0x1.1p-8, 0x1.1p-8};
}

// Vectors round queries to 16 bits, and sum in integers, where keys have scales: half a step of 1 / 32512.
double rounded_query(Isa isa, CacheType type) {
  return has_cache_scales(type) && isa != Isa::kPortable && isa != Isa::kAmx ? 0.51 / 32512 : 0;
}

void check_decode(const Kernels& kernels, const Cache& cache, std::int64_t group) {
  SCOPED_TRACE(testing::Message() << "type " << static_cast<int>(cache.type) << " Dh=" << cache.dim << " keys=" << cache.n_keys
                                  << " group=" << group);
  const std::int64_t n = cache.kv_heads * group * cache.dim;
  const auto q = random_values(n, 41, 1.5F);
  std::vector<float> o(static_cast<std::size_t>(n));
  kernels.attention_decode(cache.args(group, q.data(), o.data()));
  for (std::int64_t h = 0; h < cache.kv_heads; ++h) {
    // The last row of a causal problem whose other rows do not matter.
    const auto [score_unit, weight_unit] = rounded_operands(kernels, cache);
    Problem pr{{cache.n_keys, group, cache.dim, cache.window}, cache.args(group, nullptr, nullptr).scale, {}, cache.head(cache.k_values, h),
               cache.head(cache.v_values, h), {}, score_unit, weight_unit, rounded_query(kernels.isa, cache.type)};
    const std::int64_t last = (cache.n_keys - 1) * group * cache.dim, width = group * cache.dim;
    pr.q.resize(static_cast<std::size_t>(last + width));
    std::copy_n(q.begin() + h * width, width, pr.q.begin() + last);
    Reference ref(pr.shape);
    Row row;
    for (std::int64_t g = 0; g < group; ++g) forward_row(pr, g, cache.n_keys - 1, row, ref);
    for (std::int64_t i = 0; i < width; ++i) {
      expect_within(o[h * width + i], ref.o.value[last + i], ref.o.bound[last + i], "o", i);
    }
  }
}

TEST_P(CachedAttentionTest, DecodeAgreesWithDouble) {
  for (CacheType type : types(kPlainTypes)) {
    for (std::int64_t keys : {1, 5, 16, 17, 63, 64, 65, 200, 513}) {
      check_decode(k_, Cache(k_, type, 2, 64, 16, keys, 1.5F), 2);
    }
    for (std::int64_t dim : {1, 8, 20, 48, 61, 80, 128, 256}) check_decode(k_, Cache(k_, type, 2, dim, 32, 70, 1.5F), 3);
    for (std::int64_t group : {1, 7, 16, 70}) check_decode(k_, Cache(k_, type, 1, 32, 128, 150, 1.5F), group);
    check_decode(k_, Cache(k_, type, 1, 64, 1, 100, 20.0F), 2);
    for (std::int64_t per_block : {2, 4, 8, 64, 128}) check_decode(k_, Cache(k_, type, 2, 48, per_block, 135, 1.5F), 2);
  }
}

TEST_P(CachedAttentionTest, DecodeAgreesWithScales) {
  for (CacheType type : types(kScaledTypes)) {
    for (std::int64_t keys : {1, 31, 32, 33, 127, 129, 500}) check_decode(k_, Cache(k_, type, 2, 64, 32, keys, 1.5F), 2);
    for (std::int64_t dim : {32, 96, 128, 256}) check_decode(k_, Cache(k_, type, 2, dim, 64, 70, 1.5F), 3);
  }
}

// By less than what a row of sums is brought to a new measure for, by more, and downwards, every 64 keys.
TEST_P(CachedAttentionTest, DecodeAgreesWhileScoresRise) {
  const std::int64_t dim = 64;
  const auto q = random_values(dim, 41, 1.5F);  // that of check_decode
  double square = 0;
  for (const float x : q) square += static_cast<double>(x) * x;
  for (CacheType type : types(kPlainTypes)) {
    for (const float step : {0.7F, 4.0F, 9.0F, -4.0F}) {
      Cache cache(k_, type, 1, dim, 32, 640, 1.0F);
      const double unit = std::sqrt(static_cast<double>(dim)) / square;
      cache.k_values.clear();
      for (std::int64_t pos = 0; pos < cache.n_keys; ++pos) {
        auto key = random_values(dim, 100 + static_cast<std::uint32_t>(pos) * 2, 1.0F);
        for (std::int64_t i = 0; i < dim; ++i)
          key[i] += static_cast<float>(step * static_cast<double>(pos / 64) * unit * static_cast<double>(q[i]));
        cache.write(k_, CachePart::kKeys, pos, key, &cache.k_values);
      }
      check_decode(k_, cache, 1);
    }
  }
}

TEST_P(CachedAttentionTest, DecodeAgreesOverSegments) {
  for (CacheType type : types(kCacheTypes)) {
    for (std::int64_t keys : {1024, 1025, 2500}) check_decode(k_, Cache(k_, type, 1, 32, 32, keys, 1.5F), 3);
  }
  for (CacheType type : types(std::array{CacheType::kF16, CacheType::kBF16})) {
    Cache cache(k_, type, 1, 32, 32, 3000, 1.5F);
    for (std::int64_t window : {900, 952, 1976, 2500}) {
      cache.window = window;
      check_decode(k_, cache, 2);
    }
  }
}

TEST_P(CachedAttentionTest, SegmentsInAnyOrderAreDecodeBitForBit) {
  for (CacheType type : types(kCacheTypes)) {
    for (auto [keys, window, group] : {std::array<std::int64_t, 3>{5, 0, 2}, {1024, 0, 1}, {3500, 0, 3}, {3500, 2000, 70}, {2050, 2, 4}}) {
      Cache cache(k_, type, 3, 64, 32, keys, 1.5F);
      cache.window = window;
      const std::int64_t n = 3 * group * 64;
      const auto q = random_values(n, 46, 1.5F);
      std::vector<float> whole(static_cast<std::size_t>(n)), parts(whole.size());
      k_.attention_decode(cache.args(group, q.data(), whole.data()));
      const AttentionSegments segments = attention_segments(keys, window);
      for (const std::int64_t head : {0, 1}) {  // one kv head, then the two others together
        auto args = cache.args(group, q.data(), parts.data());
        args.head_begin = head, args.head_end = 2 * head + 1;
        const std::int64_t size = k_.attention_partial_floats(args);
        std::vector<float> partials(static_cast<std::size_t>((segments.end - segments.begin) * size), NAN);
        for (std::int64_t s = segments.end; s-- > segments.begin;)
          k_.attention_segment(args, s, partials.data() + (s - segments.begin) * size);
        k_.attention_join(args, partials.data());
      }
      EXPECT_EQ(whole, parts) << "type " << static_cast<int>(type) << " keys " << keys << " window " << window;
    }
  }
}

TEST_P(CachedAttentionTest, DecodeAgreesInAWindow) {
  for (std::int64_t window : {1, 7, 16, 64, 65, 100, 199, 200, 500}) {
    for (std::int64_t keys : {1, 17, 64, 65, 129, 200}) {
      for (CacheType type : types(std::array{CacheType::kF16, CacheType::kBF16})) {
        const bool pairs = type == CacheType::kBF16;  // only of whole vectors and whole strips
        Cache cache(k_, type, 2, pairs ? 48 : 40, pairs ? 32 : 16, keys, 1.5F);
        cache.window = window;
        check_decode(k_, cache, 2);
      }
    }
  }
}

// What is out of sight is not even multiplied by zero: before the window, and after a row of a prompt.
TEST_P(CachedAttentionTest, KeysOutOfSightAreNotMet) {
  for (CacheType type : types(kCacheTypes)) {
    Cache cache(k_, type, 1, 64, 32, 150, 1.0F);
    cache.window = 70;
    const auto q = random_values(3 * 64, 45);
    std::vector<float> o(q.size()), again(q.size());
    cache.n_keys = 148;
    k_.attention_prefill({cache.args(1, q.data(), o.data()), 3, 64, 64});
    const std::vector<float> poison(64, NAN);
    const auto poison_up_to = [&](std::int64_t end) {
      for (std::int64_t pos = 0; pos < end; ++pos) {
        cache.write(k_, CachePart::kKeys, pos, poison);
        cache.write(k_, CachePart::kValues, pos, poison);
      }
    };
    poison_up_to(148 - 70);
    k_.attention_prefill({cache.args(1, q.data(), again.data()), 3, 64, 64});
    EXPECT_EQ(o, again);
    poison_up_to(150 - 70);  // the first two rows see some of these
    cache.write(k_, CachePart::kKeys, 149, poison);
    cache.write(k_, CachePart::kValues, 149, poison);
    k_.attention_prefill({cache.args(1, q.data(), again.data()), 3, 64, 64});
    for (std::int64_t r = 0; r < 3; ++r) EXPECT_TRUE(std::isnan(again[r * 64])) << r;
    cache.window = 20;
    cache.n_keys = 148;
    k_.attention_prefill({cache.args(1, q.data(), again.data()), 3, 64, 64});
    for (std::int64_t r = 0; r < 3; ++r) {
      EXPECT_EQ(std::isnan(again[r * 64]), r == 2) << r;
      std::vector<float> one(64);
      cache.n_keys = 148 + r;
      k_.attention_decode(cache.args(1, q.data() + r * 64, one.data()));
      if (r < 2) {
        EXPECT_EQ(std::memcmp(one.data(), again.data() + r * 64, 64 * sizeof(float)), 0);
      }
    }
  }
}

TEST_P(CachedAttentionTest, DecodeComputesOnlyItsHeadsAndTheSameBits) {
  const Cache cache(k_, CacheType::kBF16, 4, 64, 16, 77, 1.0F);
  const auto q = random_values(4 * 2 * 64, 42);
  std::vector<float> whole(q.size()), parts(q.size(), 77.0F);
  k_.attention_decode(cache.args(2, q.data(), whole.data()));
  auto args = cache.args(2, q.data(), parts.data());
  args.head_begin = 1, args.head_end = 3;
  k_.attention_decode(args);
  EXPECT_EQ(std::count(parts.begin(), parts.end(), 77.0F), 4 * 64);
  args.head_begin = 0, args.head_end = 1;
  k_.attention_decode(args);
  args.head_begin = 3, args.head_end = 4;
  k_.attention_decode(args);
  EXPECT_EQ(whole, parts);
}

// Every row of a prompt is bit for bit the decoding of that row alone.
void check_rows(const Kernels& kernels, Cache& cache, std::int64_t group, std::int64_t first, std::int64_t rows) {
  const std::int64_t width = cache.kv_heads * group * cache.dim, ldq = width + 4, ldo = width + 8;
  const auto q = random_values(rows * ldq, 43, 1.5F);
  std::vector<float> o(static_cast<std::size_t>(rows * ldo), 77.0F), one(static_cast<std::size_t>(width));
  cache.n_keys = first;
  kernels.attention_prefill({cache.args(group, q.data(), o.data()), rows, ldq, ldo});
  for (std::int64_t r = 0; r < rows; ++r) {
    cache.n_keys = first + r;
    kernels.attention_decode(cache.args(group, q.data() + r * ldq, one.data()));
    ASSERT_EQ(std::memcmp(one.data(), o.data() + r * ldo, sizeof(float) * static_cast<std::size_t>(width)), 0)
        << "type " << static_cast<int>(cache.type) << " Dh=" << cache.dim << " block " << cache.block_tokens << " window "
        << cache.window << " row " << r;
    for (std::int64_t i = width; i < ldo; ++i) ASSERT_EQ(o[r * ldo + i], 77.0F);
  }
}

TEST_P(CachedAttentionTest, PrefillRowsAreDecodeRowsBitForBit) {
  for (CacheType type : types(kCacheTypes)) {
    for (auto [dim, group, first, rows, window] :
         {std::array<std::int64_t, 5>{64, 2, 1, 150, 0}, {64, 1, 60, 9, 0}, {128, 4, 129, 70, 0}, {40, 3, 64, 64, 0},
          {64, 2, 500, 33, 0}, {96, 7, 3, 1, 0}, {64, 2, 1, 150, 40}, {40, 3, 60, 90, 64}, {64, 1, 300, 33, 130}, {32, 4, 9, 200, 1},
          {32, 2, 1000, 60, 0}, {32, 2, 2040, 20, 0}, {32, 2, 2040, 40, 1010}, {32, 70, 30, 3, 0}, {48, 3, 40, 30, 33}}) {
      if (has_cache_scales(type) && dim % 32 != 0) continue;
      for (const std::int64_t per_block : {16, 32}) {
        // Other types have nothing that depends on it; scales want whole strips.
        if (per_block == 16 ? has_cache_scales(type) || first > 1000 : type != CacheType::kBF16 && !has_cache_scales(type) && first <= 1000) continue;
        Cache cache(k_, type, 2, dim, per_block, first + rows - 1, 1.5F);
        cache.window = window;
        check_rows(k_, cache, group, first, rows);
      }
    }
  }
}

// Sums that come to nothing from below are the same zero alone and together.
TEST_P(CachedAttentionTest, RowsOfTheLeastValuesAreBitForBit) {
  for (CacheType type : types(kPlainTypes)) {
    Cache cache(k_, type, 1, 64, 32, 100, 1.0F);
    for (const float least : {-0x1p-126F, -0.0F, -0x1p-125F}) {
      for (std::int64_t pos = 0; pos < 100; ++pos) cache.write(k_, CachePart::kValues, pos, std::vector<float>(64, pos % 3 == 0 ? 0.0F : least));
      cache.window = least == 0 ? 0 : 33;
      check_rows(k_, cache, 2, 60, 41);
    }
  }
}

// A value that is no number, seen by some rows of a prompt only, between others.
TEST_P(CachedAttentionTest, RowsBesideAnInfiniteValueAreBitForBit) {
  for (CacheType type : types(kPlainTypes)) {
    for (const std::int64_t at : {70, 71, 95, 96}) {
      Cache cache(k_, type, 1, 64, 32, 120, 1.0F);
      cache.window = 30;
      cache.write(k_, CachePart::kValues, at, std::vector<float>(64, INFINITY));
      check_rows(k_, cache, 2, 60, 61);
    }
  }
}

// A table lays a block out as it likes, but the elements are rounded alike everywhere, and a write touches no other slot.
TEST_P(CachedAttentionTest, CacheWriteStoresTheSameElementsEverywhere) {
  for (CacheType type : types(kCacheTypes)) {
    for (std::int64_t dim : {1, 16, 40, 64, 61, 128}) {
      if (has_cache_scales(type) && dim % 32 != 0) continue;
      for (const CachePart part : {CachePart::kKeys, CachePart::kValues}) {
        const std::int64_t heads = 2, block_tokens = 32;
        auto x = random_values(heads * dim, 44, 1e3F);
        x[0] = 1e-6F, x.back() = 7e4F;
        const auto bytes = static_cast<std::size_t>(cache_bytes(type, 3 * heads * block_tokens * dim));
        std::vector<std::byte> pool(bytes, std::byte{0x55}), expected = pool;
        std::vector<std::byte> other(bytes, std::byte{0xAA}), written, wanted;
        k_.cache_write(type, part, x.data(), heads, dim, block_tokens, 1, 2, pool.data());
        k_.cache_write(type, part, x.data(), heads, dim, block_tokens, 1, 2, other.data());
        for (std::int64_t h = 0; h < heads; ++h)
          cache_store(type, expected.data(), cache_index(heads, dim, block_tokens, 1, h, 2), x.data() + h * dim, dim);
        for (std::size_t i = 0; i < bytes; ++i) {
          if (pool[i] == other[i]) written.push_back(pool[i]);
          const std::size_t head = bytes / 6 * 2, row = bytes / 3 / heads / block_tokens;
          for (std::size_t h = 0; h < 2; ++h)
            if (const std::size_t at = head + h * bytes / 6 + 2 * row; i >= at && i < at + row) wanted.push_back(expected[i]);
        }
        // Nibbles of two components that share a byte in a row may share it otherwise in a table.
        std::sort(written.begin(), written.end());
        std::sort(wanted.begin(), wanted.end());
        EXPECT_EQ(written, wanted) << "type " << static_cast<int>(type) << " Dh=" << dim;
      }
    }
  }
}

// Tokens that were gathered are those that were stored: attention over them is attention over a cache that has no others, to the
// bit. Runs cross strips and blocks, and begin and end anywhere.
TEST_P(CachedAttentionTest, GatheredTokensAreThoseThatWereStored) {
  for (CacheType type : types(kCacheTypes)) {
    for (const std::int64_t block_tokens : {4, 8, 32, 64}) {
      const std::int64_t heads = 3, dim = 64, group = 2, tokens = 200;
      if (has_cache_scales(type) && block_tokens % 32 != 0) continue;
      const Cache all(k_, type, heads, dim, block_tokens, tokens, 1.0F);
      for (const std::vector<CacheRun>& runs : {std::vector<CacheRun>{{0, 4}, {8, 4}, {32, 8}, {60, 9}, {120, 4}, {196, 3}},
                                                {{5, 1}, {7, 30}, {63, 70}, {199, 1}}, {{12, 4}, {16, 4}, {40, 100}}}) {
        std::int64_t n = 0;
        for (const CacheRun& run : runs) n += run.tokens;
        Cache few(k_, type, 1, dim, block_tokens, n, 1.0F);
        for (std::int64_t head = 0; head < heads; ++head) {
          few.k_values.clear(), few.v_values.clear();
          std::int64_t at = 0;
          for (const CacheRun& run : runs)
            for (std::int64_t pos = run.begin; pos < run.begin + run.tokens; ++pos, ++at) {
              const auto seed = static_cast<std::uint32_t>(pos) * 2;
              const auto row = [&](std::uint32_t s) {
                const auto x = random_values(heads * dim, s);
                return std::vector<float>(x.begin() + head * dim, x.begin() + (head + 1) * dim);
              };
              few.write(k_, CachePart::kKeys, at, row(100 + seed));
              few.write(k_, CachePart::kValues, at, row(101 + seed));
            }
          std::vector<std::byte> k(few.k.size(), std::byte{0xFF}), v = k;
          std::vector<std::int32_t> blocks(few.blocks.size());
          std::iota(blocks.begin(), blocks.end(), 0);
          const auto gather = [&](CachePart part, const std::vector<std::byte>& from, std::vector<std::byte>& to) {
            k_.cache_gather({type, part, heads, dim, block_tokens, all.blocks.data(), from.data(), head, runs.data(),
                             static_cast<std::int64_t>(runs.size()), to.data()});
          };
          gather(CachePart::kKeys, all.k, k);
          gather(CachePart::kValues, all.v, v);
          const auto q = random_values(group * dim, 7);
          std::vector<float> o(group * dim), expected(group * dim);
          AttentionDecodeArgs args = few.args(group, q.data(), expected.data());
          k_.attention_decode(args);
          args.o = o.data(), args.blocks = blocks.data(), args.k_pool = k.data(), args.v_pool = v.data();
          k_.attention_decode(args);
          EXPECT_EQ(o, expected) << "type " << static_cast<int>(type) << ", blocks of " << block_tokens << ", head " << head;
        }
      }
    }
  }
}

// The type's own error: half a step of each group's scale, and the rounding of the scale.
TEST(CacheElementTest, ScaledGroupsAreWithinHalfAStep) {
  for (CacheType type : kScaledTypes) {
    const auto x = random_values(64 * 32, 47, 3.0F);
    std::vector<std::byte> row(static_cast<std::size_t>(cache_bytes(type, 64 * 32)));
    cache_store(type, row.data(), 0, x.data(), 64 * 32);
    for (std::int64_t g = 0; g < 64; ++g) {
      double size = 0;
      for (std::int64_t i = 0; i < 32; ++i) size = std::max(size, std::fabs(static_cast<double>(x[g * 32 + i])));
      // kQ4 has 8 steps down and 7 up: a value opposite to the largest, and as large, is a whole step away.
      const double step = type == CacheType::kQ8 ? size / 127 / 2 : size / 8;
      for (std::int64_t i = 0; i < 32; ++i)
        expect_within(cache_load(type, row.data(), g * 32 + i), x[g * 32 + i], step * 1.001 + size * 0x1p-11, "element", i);
    }
  }
}

TEST(CacheElementTest, GroupsThatAreNotFiniteAreNaN) {
  for (CacheType type : kScaledTypes) {
    for (const float bad : {NAN, INFINITY, -INFINITY, 1e30F}) {
      std::vector<float> x(32, 1.0F);
      x[7] = bad;
      std::vector<std::byte> row(static_cast<std::size_t>(cache_bytes(type, 32)));
      cache_store(type, row.data(), 0, x.data(), 32);
      EXPECT_TRUE(std::isnan(cache_load(type, row.data(), 0)));
    }
    const std::vector<float> zeros(32);
    std::vector<std::byte> row(static_cast<std::size_t>(cache_bytes(type, 32)));
    cache_store(type, row.data(), 0, zeros.data(), 32);
    for (std::int64_t i = 0; i < 32; ++i) EXPECT_EQ(cache_load(type, row.data(), i), 0.0F);
  }
}

}  // namespace
}  // namespace qw::kernels
