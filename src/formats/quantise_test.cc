#include "formats/quantise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "formats/gguf.h"
#include "formats/imatrix.h"
#include "formats/internal/test_files.h"
#include "formats/npy.h"
#include "formats/recipe.h"
#include "tensor/blocks.h"

namespace qw::formats {
namespace {

using tensor::DType;
using tensor::Shape;
using test::values_of;
using testing::HasSubstr;

tensor::Tensor waves(std::int64_t rows, std::int64_t columns) {
  tensor::Tensor t(DType::kF32, {rows, columns});
  for (std::int64_t i = 0; i < rows * columns; ++i)
    t.f32()[i] = std::sin(static_cast<float>(i) * 0.37f) * (1.0f + static_cast<float>(i % 5));
  return t;
}

// Whole path against gguf's own bytes: the goldens' first 46 rows (the rest leave the range of a block scale).
TEST(Convert, GivesTheGoldenBytes) {
  base::ThreadPool pool(2);
  const auto rows = read_npy(test::golden("codec_rows.npy"));
  ASSERT_TRUE(rows) << rows.error().message;
  const tensor::ConstView source{DType::kF32, {46, 64}, rows->view().data};
  for (const auto& [type, name] :
       {std::pair{DType::kQ8_0, "codec_q8_0.bin"}, std::pair{DType::kQ4_0, "codec_q4_0.bin"},
        std::pair{DType::kQ4_1, "codec_q4_1.bin"}, std::pair{DType::kQ5_0, "codec_q5_0.bin"},
        std::pair{DType::kQ5_1, "codec_q5_1.bin"}, std::pair{DType::kMXFP4, "codec_mxfp4.bin"}}) {
    const auto out = convert(source, type, pool);
    ASSERT_TRUE(out) << out.error().message;
    const std::string expected = test::slurp(test::golden(name));
    const auto bytes = static_cast<std::size_t>(out->view().bytes());
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(out->view().data), bytes), expected.substr(0, bytes));
  }
}

TEST(Convert, StatisticsAreThoseOfTheDecodedTensor) {
  base::ThreadPool pool(2);
  const auto x = waves(37, 96);
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0}) {
    ConversionError error;
    const auto out = convert(x.view(), type, pool, &error);
    ASSERT_TRUE(out) << out.error().message;
    double squares = 0, source = 0, max = 0;
    std::vector<float> row(96);
    for (std::int64_t r = 0; r < 37; ++r) {
      tensor::decode_row(type, out->view().data + r * tensor::row_bytes(type, 96), 96, row.data());
      for (std::int64_t i = 0; i < 96; ++i) {
        const double before = x.f32()[r * 96 + i], d = row[static_cast<std::size_t>(i)] - before;
        squares += d * d;
        source += before * before;
        max = std::max(max, std::abs(d));
      }
    }
    EXPECT_NEAR(error.rms, std::sqrt(squares / (37 * 96)), 1e-12) << tensor::name(type);
    EXPECT_NEAR(error.relative, std::sqrt(squares / source), 1e-12);
    EXPECT_EQ(error.max, max);
    if (type == DType::kF32) {
      EXPECT_EQ(error.max, 0);
    }
    if (type == DType::kQ8_0) {
      EXPECT_TRUE(error.relative > 1e-4 && error.relative < 0.01) << error.relative;
    }
    if (type == DType::kQ4_0) {
      EXPECT_TRUE(error.relative > 0.01 && error.relative < 0.15) << error.relative;
    }
  }
}

TEST(Convert, ThreadsDoNotChangeTheResult) {
  base::ThreadPool one(1), three(3);
  const auto x = waves(40000, 64);  // several pieces
  ConversionError a, b;
  const auto first = convert(x.view(), DType::kQ4_0, one, &a), second = convert(x.view(), DType::kQ4_0, three, &b);
  EXPECT_EQ(values_of<std::byte>(first->view()), values_of<std::byte>(second->view()));
  EXPECT_EQ(a.rms, b.rms);
  EXPECT_EQ(a.max, b.max);
  EXPECT_EQ(a.relative, b.relative);
}

