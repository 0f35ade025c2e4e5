// Incidents, from the day the operator learns of one to its end: records of an audit log, and nothing besides, so that
// what was known when cannot be changed later. Clocks are those of a profile (Profile::incident_clocks): so many hours
// from the moment that the operator became aware.
//
// Values; the log is written by whoever has it (audit_log.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "governance/policy/profile.h"

namespace qw::governance {

struct Incident {
  std::string id;               // "inc_" and 12 hexadecimal digits
  std::string clock;            // "serious", as the profile names it
  std::string profile, policy;  // its name and hash
  std::int64_t hours = 0;
  std::int64_t aware = 0, due = 0;  // Unix seconds
  std::string summary, opened_by;
  std::optional<std::int64_t> reported;  // Unix seconds
  std::string reported_to;
  bool closed = false;
  std::vector<std::string> notes;      // "2026-11-29T09:00:00Z anna: ..."
  std::vector<std::uint64_t> records;  // seq of each, in the log it is in

  enum class Clock { kRunning, kOverdue, kReported, kReportedLate };
  Clock state(std::int64_t now) const;
};
const char* clock_name(Incident::Clock state);

// Events for AuditLog::append. kUsage: the profile has no such clock; the message names those it has.
Result<json::Object> incident_event(const Profile& profile, const std::string& clock, std::int64_t aware,
                                    const std::string& summary, const std::string& by);
struct IncidentUpdate {
  std::optional<std::string> note = {}, clock = {}, reported_to = {};  // clock: another one, from the same moment
  std::optional<std::int64_t> reported = {};
  bool close = false;
  std::string by = {};
};
// kUsage: it is closed, nothing is said, or the profile has no such clock (`profile` is needed for another clock only).
Result<json::Object> update_event(const Incident& incident, const IncidentUpdate& update, const Profile* profile);

// Those of a log, in the order in which they were opened. kBadInput: a record is of an incident that was never opened.
Result<std::vector<Incident>> read_incidents(const std::filesystem::path& log);
// The one of that id, or whose id begins so; kUsage: none or several.
Result<const Incident*> find_incident(const std::vector<Incident>& all, const std::string& id);

}  // namespace qw::governance
