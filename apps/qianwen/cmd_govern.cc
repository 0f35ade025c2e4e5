// qianwen govern audit key | verify | show | head | prove | check: the audit log of a service
// (docs/operations/audit.md). qianwen govern watermark is in govern_watermark.cc,
// qianwen govern scan in govern_scan.cc, qianwen govern profile in govern_profile.cc,
// qianwen govern approve and stop in govern_approve.cc, qianwen govern label in govern_label.cc, qianwen govern ledger
// in govern_ledger.cc, qianwen govern incident in govern_incident.cc, qianwen govern dossier
// in govern_dossier.cc, qianwen govern assess in govern_assess.cc, qianwen govern content and replay in govern_content.cc.
#include <algorithm>
#include <cstdio>

#include "base/file.h"
#include "govern_commands.h"
#include "governance/audit/verify.h"

namespace qw::app {
namespace {

using namespace governance;

struct AuditOptions {
  std::string folder, key, anchor, type, proof;
  std::vector<std::string> where;
  std::uint64_t seq = 0, limit = 0;
  bool json = false;
};
using Shared = std::shared_ptr<AuditOptions>;

// Files that hold one head or one proof.
constexpr std::uint64_t kMaxFileBytes = 16 << 20;

Status make_key(const AuditOptions& o) {
  QW_ASSIGN(const SigningKey key, SigningKey::create(o.key));
  if (o.json)
    std::puts(
        json::dump(json::Object{{"id", key.public_key().id()}, {"secret", o.key}, {"public", o.key + ".pub"}}).c_str());
  else
    std::fprintf(stderr, "key %s: %s signs and stays with the service, %s.pub verifies and may be given to everybody\n",
                 key.public_key().id().c_str(), o.key.c_str(), o.key.c_str());
  return {};
}

Status verify(const AuditOptions& o) {
  QW_ASSIGN(const PublicKey key, PublicKey::read(o.key));
  std::optional<Head> anchor;
  if (!o.anchor.empty()) {
    QW_ASSIGN(std::string line, base::read_file(o.anchor, kMaxFileBytes));
    while (!line.empty() && line.back() == '\n') line.pop_back();
    auto head = Head::parse(line);
    if (!head) return in_context(o.anchor, std::move(head).error());
    anchor = *head;
  }
  QW_ASSIGN(const AuditReport r, verify_log(o.folder, key, anchor));
  if (o.json) {
    json::Array findings;
    for (const std::string& f : r.findings) findings.emplace_back(f);
    std::puts(json::dump(json::Object{{"whole", r.findings.empty()},
                                      {"records", static_cast<std::int64_t>(r.records)},
                                      {"heads", static_cast<std::int64_t>(r.heads)},
                                      {"root", to_hex(r.root)},
                                      {"key", key.id()},
                                      {"first_ts", r.first_ts},
                                      {"last_ts", r.last_ts},
                                      {"findings", std::move(findings)}})
                  .c_str());
  } else if (r.findings.empty()) {
    std::printf("whole: %llu records under %llu heads of the key %s, from %s to %s\n",
                static_cast<unsigned long long>(r.records), static_cast<unsigned long long>(r.heads), key.id().c_str(),
                r.first_ts.c_str(), r.last_ts.c_str());
  }
  if (r.findings.empty()) return {};
  if (!o.json)
    for (const std::string& f : r.findings) std::printf("%s\n", f.c_str());
  return fail(ErrorKind::kBadInput, o.folder + ": the audit log is not whole");
}

// Whether the member `name` of a record, where `.` goes into objects, is `value`: a text as it is, anything else as
// JSON.
bool says(const json::Value& record, std::string_view name, const std::string& value) {
  const json::Value* found = &record;
  while (found != nullptr) {
    const auto dot = name.find('.');
    found = found->find(name.substr(0, dot));
    if (dot == std::string_view::npos) break;
    name.remove_prefix(dot + 1);
  }
  if (found == nullptr) return false;
  return found->is_string() ? found->as_string() == value : json::dump(*found) == value;
}

Status show(const AuditOptions& o) {
  std::vector<std::pair<std::string, std::string>> wanted;
  if (!o.type.empty()) wanted.emplace_back("type", o.type);
  for (const std::string& one : o.where) {
    const auto equals = one.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(ErrorKind::kUsage, "govern audit show: --where " + one + ": expected NAME=VALUE");
    wanted.emplace_back(one.substr(0, equals), one.substr(equals + 1));
  }
  QW_ASSIGN(LineReader reader, LineReader::open(std::filesystem::path(o.folder) / kRecordsFile));
  std::string line;
  bool whole = false;
  std::uint64_t shown = 0;
  while (o.limit == 0 || shown < o.limit) {
    QW_ASSIGN(const bool more, reader.next(line, whole));
    if (!more) break;
    if (!wanted.empty()) {
      const auto record = json::parse(line);
      const auto fits = [&](const auto& one) { return says(*record, one.first, one.second); };
      if (!record || !std::all_of(wanted.begin(), wanted.end(), fits)) continue;
    }
    std::puts(line.c_str());
    ++shown;
  }
  return {};
}

Status head(const AuditOptions& o) {
  QW_ASSIGN(LineReader reader, LineReader::open(std::filesystem::path(o.folder) / kHeadsFile));
  std::string line, last;
  bool whole = false;
  while (true) {
    QW_ASSIGN(const bool more, reader.next(line, whole));
    if (!more || !whole) break;
    last = line;
  }
  if (last.empty()) return fail(ErrorKind::kUsage, o.folder + ": nothing is signed yet");
  std::puts(last.c_str());
  return {};
}

Status prove(const AuditOptions& o) {
  QW_ASSIGN(json::Object proof, prove_record(o.folder, o.seq));
  std::puts(json::dump(json::Value(std::move(proof))).c_str());
  return {};
}

Status check(const AuditOptions& o) {
  QW_ASSIGN(const PublicKey key, PublicKey::read(o.key));
  QW_ASSIGN(const std::string text, base::read_file(o.proof, kMaxFileBytes));
  auto proof = json::parse(text);
  if (!proof) return in_context(o.proof, std::move(proof).error());
  auto record = check_proof(*proof, key);
  if (!record) return in_context(o.proof, std::move(record).error());
  std::puts(canonical(*record).c_str());
  return {};
}

}  // namespace

void add_govern(CLI::App& app, Outcome& outcome) {
  CLI::App* govern = app.add_subcommand("govern", "What a service did, on record, and which texts are its own");
  govern->require_subcommand(1);
  CLI::App* audit = govern->add_subcommand("audit", "The audit log of serve --audit-log");
  audit->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, Status (*run)(const AuditOptions&)) {
    CLI::App* cmd = audit->add_subcommand(name, what);
    const auto o = std::make_shared<AuditOptions>();
    cmd->callback([o, run, &outcome] {
      if (const Status status = run(*o); !status) outcome.code = report(status.error());
    });
    return std::pair(cmd, o);
  };
  const auto folder = [](CLI::App* cmd, AuditOptions& o) { cmd->add_option("FOLDER", o.folder, "of the log")->required(); };
  const auto public_key = [](CLI::App* cmd, AuditOptions& o) {
    cmd->add_option("--key", o.key, "file of the public key")->required();
  };
  {
    const auto [cmd, o] = add("key", "make a key: FILE signs, FILE.pub verifies", make_key);
    cmd->add_option("FILE", o->key, "must not exist yet")->required();
    cmd->add_flag("--json", o->json, "print one JSON object");
  }
  {
    const auto [cmd, o] =
        add("verify", "check a log with the public key alone: exit code 3 if anything was changed", verify);
    folder(cmd, *o);
    public_key(cmd, *o);
    cmd->add_option("--head", o->anchor,
                    "a head that was put by (audit head): finds a log that was rewritten or cut since");
    cmd->add_flag("--json", o->json, "print one JSON object");
  }
  {
    const auto [cmd, o] = add("show", "print records, a JSON object a line", show);
    folder(cmd, *o);
    cmd->add_option(
        "--type", o->type,
        "of this type only: start, stop, generation, reading, refusal, detection, approval, assessment, switch, ledger, "
        "incident, complaint, erasure, administration, replay");
    cmd->add_option("--where", o->where,
                    "NAME=VALUE: of which this member is that, as produce_id=..., request=... or used.output=3; all of "
                    "them if there are several");
    cmd->add_option("--limit", o->limit, "so many (0: all)");
  }
  {
    const auto [cmd, o] = add("head", "print the last signed head, to be put by elsewhere", head);
    folder(cmd, *o);
  }
  {
    const auto [cmd, o] = add("prove", "print what shows one record to somebody without the log", prove);
    folder(cmd, *o);
    cmd->add_option("SEQ", o->seq, "the record's seq")->required();
  }
  {
    const auto [cmd, o] = add("check", "print the record of a proof if it holds", check);
    cmd->add_option("PROOF", o->proof, "file of audit prove")->required();
    public_key(cmd, *o);
  }
  add_govern_content(*govern, outcome);
  add_govern_scan(*govern, outcome);
  add_govern_profile(*govern, outcome);
  add_govern_approve(*govern, outcome);
  add_govern_label(*govern, outcome);
  add_govern_ledger(*govern, outcome);
  add_govern_incident(*govern, outcome);
  add_govern_dossier(*govern, outcome);
  add_govern_assess(*govern, outcome);
  add_govern_watermark(*govern, outcome);
}

}  // namespace qw::app
