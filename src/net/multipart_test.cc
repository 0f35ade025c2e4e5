#include "net/multipart.h"

#include <gtest/gtest.h>

#include "net/http.h"

namespace qw::net {
namespace {

constexpr const char* kType = "multipart/form-data; boundary=XX";

std::string part(const std::string& disposition, const std::string& body, const std::string& more = "") {
  return "--XX\r\nContent-Disposition: form-data; " + disposition + "\r\n" + more + "\r\n" + body + "\r\n";
}

TEST(MultipartTest, FieldsAndFilesComeInOrderWithTheirBytes) {
  const std::string bytes("a\r\n--X\0\xff\r\n", 11);
  const std::string body =
      part("name=\"purpose\"", "batch") +
      part("name=file; filename=\"C:\\dir\\lines.jsonl\"", bytes, "Content-Type: application/jsonl\r\n") +
      part("name=empty", "") + "--XX--\r\n";
  const auto parts = parse_form(kType, body);
  ASSERT_TRUE(parts.has_value()) << parts.error().message;
  ASSERT_EQ(parts->size(), 3u);
  EXPECT_EQ((*parts)[0].name, "purpose");
  EXPECT_EQ((*parts)[0].body, "batch");
  EXPECT_EQ((*parts)[0].filename, "");
  EXPECT_EQ((*parts)[1].name, "file");
  EXPECT_EQ((*parts)[1].filename, "lines.jsonl");
  EXPECT_EQ((*parts)[1].content_type, "application/jsonl");
  EXPECT_EQ((*parts)[1].body, bytes);
  EXPECT_EQ((*parts)[2].body, "");
}

TEST(MultipartTest, NamesOfFilesInEverySpelling) {
  const auto filename = [](const std::string& disposition) {
    const auto parts = parse_form("Multipart/Form-Data ; charset=utf-8; boundary=\"XX\"",
                                  part("name=f; " + disposition, "x") + "--XX--");
    return parts ? (*parts)[0].filename : "error: " + parts.error().message;
  };
  EXPECT_EQ(filename("filename=plain.txt"), "plain.txt");
  EXPECT_EQ(filename("filename=\"with \\\"quotes\\\"; and more.txt\""), "with \"quotes\"; and more.txt");
  EXPECT_EQ(filename("filename=\"fallback\"; filename*=UTF-8''%E6%98%A5.txt"), "春.txt");
  EXPECT_EQ(filename("filename=\"../../etc/passwd\""), "passwd");
}

TEST(MultipartTest, WhatIsBeforeTheFirstAndBehindTheLastBoundaryIsNoPart) {
  const auto parts = parse_form(kType, "preamble\r\n" + part("name=a", "1") + "--XX-- epilogue\r\n--XX\r\n");
  ASSERT_TRUE(parts.has_value()) << parts.error().message;
  EXPECT_EQ(parts->size(), 1u);
}

TEST(MultipartTest, BrokenBodiesAreErrorsThatSayWhy) {
  const std::string good = part("name=a", "1") + "--XX--";
  const auto why = [](const std::string& type, const std::string& body) {
    const auto parts = parse_form(type, body);
    return parts ? "no error" : parts.error().message;
  };
  const auto has = [](const std::string& text, const char* words) { return text.find(words) != std::string::npos; };
  EXPECT_TRUE(has(why("application/json", good), "Content-Type"));
  EXPECT_TRUE(has(why("multipart/form-data", good), "no boundary"));
  EXPECT_TRUE(has(why("multipart/form-data; boundary=YY", good), "does not occur"));
  EXPECT_TRUE(has(why(kType, part("filename=a", "1") + "--XX--"), "without a name"));
  EXPECT_TRUE(has(why(kType, "--XX\r\nA: b\r\n\r\n1\r\n--XX--"), "without Content-Disposition"));
  EXPECT_TRUE(has(why(kType, part("name=a", "1", "Content-Transfer-Encoding: base64\r\n") + "--XX--"), "base64"));
  EXPECT_TRUE(has(why(kType, "--XX\r\n" + std::string(20'000, 'a')), "no end"));
  std::string many;
  for (std::size_t i = 0; i <= kMaxFormParts; ++i) many += part("name=a", "");
  EXPECT_TRUE(has(why(kType, many + "--XX--"), "more than"));
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_NE(why(kType, good.substr(0, n)), "no error") << n;
}

TEST(QueryTest, ValuesAreDecodedAndTheFirstCounts) {
  EXPECT_EQ(query_value("a=1&b=x%20y+z&a=2&flag", "b"), "x y z");
  EXPECT_EQ(query_value("a=1&b=x&a=2", "a"), "1");
  EXPECT_EQ(query_value("flag&a=1", "flag"), "");
  EXPECT_EQ(query_value("ab=1", "b"), std::nullopt);
  EXPECT_EQ(query_value("", "a"), std::nullopt);
  EXPECT_EQ(query_value("a=%zz", "a"), std::nullopt);
  EXPECT_EQ(query_value("%61=1", "a"), "1");
}

}  // namespace
}  // namespace qw::net
