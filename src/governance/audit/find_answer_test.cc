#include "governance/audit/find_answer.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

#include "base/utc.h"
#include "governance/audit/content_keys.h"
#include "governance/audit/log_files.h"

namespace qw::governance {
namespace {

std::string number(std::int64_t seconds, int n) {
  char text[40];
  std::snprintf(text, sizeof(text), "%012llx", static_cast<unsigned long long>(seconds * 1000));
  const std::string ms = text;
  std::snprintf(text, sizeof(text), "-7000-8000-%012x", n);
  return ms.substr(0, 8) + "-" + ms.substr(8) + text;
}

TEST(FindAnswer, FindsAnyOfALongLog) {
  std::string name = (std::filesystem::temp_directory_path() / "qw_find_XXXXXX").string();
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  constexpr std::int64_t kFrom = 1795942800;
  constexpr int kRecords = 20'000;  // three megabytes, a record every seven seconds
  {
    std::ofstream out(std::filesystem::path(name) / kRecordsFile);
    for (int i = 0; i < kRecords; ++i) {
      // An answer takes up to an hour.
      const std::int64_t ended = kFrom + 7 * i, begun = ended - i % 3600;
      out << R"({"filler":")" << std::string(60, 'x') << R"(","produce_id":")" << number(begun, i) << R"(","seq":)" << i
          << R"(,"ts":")" << base::utc_text(ended) << R"(","type":"generation"})"
          << "\n";
    }
    out << R"({"produce_id":")" << number(kFrom, 1 << 20);  // being written
  }
  for (const int i : {0, 1, 77, 3599, 3600, 9'999, 15'000, kRecords - 1}) {
    const auto found = find_answer(name, number(kFrom + 7 * i - i % 3600, i));
    ASSERT_TRUE(found) << found.error().message;
    ASSERT_TRUE(*found) << i;
    EXPECT_EQ((*found)->find("seq")->as_int(), i);
  }
  for (const auto& other :
       {number(kFrom + 70, 5), number(kFrom - 1000, 0), number(kFrom + 8 * kRecords, 0), number(kFrom, 1 << 20)}) {
    const auto found = find_answer(name, other);
    ASSERT_TRUE(found);
    EXPECT_FALSE(*found) << other;
  }
  EXPECT_EQ(find_answer(name, "7").error().kind, ErrorKind::kUsage);
  EXPECT_EQ(find_answer(name + "/none", number(kFrom, 1)).error().kind, ErrorKind::kFailed);
  std::filesystem::remove_all(name);
}

TEST(ContentKeys, SealsWhatOnlyTheirHolderOpensAndOnlyAsItWas) {
  ContentKeys keys;
  const std::string first = *keys.add(5);
  const Sealed sealed = keys.seal("cnt_1", "words");
  EXPECT_EQ(*keys.open("cnt_1", sealed), "words");
  EXPECT_NE(keys.seal("cnt_1", "words").body, sealed.body);  // under another key, with another nonce
  EXPECT_EQ(keys.open("cnt_2", sealed).error().kind, ErrorKind::kBadInput) << "another content's";
  for (std::size_t bit = 0; bit < 8 * (sealed.body.size() + sealed.wrapped.size()); ++bit) {
    Sealed changed = sealed;
    const std::size_t at = bit / 8, body = sealed.body.size();
    (at < body ? changed.body[at] : changed.wrapped[at - body]) ^= static_cast<char>(1 << bit % 8);
    ASSERT_FALSE(keys.open("cnt_1", changed)) << bit;
  }
  ContentKeys others;
  ASSERT_TRUE(others.add(5));
  EXPECT_EQ(others.open("cnt_1", sealed).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(keys.open("cnt_1", {first, "", ""}).error().message, "it was erased");
}

TEST(ContentKeys, AreTurnedAndForgotten) {
  ContentKeys keys;
  const std::string first = *keys.add(5);
  const Sealed old = keys.seal("c", "words");
  EXPECT_EQ(keys.remove(first).error().kind, ErrorKind::kUsage) << "it is the one in use";
  const std::string second = *keys.add(6);
  const Sealed now = *keys.rewrap("c", old);
  EXPECT_EQ(now.key_id, second);
  EXPECT_EQ(now.body, old.body) << "contents are not encrypted anew";
  ASSERT_TRUE(keys.remove(first));
  EXPECT_EQ(*keys.open("c", now), "words");
  EXPECT_FALSE(keys.open("c", old));
  EXPECT_FALSE(keys.remove("ck-0000000000000000"));
}

TEST(ContentKeys, AreReadFromAFileOrTheEnvironment) {
  ContentKeys keys;
  ASSERT_TRUE(keys.add(5));
  const auto path = std::filesystem::temp_directory_path() / ("qw-content-keys-" + std::to_string(::getpid()));
  ASSERT_TRUE(keys.write(path));
  EXPECT_EQ(ContentKeys::read(path.string())->dump(), keys.dump());
  std::filesystem::permissions(path, std::filesystem::perms::others_read, std::filesystem::perm_options::add);
  EXPECT_EQ(ContentKeys::read(path.string()).error().kind, ErrorKind::kRefused);
  std::filesystem::remove(path);
  ASSERT_EQ(::setenv("QW_TEST_CONTENT_KEYS", keys.dump().c_str(), 1), 0);
  EXPECT_EQ(ContentKeys::read("env:QW_TEST_CONTENT_KEYS")->newest(), keys.newest());
  EXPECT_EQ(ContentKeys::read("env:QW_TEST_NONE").error().kind, ErrorKind::kUsage);
  for (const char* wrong :
       {"", "{}", R"({"kind": "content-keys", "keys": [{}]})",
        R"({"kind": "content-keys", "keys": [{"id": "ck-0123456789abcdef", "created": 1, "secret": "ff"}]})"})
    EXPECT_EQ(ContentKeys::parse(wrong).error().kind, ErrorKind::kBadInput) << wrong;
}

TEST(FindAnswer, FindsARecordByAnyOfItsMembers) {
  const std::string name = std::filesystem::temp_directory_path() / ("qw-find-record-" + std::to_string(::getpid()));
  std::filesystem::create_directories(name);
  std::ofstream(name + "/records.jsonl") << R"({"request":"req_12","seq":0,"type":"refusal"})"
                                         << "\n"
                                         << R"({"request":"req_1","seq":12,"type":"generation"})"
                                         << "\n";
  EXPECT_EQ((*find_record(name, "request", "req_1"))->find("seq")->as_int(), 12);
  EXPECT_EQ((*find_record(name, "seq", "0"))->find("request")->as_string(), "req_12");
  EXPECT_FALSE(*find_record(name, "seq", "1"));
  EXPECT_FALSE(*find_record(name, "request", "req_"));
  EXPECT_EQ(find_record(name + "/none", "seq", "0").error().kind, ErrorKind::kFailed);
  std::filesystem::remove_all(name);
}

TEST(FindAnswer, ReadsTheMomentOfANumber) {
  EXPECT_EQ(moment_of("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), 0x017F22E279B0);  // RFC 9562, appendix A.6
  for (const char* text : {"", "017f22e2-79b0-4cc3-98c4-dc0c0c07398f", "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
                           "017f22e2x79b0-7cc3-98c4-dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398"})
    EXPECT_FALSE(moment_of(text)) << text;
}

}  // namespace
}  // namespace qw::governance
