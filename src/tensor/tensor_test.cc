#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <vector>

#include "tensor/blocks.h"
#include "tensor/groups.h"

namespace qw::tensor {
namespace {

// ---- goldens from gguf's and numpy's own codecs (tools/make_format_goldens.py) --------------------------------------

std::string golden(const std::string& name) {
  std::ifstream in(std::string(QW_SOURCE_DIR) + "/tests/golden/formats/" + name, std::ios::binary);
  EXPECT_TRUE(in) << name;
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!name.ends_with(".npy")) return bytes;
  std::uint16_t header;  // version 1: magic, version, u16 header length
  std::memcpy(&header, bytes.data() + 8, 2);
  return bytes.substr(10u + header);
}

template <class T>
std::vector<T> golden_values(const std::string& name) {
  const std::string bytes = golden(name);
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

constexpr std::int64_t kRow = 64;

struct BlockCase {
  DType type;
  const char* name;
};

class BlockGolden : public testing::TestWithParam<BlockCase> {};

TEST_P(BlockGolden, EncodesTheSameBytes) {
  const auto rows = golden_values<float>("codec_rows.npy");
  const std::string expected = golden(std::string("codec_") + GetParam().name + ".bin");
  const auto row_size = static_cast<std::size_t>(row_bytes(GetParam().type, kRow));
  ASSERT_EQ(rows.size(), 64u * kRow);
  ASSERT_EQ(expected.size(), 64 * row_size);
  for (std::size_t r = 0; r < 64; ++r) {
    std::string got(row_size, '\xee');
    encode_row(GetParam().type, rows.data() + r * kRow, kRow, got.data());
    EXPECT_EQ(got, expected.substr(r * row_size, row_size)) << "row " << r;
  }
}

TEST_P(BlockGolden, DecodesTheSameValues) {
  const std::string encoded = golden(std::string("codec_") + GetParam().name + ".bin");
  const auto expected = golden_values<float>(std::string("codec_") + GetParam().name + "_decoded.npy");
  std::vector<float> got(expected.size());
  const auto row_size = static_cast<std::size_t>(row_bytes(GetParam().type, kRow));
  for (std::size_t r = 0; r < 64; ++r)
    decode_row(GetParam().type, encoded.data() + r * row_size, kRow, got.data() + r * kRow);
  int compared = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(expected[i])) {
      EXPECT_TRUE(std::isnan(got[i])) << i;  // a scale beyond f16 times a quant of zero
      continue;
    }
    EXPECT_EQ(got[i], expected[i]) << i;
    ++compared;
  }
  EXPECT_GT(compared, 4000);
}

INSTANTIATE_TEST_SUITE_P(Types, BlockGolden,
                         testing::Values(BlockCase{DType::kQ8_0, "q8_0"}, BlockCase{DType::kQ4_0, "q4_0"}),
                         [](const auto& param_info) { return param_info.param.name; });

TEST(HalfGolden, F16AsNumpy) {
  const auto floats = golden_values<float>("codec_floats.npy");
  const auto expected = golden_values<std::uint16_t>("codec_floats_f16.npy");
  ASSERT_EQ(floats.size(), expected.size());
  for (std::size_t i = 0; i < floats.size(); ++i) {
    const std::uint16_t got = f32_to_f16(floats[i]);
    if (std::isnan(floats[i])) {
      EXPECT_TRUE((got & 0x7c00) == 0x7c00 && (got & 0x3ff) != 0) << i;
    } else {
      EXPECT_EQ(got, expected[i]) << i << ": " << floats[i];
    }
  }
}

TEST(HalfGolden, Bf16AsGguf) {
  const auto floats = golden_values<float>("codec_floats.npy");
  const auto expected = golden_values<std::uint16_t>("codec_floats_bf16.bin");
  ASSERT_EQ(floats.size(), expected.size());
  for (std::size_t i = 0; i < floats.size(); ++i)
    EXPECT_EQ(f32_to_bf16(floats[i]), expected[i]) << i << ": " << floats[i];
}

