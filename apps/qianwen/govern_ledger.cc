// qianwen govern ledger show | check | add: what data a model learnt from and what its training cost, from the records
// that `data build` and `train` leave (docs/operations/ledgers.md).
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "audit.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/utc.h"
#include "formats/weights_digest.h"
#include "govern_commands.h"
#include "governance/audit/log_files.h"
#include "governance/audit/verify.h"
#include "governance/ledger/compute_ledger.h"
#include "governance/ledger/dataset_ledger.h"
#include "ledger_files.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;
using namespace governance;

struct LedgerOptions {
  std::vector<std::string> paths;
  std::string regime, log, log_key, key;  // check
  std::string by, source;                 // add
  double flops = 0;
  bool json = false;
};

// ---- show

std::string rounded(std::optional<double> flops) {
  if (!flops) return "unknown";
  char text[32];
  std::snprintf(text, sizeof(text), "%.1e", *flops);
  return text;
}

json::Value or_null(std::optional<double> x) { return x ? json::Value(*x) : json::Value(nullptr); }

const char* kind_name(Generation::Kind kind) {
  static constexpr const char* kNames[] = {"trained", "stated", "derived", "unknown"};
  return kNames[static_cast<std::size_t>(kind)];
}

json::Object to_json(const Lineage& lineage) {
  json::Array generations, readings;
  for (const Generation& g : lineage.generations) {
    json::Object one{{"kind", kind_name(g.kind)},
                     {"name", g.name},
                     {"weights_sha256", g.weights_sha256},
                     {"own_flops", or_null(g.own)},
                     {"cumulative_flops", or_null(g.total)}};
    if (!g.by.empty()) one.set("stated_by", g.by);
    if (!g.source.empty()) one.set("source", g.source);
    if (!g.why_unknown.empty()) one.set("why_unknown", g.why_unknown);
    generations.push_back(std::move(one));
  }
  for (const ThresholdReading& r : read_thresholds(lineage)) {
    json::Object one{{"threshold", r.threshold->id},          {"at", or_null(r.at)},
                     {"reached", or_null(r.reached)},         {"level", level_name(r.level)},
                     {"at_end_of_run", level_name(r.at_end)}, {"where", r.threshold->where},
                     {"meaning", r.threshold->meaning}};
    if (!r.note.empty()) one.set("note", r.note);
    readings.push_back(std::move(one));
  }
  return {{"own_flops", or_null(lineage.own)},
          {"before_flops", or_null(lineage.before)},
          {"cumulative_flops", or_null(lineage.total)},
          {"generations", std::move(generations)},
          {"thresholds", std::move(readings)}};
}

bool lineage_is_derived(const json::Value& record) {
  return field_text(record, "format").value_or("") == "qianwen-compute-derived-1";
}

// The run that made the weights: of what was only written anew, that of its source.
const json::Value& run_of(const json::Value& record) {
  const json::Value* source = member_at(record, "parent.record");
  return lineage_is_derived(record) && source != nullptr && source->is_object() ? run_of(*source) : record;
}