TEST(Convert, BetweenBlockFormats) {
  base::ThreadPool pool(1);
  const auto x = waves(4, 64);
  const auto q8 = convert(x.view(), DType::kQ8_0, pool);
  ConversionError back, same;
  const auto f32 = convert(q8->view(), DType::kF32, pool, &back);
  EXPECT_EQ(back.max, 0);  // f32 holds what q8_0 holds
  const auto again = convert(f32->view(), DType::kQ8_0, pool, &same);
  EXPECT_LT(same.relative, 1e-3);  // the scale's rounding only
  EXPECT_TRUE(convert(q8->view(), DType::kQ4_0, pool));
}

TEST(Convert, StopsWhereTheSinkDoes) {
  base::ThreadPool pool(1);
  const auto x = waves(4, 64);
  int calls = 0;
  const auto result = convert(x.view(), DType::kF16, pool, [&](std::span<const std::byte>) -> Status {
    ++calls;
    return fail(ErrorKind::kResource, "disk full");
  });
  EXPECT_EQ(result.error().message, "disk full");
  EXPECT_EQ(calls, 1);
}

TEST(Convert, ValuesThatCannotBeHeld) {
  base::ThreadPool pool(2);
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const struct {
    float value;
    DType type;
    bool held;
  } cases[] = {{nan, DType::kQ8_0, false},        {inf, DType::kQ8_0, false},    {-inf, DType::kQ4_0, false},
               {nan, DType::kQ4_0, false},        {1e10f, DType::kQ8_0, false},  {1e30f, DType::kQ4_0, false},
               {70000.0f, DType::kF16, false},    {65504.0f, DType::kF16, true}, {3.4e38f, DType::kBF16, false},
               {1e38f, DType::kBF16, true},       {nan, DType::kF32, true},      {inf, DType::kF16, true},
               {nan, DType::kBF16, true},         {1e6f, DType::kQ8_0, true},    {0x1.0p-149f, DType::kQ8_0, true},
               {-0x1.0p-149f, DType::kQ4_0, true}};
  for (const auto& c : cases) {
    auto x = waves(3, 32);
    x.f32()[2 * 32 + 7] = c.value;
    const auto out = convert(x.view(), c.type, pool);
    EXPECT_EQ(out.has_value(), c.held) << c.value << " " << tensor::name(c.type);
    if (!out) {
      EXPECT_THAT(out.error().message, HasSubstr("row 2 holds a value that"));
    }
  }
}

TEST(Convert, Refusals) {
  base::ThreadPool pool(1);
  EXPECT_THAT(convert(waves(2, 33).view(), DType::kQ8_0, pool).error().message, HasSubstr("whole blocks of q8_0"));
  EXPECT_THAT(convert(waves(2, 32).view(), DType::kI8, pool).error().message,
              HasSubstr("no conversion from f32 to i8"));
  const tensor::Tensor ints(DType::kI32, {4});
  EXPECT_EQ(convert(ints.view(), DType::kF32, pool).error().kind, ErrorKind::kUsage);
  const tensor::Tensor none(DType::kF32, {0, 32});
  EXPECT_TRUE(convert(none.view(), DType::kQ8_0, pool));
}

// 64 rows of 1024 sums of twelve uniform values (a bell of spread 1). `reference`: the error of ggml's own quantiser on
// these values, measured once with its library; the allowance is for the last digit.
TEST(Convert, ErrorIsNoWorseThanTheReferenceQuantiser) {
  base::ThreadPool pool(2);
  std::uint64_t state = 1;
  tensor::Tensor x(DType::kF32, {64, 1024});
  for (std::int64_t i = 0; i < 64 * 1024; ++i) {
    float sum = -6;
    for (int k = 0; k < 12; ++k) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      sum += static_cast<float>(state >> 40) * 0x1p-24f;
    }
    x.f32()[i] = sum;
  }
  const struct {
    DType type;
    double reference;
  } cases[] = {{DType::kQ4_1, 0.077398}, {DType::kQ5_0, 0.041971}, {DType::kQ5_1, 0.037357}, {DType::kQ2_K, 0.293408}, {DType::kQ3_K, 0.149288}, {DType::kQ4_K, 0.070388}, {DType::kQ5_K, 0.035684}, {DType::kQ6_K, 0.017455}, {DType::kIQ4_NL, 0.075326}, {DType::kIQ4_XS, 0.075902}, {DType::kMXFP4, 0.115093}};
  for (const auto& c : cases) {
    ConversionError error;
    ASSERT_TRUE(convert(x.view(), c.type, pool, &error));
    EXPECT_LE(error.rms, c.reference * 1.0005) << tensor::name(c.type);
    EXPECT_GT(error.rms, c.reference * 0.8) << tensor::name(c.type);
  }
}