TEST(Half, EveryF16SurvivesTheRoundTrip) {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const float f = f16_to_f32(static_cast<std::uint16_t>(h));
    const std::uint16_t back = f32_to_f16(f);
    if (std::isnan(f)) {
      EXPECT_EQ(back, h | 0x200) << h;
    } else {
      ASSERT_EQ(back, h);
    }
  }
}

TEST(Half, EveryBf16SurvivesTheRoundTrip) {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const float f = bf16_to_f32(static_cast<std::uint16_t>(h));
    ASSERT_EQ(f32_to_bf16(f), std::isnan(f) ? h | 0x40 : h);
  }
}

// The f16 nearest to a float, by search over all of them in double: independent of the bit tricks.
TEST(Half, F16RoundsToNearestEven) {
  for (const float f : {1.0f, 1.00048828125f, 1.0004883f, 65519.9f, 65520.0f, 5.9604645e-8f, 2.9802322e-8f,
                        2.98023259e-8f, 6.1035156e-5f, 6.1e-5f, 0.1f, -0.3f, 1000.7f, 2049.0f, 2051.0f, -2050.9999f}) {
    double best = std::numeric_limits<double>::infinity();
    std::uint16_t nearest = 0;
    for (std::uint32_t m = 0; m <= 0x7c00; ++m) {
      // Beyond the greatest half the next step of the same width stands for infinity.
      const double value = m == 0x7c00 ? 65536.0 : double{f16_to_f32(static_cast<std::uint16_t>(m))};
      const double distance = std::abs(value - std::abs(double{f}));
      if (distance < best || (distance == best && m % 2 == 0)) best = distance, nearest = static_cast<std::uint16_t>(m);
    }
    EXPECT_EQ(f32_to_f16(f), nearest | (f < 0 ? 0x8000 : 0)) << f;
  }
}

// ---- block bounds
// ----------------------------------------------------------------------------------------------------

TEST(Blocks, ErrorIsBoundedByTheStep) {
  std::vector<float> x(kRow), y(kRow);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i) * 1.7f) * 3.0f;
  const auto greatest_error = [&](DType type) {
    std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(type, kRow)));
    encode_row(type, x.data(), kRow, row.data());
    decode_row(type, row.data(), kRow, y.data());
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(double{x[i]} - double{y[i]}));
    return worst;
  };
  // Half a step of 3/127, plus the scale's rounding to f16 (2^-11 of 127 steps, at most).
  EXPECT_LT(greatest_error(DType::kQ8_0), 3.0 / 127 * 0.5 + 3.0 * 0x1.0p-11);
  // Sixteen levels from -8 to 7: the side without the extreme may lose a whole step of 3/8.
  EXPECT_LT(greatest_error(DType::kQ4_0), 3.0 / 8 + 3.0 * 0x1.0p-11);
  EXPECT_LT(greatest_error(DType::kF16), 3.0 * 0x1.0p-11);
  EXPECT_LT(greatest_error(DType::kBF16), 3.0 * 0x1.0p-8);
  EXPECT_EQ(greatest_error(DType::kF32), 0.0);
}

// Scales so small that their inverse is infinite: the block is zero, and no infinity is cast to an integer.
TEST(Blocks, TinyBlocksBecomeZero) {
  std::vector<float> x(32, 0x1.0p-140f), y(32, 1.0f);
  x[3] = -0x1.8p-138f;
  for (const DType type : {DType::kQ8_0, DType::kQ4_0}) {
    std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(type, 32)));
    encode_row(type, x.data(), 32, row.data());
    decode_row(type, row.data(), 32, y.data());
    for (const float v : y) EXPECT_EQ(v, 0.0f);
  }
}

