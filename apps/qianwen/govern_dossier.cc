// qianwen govern dossier [verify]: what a system has on record, as documents that name what they rest on, with a
// signed list of all of it (docs/operations/dossier.md).
#include <cstdio>
#include <map>

#include "base/clock.h"
#include "base/file.h"
#include "base/utc.h"
#include "describe.h"
#include "govern_commands.h"
#include "governance/audit/verify.h"
#include "governance/dossier/documents.h"
#include "governance/dossier/manifest.h"
#include "ledger_files.h"
#include "licences.h"
#include "pdf_writer.h"
#include "policy.h"
#include "store/store.h"
#include "text_source.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;
using namespace governance;

struct DossierOptions {
  std::string out, key, profile, packs, log, operator_file, store;
  std::vector<std::string> models, assessments;
  bool no_pdf = false, json = false;
  std::string folder;  // verify
};

constexpr std::uint64_t kMostBytes = 64 << 20;

std::string pretty(const json::Value& value) {
  json::WriteStyle style;
  style.indent = 2;
  return json::dump(value, style) + "\n";
}

// What it is in the command line's words, without folders of this machine.
std::string base_name(const std::string& path) {
  fs::path p = fs::path(path).lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  return p.filename().string();
}

Status add_models(const DossierOptions& o, DossierInput& in) {
  for (const std::string& name : o.models) {
    QW_ASSIGN(const OpenedModel opened, open_model(name));
    QW_ASSIGN(json::Object facts, describe_model(opened, {}));
    ModelEvidence m;
    m.name = base_name(opened.path);
    facts.set("path", m.name);
    facts.erase("memory");
    facts.set("licence", stated_licence(opened.path));
    m.facts = in.evidence.add(m.name + "-facts.json", "what the files of the model " + m.name + " say",
                              pretty(json::Value(std::move(facts))));
    const auto ledgers = find_ledgers(opened.path);
    if (ledgers && ledgers->compute) {
      QW_ASSIGN(std::string text, base::read_file(*ledgers->compute, kMostBytes));
      m.compute =
          in.evidence.add(m.name + "-compute.json", "the record of what training " + m.name + " cost", std::move(text));
    }
    if (ledgers && ledgers->data) {
      QW_ASSIGN(std::string text, base::read_file(*ledgers->data, kMostBytes));
      m.data = in.evidence.add(m.name + "-data-ledger.json", "the ledger of the data of " + m.name, std::move(text));
    }
    in.models.push_back(std::move(m));
  }
  return {};
}

json::Value head_json(const Head& head) {
  return json::Object{{"size", static_cast<std::int64_t>(head.size)},
                      {"root", to_hex(head.root)},
                      {"ts", head.ts},
                      {"key", head.key},
                      {"prev", to_hex(head.previous)},
                      {"sig", to_hex(head.signature)}};
}

// The log in numbers: whether it is whole, its last head, its records by type.
Result<json::Object> summary_of(const std::string& log, const PublicKey& key) {
  AuditReport report;
  // A service may be between a record and the head that signs it; not three times.
  for (int i = 0; i < 3 && (i == 0 || !report.findings.empty()); ++i) {
    QW_ASSIGN(report, verify_log(log, key));
  }
  json::Array findings;
  for (const std::string& finding : report.findings) findings.emplace_back(finding);
  json::Object out{{"folder", base_name(log)},
                   {"whole", report.findings.empty()},
                   {"records", static_cast<std::int64_t>(report.records)},
                   {"heads", static_cast<std::int64_t>(report.heads)},
                   {"first_ts", report.first_ts},
                   {"last_ts", report.last_ts},
                   {"findings", std::move(findings)}};
  std::string line, last;
  bool whole = false;
  {
    QW_ASSIGN(LineReader heads, LineReader::open(fs::path(log) / kHeadsFile));
    for (;;) {
      QW_ASSIGN(const bool more, heads.next(line, whole));
      if (!more || !whole) break;
      last = line;
    }
  }
  if (const auto head = Head::parse(last)) out.set("head", head_json(*head));
  std::map<std::string, std::int64_t> types;
  json::Array approvals, starts;
  QW_ASSIGN(LineReader records, LineReader::open(fs::path(log) / kRecordsFile));
  for (;;) {
    QW_ASSIGN(const bool more, records.next(line, whole));
    if (!more || !whole) break;
    auto record = json::parse(line);
    const json::Value* type = record ? record->find("type") : nullptr;
    if (type == nullptr || !type->is_string()) continue;
    ++types[type->as_string()];
    if (type->as_string() == "approval")
      approvals.push_back(std::move(*record));
    else if (type->as_string() == "start")
      starts = json::Array{std::move(*record)};  // the last one
  }
  json::Object counts;
  for (const auto& [type, n] : types) counts.set(type, n);
  out.set("types", std::move(counts));
  out.set("approvals", std::move(approvals));
  if (!starts.empty()) out.set("last_start", std::move(starts.front()));
  return out;
}

