#include "base/base64.h"

#include <gtest/gtest.h>

#include <array>

namespace qw::base {
namespace {

// RFC 4648, section 10.
constexpr std::array<std::array<const char*, 2>, 7> kVectors{{{"", ""},
                                                              {"f", "Zg=="},
                                                              {"fo", "Zm8="},
                                                              {"foo", "Zm9v"},
                                                              {"foob", "Zm9vYg=="},
                                                              {"fooba", "Zm9vYmE="},
                                                              {"foobar", "Zm9vYmFy"}}};

TEST(Base64, IsThatOfTheRfc) {
  for (const auto& [bytes, text] : kVectors) {
    EXPECT_EQ(to_base64(bytes), text);
    EXPECT_EQ(from_base64(text), bytes);
    const std::string bare(text, std::string_view(text).find_last_not_of('=') + 1);
    EXPECT_EQ(to_base64url(bytes), bare);
    EXPECT_EQ(from_base64url(bare), bytes);
  }
  EXPECT_EQ(to_base64("\xfb\xff"), "+/8=");
  EXPECT_EQ(to_base64url("\xfb\xff"), "-_8");
  EXPECT_EQ(from_base64("+/8="), "\xfb\xff");
}

TEST(Base64, EveryByteComesBack) {
  std::string bytes;
  for (int n = 0; n < 600; ++n) {
    EXPECT_EQ(from_base64(to_base64(bytes)), bytes);
    EXPECT_EQ(from_base64url(to_base64url(bytes)), bytes);
    bytes += static_cast<char>(n * 37 % 256);
  }
}

TEST(Base64, OnlyOneTextStandsForBytes) {
  for (const char* text :
       {"A", "Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zm9v=", "-_8=", "Zm 9", "Zg==Zg==", "Zm9v\n"})
    EXPECT_FALSE(from_base64(text).has_value()) << text;
  for (const char* text : {"A", "Zg==", "Zh", "+/8", "Z g"}) EXPECT_FALSE(from_base64url(text).has_value()) << text;
}

}  // namespace
}  // namespace qw::base
