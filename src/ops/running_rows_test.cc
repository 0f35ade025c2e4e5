// What the running executor does together (several products of a value; rows from one product to the next) against the
// same work asked for one by one, alone and in company: the same bytes.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>

#include "base/rng.h"
#include "ops/program.h"
#include "ops/running_executor.h"
#include "tensor/blocks.h"

namespace qw::ops {
namespace {

constexpr std::int32_t kVocab = 23, kD = 256, kHeads = 8, kHeadDim = 32, kKvHeads = 2, kBlock = 16, kBlocks = 192;
constexpr RopeSpec kRope{.head_dim = kHeadDim, .rotary = kHeadDim};
constexpr AttentionSpec kAttention{
    .layer = 0, .heads = kHeads, .kv_heads = kKvHeads, .head_dim = kHeadDim, .scale = 0.2f};

// Weights whose rows want three ways of preparing, two of them the same.
struct Stored {
  tensor::DType type;
  tensor::Shape shape;
};
const std::vector<Stored> kStored{{tensor::DType::kF32, {kVocab, kD}},
                                  {tensor::DType::kQ8_0, {kD, kD}},
                                  {tensor::DType::kBF16, {kKvHeads * kHeadDim, kD}},
                                  {tensor::DType::kF32, {kKvHeads * kHeadDim, kD}},
                                  {tensor::DType::kQ8_0, {kD, kD}},
                                  {tensor::DType::kBF16, {96, kD}},
                                  {tensor::DType::kQ8_0, {96, kD}},
                                  {tensor::DType::kF32, {kD, 96}},
                                  {tensor::DType::kF32, {kD}},
                                  {tensor::DType::kF32, {kHeadDim}}};

// A decoder's layer; `together`: with its products asked for at once.
void forward(Executor& ex, bool together) {
  const auto several = [&]<std::size_t n>(Value x, const Product(&of)[n]) {
    if (together) return ex.products(x, of);
    std::array<Value, n> y;
    for (std::size_t i = 0; i < n; ++i) y[i] = ex.linear(x, of[i].w, of[i].bias);
    return y;
  };
  const Value x = ex.embed({0});
  const auto qkv = several(ex.rms_norm(x, {8}, 1e-6f), {{{1}, {8}}, {{2}}, {{3}}});
  const Value q = ex.rope(ex.head_rms_norm(qkv[0], {9}, kHeadDim, 1e-6f), kRope);
  const Value k = ex.rope(ex.head_rms_norm(qkv[1], {9}, kHeadDim, 1e-6f), kRope);
  const Value o = ex.attention(q, k, qkv[2], kAttention);
  const Value y = ex.add(x, ex.linear(ex.gate_rows(o, ex.columns(q, 0, kHeads)), {4}));
  const Value h = ex.rms_norm(y, {8}, 1e-6f);
  const auto ffn = several(h, {{{5}}, {{6}}});
  const Value down = ex.linear(ex.swiglu(ffn[0], ffn[1]), {7});
  ex.head(ex.add(ex.scale(y, 0.5f),
                 ex.relu(ex.concat(ex.columns(down, kD / 2, kD / 2), ex.columns(ex.silu(h), 0, kD / 2)))),
          {0});
}

struct Model {
  base::ThreadPool threads;
  std::vector<std::vector<std::byte>> bytes;
  std::unique_ptr<RunningExecutor> executor;
  std::vector<float> keys = std::vector<float>(std::size_t{kBlocks} * kBlock * kKvHeads * kHeadDim), values = keys;
  bool together;
  const kernels::Kernels& kernels;

