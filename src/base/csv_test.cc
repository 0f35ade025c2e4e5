#include "base/csv.h"

#include <gtest/gtest.h>

namespace qw::base {
namespace {

TEST(Csv, RowsAndErrors) {
  const auto rows = parse_csv("\xEF\xBB\xBFq,\"a,\"\"b\"\"\",\r\n\"two\nlines\",x,y\n\nlast,,");
  ASSERT_TRUE(rows);
  ASSERT_EQ(rows->size(), 3u);
  EXPECT_EQ((*rows)[0].fields, (std::vector<std::string>{"q", "a,\"b\"", ""}));
  EXPECT_EQ((*rows)[1].fields, (std::vector<std::string>{"two\nlines", "x", "y"}));
  EXPECT_EQ((*rows)[2].line, 5u);
  EXPECT_EQ((*rows)[2].fields, (std::vector<std::string>{"last", "", ""}));
  EXPECT_EQ(parse_csv("a\n\"b").error().message, "line 2: a quote is not closed");
  EXPECT_EQ(parse_csv("\"b\"c").error().message, "line 1: text follows a closing quote");
}

TEST(Csv, ReadsWhatItWrites) {
  const std::vector<std::vector<std::string>> rows = {
      {"a", "", "b,c"}, {"two\nlines", "\"quoted\"", "\r"}, {"床前明月光"}};
  std::string text;
  for (const auto& row : rows) text += csv_row(row);
  const auto read = parse_csv(text);
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(read->size(), rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ((*read)[i].fields, rows[i]);
}

}  // namespace
}  // namespace qw::base