// Every scale, zero point and code: the value is d * (q - zero) to the bit, opened for the kernels and as Q8_0 too.
TEST(Blocks, FourBitsWithAZeroPointLoseNothing) {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const float d = f16_to_f32(static_cast<std::uint16_t>(h));
    if (!std::isfinite(d)) continue;
    BlockQ4_Z blocks[17];
    for (int zero = 0; zero <= 16; ++zero) {
      blocks[zero] = {static_cast<std::uint16_t>(h), static_cast<std::uint16_t>(zero), {}};
      for (int j = 0; j < 16; ++j) blocks[zero].q[j] = static_cast<std::uint8_t>(j | (15 - j) << 4);
    }
    float y[17 * 32], y8[17 * 32];
    BlockQ8_0 q8[17];
    Groups4 groups[17];
    decode_row(DType::kQ4_Z, blocks, 17 * 32, y);
    q4_z_to_q8_0(blocks, 17 * 32, q8);
    decode_row(DType::kQ8_0, q8, 17 * 32, y8);
    open_groups(DType::kQ4_Z, blocks, 17 * 32, groups);
    for (int i = 0; i < 17 * 32; ++i) {
      const int zero = i / 32, j = i % 32, q = j < 16 ? j : 31 - j;
      const float wanted = d * static_cast<float>(q - zero);
      const int nibble = groups[zero].q[j % 16] >> (j / 16 * 4) & 15;
      ASSERT_TRUE(y[i] == wanted && y8[i] == wanted) << h << " " << zero << " " << q;
      ASSERT_EQ(groups[zero].scale * static_cast<float>(nibble) - groups[zero].min, wanted);
    }
  }
  EXPECT_FALSE(can_encode(DType::kQ4_Z));
}

// ---- shapes, names, sizes
// --------------------------------------------------------------------------------------------

TEST(DType, NamesAreFoundInAnyCase) {
  EXPECT_EQ(dtype_from_name("Q8_0"), DType::kQ8_0);
  EXPECT_EQ(dtype_from_name("bf16"), DType::kBF16);
  EXPECT_EQ(dtype_from_name("Q4_K"), DType::kQ4_K);
  EXPECT_EQ(dtype_from_name("q4_k_m"), std::nullopt);
  for (int i = 0; i < kDTypeCount; ++i) {
    EXPECT_EQ(dtype_from_name(name(static_cast<DType>(i))), static_cast<DType>(i));
  }
}

TEST(DType, RowBytes) {
  EXPECT_EQ(row_bytes(DType::kF32, 3), 12);
  EXPECT_EQ(row_bytes(DType::kQ8_0, 64), 68);
  EXPECT_EQ(row_bytes(DType::kQ4_0, 64), 36);
  EXPECT_TRUE(is_quantised(DType::kQ4_0));
  EXPECT_FALSE(is_quantised(DType::kBF16));
}

TEST(Shape, Counts) {
  const Shape s{2, 3, 4};
  EXPECT_EQ(s.elements(), 24);
  EXPECT_EQ(s.rows(), 6);
  EXPECT_EQ(s.back(), 4);
  EXPECT_EQ(s.to_string(), "[2, 3, 4]");
  EXPECT_EQ(Shape{}.elements(), 1);
  EXPECT_EQ(Shape{}.rows(), 1);
  EXPECT_EQ((Shape{3, 0}).rows(), 0);
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
}

TEST(Shape, SizesFromFilesAreChecked) {
  const auto count = [](std::vector<std::int64_t> dims) { return checked_elements(dims); };
  EXPECT_EQ(*count({2, 3}), 6);
  EXPECT_EQ(*count({}), 1);
  EXPECT_EQ(*count({0, 5}), 0);
  EXPECT_FALSE(count({-1, 5}));
  EXPECT_FALSE(count({std::int64_t{1} << 40, std::int64_t{1} << 40}));
  EXPECT_FALSE(count({std::numeric_limits<std::int64_t>::max(), 2}));
  EXPECT_FALSE(count({(std::int64_t{1} << 48) + 1}));
}

TEST(Tensor, IsZeroedAndAligned) {
  const Tensor t(DType::kF32, {3, 5});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.f32()) % 64, 0u);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(t.f32()[i], 0.0f);
  EXPECT_EQ(t.view().bytes(), 60);
  EXPECT_EQ(Tensor(DType::kQ8_0, {2, 64}).view().bytes(), 136);
}

}  // namespace
}  // namespace qw::tensor
