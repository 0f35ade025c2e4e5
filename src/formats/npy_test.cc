#include "formats/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/internal/test_files.h"

namespace qw::formats {
namespace {

using tensor::DType;
using tensor::Shape;
using test::golden;
using test::ramp;
using test::values_of;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

TEST(Npy, ReadsWhatNumpyWrote) {
  const auto f32 = read_npy(golden("f32.npy"));
  ASSERT_TRUE(f32) << f32.error().message;
  EXPECT_EQ(f32->shape(), (Shape{2, 3}));
  EXPECT_THAT(values_of<float>(f32->view()), ElementsAreArray(ramp(6)));
  const auto i64 = read_npy(golden("i64.npy"));
  EXPECT_THAT(values_of<std::int64_t>(i64->view()), ElementsAre(std::int64_t{1} << 40, -1, 7));
  const auto scalar = read_npy(golden("scalar.npy"));
  EXPECT_EQ(scalar->shape().rank(), 0);
  EXPECT_THAT(values_of<double>(scalar->view()), ElementsAre(2.5));
  EXPECT_THAT(read_npy(golden("fortran.npy")).error().message, HasSubstr("Fortran order"));
  EXPECT_EQ(read_npy(golden("codec_floats_f16.npy"))->dtype(), DType::kF16);
}

TEST(Npy, WritesTheBytesNumpyWrites) {
  const test::Folder folder;
  for (const char* name : {"f32.npy", "i64.npy", "scalar.npy", "codec_floats_f16.npy"}) {
    const auto array = read_npy(golden(name));
    ASSERT_TRUE(array);
    ASSERT_TRUE(write_npy(folder / name, array->view()));
    EXPECT_EQ(test::slurp(folder / name), test::slurp(golden(name))) << name;
    folder.keep_for_python(name);
  }
}

TEST(Npy, RowByRow) {
  const test::Folder folder;
  auto writer = NpyWriter::create(folder / "x.npy", DType::kF32, {3, 4});
  ASSERT_TRUE(writer);
  const auto values = ramp(12);
  ASSERT_TRUE(writer->append(std::span(values).first(4)));
  EXPECT_THAT(writer->commit().error().message, HasSubstr("32 bytes missing"));
  ASSERT_TRUE(writer->append(std::span(values).last(8)));
  ASSERT_TRUE(writer->commit());
  EXPECT_THAT(values_of<float>(read_npy(folder / "x.npy")->view()), ElementsAreArray(values));
  EXPECT_THAT(NpyWriter::create(folder / "y.npy", DType::kBF16, {1}).error().message, HasSubstr("no dtype for bf16"));
}

std::string npy(const std::string& header, const std::string& data, char major = 1) {
  std::string out = std::string("\x93NUMPY") + major + '\0';
  out += static_cast<char>(header.size() & 255);
  out += static_cast<char>(header.size() >> 8);
  if (major > 1) out += std::string(2, '\0');
  return out + header + data;
}

TEST(Npy, HeadersOfOtherShapes) {
  const auto parse = [](const std::string& text) { return parse_npy(test::as_bytes(text)); };
  const std::string four(4, '\0');
  EXPECT_TRUE(parse(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n", four, 2)));
  EXPECT_TRUE(parse(npy("{\"shape\":(1,1),\"descr\":\"<f4\",\"fortran_order\":False}", four, 3)));
  EXPECT_TRUE(parse(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 5), }", "")));
  const std::string bad[] = {
      "",
      "{",
      "{}",
      "{'descr': '<f4'}",
      "{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }",
      "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
      "{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }",
      "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4294967296), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1 1), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (,), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } x",
      "{'x': 1, 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
      "{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}",
      "{'descr: ",
      std::string(10001, ' ')};
  for (const std::string& header : bad) EXPECT_FALSE(parse(npy(header, four))) << header;
  EXPECT_FALSE(parse(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", four, 4)));
  EXPECT_FALSE(parse("\x93NUMPX"));
  const std::string whole = test::slurp(golden("f32.npy"));
  for (std::size_t n = 0; n < whole.size(); ++n) EXPECT_FALSE(parse(whole.substr(0, n))) << n;
}

}  // namespace
}  // namespace qw::formats