// Errors where the weights are great shrink, at the cost of the others.
TEST(Convert, ImportanceMovesTheErrors) {
  base::ThreadPool pool(2);
  const auto x = waves(32, 512);
  std::vector<float> importance(512, 0.01f);
  for (std::size_t i = 0; i < 512; i += 4) importance[i] = 1;
  for (const DType type : {DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ2_K, DType::kQ3_K, DType::kQ4_K,
                           DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS}) {
    double errors[2] = {};
    for (const bool weighed : {false, true}) {
      std::vector<std::byte> bytes;
      const auto sink = [&](std::span<const std::byte> piece) -> Status {
        bytes.insert(bytes.end(), piece.begin(), piece.end());
        return {};
      };
      ASSERT_TRUE(convert(x.view(), type, pool, sink, weighed ? std::span<const float>(importance) : std::span<const float>()));
      std::vector<float> row(512);
      for (std::int64_t r = 0; r < 32; ++r) {
        tensor::decode_row(type, bytes.data() + r * tensor::row_bytes(type, 512), 512, row.data());
        for (std::size_t i = 0; i < 512; i += 4) {
          const double d = row[i] - x.f32()[r * 512 + static_cast<std::int64_t>(i)];
          errors[weighed] += d * d;
        }
      }
    }
    EXPECT_LT(errors[1], errors[0]) << tensor::name(type);
  }
  EXPECT_EQ(convert(x.view(), DType::kQ4_K, pool, [](auto) -> Status { return {}; }, std::span(importance).first(64)).error().kind,
            ErrorKind::kBadInput);
}

// A tensor that keeps its format keeps its bytes, and zeros and single spikes are held.
TEST(Convert, BlockFormatsKeepTheirOwnBytesAndEdges) {
  base::ThreadPool pool(1);
  for (int t = static_cast<int>(DType::kQ4_1); t <= static_cast<int>(DType::kMXFP4); ++t) {
    const auto type = static_cast<DType>(t);
    auto x = waves(3, 256);
    for (int i = 0; i < 256; ++i) x.f32()[256 + i] = 0;
    for (int i = 0; i < 256; ++i) x.f32()[512 + i] = i == 77 ? 12.0f : 0.0f;
    const auto once = convert(x.view(), type, pool);
    ASSERT_TRUE(once) << tensor::name(type) << once.error().message;
    ConversionError error;
    const auto again = convert(once->view(), type, pool, &error);
    EXPECT_EQ(values_of<std::byte>(once->view()), values_of<std::byte>(again->view())) << tensor::name(type);
    EXPECT_EQ(error.max, 0);
    std::vector<float> row(256);
    const auto bytes = tensor::row_bytes(type, 256);
    tensor::decode_row(type, once->view().data + bytes, 256, row.data());
    for (const float v : row) EXPECT_EQ(v, 0.0f) << tensor::name(type);
    tensor::decode_row(type, once->view().data + 2 * bytes, 256, row.data());
    EXPECT_NEAR(row[77], 12.0f, 0.06f) << tensor::name(type);
  }
}