void print_lineage(const json::Value& whole, const Lineage& lineage) {
  const json::Value& record = run_of(whole);
  for (const Generation& g : lineage.generations) {
    std::printf("%s%-28s %-8s own %s FLOP, with what it comes from %s",
                &g == &lineage.generations.front() ? "" : "from ", g.name.empty() ? "this model" : g.name.c_str(),
                kind_name(g.kind), rounded(g.own).c_str(), rounded(g.total).c_str());
    if (!g.by.empty()) std::printf(" (stated by %s: %s)", g.by.c_str(), g.source.c_str());
    if (!g.why_unknown.empty()) std::printf(" (%s)", g.why_unknown.c_str());
    std::printf("\n");
  }
  const auto told = [&](const char* title, const char* key) {
    std::printf("%-20s %s\n", title, field_text(record, key).value_or("not recorded").c_str());
  };
  told("state", "state");
  told("steps", "steps");
  told("tokens", "tokens");
  told("evaluation FLOP", "flops.evaluation");
  told("FLOP spent in all", "flops.spent");
  told("how FLOP are counted", "flops.method");
  told("device hours", "device_hours");
  told("energy, kWh", "energy.kwh");
  told("energy is", "energy.basis");
  told("data ledger", "data.ledger_sha256");
  told("data", "data.name");
  told("version of the data", "data.version");
  for (const ThresholdReading& r : read_thresholds(lineage)) {
    std::printf("%-6s %s", r.threshold->id, level_name(r.level));
    if (r.at_end != r.level) std::printf(" (at the end of the run: %s)", level_name(r.at_end));
    if (r.reached && r.at) std::printf(": %s of %s", rounded(r.reached).c_str(), rounded(r.at).c_str());
    if (!r.note.empty()) std::printf("; %s", r.note.c_str());
    std::printf("\n       %s: %s\n", r.threshold->where, r.threshold->meaning);
  }
}

void print_data(const DatasetLedger& ledger) {
  std::printf("data ledger %s: %lld tokens, %s\n", ledger.sha256().c_str(), static_cast<long long>(ledger.tokens()),
              ledger.size_band());
  for (const char* key : {"dataset.id", "dataset.version", "dataset.name", "dataset.purpose", "dataset.responsible"})
    std::printf("  %-32s %s\n", key, field_text(ledger.document(), key).value_or("not recorded").c_str());
  for (const json::Value& source : ledger.sources()) {
    std::printf("source %s\n", field_text(source, "name").value_or("?").c_str());
    for (const DatasetField& field : dataset_fields())
      if (const auto text = field_text(source, field.key); text || *field.only_for == '\0')
        std::printf("  %-32s %s\n", field.title, text.value_or("not recorded").c_str());
    for (const std::string& warning : warnings_of(source)) std::printf("  warning: %s\n", warning.c_str());
  }
}

json::Object to_json(const DatasetLedger& ledger) {
  json::Array sources;
  for (const json::Value& source : ledger.sources()) {
    json::Object fields, missing;
    for (const DatasetField& field : dataset_fields())
      if (const json::Value* found = member_at(source, field.key)) fields.set(field.key, *found);
    for (const Regime& regime : regimes()) {
      json::Array names;
      for (const DatasetField* field : missing_fields(source, regime.bit)) names.emplace_back(field->key);
      missing.set(regime.id, std::move(names));
    }
    json::Array warnings;
    for (std::string& warning : warnings_of(source)) warnings.emplace_back(std::move(warning));
    sources.push_back(json::Object{
        {"fields", std::move(fields)}, {"not_recorded", std::move(missing)}, {"warnings", std::move(warnings)}});
  }
  json::Object out{{"ledger_sha256", ledger.sha256()}, {"tokens", ledger.tokens()}, {"size_band", ledger.size_band()}};
  if (const json::Value* dataset = ledger.document().find("dataset")) out.set("dataset", *dataset);
  out.set("sources", std::move(sources));
  return out;
}

Status show_one(const std::string& path, bool as_json) {
  QW_ASSIGN(const LedgerFiles files, find_ledgers(path));
  json::Object all{{"path", path}};
  if (files.compute) {
    QW_ASSIGN(const auto record, read_compute(*files.compute));
    auto lineage = lineage_of(record);
    if (!lineage) return in_context(files.compute->string(), std::move(lineage).error());
    if (as_json)
      all.set("compute",
              json::Object{{"file", files.compute->string()}, {"record", record}, {"lineage", to_json(*lineage)}});
    else
      print_lineage(record, *lineage);
  }
  if (files.data) {
    QW_ASSIGN(const DatasetLedger ledger, read_data_ledger(*files.data));
    if (as_json)
      all.set("data", to_json(ledger));
    else
      print_data(ledger);
  }
  if (as_json) std::puts(json::dump(json::Value(std::move(all))).c_str());
  return {};
}

