// Safetensors files that lie. Each must be refused with a line that says why; none may crash, hang or ask for much
// memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/internal/safetensors_parse.h"
#include "formats/internal/test_files.h"

namespace qw::formats {
namespace {

using internal::parse_safetensors;
using test::as_bytes;
using testing::HasSubstr;

std::string file_of(const std::string& header, std::size_t data_bytes, std::uint64_t stated = ~0ull) {
  const std::uint64_t length = stated == ~0ull ? header.size() : stated;
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data_bytes, '\x01');
}

struct Lie {
  const char* header;
  std::size_t data_bytes;
  const char* why;
};

constexpr Lie kLies[] = {
    // JSON
    {"", 0, "no JSON object"},
    {"[]", 0, "no JSON object"},
    {" {}", 0, "no JSON object"},
    {"{", 0, "unexpected end"},
    {"{}x", 0, "more text"},
    {"{\"a\xff\":1}", 0, "JSON: byte 3"},
    {R"({"a":{"b":{"c":{"d":{"e":1}}}}})", 0, "nested too deeply"},
    // descriptions
    {R"({"a":1})", 0, "no object"},
    {R"({"a":{}})", 0, "no dtype"},
    {R"({"a":{"dtype":5,"shape":[1],"data_offsets":[0,4]}})", 4, "no dtype"},
    {R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4, "unknown dtype 'F33'"},
    {R"({"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}})", 4, "unknown dtype 'f32'"},
    {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, "no shape"},
    {R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4, "no shape"},
    {R"({"a":{"dtype":"F32","shape":[1]}})", 4, "no data_offsets"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "no data_offsets"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4, "no data_offsets"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":{"0":4}}})", 4, "no data_offsets"},
    // numbers
    {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "a dimension is no non-negative integer"},
    {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "a dimension is no non-negative integer"},
    {R"({"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", 4, "a dimension is no non-negative integer"},
    {R"({"a":{"dtype":"F32","shape":[18446744073709551617],"data_offsets":[0,4]}})", 4, "a dimension is no"},
    {R"({"a":{"dtype":"F32","shape":[9223372036854775807,2],"data_offsets":[0,4]}})", 4, "size out of range"},
    {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4, "size out of range"},
    {R"({"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}})", 16, "size out of range"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4, "data_offsets is no"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}})", 4, "data_offsets is no"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "end before they begin"},
    // sizes
    {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "make 8 bytes, data_offsets 4"},
    {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,8]}})", 8, "make 4 bytes, data_offsets 8"},
    {R"({"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,3]}})", 3, "make 2 bytes, data_offsets 3"},
    {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1, "make 1 bytes, data_offsets 1"},
    {R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,4]}})", 4, "make 0 bytes"},
    // tiling
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "a gap before"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
     12, "'b': there is a gap"},
    {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
     8, "'b': its data overlaps"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
     4, "overlaps"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3, "past the end"},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5, "1 bytes at the end belong to no tensor"},
    {R"({"a":{"dtype":"U8","shape":[281474976710656],"data_offsets":[0,281474976710656]}})", 5, "past the end"},
    {"{}", 1, "belong to no tensor"},
    // the same name twice: the last wins, so the first's data belongs to nobody
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2,
     "a gap before"},
    // __metadata__
    {R"({"__metadata__":[]})", 0, "__metadata__ is not an object of strings"},
    {R"({"__metadata__":{"a":1}})", 0, "__metadata__ is not an object of strings"},
    {R"({"__metadata__":{"a":{"b":"c"}}})", 0, "__metadata__ is not an object of strings"},
};

TEST(SafetensorsHostile, LiesAreRefused) {
  for (const Lie& lie : kLies) {
    const std::string bytes = file_of(lie.header, lie.data_bytes);
    const auto part = parse_safetensors(as_bytes(bytes));
    ASSERT_FALSE(part) << lie.header;
    EXPECT_THAT(part.error().message, HasSubstr(lie.why)) << lie.header;
    EXPECT_EQ(part.error().kind, ErrorKind::kBadInput);
    EXPECT_EQ(part.error().message.find_first_of("\n\r"), std::string::npos);
  }
}

TEST(SafetensorsHostile, LengthsAreRefused) {
  for (const std::uint64_t length :
       {std::uint64_t{3}, std::uint64_t{100'000'001}, std::uint64_t{~0ull - 1}, std::uint64_t{~0ull / 2}}) {
    EXPECT_FALSE(parse_safetensors(as_bytes(file_of("{}", 0, length)))) << length;
  }
  EXPECT_FALSE(parse_safetensors(as_bytes(file_of("{}", 0, 1))));
  EXPECT_FALSE(parse_safetensors(as_bytes(file_of("{}", 0, 0))));
  EXPECT_FALSE(parse_safetensors({}));
}

TEST(SafetensorsHostile, ManyDimensionsAndLongNames) {
  std::string ones = "1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  const auto refused =
      parse_safetensors(as_bytes(file_of(R"({"a":{"dtype":"U8","shape":[)" + ones + R"(],"data_offsets":[0,1]}})", 1)));
  EXPECT_THAT(refused.error().message, HasSubstr("too many dimensions"));
  const std::string name(100000, 'n');
  const auto named =
      parse_safetensors(as_bytes(file_of("{\"" + name + R"(":{"dtype":"U8","shape":[2],"data_offsets":[0,1]}})", 1)));
  ASSERT_FALSE(named);
  EXPECT_LT(named.error().message.size(), 300u);
}

TEST(SafetensorsHostile, HonestFilesAreRead) {
  EXPECT_TRUE(parse_safetensors(as_bytes(file_of("{}", 0))));
  EXPECT_TRUE(parse_safetensors(as_bytes(file_of("{}      ", 0))));
  EXPECT_TRUE(
      parse_safetensors(as_bytes(file_of(R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1],"more":null}})", 1))));
}

TEST(SafetensorsHostile, EveryPrefixIsRefused) {
  const std::string whole = test::slurp(test::golden("small.safetensors"));
  ASSERT_TRUE(parse_safetensors(as_bytes(whole)));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const std::string prefix = whole.substr(0, n);
    EXPECT_FALSE(parse_safetensors(as_bytes(prefix))) << n;
  }
}

TEST(SafetensorsHostile, EveryByteMayBeAnything) {
  std::string bytes = test::slurp(test::golden("small.safetensors"));
  std::uint64_t sum = 0;
  int refused = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const char old = bytes[i];
    for (const char c : {'\0', '"', '9', '\xff', static_cast<char>(old ^ 1), static_cast<char>(old + 8)}) {
      bytes[i] = c;
      const auto part = parse_safetensors(as_bytes(bytes));
      if (!part) ++refused;
      if (!part) continue;
      for (const auto& e : part->entries) {
        for (const std::byte b : as_bytes(bytes).subspan(e.begin, e.end - e.begin))
          sum += static_cast<std::uint64_t>(b);
      }
    }
    bytes[i] = old;
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(sum, 0u);
}

}  // namespace
}  // namespace qw::formats
