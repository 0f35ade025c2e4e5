#include "governance/assess/report.h"

#include <array>
#include <cmath>
#include <map>

#include "base/file.h"
#include "governance/assess/statistics.h"
#include "governance/audit/log_files.h"
#include "governance/internal/members.h"
#include "governance/internal/signature_text.h"

namespace qw::governance {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;
constexpr const char* kKind = "qianwen assessment";
// In front of what is signed, so that nothing else that such a key signs can be taken for a report.
constexpr const char* kSignedAs = "qianwen assessment report\n";

const json::Value* member(const json::Value& value, std::string_view path) {
  const json::Value* found = &value;
  while (found != nullptr && !path.empty()) {
    const auto dot = path.find('.');
    found = found->find(path.substr(0, dot));
    path = dot == std::string_view::npos ? "" : path.substr(dot + 1);
  }
  return found;
}

std::string text_of(const json::Value& value, std::string_view path) {
  const json::Value* found = member(value, path);
  return found != nullptr && found->is_string() ? found->as_string() : std::string();
}

// Members that results_of makes.
constexpr std::array kResults = {"tests", "requirements", "result"};

}  // namespace

Result<Report> Report::parse(std::string_view file) {
  QW_ASSIGN(json::Value document, json::parse(file, {.max_bytes = kMostBytes, .max_depth = 16}));
  if (text_of(document, "report") != kKind || !is_plain(document))
    return fail(ErrorKind::kBadInput, "is no report of an assessment");
  Report out;
  const auto signature = signature_from_hex(text_of(document, "signature.sig"));
  const auto key = hash_from_hex(text_of(document, "signature.public"));
  if (!signature || !key) return fail(ErrorKind::kBadInput, "is a report that nobody signed");
  out.key.bytes = *key;
  out.signature = *signature;
  document.as_object().erase("signature");
  out.document = std::move(document);
  return out;
}

Result<Report> Report::read(const fs::path& path) {
  QW_ASSIGN(const std::string file, base::read_file(path, kMostBytes));
  auto read = parse(file);
  if (!read) return in_context(path.string(), std::move(read).error());
  return read;
}

bool Report::signed_by(const PublicKey& by) const {
  return key.bytes == by.bytes && by.verifies(kSignedAs + canonical(document), signature);
}

Hash Report::hash() const { return sha256(canonical(document)); }
std::string Report::text(std::string_view path) const { return text_of(document, path); }

std::string signed_report(const json::Object& document, const SigningKey& key) {
  json::Object out = document;
  out.set("signature", json::Object{{"public", to_hex(key.public_key().bytes)},
                                    {"sig", to_hex(key.sign(kSignedAs + canonical(document)))}});
  return json::dump(out, {.indent = 1, .item_separator = ",", .key_separator = ": "}) + "\n";
}

Result<std::vector<ResultRow>> parse_rows(std::string_view bytes, const std::string& name) {
  std::vector<ResultRow> out;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t end = bytes.find('\n', at);
    const std::string where = name + ":" + std::to_string(out.size() + 1);
    if (end == std::string_view::npos) return fail(ErrorKind::kBadInput, where + ": is cut off");
    auto row = ResultRow::parse(bytes.substr(at, end - at));
    if (!row) return in_context(where, std::move(row).error());
    out.push_back(std::move(*row));
    at = end + 1;
  }
  return out;
}

std::string rows_text(const std::vector<ResultRow>& rows) {
  std::string out;
  for (const ResultRow& row : rows) out += row.line() + "\n";
  return out;
}

Result<LastReport> read_last_report(const fs::path& path) {
  LastReport out;
  QW_ASSIGN(out.report, Report::read(path));
  const fs::path rows = path.parent_path() / kRowsFile;
  QW_ASSIGN(const std::string text, base::read_file(rows, kMostBytes));
  if (to_hex(sha256(text)) != out.report.text("rows_sha256"))
    return fail(ErrorKind::kBadInput, rows.string() + ": is not of the report beside it");
  QW_ASSIGN(out.rows, parse_rows(text, rows.string()));
  return out;
}

json::Object report_of(const Assessment& assessment, const std::vector<ResultRow>& rows, const ReportFrame& frame) {
  json::Object out{
      {"report", kKind}, {"format", 1}, {"made", frame.made}, {"by", frame.by}, {"program", frame.program}};
  for (const auto& [name, value] : assessment.setup()) out.set(name, value);
  out.set("library", assessment.library() == nullptr ? json::Value() : json::Value(*assessment.library()));
  out.set("agreement", agreements_of(assessment));
  out.set("rows_sha256", to_hex(sha256(rows_text(rows))));
  json::Object results =
      results_of(assessment.plan(), assessment.setup(), assessment.library(), rows, frame.made.substr(0, 10));
  for (auto& [name, value] : results) out.set(name, std::move(value));
  if (frame.last != nullptr) out.set("comparison", comparison_of(*frame.last, rows));
  return out;
}

