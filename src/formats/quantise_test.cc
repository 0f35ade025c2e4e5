#include "formats/quantise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "formats/internal/test_files.h"
#include "formats/npy.h"
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
       {std::pair{DType::kQ8_0, "codec_q8_0.bin"}, std::pair{DType::kQ4_0, "codec_q4_0.bin"}}) {
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
