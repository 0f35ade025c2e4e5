// qianwen govern approve, stop, release, stopped: what people decide about a service, on record or at once
// (docs/operations/policy.md).
#include <algorithm>
#include <cstdio>

#include "audit.h"
#include "base/clock.h"
#include "commands.h"
#include "governance/policy/approvals.h"
#include "governance/policy/stop_list.h"
#include "policy.h"

namespace qw::app {
namespace {

using namespace governance;

struct ApproveOptions {
  std::string name, profile, packs, log, log_key, key, by, note;  // approve
  std::string file, what, which, reason;                          // stop, release, stopped
  bool withdraw = false, json = false;
};

Status approve(const ApproveOptions& o) {
  QW_ASSIGN(const auto policy, open_policy(o.profile, o.packs));
  const auto& asked = policy->profile().required_approvals;
  if (std::find(asked.begin(), asked.end(), o.name) == asked.end())
    return fail(ErrorKind::kUsage, "the policy " + policy->profile().name + " asks for no approval " + o.name);
  QW_ASSIGN(const SigningKey key, SigningKey::read(o.key.empty() ? o.log_key : o.key));
  QW_ASSIGN(const auto log, open_audit(o.log, o.log_key));
  QW_TRY(log->append_and_wait(signed_approval({o.name, policy->hash(), o.by, o.note, o.withdraw}, key)));
  std::fprintf(stderr, "%s %s of the policy %s as it is (%s)\n",
               o.withdraw ? "withdrawn:" : "approved:", o.name.c_str(), policy->profile().name.c_str(),
               policy->hash().c_str());
  return {};
}

Result<Stop> stop_of(const ApproveOptions& o) {
  const auto what = stop_named(o.what);
  if (!what) return fail(ErrorKind::kUsage, o.what + ": expected all, model, adapter or project");
  if (o.which.empty() != (*what == Stop::What::kAll))
    return fail(ErrorKind::kUsage,
                *what == Stop::What::kAll ? "all has no name" : "the name of the " + o.what + " is missing");
  return Stop{*what, o.which, o.by, o.reason, base::unix_seconds()};
}

Status change(const ApproveOptions& o, bool stopped) {
  QW_ASSIGN(const Stop stop, stop_of(o));
  QW_ASSIGN(const auto list, change_stops(o.file, stop, stopped));
  if (!list) return fail(ErrorKind::kUsage, description(stop) + (stopped ? " is stopped already" : " is not stopped"));
  return {};
}
Status stop(const ApproveOptions& o) { return change(o, true); }
Status release(const ApproveOptions& o) { return change(o, false); }

Status stopped(const ApproveOptions& o) {
  QW_ASSIGN(const StopList list, StopList::read(o.file));
  for (const Stop& one : list.all()) {
    if (o.json)
      std::puts(json::dump(json::Value(to_json(one))).c_str());
    else
      std::printf("%s%s%s\n", description(one).c_str(), one.reason.empty() ? "" : ": ", one.reason.c_str());
  }
  return {};
}

}  // namespace

void add_govern_approve(CLI::App& govern, Outcome& outcome) {
  const auto add = [&](const char* name, const char* what, Status (*run)(const ApproveOptions&)) {
    CLI::App* cmd = govern.add_subcommand(name, what);
    const auto o = std::make_shared<ApproveOptions>();
    cmd->callback([o, run, &outcome] {
      if (const Status status = run(*o); !status) outcome.code = report(status.error());
    });
    return std::pair(cmd, o);
  };
  {
    const auto [cmd, o] = add("approve", "put an approval that a policy asks for into the audit log, signed", approve);
    cmd->add_option("NAME", o->name, "of the approval, as the policy names it")->required();
    cmd->add_option("--policy", o->profile, "a profile's file, or the name of one that comes with the program")
        ->required();
    cmd->add_option("--packs", o->packs, "folder of its keyword packs (default: beside the file)");
    cmd->add_option("--audit-log", o->log, "folder of the service's audit log; the service must not run")->required();
    cmd->add_option("--audit-key", o->log_key, "file of the key that signs the log")->required();
    cmd->add_option("--key", o->key, "file of the key of whoever approves (default: that of the log)");
    cmd->add_option("--by", o->by, "who approves")->required();
    cmd->add_option("--note", o->note, "on what grounds: where the report is, its hash");
    cmd->add_flag("--withdraw", o->withdraw, "it is approved no more");
  }
  const auto file = [](CLI::App* cmd, ApproveOptions& o) {
    cmd->add_option("--file", o.file, "that serve --stop-file names")->required();
  };
  for (const bool stops : {true, false}) {
    const auto [cmd, o] =
        stops ? add("stop", "end what runs and refuse what comes, in the services that read the file", stop)
              : add("release", "let it go on", release);
    cmd->add_option("WHAT", o->what, "all, model, adapter or project")->required();
    cmd->add_option("NAME", o->which, "which one; a project by its id");
    file(cmd, *o);
    cmd->add_option("--by", o->by, "who decides that");
    if (stops) cmd->add_option("--reason", o->reason, "why; clients are not told");
  }
  {
    const auto [cmd, o] = add("stopped", "what is stopped", stopped);
    file(cmd, *o);
    cmd->add_flag("--json", o->json, "an object a line");
  }
}

}  // namespace qw::app
