#include "governance/incident/incident_register.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "governance/audit/audit_log.h"

namespace qw::governance {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kAware = 1795942800;  // 2026-11-29T09:00:00Z

class IncidentTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "qw_incident_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    profile_ = *Profile::parse(shipped_profile("eu-public"));
    log_ = std::move(*AuditLog::open(folder_ / "log", *SigningKey::create(folder_ / "key")));
  }
  void TearDown() override {
    log_.reset();
    std::filesystem::remove_all(folder_);
  }
  void put(Result<json::Object> event) {
    ASSERT_TRUE(event) << event.error().message;
    ASSERT_TRUE(log_->append_and_wait(std::move(*event)));
  }
  std::vector<Incident> read() {
    auto all = read_incidents(folder_ / "log");
    EXPECT_TRUE(all) << all.error().message;
    return all ? *all : std::vector<Incident>();
  }
  std::filesystem::path folder_;
  Profile profile_;
  std::unique_ptr<AuditLog> log_;
};

TEST_F(IncidentTest, HasTheProfilesClockFromTheMomentOfKnowing) {
  put(incident_event(profile_, "serious", kAware, "it told how", "anna"));
  const Incident one = read().at(0);
  EXPECT_EQ(one.hours, 360);
  EXPECT_EQ(one.due, kAware + 360 * 3600);
  EXPECT_EQ(one.records, (std::vector<std::uint64_t>{0}));
  EXPECT_EQ(one.state(one.due), Incident::Clock::kRunning);
  EXPECT_EQ(one.state(one.due + 1), Incident::Clock::kOverdue);
  EXPECT_THAT(incident_event(profile_, "grave", kAware, "x", "anna").error().message,
              HasSubstr("no clock \"grave\"; it has serious (360 h), death (240 h), widespread (48 h)"));
}

TEST_F(IncidentTest, IsReportedInTimeOrLateAndClosedOnce) {
  put(incident_event(profile_, "serious", kAware, "a", "anna"));
  put(incident_event(profile_, "serious", kAware, "b", "anna"));
  const auto all = read();
  // It turns out to be worse: another clock, from the same moment.
  put(update_event(all[0], {.note = "one died", .clock = "death", .by = "bo"}, &profile_));
  put(update_event(all[0], {.reported_to = "the authority", .reported = kAware + 241 * 3600, .by = "bo"}, nullptr));
  put(update_event(all[1], {.reported = kAware + 3600, .by = "bo"}, nullptr));
  put(update_event(all[1], {.note = "mended", .close = true, .by = "bo"}, nullptr));
  const auto now = read();
  EXPECT_EQ(now[0].due, kAware + 240 * 3600);
  EXPECT_EQ(now[0].state(kAware), Incident::Clock::kReportedLate);
  EXPECT_EQ(now[0].reported_to, "the authority");
  EXPECT_THAT(now[0].notes.at(0), HasSubstr("bo: one died"));
  EXPECT_EQ(now[1].state(kAware), Incident::Clock::kReported);
  EXPECT_TRUE(now[1].closed);
  EXPECT_EQ(now[1].records, (std::vector<std::uint64_t>{1, 4, 5}));
  EXPECT_THAT(update_event(now[1], {.note = "more", .by = "bo"}, nullptr).error().message, HasSubstr("is closed"));
  EXPECT_FALSE(update_event(now[0], {.by = "bo"}, nullptr));
  EXPECT_FALSE(update_event(now[0], {.clock = "serious", .by = "bo"}, nullptr));
  EXPECT_FALSE(update_event(now[0], {.reported = kAware - 1, .by = "bo"}, nullptr));
}

TEST_F(IncidentTest, IsFoundByTheBeginningOfItsId) {
  put(incident_event(profile_, "serious", kAware, "a", "anna"));
  const auto all = read();
  EXPECT_EQ(*find_incident(all, all[0].id.substr(0, 8)), &all[0]);
  EXPECT_FALSE(find_incident(all, ""));
  EXPECT_FALSE(find_incident(all, "inc_x"));
}

TEST_F(IncidentTest, AnUpdateOfNothingIsAnError) {
  ASSERT_TRUE(log_->append_and_wait({{"type", "incident"}, {"action", "update"}, {"incident", "inc_1"}}));
  EXPECT_THAT(read_incidents(folder_ / "log").error().message, HasSubstr("never opened"));
}

}  // namespace
}  // namespace qw::governance