json::Object comparison_of(const LastReport& last, const std::vector<ResultRow>& rows) {
  std::map<std::string, const ResultRow*> before;
  const auto key = [](const ResultRow& r) { return r.test + "\n" + r.bank + "\n" + r.id + "\n" + r.prompt_sha256; };
  for (const ResultRow& row : last.rows)
    if (row.says) before[key(row)] = &row;
  struct Paired {
    std::int64_t items = 0, now_yes = 0, now_no = 0;
    json::Array flips;
  };
  std::vector<std::string> order;
  std::map<std::string, Paired> tests;
  for (const ResultRow& row : rows) {
    const auto found = before.find(key(row));
    if (found == before.end() || !row.says) continue;
    if (!tests.contains(row.test)) order.push_back(row.test);
    Paired& paired = tests[row.test];
    ++paired.items;
    if (*row.says == *found->second->says) continue;
    (*row.says ? paired.now_yes : paired.now_no) += 1;
    paired.flips.push_back(json::Object{{"id", row.id}, {"now", *row.says}});
  }
  json::Array list;
  for (const std::string& name : order) {
    Paired& paired = tests[name];
    list.push_back(json::Object{
        {"name", name},
        {"items", paired.items},
        {"now_yes", paired.now_yes},
        {"now_no", paired.now_no},
        {"p_millionths", static_cast<std::int64_t>(std::llround(mcnemar_p(paired.now_yes, paired.now_no) * 1e6))},
        {"flips", std::move(paired.flips)}});
  }
  return {{"report_sha256", to_hex(last.report.hash())},
          {"made", last.report.text("made")},
          {"subject", last.report.text("subject.name")},
          {"subject_sha256", last.report.text("subject.sha256")},
          {"tests", std::move(list)}};
}

std::vector<std::string> check_report(const Report& report, const PublicKey& key, const std::vector<ResultRow>* rows) {
  std::vector<std::string> out;
  if (!report.signed_by(key))
    out.push_back(report.key.bytes == key.bytes ? "the report was changed since it was signed"
                                                : "the report is signed by another key, " + report.key.id());
  const json::Value* document = report.document.find("plan");
  const auto plan = document == nullptr ? Result<Plan>(fail(ErrorKind::kBadInput, "is missing")) : Plan::of(*document);
  if (!plan) {
    out.push_back("the plan: " + plan.error().message);
    return out;
  }
  if (to_hex(plan->hash) != report.text("plan_sha256")) out.push_back("the plan is not the one that its hash names");
  if (rows == nullptr) {
    out.push_back(std::string("the rows (") + kRowsFile + ") are not there, so results cannot be computed again");
    return out;
  }
  if (to_hex(sha256(rows_text(*rows))) != report.text("rows_sha256")) {
    out.push_back(std::string("the rows (") + kRowsFile + ") are not those of the report");
    return out;
  }
  const json::Value* library = report.document.find("library");
  const json::Object results = results_of(*plan, report.document.as_object(),
                                          library != nullptr && library->is_object() ? &library->as_object() : nullptr,
                                          *rows, report.text("made").substr(0, 10));
  for (const char* name : kResults) {
    const json::Value* told = report.document.find(name);
    if (told == nullptr || !(*told == *results.find(name)))
      out.push_back(std::string(name) + ": is not what the rows come to");
  }
  return out;
}

std::vector<std::string> changes_of_model(const json::Value& assessed, const json::Value& now) {
  std::vector<std::string> out;
  std::map<std::string, std::pair<std::string, std::string>> files;
  const auto read = [&](const json::Value& model, bool after) {
    const json::Value* list = model.find("files");
    if (list == nullptr || !list->is_array()) return;
    for (const json::Value& file : list->as_array()) {
      auto& pair = files[text_of(file, "name")];
      (after ? pair.second : pair.first) = text_of(file, "sha256");
    }
  };
  read(assessed, false);
  read(now, true);
  for (const auto& [name, hashes] : files) {
    if (hashes.first == hashes.second) continue;
    out.push_back(name + (hashes.first.empty()    ? ": was not there"
                          : hashes.second.empty() ? ": is gone"
                                                  : ": is another"));
  }
  if (out.empty() && text_of(assessed, "sha256") != text_of(now, "sha256")) out.emplace_back("is another model");
  return out;
}

}  // namespace qw::governance