Status show(const LedgerOptions& o) {
  for (const std::string& path : o.paths) QW_TRY(show_one(path, o.json));
  return {};
}

// ---- check

class Findings {
 public:
  explicit Findings(std::string path) : path_(std::move(path)) {}
  void wrong(const std::string& what) {
    std::printf("%s: %s\n", path_.c_str(), what.c_str());
    ++wrong_;
  }
  void gap(const std::string& what) {
    std::printf("%s: not recorded: %s\n", path_.c_str(), what.c_str());
    ++gaps_;
  }
  std::size_t wrongs() const { return wrong_; }
  std::size_t gaps() const { return gaps_; }

 private:
  std::string path_;
  std::size_t wrong_ = 0, gaps_ = 0;
};

// Whether the log has a record that enters this file.
Status find_entry(const std::string& log, const fs::path& file, Findings& f) {
  QW_ASSIGN(const std::string sha, base::sha256_file_hex(file));
  QW_ASSIGN(LineReader reader, LineReader::open(fs::path(log) / kRecordsFile));
  std::string line;
  bool whole = false;
  for (;;) {
    QW_ASSIGN(const bool more, reader.next(line, whole));
    if (!more) break;
    if (line.find(sha) == std::string::npos) continue;
    const auto record = json::parse(line);
    const json::Value *type = record ? record->find("type") : nullptr, *of = record ? record->find("sha256") : nullptr;
    if (type != nullptr && type->is_string() && type->as_string() == "ledger" && of != nullptr && of->is_string() &&
        of->as_string() == sha)
      return {};
  }
  f.wrong(file.filename().string() + " as it is now is not entered in the audit log");
  return {};
}

Status check_weights(const std::string& path, const json::Value& record, Findings& f) {
  const auto known = governance::weights_of(record);
  std::error_code code;
  // A run's own folder has its weights below it, by the names that the record gives.
  std::vector<fs::path> models;
  if (const json::Value* outputs = record.find("outputs"); outputs != nullptr && outputs->is_array())
    for (const json::Value& one : outputs->as_array())
      if (const auto name = field_text(one, "folder"); name && fs::is_directory(fs::path(path) / *name, code))
        models.push_back(fs::path(path) / *name);
  if (models.empty()) {
    const auto digest = formats::weights_digest(path);
    if (digest && std::find(known.begin(), known.end(), digest->sha256) == known.end() && !known.empty())
      f.wrong("the record is of other weights than the files beside it");
    return {};
  }
  for (const fs::path& model : models) {
    QW_ASSIGN(const auto digest, formats::weights_digest(model));
    if (std::find(known.begin(), known.end(), digest.sha256) == known.end())
      f.wrong(model.filename().string() + " holds other weights than the record is of");
  }
  return {};
}

Status check_compute(const std::string& path, const fs::path& file, Findings& f) {
  QW_ASSIGN(const auto record, read_compute(file));
  const auto lineage = lineage_of(record);
  if (!lineage) {
    f.wrong(lineage.error().message);
    return {};
  }
  QW_TRY(check_weights(path, record, f));
  if (!lineage->total)
    f.gap("cumulative compute (" + lineage->generations.back().why_unknown + "); govern ledger add states it");
  const json::Value* said = record.find("cumulative_flops");
  constexpr double kRounding = 1e-9;
  if (said != nullptr && said->is_number() && lineage->total &&
      std::abs(said->as_double() - *lineage->total) > kRounding * *lineage->total)
    f.wrong("cumulative_flops is not the sum of its own and its parent's");
  if (const json::Value* sessions = record.find("sessions"); sessions != nullptr && sessions->is_array()) {
    for (const json::Value& one : sessions->as_array())
      if (const json::Value* share = one.find("utilisation");
          share != nullptr && share->is_number() && share->as_double() > 1.3)
        f.wrong("a session counts 30 % more operations than its machine can do");
  }
  return {};
}

