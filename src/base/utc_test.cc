#include "base/utc.h"

#include <gtest/gtest.h>

namespace qw::base {
namespace {

TEST(Utc, WritesAndReadsMoments) {
  EXPECT_EQ(utc_text(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(utc_text(1795942800), "2026-11-29T09:00:00Z");
  EXPECT_EQ(unix_of_utc("2026-11-29T09:00:00Z"), 1795942800);
  EXPECT_EQ(unix_of_utc("2026-11-29T09:00:00.123456Z"), 1795942800);
  EXPECT_EQ(unix_of_utc("2026-11-29T10:00:00+01:00"), 1795942800);
  EXPECT_EQ(unix_of_utc("2026-11-29T01:30:00-07:30"), 1795942800);
  EXPECT_EQ(unix_of_utc("2026-11-29"), 1795942800 - 9 * 3600);
  EXPECT_EQ(unix_of_utc("2024-02-29"), 1709164800);
}

TEST(Utc, RefusesWhatIsNoMoment) {
  for (const char* text :
       {"", "2026", "2026-13-01", "2026-02-29", "2026-11-29T", "2026-11-29T09:00:00", "2026-11-29T24:00:00Z",
        "2026-11-29T09:60:00Z", "2026-11-29T09:00:61Z", "2026-11-29T09:00:00.Z", "2026-11-29T09:00:00+0100",
        "2026-11-29 09:00:00Z", "yesterday....", "2026-11-29T09:00:00Zx"})
    EXPECT_FALSE(unix_of_utc(text)) << text;
}

}  // namespace
}  // namespace qw::base