  // `blocks`: what stands for Q8_0 above.
  Model(base::Isa isa, int n, bool in_one, tensor::DType blocks = tensor::DType::kQ8_0)
      : threads(n), together(in_one), kernels(kernels::kernels_for(isa)) {
    std::vector<tensor::ConstView> views;
    std::vector<tensor::Shape> shapes;
    for (std::size_t i = 0; i < kStored.size(); ++i) {
      const auto& [stored, shape] = kStored[i];
      const auto type = stored == tensor::DType::kQ8_0 ? blocks : stored;
      shapes.push_back(shape);
      base::Rng rng(5, i);
      std::vector<float> row(static_cast<std::size_t>(shape.back()));
      const std::int64_t each = tensor::row_bytes(type, shape.back());
      bytes.emplace_back(static_cast<std::size_t>(each * shape.rows()));
      for (std::int64_t r = 0; r < shape.rows(); ++r) {
        if (stored == tensor::DType::kQ8_0 && r >= 7) {  // encoding all of them would take longer than the tests
          std::memcpy(bytes.back().data() + r * each, bytes.back().data() + r % 7 * each,
                      static_cast<std::size_t>(each));
          continue;
        }
        for (float& v : row) v = static_cast<float>(rng.next_normal() * 0.3);
        tensor::encode_row(type, row.data(), shape.back(), bytes.back().data() + r * each);
      }
      views.push_back({type, shape, bytes.back().data()});
    }
    RecordingExecutor recorder(shapes);
    forward(recorder, together);
    auto made =
        RunningExecutor::create(recorder.finish(), views, {.max_rows = 40, .max_logit_rows = 40}, kernels, threads);
    EXPECT_TRUE(made) << (made ? "" : made.error().message);
    executor = std::move(*made);
  }

  // What positions [0, end) hold if nobody has computed them.
  void fill_cache(std::int32_t end) {
    base::Rng rng(9);
    std::vector<float> row(kKvHeads * kHeadDim);
    for (std::int32_t p = 0; p < end; ++p)
      for (const auto part : {kernels::CachePart::kKeys, kernels::CachePart::kValues}) {
        for (float& v : row) v = static_cast<float>(rng.next_normal());
        kernels.cache_write(kernels::CacheType::kF32, part, row.data(), kKvHeads, kHeadDim, kBlock, p / kBlock,
                            p % kBlock, (part == kernels::CachePart::kKeys ? keys : values).data());
      }
  }

