#include "governance/audit/find_answer.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

#include "base/utc.h"
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

TEST(FindAnswer, ReadsTheMomentOfANumber) {
  EXPECT_EQ(moment_of("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), 0x017F22E279B0);  // RFC 9562, appendix A.6
  for (const char* text : {"", "017f22e2-79b0-4cc3-98c4-dc0c0c07398f", "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
                           "017f22e2x79b0-7cc3-98c4-dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398"})
    EXPECT_FALSE(moment_of(text)) << text;
}

}  // namespace
}  // namespace qw::governance
