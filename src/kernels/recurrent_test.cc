// The gated delta rule of every instruction set against the same in double.
#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/internal/test_support.h"

namespace qw::kernels {
namespace {

using namespace test;

struct Text {
  std::int64_t rows, key_dim, value_dim;
  std::vector<float> q, k, v, decay, beta, state;
  Text(std::int64_t t, std::int64_t dk, std::int64_t dv)
      : rows(t),
        key_dim(dk),
        value_dim(dv),
        q(random_values(t * dk, 1)),
        k(random_values(t * dk, 2)),
        v(random_values(t * dv, 3)),
        decay(random_values(t, 4)),
        beta(random_values(t, 5)),
        state(random_values(dk * dv, 6)) {
    for (float& x : decay) x = 1 / (1 + std::exp(-x));
    for (float& x : beta) x = 1 / (1 + std::exp(-x));
    for (std::int64_t i = 0; i < t; ++i) {  // keys and queries come with length one, or states would grow
      for (float* row : {q.data() + i * dk, k.data() + i * dk}) {
        double length = 0;
        for (std::int64_t j = 0; j < dk; ++j) length += static_cast<double>(row[j]) * row[j];
        for (std::int64_t j = 0; j < dk; ++j) row[j] = static_cast<float>(row[j] / std::sqrt(length));
      }
    }
  }
  // Rows [begin, end) with `kernels`, from `s` on.
  void run(const Kernels& kernels, std::int64_t begin, std::int64_t end, float* s, float* y) const {
    kernels.delta_rule({end - begin, key_dim, value_dim, q.data() + begin * key_dim, k.data() + begin * key_dim,
                        key_dim, v.data() + begin * value_dim, value_dim, decay.data() + begin, beta.data() + begin, 1,
                        y + begin * value_dim, value_dim, s});
  }
};

class DeltaRuleTest : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Isa, DeltaRuleTest, testing::ValuesIn(supported_isas()), isa_param_name);

// With keys of length one a token's errors are not magnified: each adds a few roundings of sums over the key's
// components.
TEST_P(DeltaRuleTest, AgreesWithDouble) {
  const Kernels& kernels = kernels_for(GetParam());
  EXPECT_EQ(kernels.delta_rule == kernels_for(Isa::kPortable).delta_rule, GetParam() == Isa::kPortable);
  for (const auto [rows, dk, dv] :
       {std::array<std::int64_t, 3>{1, 16, 16}, {7, 64, 64}, {20, 128, 128}, {5, 24, 37}, {3, 32, 3}}) {
    const Text text(rows, dk, dv);
    std::vector<float> state = text.state, y(static_cast<std::size_t>(rows * dv));
    text.run(kernels, 0, rows, state.data(), y.data());
    std::vector<double> s(text.state.begin(), text.state.end());
    double largest = 4;  // of what is summed: states and values are of size one, a few at most
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t c = 0; c < dv; ++c) {
        double known = 0, out = 0;
        for (std::int64_t i = 0; i < dk; ++i) known += text.decay[t] * s[i * dv + c] * text.k[t * dk + i];
        const double delta = text.beta[t] * (text.v[t * dv + c] - known);
        for (std::int64_t i = 0; i < dk; ++i) {
          double& x = s[i * dv + c];
          x = text.decay[t] * x + text.k[t * dk + i] * delta;
          largest = std::max(largest, std::fabs(x));
          out += x * text.q[t * dk + i];
        }
        const double bound = static_cast<double>(t + 1) * static_cast<double>(dk + 8) * kUnit * largest * std::sqrt(dk);
        expect_within(y[t * dv + c], out, bound, "y", t * dv + c);
      }
    }
    const double bound = static_cast<double>(rows) * static_cast<double>(dk + 8) * kUnit * largest * std::sqrt(dk);
    for (std::int64_t i = 0; i < dk * dv; ++i) expect_within(state[i], s[i], bound, "state", i);
  }
}

TEST_P(DeltaRuleTest, IsTheSameWhereverTheTextIsCut) {
  const Kernels& kernels = kernels_for(GetParam());
  const Text text(23, 64, 45);
  std::vector<float> whole_state = text.state, whole(static_cast<std::size_t>(23 * 45)), state = text.state, y = whole;
  text.run(kernels, 0, 23, whole_state.data(), whole.data());
  for (const std::int64_t cut : {1, 8, 22}) {
    state = text.state;
    text.run(kernels, 0, cut, state.data(), y.data());
    text.run(kernels, cut, 23, state.data(), y.data());
    EXPECT_EQ(std::memcmp(y.data(), whole.data(), y.size() * 4), 0) << "cut at " << cut;
    EXPECT_EQ(std::memcmp(state.data(), whole_state.data(), state.size() * 4), 0) << "cut at " << cut;
  }
}

