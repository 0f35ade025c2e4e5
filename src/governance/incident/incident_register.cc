#include "governance/incident/incident_register.h"

#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "base/utc.h"
#include "governance/audit/log_files.h"

namespace qw::governance {
namespace {

constexpr std::int64_t kHour = 3600;
constexpr std::size_t kMostText = 20'000;

Result<std::int64_t> hours_of(const Profile& profile, const std::string& clock) {
  std::string known;
  for (const auto& [name, hours] : profile.incident_clocks) {
    if (name == clock) return hours;
    known += (known.empty() ? "" : ", ") + name + " (" + std::to_string(hours) + " h)";
  }
  return fail(ErrorKind::kUsage, "the profile " + profile.name + " has no clock \"" + clock + "\"; " +
                                     (known.empty() ? "it has none (incident_clocks)" : "it has " + known));
}

Status check_text(const char* what, const std::string& text) {
  if (text.empty()) return fail(ErrorKind::kUsage, std::string(what) + " is empty");
  if (text.size() > kMostText)
    return fail(ErrorKind::kUsage, std::string(what) + " is longer than " + std::to_string(kMostText) + " bytes");
  return {};
}

Result<std::string> fresh_id() {
  std::array<unsigned char, 6> random{};
  if (RAND_bytes(random.data(), random.size()) != 1) return fail(ErrorKind::kFailed, "no random numbers");
  return "inc_" + to_hex(random);
}

std::string text(const json::Value& record, const char* key) {
  const json::Value* found = record.find(key);
  return found != nullptr && found->is_string() ? found->as_string() : "";
}
std::optional<std::int64_t> whole(const json::Value& record, const char* key) {
  const json::Value* found = record.find(key);
  return found != nullptr && found->is_int() ? std::optional(found->as_int()) : std::nullopt;
}

void set_clock(const json::Value& record, Incident& out) {
  out.clock = text(record, "clock");
  out.profile = text(record, "profile");
  out.policy = text(record, "policy");
  out.hours = whole(record, "hours").value_or(0);
  out.due = whole(record, "due").value_or(0);
}

void apply(const json::Value& record, Incident& out) {
  if (record.find("clock") != nullptr) set_clock(record, out);
  if (const auto at = whole(record, "reported")) {
    out.reported = at;
    out.reported_to = text(record, "reported_to");
  }
  if (text(record, "action") == "close") out.closed = true;
  if (const std::string note = text(record, "note"); !note.empty()) {
    const std::string by = text(record, "by");
    out.notes.push_back(text(record, "ts") + (by.empty() ? "" : " " + by) + ": " + note);
  }
}

}  // namespace

Incident::Clock Incident::state(std::int64_t now) const {
  if (reported) return *reported <= due ? Clock::kReported : Clock::kReportedLate;
  return now <= due ? Clock::kRunning : Clock::kOverdue;
}

const char* clock_name(Incident::Clock state) {
  static constexpr const char* kNames[] = {"running", "overdue", "reported", "reported late"};
  return kNames[static_cast<std::size_t>(state)];
}

Result<json::Object> incident_event(const Profile& profile, const std::string& clock, std::int64_t aware,
                                    const std::string& summary, const std::string& by) {
  QW_ASSIGN(const std::int64_t hours, hours_of(profile, clock));
  QW_TRY(check_text("the summary", summary));
  QW_ASSIGN(const std::string id, fresh_id());
  return json::Object{{"type", "incident"},
                      {"action", "add"},
                      {"incident", id},
                      {"clock", clock},
                      {"hours", hours},
                      {"profile", profile.name},
                      {"policy", to_hex(profile.hash)},
                      {"aware", aware},
                      {"due", aware + hours * kHour},
                      {"summary", summary},
                      {"by", by}};
}

Result<json::Object> update_event(const Incident& incident, const IncidentUpdate& u, const Profile* profile) {
  if (incident.closed) return fail(ErrorKind::kUsage, incident.id + " is closed; add another that refers to it");
  json::Object out{
      {"type", "incident"}, {"action", u.close ? "close" : "update"}, {"incident", incident.id}, {"by", u.by}};
  if (u.note) {
    QW_TRY(check_text("the note", *u.note));
    out.set("note", *u.note);
  }
  if (u.clock) {
    if (profile == nullptr) return fail(ErrorKind::kUsage, "another clock is one of a profile: give --policy");
    QW_ASSIGN(const std::int64_t hours, hours_of(*profile, *u.clock));
    out.set("clock", *u.clock);
    out.set("hours", hours);
    out.set("profile", profile->name);
    out.set("policy", to_hex(profile->hash));
    out.set("due", incident.aware + hours * kHour);
  }
  if (u.reported) {
    if (*u.reported < incident.aware)
      return fail(ErrorKind::kUsage, "it cannot be reported before anybody was aware of it");
    out.set("reported", *u.reported);
    out.set("reported_to", u.reported_to.value_or(""));
  }
  constexpr std::size_t kNothingSaid = 4;
  if (!u.close && out.size() == kNothingSaid)
    return fail(ErrorKind::kUsage, "nothing is said: --note, --clock or --reported");
  return out;
}

Result<std::vector<Incident>> read_incidents(const std::filesystem::path& log) {
  std::vector<Incident> out;
  QW_ASSIGN(LineReader reader, LineReader::open(log / kRecordsFile));
  std::string line;
  bool ended = false;
  for (;;) {
    QW_ASSIGN(const bool more, reader.next(line, ended));
    if (!more || !ended) return out;
    if (line.find(R"("type":"incident")") == std::string::npos) continue;  // nearly all
    const auto record = json::parse(line);
    if (!record || text(*record, "type") != "incident") continue;
    const std::string id = text(*record, "incident");
    const auto seq = static_cast<std::uint64_t>(whole(*record, "seq").value_or(0));
    if (text(*record, "action") == "add") {
      Incident& made = out.emplace_back();
      made.id = id;
      made.aware = whole(*record, "aware").value_or(0);
      made.summary = text(*record, "summary");
      made.opened_by = text(*record, "by");
      set_clock(*record, made);
      made.records.push_back(seq);
      continue;
    }
    const auto known = std::find_if(out.begin(), out.end(), [&](const Incident& one) { return one.id == id; });
    if (known == out.end())
      return fail(ErrorKind::kBadInput, log.string() + ": record " + std::to_string(seq) + " is of the incident " + id +
                                            ", which was never opened there");
    apply(*record, *known);
    known->records.push_back(seq);
  }
}

Result<const Incident*> find_incident(const std::vector<Incident>& all, const std::string& id) {
  const Incident* found = nullptr;
  for (const Incident& one : all) {
    if (id.empty() || !one.id.starts_with(id)) continue;
    if (found != nullptr) return fail(ErrorKind::kUsage, "several incidents begin with " + id);
    found = &one;
  }
  if (found == nullptr) return fail(ErrorKind::kUsage, "there is no incident " + id + " in this log");
  return found;
}

}  // namespace qw::governance