  // Logits of rows [begin, end) of a text, whose rows before that are in the cache.
  std::vector<float> run(std::int32_t begin, std::int32_t end) {
    const auto n = static_cast<std::size_t>(end - begin);
    std::vector<std::int32_t> tokens, positions(n), sequences(n, 0), rows(n), table(kBlocks);
    std::iota(positions.begin(), positions.end(), begin);
    std::iota(rows.begin(), rows.end(), 0);
    std::iota(table.begin(), table.end(), 0);
    for (const std::int32_t p : positions) tokens.push_back(p * 7 % kVocab);
    const std::span<const std::int32_t> tables[]{table};
    const CacheView cache{.type = kernels::CacheType::kF32,
                          .block_tokens = kBlock,
                          .keys = {reinterpret_cast<std::byte*>(keys.data())},
                          .values = {reinterpret_cast<std::byte*>(values.data())}};
    const Status begun = executor->begin({.tokens = tokens,
                                          .positions = positions,
                                          .sequences = sequences,
                                          .tables = tables,
                                          .logit_rows = rows,
                                          .cache = &cache});
    EXPECT_TRUE(begun);
    forward(*executor, together);
    std::vector<float> all;
    for (std::size_t i = 0; i < n; ++i) {
      const auto logits = executor->logits(static_cast<std::int64_t>(i));
      all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
  }
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class RunningRows : public ::testing::TestWithParam<base::Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > base::best_isa()) GTEST_SKIP() << "this processor cannot run it";
  }
};

TEST_P(RunningRows, ProductsTogetherGiveTheBytesOfEach) {
  Model together(GetParam(), 2, true), each(GetParam(), 2, false);
  for (const auto& [begin, end] : {std::pair(0, 9), std::pair(9, 10), std::pair(10, 40)})
    EXPECT_TRUE(same(together.run(begin, end), each.run(begin, end))) << begin;
}

TEST_P(RunningRows, ARowAloneGivesTheBytesOfTheRowInCompany) {
  Model one(GetParam(), 1, true);
  const std::vector<float> all = one.run(0, 40);
  for (const float v : all) ASSERT_TRUE(std::isfinite(v));
  for (const int threads : {1, 2, 3}) {
    Model model(GetParam(), threads, true);
    EXPECT_TRUE(same(model.run(0, 40), all)) << threads;
    std::vector<float> by_parts;
    for (std::int32_t p = 0; p < 40;) {
      const std::int32_t n = p % 3 == 0 ? 1 : 6;
      const std::vector<float> part = model.run(p, std::min(40, p + n));
      by_parts.insert(by_parts.end(), part.begin(), part.end());
      p += n;
    }
    EXPECT_TRUE(same(by_parts, all)) << threads;
  }
}

TEST_P(RunningRows, ARowIsTheSameInCompanyInEveryFormat) {
  using enum tensor::DType;
  for (const auto type :
       {kF16, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4}) {
    if (GetParam() == base::Isa::kPortable && type != kQ4_K) continue;  // the slow twin takes all of them the same way
    SCOPED_TRACE(tensor::name(type));
    Model one(GetParam(), 1, true, type), three(GetParam(), 3, true, type);
    const std::vector<float> all = one.run(0, 20);
    for (const float v : all) ASSERT_TRUE(std::isfinite(v));
    std::vector<float> by_parts;
    for (const auto& [begin, end] : {std::pair(0, 1), std::pair(1, 4), std::pair(4, 20)}) {
      const std::vector<float> part = three.run(begin, end);
      by_parts.insert(by_parts.end(), part.begin(), part.end());
    }
    EXPECT_TRUE(same(by_parts, all));
  }
}

// Behind more keys than a segment has, a lone row's attention is shared out by segments and heads, if there are
// threads.
TEST_P(RunningRows, ALoneRowBehindManyKeysGivesTheBytesOfTheRowInCompany) {
  Model one(GetParam(), 1, true);
  one.fill_cache(kBlocks * kBlock);
  for (const int threads : {1, 2, 3, 5}) {
    Model model(GetParam(), threads, true);
    model.fill_cache(kBlocks * kBlock);
    for (const std::int32_t p : {1023, 1024, 1500, 2047, 2048, 3000}) {
      const std::vector<float> rows = one.run(p - 3, p + 1);
      model.run(p - 3, p);
      const std::vector<float> lone = model.run(p, p + 1);
      EXPECT_TRUE(same(lone, {rows.end() - kVocab, rows.end()})) << threads << " threads, position " << p;
    }
  }
}

TEST_P(RunningRows, LogitsThatAreAskedForAfterwardsAreTheSameBytes) {
  for (const int threads : {1, 2}) {
    Model model(GetParam(), threads, true);
    const std::vector<float> all = model.run(0, 40);
    const std::vector<std::int32_t> rows{39, 0, 7, 7, 12, 13, 14, 15, 16, 38};
    std::vector<float> wanted, got;
    for (const std::size_t n : {std::size_t{1}, std::size_t{3}, rows.size()}) {
      const auto some = std::span(rows).first(n);
      ASSERT_TRUE(model.executor->compute_logits(some));
      for (std::size_t i = 0; i < n; ++i) {
        const auto logits = model.executor->logits(static_cast<std::int64_t>(i));
        got.insert(got.end(), logits.begin(), logits.end());
        const auto at = all.begin() + rows[i] * static_cast<std::ptrdiff_t>(logits.size());
        wanted.insert(wanted.end(), at, at + static_cast<std::ptrdiff_t>(logits.size()));
      }
    }
    EXPECT_TRUE(same(got, wanted)) << threads;
    EXPECT_FALSE(model.executor->compute_logits(std::vector<std::int32_t>{40}));
    EXPECT_FALSE(model.executor->compute_logits(std::vector<std::int32_t>(41, 0)));
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, RunningRows, ::testing::ValuesIn(base::kAllIsas),
                         [](const auto& set) { return std::string(base::isa_name(set.param)); });

}  // namespace
}  // namespace qw::ops
