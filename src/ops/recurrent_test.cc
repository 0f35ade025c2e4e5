// Layers with states: the running executor against the definition in double, against the form in chunks, and against
// itself however a sequence is cut into steps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/rng.h"
#include "ops/delta_rule.h"
#include "ops/internal/reference.h"
#include "ops/running_executor.h"

namespace qw::ops {
namespace {

constexpr std::int32_t kVocab = 13, kD = 8;
constexpr DeltaRuleSpec kSpec{.key_heads = 2, .value_heads = 4, .key_dim = 6, .value_dim = 5, .state = 3 * 44};

void forward(Executor& ex) {
  const Value x = ex.embed({0});
  const Value u = ex.short_conv(ex.linear(x, {2}), {3}, {.state = 0});
  const Value y = ex.delta_rule(u, ex.linear(x, {4}), ex.linear(x, {5}), {6}, {7}, kSpec);
  ex.head(ex.add(x, ex.linear(y, {8})), {1});
}

const std::vector<tensor::Shape> kShapes{{kVocab, kD}, {kVocab, kD}, {44, kD}, {44, 4}, {4, kD}, {4, kD}, {4}, {4}, {kD, 20}};

// A model with four slots and an empty cache.
struct Machinery {
  base::ThreadPool threads;
  std::vector<tensor::Tensor> weights;
  std::vector<std::vector<double>> doubles;
  std::unique_ptr<RunningExecutor> executor;
  std::vector<float> memory;
  std::vector<std::int64_t> seen = std::vector<std::int64_t>(4, 0);
  StateView states;
  CacheView cache{.type = kernels::CacheType::kF32, .block_tokens = 512, .keys = {}, .values = {}};

  explicit Machinery(int n = 2, base::Isa isa = base::Isa::kPortable) : threads(n) {
    std::vector<tensor::ConstView> views;
    for (std::size_t i = 0; i < kShapes.size(); ++i) {
      weights.emplace_back(tensor::DType::kF32, kShapes[i]);
      base::Rng rng(11, i);
      doubles.emplace_back();
      for (std::int64_t j = 0; j < kShapes[i].elements(); ++j) {
        weights.back().f32()[j] = static_cast<float>(rng.next_normal() * 0.5);
        doubles.back().push_back(static_cast<double>(weights.back().f32()[j]));
      }
      views.push_back(weights.back().view());
    }
    RecordingExecutor recorder(kShapes);
    forward(recorder);
    auto made = RunningExecutor::create(recorder.finish(), views, {.max_rows = 300, .max_logit_rows = 300},
                                        kernels::kernels_for(isa), threads);
    executor = std::move(*made);
    memory.assign(static_cast<std::size_t>(4 * executor->state_floats()), NAN);  // nobody may read what nobody wrote
    states = {memory.data(), executor->state_floats(), seen};
  }