TEST(Recipe, Mixes) {
  const RecipeModel model{.layers = 24, .heads = 16, .kv_heads = 8, .tied = false, .importance = false};
  const auto type = [&](const char* recipe, const char* name, Shape shape = {512, 512}) {
    return std::string(tensor::name(recipe_type(*find_recipe(recipe), name, shape, model)));
  };
  EXPECT_EQ(type("q4_k_m", "blk.0.attn_v.weight"), "q6_k");
  EXPECT_EQ(type("Q4_K", "blk.3.attn_v.weight"), "q4_k");
  EXPECT_EQ(type("q4_k_m", "blk.5.ffn_down.weight"), "q6_k");
  EXPECT_EQ(type("q4_k_m", "blk.21.ffn_down.weight"), "q6_k");
  EXPECT_EQ(type("q4_k_m", "blk.5.attn_q.weight"), "q4_k");
  EXPECT_EQ(type("q4_k_m", "output.weight"), "q6_k");
  EXPECT_EQ(type("q4_k_m", "token_embd.weight"), "q4_k");
  EXPECT_EQ(type("q4_k_s", "blk.3.attn_v.weight"), "q5_k");
  EXPECT_EQ(type("q4_k_s", "blk.4.attn_v.weight"), "q4_k");
  EXPECT_EQ(type("q3_k_m", "blk.1.attn_v.weight"), "q5_k");
  EXPECT_EQ(type("q3_k_m", "blk.9.attn_output.weight"), "q4_k");
  EXPECT_EQ(type("q2_k", "blk.9.ffn_down.weight"), "q3_k");
  EXPECT_EQ(type("q6_k", "blk.9.ffn_up.weight"), "q6_k");
  EXPECT_EQ(type("mxfp4", "token_embd.weight"), "q8_0");
  EXPECT_EQ(type("q4_k_m", "blk.9.attn_q.bias", {512}), "f32");
  EXPECT_EQ(type("q4_k_m", "blk.9.attn_q.weight", {512, 896}), "q5_0");
  EXPECT_EQ(type("q5_k_m", "blk.9.attn_q.weight", {512, 896}), "q5_1");
  EXPECT_EQ(type("q6_k", "output.weight", {512, 896}), "q8_0");
  EXPECT_EQ(type("iq4_xs", "blk.9.attn_q.weight", {512, 896}), "iq4_nl");
  EXPECT_EQ(type("q4_k_m", "blk.9.attn_q.weight", {512, 100}), "f16");
  RecipeModel tied = model;
  tied.tied = true;
  EXPECT_EQ(recipe_type(*find_recipe("q4_k_m"), "token_embd.weight", {512, 512}, tied), DType::kQ6_K);
  EXPECT_EQ(find_recipe("q9_k"), nullptr);
}

TEST(Importance, IsReadAndChecked) {
  test::Folder folder;
  const auto write = [&](std::vector<float> sums, float count) {
    tensor::Tensor s(DType::kF32, {1, static_cast<std::int64_t>(sums.size())}), c(DType::kF32, {1, 1});
    std::copy(sums.begin(), sums.end(), s.f32());
    c.f32()[0] = count;
    auto writer = GgufWriter::create(folder / "i.gguf", GgufMetadata::from_object({{"general.type", "imatrix"}}),
                                     {{"a.weight.in_sum2", DType::kF32, s.shape()}, {"a.weight.counts", DType::kF32, c.shape()}});
    EXPECT_TRUE(writer && writer->write(s.view()) && writer->write(c.view()) && writer->commit());
    return ImportanceMatrix::open(folder / "i.gguf");
  };
  const auto good = write({2, 4, 0}, 2);
  ASSERT_TRUE(good) << good.error().message;
  const auto w = good->find("a.weight");
  EXPECT_EQ(std::vector<float>(w.begin(), w.end()), (std::vector<float>{1, 2, 0}));
  EXPECT_TRUE(good->find("b.weight").empty());
  EXPECT_THAT(write({2, -4}, 2).error().message, HasSubstr("negative or not finite"));
  EXPECT_THAT(write({2, std::nanf("")}, 2).error().message, HasSubstr("negative or not finite"));
  EXPECT_THAT(write({2}, -1).error().message, HasSubstr("no number of tokens"));
  EXPECT_THAT(write({2}, 0).error().message, HasSubstr("no importance matrix"));
}

