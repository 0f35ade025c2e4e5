// qianwen govern incident add | update | list | close: what went wrong, and until when it must be reported, as records
// of an audit log (docs/operations/incidents.md).
#include <cstdio>
#include <optional>

#include "audit.h"
#include "base/clock.h"
#include "base/utc.h"
#include "govern_commands.h"
#include "governance/incident/incident_register.h"
#include "policy.h"

namespace qw::app {
namespace {

using namespace governance;

struct IncidentOptions {
  std::string log, key, profile, clock, aware, summary, by, id, note, reported, to;
  bool open = false, json = false;
};

// Now, unless a moment is given.
Result<std::int64_t> moment(const std::string& given, const char* option) {
  if (given.empty()) return base::unix_seconds();
  const auto at = base::unix_of_utc(given);
  if (!at)
    return fail(ErrorKind::kUsage,
                std::string(option) + " " + given + ": expected a moment, such as 2026-11-29T09:00:00Z");
  if (*at > base::unix_seconds()) return fail(ErrorKind::kUsage, std::string(option) + " " + given + ": lies ahead");
  return *at;
}

Status append(const IncidentOptions& o, json::Object event) {
  QW_ASSIGN(const auto log, open_audit(o.log, o.key));
  return log->append_and_wait(std::move(event));
}

Status add(const IncidentOptions& o) {
  QW_ASSIGN(const Profile profile, open_profile(o.profile));
  QW_ASSIGN(const std::int64_t aware, moment(o.aware, "--aware"));
  QW_ASSIGN(json::Object event, incident_event(profile, o.clock, aware, o.summary, o.by));
  const std::string id = event.find("incident")->as_string();
  const std::int64_t due = event.find("due")->as_int(), hours = event.find("hours")->as_int();
  QW_TRY(append(o, std::move(event)));
  std::puts(id.c_str());
  std::fprintf(stderr, "to be reported by %s: %lld hours from %s (%s of %s)\n", base::utc_text(due).c_str(),
               static_cast<long long>(hours), base::utc_text(aware).c_str(), o.clock.c_str(), profile.name.c_str());
  return {};
}

Status change(const IncidentOptions& o, bool close) {
  IncidentUpdate update;
  update.by = o.by;
  update.close = close;
  if (!o.note.empty()) update.note = o.note;
  if (!o.clock.empty()) update.clock = o.clock;
  if (!o.reported.empty() || !o.to.empty()) {
    QW_ASSIGN(update.reported, moment(o.reported == "now" ? "" : o.reported, "--reported"));
    update.reported_to = o.to;
  }
  std::optional<Profile> profile;
  if (!o.profile.empty()) {
    QW_ASSIGN(profile, open_profile(o.profile));
  }
  QW_ASSIGN(const auto all, read_incidents(o.log));
  QW_ASSIGN(const Incident* incident, find_incident(all, o.id));
  QW_ASSIGN(json::Object event, update_event(*incident, update, profile ? &*profile : nullptr));
  return append(o, std::move(event));
}
Status update(const IncidentOptions& o) { return change(o, false); }
Status close(const IncidentOptions& o) { return change(o, true); }

json::Object to_json(const Incident& one, std::int64_t now) {
  json::Array notes, records;
  for (const std::string& note : one.notes) notes.emplace_back(note);
  for (const std::uint64_t seq : one.records) records.emplace_back(static_cast<std::int64_t>(seq));
  return {{"incident", one.id},
          {"status", one.closed ? "closed" : "open"},
          {"clock", one.clock},
          {"clock_state", clock_name(one.state(now))},
          {"hours", one.hours},
          {"profile", one.profile},
          {"policy", one.policy},
          {"aware", base::utc_text(one.aware)},
          {"due", base::utc_text(one.due)},
          {"reported", one.reported ? json::Value(base::utc_text(*one.reported)) : json::Value(nullptr)},
          {"reported_to", one.reported_to},
          {"summary", one.summary},
          {"opened_by", one.opened_by},
          {"notes", std::move(notes)},
          {"records", std::move(records)}};
}

Status list(const IncidentOptions& o) {
  QW_ASSIGN(const auto all, read_incidents(o.log));
  const std::int64_t now = base::unix_seconds();
  bool overdue = false;
  for (const Incident& one : all) {
    if (o.open && one.closed) continue;
    const auto state = one.state(now);
    overdue = overdue || (!one.closed && state == Incident::Clock::kOverdue);
    if (o.json) {
      std::puts(json::dump(json::Value(to_json(one, now))).c_str());
      continue;
    }
    std::printf("%s  %-6s  %-10s due %s, %s", one.id.c_str(), one.closed ? "closed" : "open", one.clock.c_str(),
                base::utc_text(one.due).c_str(), clock_name(state));
    if (state == Incident::Clock::kRunning)
      std::printf(" (%lld h left)", static_cast<long long>((one.due - now) / 3600));
    std::printf("  %s\n", one.summary.c_str());
  }
  if (overdue) return fail(ErrorKind::kRefused, "an incident is overdue");
  return {};
}

}  // namespace

void add_govern_incident(CLI::App& govern, Outcome& outcome) {
  CLI::App* incident = govern.add_subcommand("incident", "What went wrong, and until when it must be reported");
  incident->require_subcommand(1);
  const auto add_command = [&](const char* name, const char* what, Status (*run)(const IncidentOptions&)) {
    CLI::App* cmd = incident->add_subcommand(name, what);
    const auto o = std::make_shared<IncidentOptions>();
    cmd->callback([o, run, &outcome] {
      if (const Status status = run(*o); !status) outcome.code = report(status.error());
    });
    cmd->add_option("--audit-log", o->log, "folder of the log that has them; no service may write it at the same time")
        ->required();
    return std::pair(cmd, o);
  };
  const auto writes = [](CLI::App* cmd, IncidentOptions& o) {
    cmd->add_option("--audit-key", o.key, "file of the key that signs the log")->required();
    cmd->add_option("--by", o.by, "who says so")->required();
  };
  const auto clock = [](CLI::App* cmd, IncidentOptions& o, bool needed) {
    cmd->add_option("--policy", o.profile, "a profile's file, or the name of one that comes with the program")
        ->required(needed);
    cmd->add_option("--clock", o.clock, "which of its incident_clocks runs")->required(needed);
  };
  {
    const auto [cmd, o] = add_command("add", "open one; prints its id", add);
    writes(cmd, *o);
    clock(cmd, *o, true);
    cmd->add_option("--summary", o->summary, "what happened; no personal data, as it cannot be erased")->required();
    cmd->add_option("--aware", o->aware, "when the operator learnt of it (default: now), such as 2026-11-29T09:00:00Z");
  }
  const auto which = [](CLI::App* cmd, IncidentOptions& o) {
    cmd->add_option("ID", o.id, "its id, or how that begins")->required();
  };
  {
    const auto [cmd, o] = add_command("update", "a note, another clock, or that it was reported", update);
    which(cmd, *o);
    writes(cmd, *o);
    clock(cmd, *o, false);
    cmd->add_option("--note", o->note, "what is known now");
    cmd->add_option("--reported", o->reported, "when it was reported: now, or a moment");
    cmd->add_option("--to", o->to, "to whom");
  }
  {
    const auto [cmd, o] = add_command("close", "it is over", close);
    which(cmd, *o);
    writes(cmd, *o);
    cmd->add_option("--note", o->note, "how it ended")->required();
  }
  {
    const auto [cmd, o] = add_command("list", "all of them with their deadlines; exit code 4 if one is overdue", list);
    cmd->add_flag("--open", o->open, "those that are not closed");
    cmd->add_flag("--json", o->json, "an object a line");
  }
}

}  // namespace qw::app