Status check_data(const fs::path& file, unsigned regimes_asked, Findings& f) {
  QW_ASSIGN(const DatasetLedger ledger, read_data_ledger(file));
  for (const char* key : {"dataset.id", "dataset.version"})
    if (!field_text(ledger.document(), key)) f.gap(key);
  for (const json::Value& source : ledger.sources()) {
    const std::string name = field_text(source, "name").value_or("?");
    for (const DatasetField* field : missing_fields(source, regimes_asked))
      f.gap(name + ": " + field->key + " (" + field->title + ")");
    for (const std::string& warning : warnings_of(source)) f.wrong(name + ": " + warning);
  }
  return {};
}

// The shards that a ledger lists, beside it.
Status check_shards(const fs::path& ledger_file, Findings& f) {
  QW_ASSIGN(const DatasetLedger ledger, read_data_ledger(ledger_file));
  std::error_code code;
  for (const json::Value& source : ledger.sources())
    for (const char* part : {"train.shard", "heldout.shard"})
      if (const auto name = field_text(source, part); name && !fs::exists(ledger_file.parent_path() / *name, code))
        f.wrong("the shard " + *name + " is not there");
  return {};
}

Status check(const LedgerOptions& o) {
  unsigned asked = 0;
  for (const Regime& regime : regimes())
    if (o.regime == regime.id || o.regime == "all") asked |= regime.bit;
  if (asked == 0 && !o.regime.empty())
    return fail(ErrorKind::kUsage, "--for " + o.regime + ": expected all, annex-xi, eu-summary, ab-2013 or cn");
  if (!o.log.empty()) {
    if (o.key.empty()) return fail(ErrorKind::kUsage, "--audit-log needs --key, the public key of the log");
    QW_ASSIGN(const PublicKey key, PublicKey::read(o.key));
    QW_ASSIGN(const AuditReport report, verify_log(o.log, key));
    if (!report.findings.empty())
      return fail(ErrorKind::kBadInput, o.log + ": the audit log is not whole: " + report.findings.front());
  }
  std::size_t wrong = 0, gaps = 0;
  for (const std::string& path : o.paths) {
    Findings f(path);
    QW_ASSIGN(const LedgerFiles files, find_ledgers(path));
    if (files.compute) QW_TRY(check_compute(path, *files.compute, f));
    if (files.data) QW_TRY(check_data(*files.data, asked, f));
    if (files.data && files.data->filename() == "ledger.json") QW_TRY(check_shards(*files.data, f));
    if (!o.log.empty())
      for (const auto& file : {files.compute, files.data})
        if (file) QW_TRY(find_entry(o.log, *file, f));
    if (f.wrongs() + f.gaps() == 0) std::printf("%s: in order\n", path.c_str());
    wrong += f.wrongs();
    gaps += f.gaps();
  }
  if (wrong > 0) return fail(ErrorKind::kBadInput, std::to_string(wrong) + " things are wrong");
  if (gaps > 0 && asked != 0) return fail(ErrorKind::kRefused, std::to_string(gaps) + " things are not recorded");
  return {};
}

// ---- add

Status enter(const LedgerOptions& o, const fs::path& file, const char* what) {
  if (o.log.empty()) return {};
  QW_ASSIGN(const std::string sha, base::sha256_file_hex(file));
  QW_ASSIGN(const auto log, open_audit(o.log, o.log_key));
  json::Object event{{"type", "ledger"}, {"what", what}, {"file", file.filename().string()}, {"sha256", sha}};
  if (!o.by.empty()) event.set("by", o.by);
  QW_TRY(log->append_and_wait(std::move(event)));
  std::fprintf(stderr, "entered: %s, sha256 %s\n", file.c_str(), sha.c_str());
  return {};
}