ImportanceSums some_sums() {
  ImportanceSums sums;
  sums.add("a.weight", 1, 2);
  sums.add("b_exps.weight", 3, 2);
  sums.add("never.weight", 1, 4);
  const float x[] = {1, -2, 3, 0};
  sums.meet("a.weight", 0, x, 2);
  sums.meet("b_exps.weight", 0, x, 1);
  sums.meet("b_exps.weight", 2, x, 2);
  return sums;
}

TEST(Importance, BothLayoutsComeBack) {
  const test::Folder folder;
  for (const char* name : {"i.gguf", "i.dat"}) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(some_sums().write(folder / name, "text.txt", 2, 1));
    const auto back = ImportanceMatrix::open(folder / name);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->size(), 2u);
    const auto a = back->find("a.weight"), b = back->find("b_exps.weight");
    EXPECT_THAT(std::vector<float>(a.begin(), a.end()), testing::ElementsAre(5, 2));
    EXPECT_THAT(std::vector<float>(b.begin(), b.end()), testing::ElementsAre(1, 4, 1, 1, 5, 2));  // the second was never met
    folder.keep_for_python(name);
  }
  const auto empty = ImportanceSums().write(folder / "e.gguf", "", 0, 1);
  ASSERT_FALSE(empty);
  EXPECT_THAT(empty.error().message, HasSubstr("no matrix was used"));
}

TEST(Importance, TheOlderLayoutIsChecked) {
  const test::Folder folder;
  ASSERT_TRUE(some_sums().write(folder / "i.dat", "text.txt", 2, 1));
  const std::string good = test::slurp(folder / "i.dat");
  EXPECT_TRUE(ImportanceMatrix::parse_dat(test::as_bytes(good)));
  for (std::size_t n = 0; n + 16 < good.size(); ++n)  // the last 16 bytes say how much of which text
    EXPECT_FALSE(ImportanceMatrix::parse_dat(test::as_bytes(good.substr(0, n)))) << n;
  const auto with = [&](std::size_t at, std::int32_t value) {
    std::string bad = good;
    std::memcpy(bad.data() + at, &value, 4);
    const auto read = ImportanceMatrix::parse_dat(test::as_bytes(bad));
    return read ? "ok" : read.error().message;
  };
  EXPECT_THAT(with(0, -1), HasSubstr("holds no importance matrix"));
  EXPECT_THAT(with(4, 0x7fffffff), HasSubstr("a name of"));
  EXPECT_THAT(with(16, -3), HasSubstr("counts of"));
  EXPECT_THAT(with(20, 0x7fffffff), HasSubstr("ends inside values"));
  EXPECT_THAT(with(24, -1), HasSubstr("negative or not finite"));  // a NaN
}

TEST(StorageType, Rules) {
  const DType q4 = DType::kQ4_0, q8 = DType::kQ8_0, f32 = DType::kF32;
  EXPECT_EQ(storage_type("blk.0.attn_q.weight", {64, 64}, q4), q4);
  EXPECT_EQ(storage_type("blk.0.attn_q.bias", {64}, q4), f32);
  EXPECT_EQ(storage_type("blk.0.attn_norm.weight", {64}, DType::kBF16), f32);
  EXPECT_EQ(storage_type("blk.0.attn_q_norm.weight", {1, 64}, q8), f32);
  EXPECT_EQ(storage_type("blk.0.ffn_gate_inp.weight", {8, 64}, q8), f32);
  EXPECT_EQ(storage_type("blk.0.ssm_conv1d.weight", {64, 4}, q8), f32);
  EXPECT_EQ(storage_type("token_embd.weight", {64, 64}, q4), q8);
  EXPECT_EQ(storage_type("output.weight", {64, 64}, q4), q8);
  EXPECT_EQ(storage_type("output.weight", {64, 64}, DType::kBF16), DType::kBF16);
  EXPECT_EQ(storage_type("blk.0.ffn_down.weight", {64, 100}, q4), DType::kF16);
  EXPECT_EQ(storage_type("blk.0.ffn_down.weight", {64, 100}, DType::kF32), f32);
}

}  // namespace
}  // namespace qw::formats