Status add_log(const DossierOptions& o, const SigningKey& key, DossierInput& in) {
  if (o.log.empty()) return {};
  QW_ASSIGN(json::Object summary, summary_of(o.log, key.public_key()));
  in.audit = in.evidence.add("audit-log.json",
                             "the audit log in numbers, checked when this was made, with its last signed head",
                             pretty(json::Value(std::move(summary))));
  QW_ASSIGN(in.incidents, read_incidents(o.log));
  // The records themselves, so that the register can be made again from them.
  json::Array records;
  std::string line;
  bool whole = false;
  QW_ASSIGN(LineReader reader, LineReader::open(fs::path(o.log) / kRecordsFile));
  for (;;) {
    QW_ASSIGN(const bool more, reader.next(line, whole));
    if (!more || !whole) break;
    if (line.find(R"("type":"incident")") == std::string::npos) continue;
    if (auto record = json::parse(line)) records.push_back(std::move(*record));
  }
  in.incident_log = in.evidence.add("incident-records.json", "the records of incidents in the audit log",
                                    pretty(json::Value(std::move(records))));
  return {};
}

// How many complaints there are; none of their words.
Status add_complaints(const DossierOptions& o, DossierInput& in) {
  if (o.store.empty()) return {};
  QW_ASSIGN(const auto state, store::Store::look(o.store));
  if (state.version != state.version_of_program)
    return fail(ErrorKind::kUsage, state.name + ": its tables are of version " + std::to_string(state.version) +
                                       ", this program's of " + std::to_string(state.version_of_program) +
                                       "; a service brings them up to date");
  QW_ASSIGN(const auto store, store::Store::open(o.store));
  QW_ASSIGN(const store::ComplaintCounts n, store->complaints().count());
  json::Object counts{{"as_of", base::utc_text(in.now)},
                      {"total", n.total()},
                      {"appeals", n.appeals},
                      {"overdue", n.overdue},
                      {"erased", n.erased},
                      {"answered", n.answered},
                      {"closed", n.closed},
                      {"open", n.open}};
  in.complaints =
      in.evidence.add("complaints.json", "complaints in the store, counted", pretty(json::Value(std::move(counts))));
  return {};
}

Status add_file(const std::string& path, const std::string& what, std::optional<std::size_t>& place, DossierInput& in) {
  if (path.empty()) return {};
  QW_ASSIGN(std::string text, base::read_file(path, kMostBytes));
  place = in.evidence.add(base_name(path), what, std::move(text));
  return {};
}

Status check_folder(const std::string& out) {
  std::error_code code;
  if (fs::exists(out, code) && !(fs::is_directory(out, code) && fs::is_empty(out, code)))
    return fail(ErrorKind::kUsage, out + ": is there already; a dossier is made into a folder of its own");
  fs::create_directories(fs::path(out) / "evidence", code);
  return code ? fail(ErrorKind::kFailed, out + ": " + code.message()) : Status();
}

Status write_documents(const DossierOptions& o, const DossierInput& in) {
  const fs::path folder = o.out;
  for (const Evidence& one : in.evidence.all()) QW_TRY(base::write_file_atomically(folder / one.file, one.bytes));
  const auto tool = o.no_pdf ? std::nullopt : find_pdf_tool();
  if (!o.no_pdf && !tool)
    std::fprintf(stderr, "no PDF is made: none of %s is installed; the HTML says the same\n", kPdfTools);
  for (const Document& document : make_documents(in)) {
    const fs::path html = folder / (document.name + ".html");
    QW_TRY(base::write_file_atomically(html, html_of(document, in.evidence)));
    if (tool) QW_TRY(write_pdf(*tool, html, folder / (document.name + ".pdf")));
  }
  return {};
}

