#include "base/utf8.h"

#include <gtest/gtest.h>

namespace qw::base {
namespace {

TEST(Utf8, EveryScalarValueAndBackAndNothingElse) {
  for (std::uint32_t code = 0; code <= 0x110000; ++code) {
    std::string text;
    append_utf8(text, code);
    const bool scalar = code < 0xD800 || (code > 0xDFFF && code <= 0x10FFFF);
    const Utf8Char c = utf8_at(text, 0);
    ASSERT_EQ(is_valid_utf8(text), scalar) << code;
    if (scalar) {
      ASSERT_EQ(c.code, code);
      ASSERT_EQ(c.size, text.size());
    } else {
      ASSERT_EQ(c.code, kInvalidCode) << code;
    }
  }
}

// What Python 3 gives for bytes.decode(errors="replace").
TEST(Utf8, IllFormedPartsAreReplacedAsPythonDoes) {
  const struct {
    std::string_view bytes, text;
  } cases[] = {{"a\xFFz", "a\uFFFDz"},
               {"\xC0\xAF", "\uFFFD\uFFFD"},                  // overlong
               {"\xE0\x80\x80", "\uFFFD\uFFFD\uFFFD"},
               {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},        // a surrogate
               {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
               {"\xE6\x98z", "\uFFFDz"},                      // a maximal subpart is one
               {"\xF0\x9F\x98", "\uFFFD"},
               {"春\x80", "春\uFFFD"}};
  for (const auto& [bytes, text] : cases) {
    std::string out;
    EXPECT_EQ(append_valid_utf8(out, bytes, true), bytes.size());
    EXPECT_EQ(out, text);
    EXPECT_FALSE(is_valid_utf8(bytes));
  }
}

TEST(Utf8, ACutCharacterWaitsForItsRest) {
  std::string out;
  EXPECT_EQ(append_valid_utf8(out, "a\xE6\x98", false), 1u);
  EXPECT_EQ(out, "a");
}

}  // namespace
}  // namespace qw::base