// A text of rows with gates of its own, through delta_rule_chunks from position 0 on.
struct ChunkText : Text {
  ChunkText(std::int64_t t, std::int64_t dk, std::int64_t dv, float smallest, float largest) : Text(t, dk, dv) {
    for (float& x : decay) x = smallest * std::pow(largest / smallest, x);
  }
  std::int64_t state_floats() const { return DeltaRuleState{key_dim, value_dim}.floats(); }
  void chunks(const Kernels& kernels, std::int64_t begin, std::int64_t end, float* s, float* y) const {
    kernels.delta_rule_chunks({{end - begin, key_dim, value_dim, q.data() + begin * key_dim, k.data() + begin * key_dim, key_dim,
                                v.data() + begin * value_dim, value_dim, decay.data() + begin, beta.data() + begin, 1,
                                y + begin * value_dim, value_dim, s},
                               begin});
  }
  // The same token by token in double, from no state; `largest`: what any sum met, or `at_least`.
  std::vector<double> in_double(double& largest) const {
    std::vector<double> s(static_cast<std::size_t>(key_dim * value_dim)), y(static_cast<std::size_t>(rows * value_dim));
    for (std::int64_t t = 0; t < rows; ++t)
      for (std::int64_t c = 0; c < value_dim; ++c) {
        double known = 0;
        for (std::int64_t i = 0; i < key_dim; ++i) known += decay[t] * s[i * value_dim + c] * k[t * key_dim + i];
        const double delta = beta[t] * (v[t * value_dim + c] - known);
        for (std::int64_t i = 0; i < key_dim; ++i) {
          double& x = s[i * value_dim + c];
          x = decay[t] * x + k[t * key_dim + i] * delta;
          largest = std::max(largest, std::fabs(x));
          y[t * value_dim + c] += x * q[t * key_dim + i];
        }
      }
    return y;
  }
};

// Nothing, or nearly everything, is forgotten from row to row; and all between.
constexpr std::array<std::array<float, 2>, 4> kDecays{{{1e-30F, 1e-3F}, {1e-3F, 0.9F}, {0.5F, 1.0F}, {0.9999F, 1.0F}}};

TEST_P(DeltaRuleTest, ChunksAgreeWithDouble) {
  const Kernels& kernels = kernels_for(GetParam());
  EXPECT_EQ(kernels.delta_rule_chunks == kernels_for(Isa::kPortable).delta_rule_chunks, GetParam() == Isa::kPortable);
  for (const auto [smallest, greatest] : kDecays)
    for (const auto [rows, dk, dv] : {std::array<std::int64_t, 3>{1, 16, 16}, {7, 64, 64}, {70, 128, 128}, {33, 24, 37}, {50, 35, 3},
                                      {40, 1, 1}, {40, 300, 45}, {20, 8, 65}}) {
      const ChunkText text(rows, dk, dv, smallest, greatest);
      std::vector<float> state(static_cast<std::size_t>(text.state_floats()), NAN), y(static_cast<std::size_t>(rows * dv));
      text.chunks(kernels, 0, rows, state.data(), y.data());
      double largest = 4;
      const std::vector<double> wanted = text.in_double(largest);
      for (std::int64_t i = 0; i < rows * dv; ++i) {
        const double bound = static_cast<double>(i / dv + 1) * static_cast<double>(dk + 8) * kUnit * largest * std::sqrt(dk);
        expect_within(y[i], wanted[i], bound, "y", i);
      }
    }
}

// Outputs and the whole state.
TEST_P(DeltaRuleTest, ChunksAreTheSameWhereverTheTextIsCut) {
  const Kernels& kernels = kernels_for(GetParam());
  for (const auto [smallest, greatest] : kDecays)
    for (const auto [rows, dk, dv] : {std::array<std::int64_t, 3>{70, 128, 128}, {70, 21, 45}, {64, 64, 32}, {35, 300, 7}}) {
      const ChunkText text(rows, dk, dv, smallest, greatest);
      std::vector<float> whole(static_cast<std::size_t>(rows * dv)), whole_state(static_cast<std::size_t>(text.state_floats()), 7.0F);
      text.chunks(kernels, 0, rows, whole_state.data(), whole.data());
      const auto same = [&](const auto& cuts, const char* what) {
        std::vector<float> y(whole.size()), state(whole_state.size(), 7.0F);
        std::int64_t at = 0;
        for (const std::int64_t cut : cuts) text.chunks(kernels, at, cut, state.data(), y.data()), at = cut;
        text.chunks(kernels, at, rows, state.data(), y.data());
        EXPECT_EQ(std::memcmp(y.data(), whole.data(), y.size() * 4), 0) << what << ' ' << (cuts.empty() ? 0 : cuts[0]);
        EXPECT_EQ(std::memcmp(state.data(), whole_state.data(), state.size() * 4), 0) << what << ' ' << (cuts.empty() ? 0 : cuts[0]);
      };
      std::vector<std::int64_t> cuts;
      for (std::int64_t cut = 1; cut < rows; ++cut) {
        cuts.push_back(cut);
        if (dk < 100 || cut % 7 == 0) same(std::vector<std::int64_t>{cut}, "cut at");
      }
      same(cuts, "rows alone");
      std::mt19937 rng(5);
      for (int turn = 0; turn < 20; ++turn) {
        cuts.clear();
        for (std::int64_t cut = 1 + rng() % 20; cut < rows; cut += 1 + rng() % 20) cuts.push_back(cut);
        same(cuts, "cut anyhow, first at");
      }
    }
}

}  // namespace
}  // namespace qw::kernels