Status make(const DossierOptions& o) {
  QW_ASSIGN(const SigningKey key, SigningKey::read(o.key));
  DossierInput in;
  in.now = base::unix_seconds();
  std::unique_ptr<const Profile> owned;
  if (!o.profile.empty()) {
    QW_ASSIGN(const Profile profile, open_profile(o.profile));
    in.profile = in.evidence.add(profile.name + "-policy.json",
                                 "the policy " + profile.name + ", version " + std::to_string(profile.version),
                                 pretty(profile.document));
    owned = std::make_unique<const Profile>(profile);
    in.policy = owned.get();
  }
  if (!o.operator_file.empty()) {
    QW_ASSIGN(std::string text, base::read_file(o.operator_file, kMostBytes));
    if (const auto facts = parse_operator_facts(text); !facts) return in_context(o.operator_file, facts.error());
    in.operator_facts = in.evidence.add("operator.json", "what the operator states", std::move(text));
  }
  QW_TRY(add_models(o, in));
  QW_TRY(add_log(o, key, in));
  QW_TRY(add_complaints(o, in));
  for (const std::string& report : o.assessments) {
    std::optional<std::size_t> place;
    QW_TRY(add_file(report, "assessment " + base_name(report), place, in));
    if (!in.evidence.all()[*place].content.is_object())
      return fail(ErrorKind::kBadInput, report + ": not a report in JSON");
    in.assessments.push_back(*place);
  }
  QW_TRY(check_folder(o.out));
  QW_TRY(write_documents(o, in));
  QW_TRY(write_manifest(o.out, key, base::utc_text(in.now)));
  std::fprintf(stderr, "%s: signed by the key %s; govern dossier verify checks it with %s.pub\n", o.out.c_str(),
               key.public_key().id().c_str(), o.key.c_str());
  return {};
}

Status verify(const DossierOptions& o) {
  QW_ASSIGN(const PublicKey key, PublicKey::read(o.key));
  QW_ASSIGN(const ManifestReport report, verify_manifest(o.folder, key));
  if (o.json) {
    json::Array findings;
    for (const std::string& finding : report.findings) findings.emplace_back(finding);
    std::puts(json::dump(json::Object{{"whole", report.findings.empty()},
                                      {"made", report.made},
                                      {"files", static_cast<std::int64_t>(report.files)},
                                      {"findings", std::move(findings)}})
                  .c_str());
  } else {
    for (const std::string& finding : report.findings) std::printf("%s\n", finding.c_str());
    if (report.findings.empty()) std::printf("whole: %zu files of %s\n", report.files, report.made.c_str());
  }
  return report.findings.empty() ? Status()
                                 : fail(ErrorKind::kBadInput, o.folder + ": the dossier is not as it was signed");
}

}  // namespace

void add_govern_dossier(CLI::App& govern, Outcome& outcome) {
  CLI::App* dossier = govern.add_subcommand(
      "dossier",
      "Model card, technical documentation, summary of training content, filing outline, public page and "
      "incidents, from what is on record");
  dossier->require_subcommand(0, 1);
  {
    const auto o = std::make_shared<DossierOptions>();
    dossier->add_option("--out", o->out, "a folder that is not there yet, or empty");
    dossier->add_option("--audit-key", o->key,
                        "file of the key that signs the manifest; that of the log, if one is given");
    dossier->add_option("--policy", o->profile, "a profile's file, or the name of one that comes with the program");
    dossier->add_option("--audit-log", o->log, "folder of the audit log; the service may run");
    dossier->add_option("--model", o->models, "MODEL; may be given more than once");
    add_models_option(*dossier);
    dossier->add_option("--operator", o->operator_file,
                        "JSON: what the operator states (provider, contact, purpose, ...)");
    dossier->add_option("--store", o->store, "the service's store: complaints are counted");
    dossier->add_option("--assessment", o->assessments, "a report in JSON; may be given more than once");
    dossier->add_flag("--no-pdf", o->no_pdf, "HTML only");
    dossier->callback([dossier, o, &outcome] {
      if (!dossier->get_subcommands().empty()) return;
      const Status status = o->out.empty() || o->key.empty()
                                ? fail(ErrorKind::kUsage, "govern dossier needs --out and --audit-key")
                                : make(*o);
      if (!status) outcome.code = report(status.error());
    });
  }
  const auto o = std::make_shared<DossierOptions>();
  CLI::App* cmd = dossier->add_subcommand(
      "verify", "check a dossier with the public key alone: exit code 3 if anything was changed");
  cmd->add_option("FOLDER", o->folder)->required();
  cmd->add_option("--key", o->key, "file of the public key")->required();
  cmd->add_flag("--json", o->json, "print one JSON object");
  cmd->callback([o, &outcome] {
    if (const Status status = verify(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