// What somebody answers for about weights that have no record.
Status state(const LedgerOptions& o, const std::string& path) {
  const fs::path file = compute_file_of(path);
  std::error_code code;
  if (fs::exists(file, code)) {
    QW_ASSIGN(const auto record, read_compute(file));
    if (field_text(record, "format") == "qianwen-compute-1")
      return fail(ErrorKind::kRefused,
                  file.string() + ": is the record of a run here; a statement does not replace it");
  }
  if (!std::isfinite(o.flops) || o.flops <= 0)
    return fail(ErrorKind::kUsage, "--flops must be a number above 0, such as 1.3e23");
  if (o.by.empty() || o.source.empty())
    return fail(ErrorKind::kUsage, "--flops needs --by and --source: who states it, and where it is from");
  QW_ASSIGN(const auto digest, formats::weights_digest(path));
  const ComputeStatement statement{o.flops, o.by, o.source, base::utc_text(base::unix_seconds()), digest.sha256};
  json::WriteStyle style;
  style.indent = 2;
  QW_TRY(base::write_file_atomically(file, json::dump(json::Value(governance::to_json(statement)), style) + "\n"));
  std::fprintf(stderr, "stated: %s\n", file.c_str());
  return {};
}

Status add(const LedgerOptions& o) {
  if (o.log.empty() != o.log_key.empty()) return fail(ErrorKind::kUsage, "--audit-log and --audit-key go together");
  if (o.flops == 0 && o.log.empty())
    return fail(ErrorKind::kUsage, "give --flops (a statement), --audit-log (to enter what is there), or both");
  for (const std::string& path : o.paths) {
    if (o.flops != 0) QW_TRY(state(o, path));
    QW_ASSIGN(const LedgerFiles files, find_ledgers(path));
    if (files.compute) QW_TRY(enter(o, *files.compute, "compute"));
    if (files.data) QW_TRY(enter(o, *files.data, "data"));
  }
  return {};
}

}  // namespace

void add_govern_ledger(CLI::App& govern, Outcome& outcome) {
  CLI::App* ledger = govern.add_subcommand("ledger", "What a model learnt from and what its training cost, on record");
  ledger->require_subcommand(1);
  const auto add_command = [&](const char* name, const char* what, Status (*run)(const LedgerOptions&)) {
    CLI::App* cmd = ledger->add_subcommand(name, what);
    const auto o = std::make_shared<LedgerOptions>();
    cmd->callback([o, run, &outcome] {
      if (const Status status = run(*o); !status) outcome.code = report(status.error());
    });
    cmd->add_option("PATH", o->paths, "a folder of data build or train, a model's folder or file, or a record itself")
        ->required();
    return std::pair(cmd, o);
  };
  {
    const auto [cmd, o] =
        add_command("show", "print what is on record: lineage, thresholds, sources field by field", show);
    cmd->add_flag("--json", o->json, "an object a line");
  }
  {
    const auto [cmd, o] = add_command(
        "check", "whether the records fit the files: exit code 3 if not; 4 if something asked for is not recorded",
        check);
    cmd->add_option("--for", o->regime, "whose questions must be answered: annex-xi, eu-summary, ab-2013, cn, all");
    cmd->add_option("--audit-log", o->log, "folder of the log that the records must be entered in");
    cmd->add_option("--key", o->key, "file of the log's public key");
  }
  {
    const auto [cmd, o] =
        add_command("add", "state what a model that was trained elsewhere took, or enter records in an audit log", add);
    cmd->add_option("--flops", o->flops, "operations of its training in all, such as 1.3e23");
    cmd->add_option("--by", o->by, "who states or enters it");
    cmd->add_option("--source", o->source, "where the number is from: a report, a formula");
    cmd->add_option("--audit-log", o->log, "folder of an audit log; the service that writes it must not run");
    cmd->add_option("--audit-key", o->log_key, "file of the key that signs the log");
  }
}

}  // namespace qw::app
