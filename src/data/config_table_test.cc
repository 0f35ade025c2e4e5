#include "data/config_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qw::data {
namespace {

using testing::HasSubstr;

TEST(ConfigTable, UnknownKeysAreNamed) {
  const auto object = *parse_toml("a = 1\n[t]\nx = 2.5\ntypo = 3\n", "c.toml");
  ConfigTable top(object, "");
  std::int64_t a = 0;
  double x = 0;
  ASSERT_TRUE(top.read("a", a, 0, 5));
  auto t = *top.table("t");
  ASSERT_TRUE(t.read("x", x, 0, 3));
  EXPECT_EQ(a, 1);
  EXPECT_EQ(x, 2.5);
  EXPECT_TRUE(top.finish());
  ASSERT_FALSE(t.finish());
  EXPECT_EQ(t.finish().error().message, "unknown key t.typo");
  EXPECT_FALSE(top.read("a", a, 2, 5));
}

TEST(ConfigTable, SyntaxErrorsNameTheLine) {
  // Letters where a blank might stand: what the library calls impossible to happen.
  EXPECT_FALSE(parse_toml("key\u024A", "c.toml"));
  EXPECT_FALSE(parse_toml("\u00E9 = 1", "c.toml"));
  EXPECT_EQ(parse_toml("a = \"\"\"x\\\n  \u00E9\"\"\"  # \u00E9", "c.toml")->find("a")->as_string(), "x\u00E9");
  const auto bad = parse_toml("a = 1\nb = = 2\n", "c.toml");
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().message, HasSubstr("c.toml:2: "));
}

TEST(ConfigTable, OverridesReachIntoTables) {
  auto object = *parse_toml("a = 1\n[t]\nx = 2\n", "c.toml");
  ASSERT_TRUE(apply_override(object, "a=7"));
  ASSERT_TRUE(apply_override(object, "t.x=true"));
  ASSERT_TRUE(apply_override(object, "t.new.deep=some/path"));
  EXPECT_EQ(object.find("a")->as_int(), 7);
  EXPECT_TRUE(object.find("t")->find("x")->as_bool());
  EXPECT_EQ(object.find("t")->find("new")->find("deep")->as_string(), "some/path");
  EXPECT_FALSE(apply_override(object, "novalue"));
  EXPECT_FALSE(apply_override(object, "a.b=1"));
  EXPECT_FALSE(apply_override(object, "t..b=1"));
}

}  // namespace
}  // namespace qw::data