  struct Row {
    std::int32_t token, position, sequence;
  };
  Status begin(const std::vector<Row>& rows, std::vector<std::int32_t> slots = {0, 1, 2, 3}) {
    tokens.clear(), positions.clear(), sequences.clear(), wanted.clear();
    for (const Row& r : rows) {
      wanted.push_back(static_cast<std::int32_t>(tokens.size()));
      tokens.push_back(r.token), positions.push_back(r.position), sequences.push_back(r.sequence);
    }
    of = std::move(slots);
    return executor->begin({.tokens = tokens, .positions = positions, .sequences = sequences, .tables = tables,
                            .logit_rows = wanted, .cache = &cache, .slots = of, .states = &states});
  }
  std::vector<std::vector<float>> step(const std::vector<Row>& rows) {
    const Status status = begin(rows);
    if (!status) throw std::runtime_error(status.error().message);
    forward(*executor);
    std::vector<std::vector<float>> out;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto l = executor->logits(static_cast<std::int64_t>(i));
      out.emplace_back(l.begin(), l.end());
    }
    return out;
  }
  std::vector<std::int32_t> block{0};
  std::vector<std::span<const std::int32_t>> tables{4, std::span<const std::int32_t>(block)};
  std::vector<std::int32_t> tokens, positions, sequences, wanted, of;
};

std::vector<Machinery::Row> text(std::int32_t n, std::int32_t sequence, std::uint64_t seed) {
  base::Rng rng(seed);
  std::vector<Machinery::Row> rows;
  for (std::int32_t p = 0; p < n; ++p) rows.push_back({static_cast<std::int32_t>(rng.next_u32() % kVocab), p, sequence});
  return rows;
}

TEST(Recurrent, AgreesWithTheDefinition) {
  for (const base::Isa isa : {base::Isa::kPortable, *base::chosen_isa()}) {
    Machinery m(2, isa);
    const auto rows = text(200, 0, 3);
    const auto got = m.step(rows);
    const std::vector<std::int32_t> cu{0, 200}, labels(200, -1);
    ReferenceExecutor reference(m.doubles, kShapes, {m.tokens, m.positions, cu, labels});
    forward(reference);
    for (std::size_t r = 0; r < got.size(); ++r)
      for (std::size_t i = 0; i < kVocab; ++i) ASSERT_NEAR(got[r][i], reference.logits()[r * kVocab + i], 1e-5) << r;
  }
}

void expect_the_same_in_any_cut_and_company(base::Isa isa) {
  Machinery one(1, isa);
  const auto a = text(150, 0, 3), b = text(70, 1, 4);
  const auto whole = one.step(a), other = one.step(b);
  Machinery m(3, isa);
  std::vector<std::vector<float>> got_a, got_b;
  std::size_t at_a = 0, at_b = 0;
  base::Rng rng(9);
  while (at_a < a.size() || at_b < b.size()) {
    std::vector<Machinery::Row> rows;
    const auto take = [&](const auto& from, std::size_t& at) {
      const std::size_t n = std::min(from.size() - at, std::size_t{rng.next_u32() % 9});
      rows.insert(rows.end(), from.begin() + static_cast<std::ptrdiff_t>(at), from.begin() + static_cast<std::ptrdiff_t>(at + n));
      at += n;
      return n;
    };
    const std::size_t n = take(a, at_a);
    take(b, at_b);
    if (rows.empty()) continue;
    const auto out = m.step(rows);
    got_a.insert(got_a.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(n));
    got_b.insert(got_b.end(), out.begin() + static_cast<std::ptrdiff_t>(n), out.end());
  }
  EXPECT_EQ(got_a, whole);
  EXPECT_EQ(got_b, other);
  EXPECT_EQ(m.step(a), whole) << "a slot begins anew at position 0";
}

TEST(Recurrent, CutsAndCompanyChangeNothing) {
  for (const base::Isa isa : base::kAllIsas) {
    if (isa > base::best_isa()) continue;
    SCOPED_TRACE(base::isa_name(isa));
    expect_the_same_in_any_cut_and_company(isa);
  }
}

TEST(Recurrent, StatesThatDoNotFitAreRefused) {
  Machinery m;
  m.step(text(5, 0, 1));
  const auto error = [&](const std::vector<Machinery::Row>& rows, std::vector<std::int32_t> slots = {0, 1, 2, 3}) {
    const Status s = m.begin(rows, std::move(slots));
    return s ? std::string("accepted") : s.error().message;
  };
  EXPECT_THAT(error({{1, 6, 0}}), ::testing::HasSubstr("position 6, but the state has seen 5 tokens"));
  EXPECT_THAT(error({{1, 5, 0}, {1, 7, 0}}), ::testing::HasSubstr("row 1: does not follow"));
  EXPECT_THAT(error({{1, 5, 0}, {1, 0, 1}, {1, 6, 0}}), ::testing::HasSubstr("serves other rows"));
  EXPECT_THAT(error({{1, 0, 0}, {1, 0, 1}}, {2, 2, 2, 2}), ::testing::HasSubstr("state 2 serves other rows"));
  EXPECT_THAT(error({{1, 0, 0}}, {4, 1, 2, 3}), ::testing::HasSubstr("no state 4"));
  EXPECT_THAT(error({{1, 0, 0}}, {}), ::testing::HasSubstr("needs the state of every sequence"));
  EXPECT_EQ(error({{1, 5, 0}}), "accepted");
}

// The form in chunks of 64 (Yang et al., 2024, section 3.3), in double, of one head.
std::vector<double> in_chunks(const std::vector<double>& q, const std::vector<double>& k, const std::vector<double>& v,
                              const std::vector<double>& g, const std::vector<double>& beta, std::size_t dk, std::size_t dv) {
  const std::size_t n = g.size();
  std::vector<double> s(dk * dv, 0.0), y(n * dv);
  for (std::size_t first = 0; first < n; first += 64) {
    const std::size_t c = std::min<std::size_t>(64, n - first);
    std::vector<double> sum(c), rest(c * dv);  // rest: V' = U - W S, by forward substitution
    for (std::size_t i = 0; i < c; ++i) sum[i] = g[first + i] + (i > 0 ? sum[i - 1] : 0.0);
    const auto dot = [&](const std::vector<double>& a, std::size_t i, const std::vector<double>& b, std::size_t j) {
      double d = 0;
      for (std::size_t e = 0; e < dk; ++e) d += a[(first + i) * dk + e] * b[(first + j) * dk + e];
      return d;
    };
    for (std::size_t i = 0; i < c; ++i)
      for (std::size_t e = 0; e < dv; ++e) {
        double known = 0;
        for (std::size_t d = 0; d < dk; ++d) known += k[(first + i) * dk + d] * s[d * dv + e];
        double x = beta[first + i] * (v[(first + i) * dv + e] - std::exp(sum[i]) * known);
        for (std::size_t j = 0; j < i; ++j) x -= beta[first + i] * dot(k, i, k, j) * std::exp(sum[i] - sum[j]) * rest[j * dv + e];
        rest[i * dv + e] = x;
      }
    for (std::size_t i = 0; i < c; ++i)
      for (std::size_t e = 0; e < dv; ++e) {
        double out = 0;
        for (std::size_t d = 0; d < dk; ++d) out += std::exp(sum[i]) * q[(first + i) * dk + d] * s[d * dv + e];
        for (std::size_t j = 0; j <= i; ++j) out += dot(q, i, k, j) * std::exp(sum[i] - sum[j]) * rest[j * dv + e];
        y[(first + i) * dv + e] = out;
      }
    for (std::size_t d = 0; d < dk; ++d)
      for (std::size_t e = 0; e < dv; ++e) {
        s[d * dv + e] *= std::exp(sum[c - 1]);
        for (std::size_t i = 0; i < c; ++i)
          s[d * dv + e] += k[(first + i) * dk + d] * std::exp(sum[c - 1] - sum[i]) * rest[i * dv + e];
      }
  }
  return y;
}

// Columns in whole vectors of every width and some left over; chunks of another size than those of the kernel.
TEST(DeltaRule, AgreesWithTheFormInChunksAndAnyCutIsTheSame) {
  constexpr std::int64_t kRows = 200, kWidth = 75;
  const DeltaRuleSpec spec{.key_heads = 1, .value_heads = 1, .key_dim = 16, .value_dim = kWidth};
  base::Rng rng(21);
  const auto random = [&](std::int64_t n) {
    std::vector<float> x(static_cast<std::size_t>(n));
    for (float& v : x) v = static_cast<float>(rng.next_normal());
    return x;
  };
  const auto x = random(kRows * spec.input_width()), forget = random(kRows), write = random(kRows), a = random(1), dt = random(1);
  for (const base::Isa isa : base::kAllIsas) {
    if (isa > base::best_isa()) continue;
    SCOPED_TRACE(base::isa_name(isa));
    std::vector<float> y(kRows * kWidth), keys(kRows * 32), gates(kRows * 2);
    std::vector<float> state(static_cast<std::size_t>(spec.head_state_floats()), NAN);
    base::ThreadPool pool(1);
    const Machine machine{kernels::kernels_for(isa), pool};
    const DeltaRuleArgs args{spec, kRows, x.data(), forget.data(), write.data(), a.data(), dt.data(), y.data(), keys.data(), gates.data()};
    delta_rule_prepare(machine, args);
    delta_rule_run(machine, args, 0, kRows, 0, 0, state.data());
    std::vector<double> q, k, v, g, beta;
    for (std::size_t r = 0; r < kRows; ++r) {
      for (std::size_t i = 0; i < 16; ++i) q.push_back(keys[r * 16 + i]), k.push_back(keys[(kRows + r) * 16 + i]);
      for (std::size_t i = 0; i < kWidth; ++i) v.push_back(x[r * (32 + kWidth) + 32 + i]);
      g.push_back(std::log(static_cast<double>(gates[2 * r])));
      beta.push_back(gates[2 * r + 1]);
    }
    const auto wanted = in_chunks(q, k, v, g, beta, 16, kWidth);
    for (std::size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], wanted[i], 1e-5) << i;

    const std::vector<float> whole = y;
    std::fill(y.begin(), y.end(), 77.0f);
    std::fill(state.begin(), state.end(), NAN);
    std::int64_t at = 0;
    for (const std::int64_t n : {1, 1, 62, 100, 36}) delta_rule_run(machine, args, at, n, at, 0, state.data()), at += n;
    EXPECT_EQ(y, whole);
  }
}

}  // namespace
}  // namespace qw::ops
